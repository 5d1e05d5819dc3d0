"""``bench.stats``: against brute force, scipy, numpy and simulated series."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats import (
    RatioTest,
    clopper_pearson,
    detectable_ratio,
    far_out_limit,
    geometric_mean,
    holm,
    log_t_interval,
    mann_kendall_z,
    mser_truncation,
    quantile,
    ratio_test,
    suite_ratio,
    two_level_ratio,
    welch_ratio_test,
)

TIMES = st.lists(st.integers(1, 10**9), min_size=0, max_size=60)
# Thousandths, so that no spread is so small that rounding makes it up.
LOG_RATIOS = st.lists(st.integers(-300, 300).map(lambda i: i / 1000), min_size=3, max_size=20)
RATES = st.lists(st.integers(1, 10**6), min_size=3, max_size=12)
UNFIT = (math.nan, math.inf, -math.inf)


def known(test: RatioTest | None) -> RatioTest:
    assert test is not None
    return test


# ---------------------------------------------------------------- MSER


def mser_objective(series: Sequence[float], truncation: int) -> float:
    tail = series[truncation:]
    mean = math.fsum(tail) / len(tail)
    return math.fsum((value - mean) ** 2 for value in tail) / len(tail) ** 2


@given(TIMES)
def test_mser_minimises_its_objective(series: list[int]) -> None:
    truncation = mser_truncation(series)
    if len(series) < 5:
        assert truncation == 0
        return
    objectives = [mser_objective(series, d) for d in range(len(series) - 4)]
    assert 0 <= truncation <= len(series) - 5
    assert objectives[truncation] <= min(objectives) * (1 + 1e-9) + 1e-9


@given(st.integers(1, 10**9), st.integers(0, 60))
def test_mser_of_a_constant_series_leaves_nothing_out(value: int, n: int) -> None:
    assert mser_truncation([value] * n) == 0


@pytest.mark.parametrize("warm_up", [1, 4, 10])
@pytest.mark.parametrize("height", [1.5, 8.0])
def test_mser_finds_a_step(warm_up: int, height: float) -> None:
    rng = np.random.default_rng(1)
    series = rng.normal(1.0, 0.01, 40)
    series[:warm_up] *= height
    assert warm_up <= mser_truncation(series.tolist()) <= warm_up + 5


@pytest.mark.parametrize("slope", [0.05, -0.005])
def test_mser_of_a_ramp_lies_in_the_second_half(slope: float) -> None:
    series = [1.0 + slope * i for i in range(50)]
    assert mser_truncation(series) == len(series) - 5


def test_mser_seldom_cuts_half_of_an_autocorrelated_series() -> None:
    rng = np.random.default_rng(2)
    kept = 0
    for _ in range(300):
        series = [rng.normal()]
        for _ in range(39):
            series.append(0.6 * series[-1] + rng.normal())
        kept += mser_truncation(series) <= 20
    assert kept > 0.7 * 300


# ---------------------------------------------------------------- Mann-Kendall


@given(st.lists(st.integers(0, 20), max_size=30))
def test_mann_kendall_against_the_definition(series: list[int]) -> None:
    n = len(series)
    s = sum(int(np.sign(series[j] - series[i])) for i in range(n) for j in range(i + 1, n))
    variance = n * (n - 1) * (2 * n + 5) / 18
    expected = 0.0 if s == 0 else (s - np.sign(s)) / variance**0.5
    assert mann_kendall_z(series) == pytest.approx(expected)
    assert mann_kendall_z(series[::-1]) == pytest.approx(-expected)


def test_mann_kendall_agrees_with_kendalls_tau() -> None:
    from scipy.stats import kendalltau

    series = np.random.default_rng(3).normal(size=25)
    n = len(series)
    s = kendalltau(np.arange(n), series).statistic * n * (n - 1) / 2
    assert mann_kendall_z(series.tolist()) == pytest.approx((s - np.sign(s)) / (n * (n - 1) * (2 * n + 5) / 18) ** 0.5)


def test_mann_kendall_false_alarms_at_their_level() -> None:
    rng = np.random.default_rng(4)
    alarms = sum(abs(mann_kendall_z(rng.normal(size=15).tolist())) >= 1.28 for _ in range(1000))
    assert 150 <= alarms <= 250  # 20 %, within four standard errors


# ---------------------------------------------------------------- intervals


def test_log_t_interval_is_scipys_on_the_logarithms() -> None:
    from scipy import stats as scipy_stats

    values = [1.0, 1.3, 0.9, 1.1, 1.05]
    interval = log_t_interval(values, confidence=0.9)
    logs = np.log(values)
    low, high = scipy_stats.t.interval(0.9, len(logs) - 1, loc=logs.mean(), scale=scipy_stats.sem(logs))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-12)
    assert (interval.n, interval.confidence) == (5, 0.9)


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e12), min_size=3, max_size=20), st.floats(1e-3, 1e3))
def test_log_t_interval_scales_and_holds_the_geometric_mean(values: list[float], factor: float) -> None:
    interval, scaled = log_t_interval(values), log_t_interval([value * factor for value in values])
    assert interval is not None
    assert scaled is not None
    assert interval.low * (1 - 1e-9) <= geometric_mean(values) <= interval.high * (1 + 1e-9)
    assert scaled.low == pytest.approx(interval.low * factor, rel=1e-6)
    assert interval.low >= 0


@pytest.mark.parametrize("n", [3, 5, 10])
def test_log_t_interval_covers_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(5)
    trials, centre = 1000, 7.0
    covered = 0
    for _ in range(trials):
        interval = log_t_interval(rng.lognormal(math.log(centre), 0.3, n).tolist())
        assert interval is not None
        covered += interval.low <= centre <= interval.high
    assert 0.925 <= covered / trials <= 0.975  # 95 %, within 3.6 standard errors


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, 2.0], [1, 2, math.nan], [1, 2, math.inf], [1, 2, 0], [1, 2, -1], [1, 2, -math.inf]]
)
def test_no_interval_without_three_positive_finite_values(values: list[float]) -> None:
    assert log_t_interval(values) is None


def test_geometric_mean() -> None:
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


# ---------------------------------------------------------------- ratios


@settings(deadline=None)
@given(LOG_RATIOS, st.sampled_from([0.9, 1.0, 1.02]), st.sampled_from([0.8, 0.95, 0.99]))
def test_a_ratio_test_is_scipys_t_test_on_the_logarithms(logs: list[float], limit: float, confidence: float) -> None:
    from scipy import stats as scipy_stats

    if len(set(logs)) == 1:
        return
    test = known(ratio_test(logs, limit, confidence))
    greater = scipy_stats.ttest_1samp(logs, math.log(limit), alternative="greater")
    less = scipy_stats.ttest_1samp(logs, math.log(limit), alternative="less")
    expected = scipy_stats.ttest_1samp(logs, 0).confidence_interval(confidence)
    assert (test.p_above, test.p_below) == pytest.approx((greater.pvalue, less.pvalue), rel=1e-6, abs=1e-300)
    assert np.log([test.interval.low, test.interval.high]) == pytest.approx([expected.low, expected.high], rel=1e-9)
    assert test.ratio == pytest.approx(math.exp(np.mean(logs)))
    assert (test.interval.n, test.interval.confidence) == (len(logs), confidence)


@settings(deadline=None)
@given(LOG_RATIOS, st.sampled_from([0.9, 1.0, 1.02, 1.1]), st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_the_interval_is_beyond_the_limit_where_the_p_value_is_small(
    logs: list[float], limit: float, confidence: float
) -> None:
    test = known(ratio_test(logs, limit, confidence))
    if min(abs(test.interval.low - limit), abs(test.interval.high - limit)) > 1e-12:
        assert (test.interval.low > limit) == (test.p_above < (1 - confidence) / 2)
        assert (test.interval.high < limit) == (test.p_below < (1 - confidence) / 2)


@settings(deadline=None)
@given(LOG_RATIOS, st.randoms())
def test_swapped_arms_mirror_a_ratio_test_and_order_plays_no_part(logs: list[float], random: Random) -> None:
    test, swapped = known(ratio_test(logs, 1.02)), known(ratio_test([-log for log in logs], 1 / 1.02))
    assert (1 / swapped.interval.high, 1 / swapped.interval.low) == pytest.approx(
        (test.interval.low, test.interval.high)
    )
    if len(set(logs)) > 1:
        assert (swapped.p_below, swapped.p_above) == pytest.approx((test.p_above, test.p_below), abs=1e-9)
    shuffled = random.sample(logs, len(logs))
    assert known(ratio_test(shuffled)).interval.low == pytest.approx(known(ratio_test(logs)).interval.low, rel=1e-9)


@settings(deadline=None)
@given(LOG_RATIOS, st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_more_confidence_never_narrows_an_interval(logs: list[float], one: float, other: float) -> None:
    narrow = known(ratio_test(logs, confidence=min(one, other))).interval
    wide = known(ratio_test(logs, confidence=max(one, other))).interval
    assert wide.low <= narrow.low <= narrow.high <= wide.high


@pytest.mark.parametrize("limit", [1.0, 1.1, 1.2])
def test_equal_log_ratios_are_taken_at_their_word(limit: float) -> None:
    test = known(ratio_test([math.log(1.1)] * 7, limit))
    assert test.interval.low == test.interval.high == test.ratio == pytest.approx(1.1, rel=1e-15)
    if limit != 1.1:
        assert (test.p_above, test.p_below) == ((0.0, 1.0) if limit < 1.1 else (1.0, 0.0))
    zero = known(ratio_test([0.0] * 3))
    assert (zero.p_above, zero.p_below) == (1.0, 1.0)


@pytest.mark.parametrize("unfit", [*UNFIT, 1e3])
def test_log_ratios_that_bear_no_answer_get_none(unfit: float) -> None:
    assert ratio_test([0.1, 0.2]) is None
    assert ratio_test([0.1, 0.2, unfit]) is None


def test_an_interval_beyond_all_floats_ends_in_infinity() -> None:
    interval = known(ratio_test([-600, 0, 600])).interval
    assert (interval.low, interval.high) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("limit", "confidence"), [(0, 0.95), (-1, 0.95), (math.nan, 0.95), (1, 0), (1, 1), (1, math.nan)]
)
def test_arguments_without_sense_are_refused(limit: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="positive limit"):
        ratio_test([0.1, 0.2, 0.3], limit, confidence)


@settings(deadline=None)
@given(RATES, RATES, st.sampled_from([0.98, 1.0, 1.5]))
def test_welch_is_scipys_on_the_logarithms(values: list[int], reference: list[int], limit: float) -> None:
    from scipy import stats as scipy_stats

    if len(set(values)) == 1 and len(set(reference)) == 1:
        return
    test = known(welch_ratio_test(values, reference, limit))
    shifted = np.log(values) - math.log(limit)
    above = scipy_stats.ttest_ind(shifted, np.log(reference), equal_var=False, alternative="greater")
    both = scipy_stats.ttest_ind(np.log(values), np.log(reference), equal_var=False)
    expected = both.confidence_interval(0.95)
    assert test.p_above == pytest.approx(above.pvalue, rel=1e-5, abs=1e-12)
    assert np.log([test.interval.low, test.interval.high]) == pytest.approx([expected.low, expected.high], abs=1e-9)
    assert test.interval.n == min(len(values), len(reference))


@settings(deadline=None)
@given(RATES, RATES, st.floats(1e-3, 1e3))
def test_welch_mirrors_and_knows_no_unit(values: list[int], reference: list[int], factor: float) -> None:
    test, swapped = known(welch_ratio_test(values, reference)), known(welch_ratio_test(reference, values))
    assert 1 / swapped.interval.high == pytest.approx(test.interval.low)
    scaled = known(welch_ratio_test([v * factor for v in values], [v * factor for v in reference]))
    assert scaled.interval.low == pytest.approx(test.interval.low, rel=1e-6)


@pytest.mark.parametrize("unfit", [*UNFIT, 0, -1])
def test_welch_needs_three_positive_finite_values_on_either_side(unfit: float) -> None:
    assert welch_ratio_test([1, 2], [1, 2, 3]) is None
    assert welch_ratio_test([1, 2, 3], [1, 2]) is None
    assert welch_ratio_test([1, 2, 3], [1, 2, 3, unfit]) is None
    assert welch_ratio_test([1, 2, 3, unfit], [1, 2, 3]) is None


# ---------------------------------------------------------------- nodes and replicates


def test_with_three_nodes_a_side_each_node_counts_once() -> None:
    nodes, reference = [[1.0, 1.2], [1.1], [1.3, 1.25, 1.2]], [[1.0], [0.9, 1.1], [1.05] * 9, [1.0]]
    result = two_level_ratio(nodes, reference)
    assert result is not None
    assert result.level == "node"
    expected = known(welch_ratio_test([geometric_mean(n) for n in nodes], [geometric_mean(n) for n in reference]))
    assert result.test.interval.low == pytest.approx(expected.interval.low)
    assert result.test.interval.n == 3


def test_with_one_node_a_side_replicates_take_its_place_and_the_result_says_so() -> None:
    nodes, reference = [[1.0, 1.2, 1.1]], [[0.9, 1.0, 1.0, 0.95]]
    result = two_level_ratio(nodes, reference, 1.02, 0.9)
    assert result is not None
    assert result.level == "replicate"
    assert result.test == welch_ratio_test(nodes[0], reference[0], 1.02, 0.9)


def test_two_nodes_share_their_side_evenly_whatever_their_replicates() -> None:
    nodes = [[1.0, 1.01, 0.99], [2.0, 2.02, 1.98] * 4]
    result = two_level_ratio(nodes, [[1.0, 1.01, 0.99]] * 5)
    assert result is not None
    assert result.level == "replicate"
    assert result.test.ratio == pytest.approx(geometric_mean([geometric_mean(node) for node in nodes]), rel=1e-3)
    assert result.test.interval.high < result.test.ratio * 1.02  # how the two differ is no part of it


@pytest.mark.parametrize("unfit", [[], [math.nan], [1.0, 0.0, 2.0]])
def test_a_node_without_sound_replicates_leaves_no_ratio(unfit: list[float]) -> None:
    sound = [[1.0, 1.1, 1.2]] * 3
    assert two_level_ratio([*sound, unfit], sound) is None
    assert two_level_ratio(sound, [*sound, unfit]) is None
    assert two_level_ratio([], sound) is None
    assert two_level_ratio([[1.0, 1.1]], sound) is None


@pytest.mark.parametrize(("n", "most_of_bootstrap"), [(3, 0.85), (5, 0.91)])
@pytest.mark.parametrize("shape", ["normal", "skewed", "two-humped"])
def test_welch_on_nodes_covers_where_a_bootstrap_of_nodes_does_not(
    n: int, most_of_bootstrap: float, shape: str
) -> None:
    rng = np.random.default_rng(6)
    trials, covered, covered_by_bootstrap = 1000, 0, 0

    def draw() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        if shape == "normal":
            return rng.normal(0, 0.02, n)
        return -rng.exponential(0.02, n) if shape == "skewed" else rng.normal(0, 0.01, n) - 0.1 * (rng.random(n) < 0.1)

    for _ in range(trials):
        logs, reference = draw(), draw()
        result = two_level_ratio(np.exp(logs)[:, None].tolist(), np.exp(reference)[:, None].tolist())
        assert result is not None
        covered += result.test.interval.low <= 1 <= result.test.interval.high
        means = (side[rng.integers(0, n, (1000, n))].mean(axis=1) for side in (logs, reference))
        low, high = np.quantile(next(means) - next(means), [0.025, 0.975])
        covered_by_bootstrap += low <= 0 <= high
    assert covered / trials >= 0.93
    assert covered_by_bootstrap / trials <= most_of_bootstrap


def test_a_suites_ratio_is_the_geometric_mean_of_its_workloads_ratios() -> None:
    rng = np.random.default_rng(7)
    nodes, reference = rng.lognormal(1, 0.1, (4, 3, 5)), rng.lognormal(0, 0.1, (6, 3, 5))
    result = suite_ratio(nodes.tolist(), reference.tolist())
    assert result is not None
    ratios = np.exp(np.log(nodes).mean(axis=(0, 1)) - np.log(reference).mean(axis=(0, 1)))
    assert result.test.ratio == pytest.approx(geometric_mean(ratios.tolist()))
    assert (result.level, result.test.interval.n) == ("node", 4)


def test_what_sways_all_workloads_of_a_replicate_is_not_averaged_away() -> None:
    state = np.random.default_rng(8).normal(0, 0.1, (2, 1, 6, 1))
    values = np.exp(np.broadcast_to(state, (2, 1, 6, 50))).tolist()
    one = [[replicate[:1] for replicate in node] for node in values[0]], [[r[:1] for r in node] for node in values[1]]
    many, single = suite_ratio(values[0], values[1]), suite_ratio(*one)
    assert many is not None
    assert single is not None
    assert many.test.interval.low == pytest.approx(single.test.interval.low)


def test_a_suite_with_missing_workloads_is_refused_and_with_unfit_ones_has_no_ratio() -> None:
    sound = [[[1.0, 2.0]] * 3]
    with pytest.raises(ValueError, match="different workloads"):
        suite_ratio(sound, [[[1.0, 2.0], [1.0, 2.0], [1.0]]])
    assert suite_ratio(sound, [[[1.0, 2.0], [1.0, 2.0], [1.0, math.nan]]]) is None
    assert suite_ratio([[[], [], []]], [[[], [], []]]) is None


# ---------------------------------------------------------------- power, families, shares


@pytest.mark.parametrize("n", [3, 5, 10, 40])
@pytest.mark.parametrize("confidence", [0.95, 0.99, 0.999])
@pytest.mark.parametrize("power", [0.5, 0.8])
def test_a_detectable_ratio_has_the_power_that_scipy_says(n: int, confidence: float, power: float) -> None:
    from scipy import stats as scipy_stats

    ratio = detectable_ratio(0.02, n, confidence, power)
    assert ratio is not None
    critical = scipy_stats.t.ppf((1 + confidence) / 2, n - 1)
    assert scipy_stats.nct.sf(critical, n - 1, math.log(ratio) / 0.02 * math.sqrt(n)) == pytest.approx(power, abs=1e-6)


def test_a_detectable_ratio_is_found_as_often_as_it_says() -> None:
    rng = np.random.default_rng(9)
    ratio = detectable_ratio(0.02, 5)
    assert ratio is not None
    tests = [known(ratio_test(rng.normal(math.log(ratio), 0.02, 5).tolist())) for _ in range(2000)]
    assert 0.764 <= sum(test.interval.low > 1 for test in tests) / len(tests) <= 0.836  # 80 %, within 4 standard errors


def test_what_can_be_detected_at_the_ends() -> None:
    assert detectable_ratio(0.02, 2) is None
    assert detectable_ratio(0.0, 3) == 1.0
    assert detectable_ratio(1e6, 3) == math.inf
    for sd, confidence, power in ((math.nan, 0.95, 0.8), (-1, 0.95, 0.8), (1, 1.0, 0.8), (1, 0.95, 0.0)):
        with pytest.raises(ValueError, match="standard deviation"):
            detectable_ratio(sd, 5, confidence, power)


P_VALUES = st.lists(st.floats(0, 1), max_size=12)


def test_holm_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.3]) == [0.3]
    assert holm([]) == []


@given(P_VALUES, st.floats(0, 1))
def test_holm_rejects_as_the_step_down_procedure_does(p_values: list[float], alpha: float) -> None:
    ordered, rejected = sorted(p_values), 0
    while rejected < len(ordered) and (len(ordered) - rejected) * ordered[rejected] <= alpha:
        rejected += 1
    adjusted = holm(p_values)
    assert sum(p <= alpha for p in adjusted) == (rejected if alpha < 1 else len(adjusted))
    assert all(p <= of <= min(1, len(p_values) * p) for p, of in zip(p_values, adjusted, strict=True))


@given(P_VALUES, st.randoms())
def test_holm_keeps_each_p_value_with_its_test(p_values: list[float], random: Random) -> None:
    order = random.sample(range(len(p_values)), len(p_values))
    adjusted = holm(p_values)
    assert holm([p_values[i] for i in order]) == [adjusted[i] for i in order]


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, p])


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 300), (3, 100), (50, 100), (100, 100)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_clopper_pearson_is_scipys(successes: int, n: int, confidence: float) -> None:
    from scipy.stats import binomtest

    interval = clopper_pearson(successes, n, confidence)
    expected = binomtest(successes, n).proportion_ci(confidence, method="exact")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-10)
    assert (interval.n, interval.confidence) == (n, confidence)


def test_clopper_pearson_without_a_trial_or_sense() -> None:
    nothing = clopper_pearson(0, 0)
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    for successes, n in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="successes"):
            clopper_pearson(successes, n)


# ---------------------------------------------------------------- quantiles


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.floats(0, 1))
def test_quantile_is_numpys_type_7(values: list[float], p: float) -> None:
    assert quantile(values, p) == pytest.approx(float(np.quantile(values, p, method="linear")), rel=1e-9, abs=1e-6)


def test_quantile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=40))
def test_the_middle_quantile_is_the_median(values: list[int]) -> None:
    assert quantile(values, 0.5) == pytest.approx(statistics.median(values))


def test_far_out_limit() -> None:
    assert far_out_limit([1, 2, 3, 4, 5]) == 4 + 3 * 2
    assert far_out_limit([7, 7, 7]) == 7

"""``bench.stats``: against brute force, scipy, numpy and simulated series."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats import (
    far_out_limit,
    geometric_mean,
    log_t_interval,
    mann_kendall_z,
    mser_truncation,
    quantile,
)

TIMES = st.lists(st.integers(1, 10**9), min_size=0, max_size=60)


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

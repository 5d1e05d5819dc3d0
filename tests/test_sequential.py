"""``bench.sequential``: against published tables, the multivariate normal and simulated sessions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench import sequential
from bench.sequential import Design, Spending, decide, levels
from bench.stats import ratio_test

LOOKS = (5, 8, 12, 16, 20)
DESIGN = Design(LOOKS)
SPENDINGS: tuple[Spending, ...] = ("pocock", "obrien-fleming")


# ---------------------------------------------------------------- the recursion, for a known variance


def known_variance(fraction: float) -> NDArray[np.float64]:
    """The step of |z| where z is normal, and the information so far is this fraction of that at the next look."""
    from scipy.special import ndtr

    edges = sequential._CELL * np.arange(sequential._CELLS + 1)
    mean, sd = (edges[:-1, None] + sequential._CELL / 2) * math.sqrt(fraction), math.sqrt(1 - fraction)
    beyond = ndtr((mean - edges) / sd) + ndtr(-(mean + edges) / sd)
    return np.asarray(beyond[:, :-1] - beyond[:, 1:])


def boundaries(spent: list[float]) -> list[float]:
    """The recursion's bounds on |z| for equally spaced looks and a known variance."""
    from scipy.special import ndtri

    kernels = [known_variance(look / (look + 1)) for look in range(1, len(spent))]
    return [float(-ndtri(level / 2)) for level in sequential._levels(kernels, spent)]


@pytest.mark.parametrize(
    (
        "spending",
        "published",
    ),  # of Lan and DeMets' two functions, five looks, alpha 0.05 (as the package ldbounds prints)
    [("pocock", [2.438, 2.427, 2.410, 2.397, 2.386]), ("obrien-fleming", [4.877, 3.357, 2.680, 2.290, 2.031])],
)
def test_spent_alpha_gives_the_published_boundaries(spending: Spending, published: list[float]) -> None:
    spent = sequential._spent(Design((10, 20, 30, 40, 50), 0.05, spending))
    assert boundaries(list(spent)) == pytest.approx(published, abs=0.0015)
    assert spent[-1] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("bounds", "last_level"),  # Pocock's and O'Brien and Fleming's own constants for five looks, alpha 0.05
    [([2.413] * 5, 0.0158), ([2.040 * math.sqrt(5 / look) for look in range(1, 6)], 0.0413)],
)
def test_the_classical_designs_spend_alpha_in_all(bounds: list[float], last_level: float) -> None:
    """What those boundaries spend by each look is taken from scipy's multivariate normal; the recursion undoes it."""
    from scipy.special import ndtr
    from scipy.stats import multivariate_normal

    correlation = np.array([[math.sqrt(min(i, j) / max(i, j)) for i in range(1, 6)] for j in range(1, 6)])
    spent = []
    for look in range(1, 6):
        upper = np.array(bounds[:look])
        inside = multivariate_normal(np.zeros(look), correlation[:look, :look], seed=1).cdf(upper, lower_limit=-upper)
        spent.append(1 - float(inside))
    assert spent[-1] == pytest.approx(0.05, abs=3e-4)
    found = boundaries(spent)
    assert found == pytest.approx(bounds, abs=0.01)
    assert 2 * ndtr(-found[-1]) == pytest.approx(last_level, abs=3e-4)


# ---------------------------------------------------------------- the levels, for Student's t


def share_alarmed(looks: tuple[int, ...], nominal: tuple[float, ...], trials: int) -> float:
    """The share of simulated series without an effect that alarm at some look."""
    from scipy.special import stdtrit

    sessions = np.random.default_rng(1).standard_normal((trials, looks[-1]))
    alarmed = np.zeros(trials, dtype=bool)
    for n, level in zip(looks, nominal, strict=True):
        t = sessions[:, :n].mean(axis=1) / sessions[:, :n].std(axis=1, ddof=1) * math.sqrt(n)
        alarmed |= np.abs(t) > stdtrit(n - 1, 1 - level / 2)
    return float(alarmed.mean())


@pytest.mark.parametrize("looks", [LOOKS, (4, 8, 12), (3, 4, 5, 6, 7, 8, 9, 10)])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("spending", SPENDINGS)
def test_all_looks_together_alarm_as_often_as_alpha_says(
    looks: tuple[int, ...], alpha: float, spending: Spending
) -> None:
    trials = 300_000
    share = share_alarmed(looks, levels(Design(looks, alpha, spending)), trials)
    error = math.sqrt(alpha * (1 - alpha) / trials)
    assert alpha * 0.985 - 3 * error <= share <= alpha * 1.005 + 3 * error


def test_levels_of_a_known_variance_alarm_too_often_with_few_sessions() -> None:
    """The reason why the recursion is over t statistics."""
    kernels = [known_variance(now / after) for now, after in itertools.pairwise(LOOKS)]
    naive = sequential._levels(kernels, sequential._spent(DESIGN))
    assert share_alarmed(LOOKS, naive, 300_000) > 0.053


def test_a_finer_grid_changes_no_level_by_more_than_one_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = levels(DESIGN)
    monkeypatch.setattr(sequential, "_CELL", sequential._CELL / 2)
    monkeypatch.setattr(sequential, "_CELLS", sequential._CELLS * 2)
    sequential._kernels.cache_clear()
    try:
        assert levels(DESIGN) == pytest.approx(coarse, rel=0.01)
    finally:
        sequential._kernels.cache_clear()


@pytest.mark.parametrize("n", [3, 8, 19])
def test_one_more_session_moves_z_as_in_simulated_series(n: int) -> None:
    from scipy.special import ndtri, stdtr

    step = sequential._one_session(n)
    assert step.sum(axis=1)[:80] == pytest.approx(1, abs=0.01)  # up to |z| of 4
    sessions = np.random.default_rng(3).standard_normal((400_000, n + 1))
    z = []
    for count in (n, n + 1):
        t = sessions[:, :count].mean(axis=1) / sessions[:, :count].std(axis=1, ddof=1) * math.sqrt(count)
        z.append(-ndtri(stdtr(count - 1, -np.abs(t))))
    for cell in (0, 10, 30):
        here = (z[0] >= cell * sequential._CELL) & (z[0] < (cell + 1) * sequential._CELL)
        for edge in (10, 20, 40):
            share = float((z[1][here] > edge * sequential._CELL).mean())
            error = math.sqrt(share * (1 - share) / here.sum())
            assert step[cell, edge:].sum() == pytest.approx(share, abs=4 * error + 0.01)


def test_a_single_look_is_students_t_test() -> None:
    for spending in SPENDINGS:
        assert levels(Design((7,), 0.05, spending)) == pytest.approx((0.05,), rel=1e-3)


def test_a_look_that_may_spend_next_to_nothing_has_level_zero_and_the_rest_is_not_lost() -> None:
    design = Design((3, 20), 0.01, "obrien-fleming")
    first, last = levels(design)
    assert first == 0
    assert last == pytest.approx(0.01, rel=1e-3)
    decision = decide([1.0, 1.01, 1.02], 0.0, design)
    assert (decision.verdict, decision.look, decision.interval, decision.p) == ("GO_ON", 1, None, None)


@pytest.mark.parametrize("looks", [(), (2, 5), (5, 5), (8, 5)])
def test_looks_that_do_not_rise_from_three_are_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="looks rise"):
        Design(looks)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1e-7, math.nan])
def test_an_alpha_without_sense_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        Design(LOOKS, alpha)


# ---------------------------------------------------------------- the decision

STEADY = [-0.004, 0.003, 0.001, -0.002, 0.002]


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.05, "REGRESSED"), (-0.05, "IMPROVED"), (0.0, "PASS"), (-0.02, "PASS"), (0.02, "GO_ON")]
)
def test_the_first_look_stops_on_a_clear_answer(shift: float, verdict: str) -> None:
    decision = decide([shift + value for value in STEADY], 0.02, DESIGN)
    assert (decision.verdict, decision.look) == (verdict, 1)
    assert decision.ratio == pytest.approx(math.exp(shift))
    assert decision.interval is not None
    assert (decision.interval.n, decision.interval.confidence) == (5, 0.95)


def test_the_interval_is_students_at_the_looks_own_level() -> None:
    decision = decide([0.02 + value for value in STEADY], 0.02, DESIGN)
    test = ratio_test([0.02 + value for value in STEADY], confidence=1 - levels(DESIGN)[0])
    assert decision.interval is not None
    assert test is not None
    assert (decision.interval.low, decision.interval.high) == (test.interval.low, test.interval.high)


def test_what_stays_unclear_is_inconclusive_at_the_last_look_alone() -> None:
    noise = [0.2, -0.2] * 10
    seen = [decide(noise[:n], 0.02, DESIGN) for n in range(21)]
    assert [decision.verdict for decision in seen] == ["GO_ON"] * 20 + ["INCONCLUSIVE"]
    assert [decision.look for decision in seen] == [0] * 5 + [1] * 3 + [2] * 4 + [3] * 4 + [4] * 4 + [5]
    assert all((decision.interval is None) == (decision.look == 0) for decision in seen)


def test_sessions_after_the_answer_do_not_change_it() -> None:
    regressed = [0.05 + value for value in STEADY]
    assert decide([*regressed, *[-0.5] * 15], 0.02, DESIGN) == decide(regressed, 0.02, DESIGN)


def test_sessions_beyond_a_look_wait_for_the_next_one() -> None:
    unclear = [0.02 + value for value in STEADY]
    assert decide([*unclear, 9.0, 9.0], 0.02, DESIGN) == decide(unclear, 0.02, DESIGN)


@pytest.mark.parametrize("unfit", [math.nan, math.inf, -math.inf])
def test_a_log_ratio_that_is_no_number_is_inconclusive_and_never_a_pass(unfit: float) -> None:
    decision = decide([*STEADY[:4], unfit], 0.02, DESIGN)
    assert (decision.verdict, decision.interval, decision.p) == ("INCONCLUSIVE", None, None)


def test_sessions_without_any_spread_are_taken_at_their_word() -> None:
    assert decide([0.03] * 5, 0.02, DESIGN).verdict == "REGRESSED"
    assert decide([-0.03] * 5, 0.02, DESIGN).verdict == "IMPROVED"
    assert decide([0.0] * 5, 0.02, DESIGN).verdict == "PASS"
    assert decide([0.0] * 20, 0.0, DESIGN).verdict == "INCONCLUSIVE"  # at the limit itself, neither side of it


def test_a_tolerance_or_a_number_of_sessions_without_sense_is_refused() -> None:
    for tolerance in (-0.01, math.nan, math.inf):
        with pytest.raises(ValueError, match="tolerance"):
            decide(STEADY, tolerance, DESIGN)
    with pytest.raises(ValueError, match="21 sessions"):
        decide([0.0] * 21, 0.02, DESIGN)


SERIES = st.lists(st.integers(-60, 60).map(lambda i: i / 1000), min_size=5, max_size=5)


@settings(deadline=None)
@given(SERIES, st.sampled_from([0.0, 0.01, 0.02]), st.sampled_from(SPENDINGS))
def test_verdict_interval_and_p_value_are_one_procedure(
    logs: list[float], tolerance: float, spending: Spending
) -> None:
    design = Design((5, 10), 0.05, spending)
    decision = decide(logs, tolerance, design)
    assert decision.interval is not None
    assert decision.p is not None
    assert 0 < decision.p <= 1
    low, high = decision.interval.low, decision.interval.high
    assert (decision.verdict == "REGRESSED") == (low > 1 + tolerance)
    assert (decision.verdict == "IMPROVED") == (high < 1 / (1 + tolerance))
    assert (decision.verdict == "PASS") == (1 / (1 + tolerance) <= high < 1 + tolerance)
    assert (decision.p <= design.alpha) == (decision.verdict in ("REGRESSED", "IMPROVED"))


@settings(deadline=None)
@given(SERIES)
def test_swapped_arms_mirror_the_decision(logs: list[float]) -> None:
    one, other = decide(logs, 0.01, DESIGN), decide([-log for log in logs], 0.01, DESIGN)
    assert one.interval is not None
    assert other.interval is not None
    assert one.interval.low == pytest.approx(1 / other.interval.high)
    assert one.p == pytest.approx(other.p, rel=1e-3)
    assert (one.verdict == "REGRESSED") == (other.verdict == "IMPROVED")


@pytest.mark.parametrize("spending", SPENDINGS)
@pytest.mark.parametrize("look", [1, 3])
def test_the_p_value_is_the_alpha_at_which_the_design_would_just_say_so(spending: Spending, look: int) -> None:
    logs = [0.03 + 0.02 * (-1) ** i for i in range((8, 12, 16)[look - 1])]
    looks = (8, 12, 16)
    p = sequential._repeated_p(2e-3, Design(looks, 0.05, spending), look)
    assert levels(Design(looks, p, spending))[look - 1] == pytest.approx(2e-3, rel=1e-3)
    at = sequential._at_look(logs, 1.0, Design(looks, 0.05, spending), look).p
    assert at is not None
    for alpha, beyond in ((at * 1.01, True), (at / 1.01, False)):
        verdict = sequential._at_look(logs, 1.0, Design(looks, alpha, spending), look).verdict
        assert (verdict == "REGRESSED") == beyond


def test_a_rounded_p_value_never_parts_from_the_interval() -> None:
    logs = [0.03 + 0.02 * (-1) ** i for i in range(8)]
    p = decide(logs, 0.0, Design((8, 16))).p
    assert p is not None
    verdicts = set()
    for alpha in p / np.linspace(1.0002, 0.9999, 31):
        decision = decide(logs, 0.0, Design((8, 16), float(alpha)))
        assert decision.p is not None
        assert (decision.p <= alpha) == (decision.verdict == "REGRESSED")
        verdicts.add(decision.verdict)
    assert verdicts == {"REGRESSED", "GO_ON"}


def test_false_alarms_and_power_of_whole_decisions() -> None:
    """Without an effect beyond a tolerance of 1 % and with a spread of 1 %, sessions one by one until an answer."""
    rng = np.random.default_rng(2)

    def verdicts(effect: float) -> list[str]:
        return [
            decide((math.log1p(effect) + 0.01 * rng.standard_normal(20)).tolist(), 0.01, DESIGN).verdict
            for _ in range(400)
        ]

    assert verdicts(0.01).count("REGRESSED") <= 21  # 2.5 % is 10; within 3.5 standard errors
    assert verdicts(0.0).count("REGRESSED") <= 2
    assert verdicts(0.0).count("PASS") >= 320
    assert verdicts(0.03).count("REGRESSED") >= 392


# ---------------------------------------------------------------- trials out of recorded sessions


def as_decided(logs: list[float], tolerance: float = 0.02) -> list[tuple[str, int]]:
    """The verdict of each trial, and how many sessions it took."""
    return [(decision.verdict, LOOKS[decision.look - 1]) for decision in sequential.trials(logs, tolerance, DESIGN)]


def test_trials_follow_each_other_and_share_no_session() -> None:
    worse, better = ([shift + value for value in STEADY] for shift in (0.05, -0.05))
    assert as_decided(worse + STEADY + better) == [("REGRESSED", 5), ("PASS", 5), ("IMPROVED", 5)]
    unclear = [0.2, -0.2] * 10
    assert as_decided(unclear + worse) == [("INCONCLUSIVE", 20), ("REGRESSED", 5)]


def test_a_trial_is_the_decision_on_its_sessions() -> None:
    logs = np.random.default_rng(7).normal(0.01, 0.02, 200).tolist()
    begin = 0
    for decision in sequential.trials(logs, 0.01, DESIGN):
        taken = LOOKS[decision.look - 1]
        assert decision == decide(logs[begin : begin + taken], 0.01, DESIGN)
        begin += taken
    assert decide(logs[begin:], 0.01, DESIGN).verdict == "GO_ON"


@pytest.mark.parametrize("count", range(5))
def test_sessions_that_do_not_suffice_are_no_trial(count: int) -> None:
    assert as_decided(STEADY[:count]) == []
    assert as_decided([0.2, -0.2] * 10 + [0.2, -0.2] * 9) == [("INCONCLUSIVE", 20)]


def test_a_session_that_is_no_number_ends_its_trial() -> None:
    assert as_decided([math.nan, *STEADY[:4], *STEADY]) == [("INCONCLUSIVE", 5), ("PASS", 5)]

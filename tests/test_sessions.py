"""``bench.sessions``: from rows to verdicts, on sessions whose true ratio is known."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import registry, sequential, sessions
from bench.judgement import exit_code
from bench.kernel import Kernel
from bench.schema import Row
from bench.sequential import Design
from bench.types import Arm, DeviceInfo, Plan, Trial
from tests.results import make_plan, make_row
from tests.small_kernel import KERNELS

ARMS = (Arm("A"), Arm("B", variables={"X": "1"}))
TRIAL = Trial(looks=(5, 8, 12), alpha=0.05, tolerance=0.01)
ONE, TWO, THREE = "small/n1", "small/n2", "small/n2@variant=b"
WORK = 2_000_000  # FLOP of a launch


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    known: Mapping[str, Kernel[Any]] = KERNELS
    monkeypatch.setattr(registry, "kernels", lambda: known)


def ab_plan(*workloads: str, arms: Sequence[Arm] = ARMS, trial: Trial = TRIAL, **changes: Any) -> Plan:
    return make_plan(*(workloads or (ONE,)), suite="ab", arms=tuple(arms), trial=trial, **changes)


def row_of(plan: Plan, arm: str, session: int, bursts: Sequence[Sequence[float]], **changes: Any) -> Row:
    """A row whose samples are those bursts, in ns a launch."""
    elapsed_ns = list(itertools.chain(*bursts))
    flops = changes.pop("flops", WORK)
    workload = changes.pop("workload", ONE)
    median_ns = float(np.median(elapsed_ns))
    measured = {
        "arm": arm,
        "session": session,
        "elapsed_ns": elapsed_ns,
        "burst_samples": len(bursts[0]),
        "median_ns": median_ns,
        "flops": flops,
        "value": flops / (median_ns * 1e-9) if median_ns else math.inf,
    }
    return make_row(plan, workload, replicate=session, **measured | changes)


def pair(plan: Plan, session: int, ratio: float, **changes: Any) -> list[Row]:
    """One session in which B takes that times as long as A."""
    bursts = [[1e6] * 3] * 4
    slower = [[ns * ratio for ns in burst] for burst in bursts]
    return [row_of(plan, "A", session, bursts, **changes), row_of(plan, "B", session, slower, **changes)]


def rows_of(plan: Plan, ratios: Sequence[float], **changes: Any) -> list[Row]:
    return [row for session, ratio in enumerate(ratios) for row in pair(plan, session, ratio, **changes)]


def judged(plan: Plan, rows: Sequence[Row]) -> Any:
    (found,) = sessions.judge(plan, sessions.collect(plan, rows))
    return found


# ---------------------------------------------------------------- one session


DRIFTS = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=8)


@given(DRIFTS, st.lists(st.floats(0.99, 1.5), min_size=1, max_size=6))
def test_what_befalls_both_arms_cancels(drift: list[float], shape: list[float]) -> None:
    """However the machine drifts from pair to pair, and whatever a burst looks like inside."""
    plan = ab_plan()
    bursts = [[1e6 * factor * each for each in shape] for factor in drift]
    slower = [[ns * 1.03 for ns in burst] for burst in bursts]
    found = sessions.log_ratio(row_of(plan, "A", 0, bursts), row_of(plan, "B", 0, slower))
    assert found == pytest.approx(math.log(1.03))


@given(DRIFTS)
def test_swapped_arms_have_the_opposite_ratio(drift: list[float]) -> None:
    plan = ab_plan()
    steady = row_of(plan, "A", 0, [[1e6]] * len(drift))
    drifting = row_of(plan, "B", 0, [[1e6 * factor] for factor in drift])
    assert sessions.log_ratio(steady, drifting) == pytest.approx(-sessions.log_ratio(drifting, steady))


def test_arms_may_fill_their_bursts_with_different_numbers_of_samples() -> None:
    """The slower one has fewer launches in the same time."""
    plan = ab_plan()
    a = row_of(plan, "A", 0, [[1e6] * 8, [2e6] * 8, [4e6] * 8])
    b = row_of(plan, "B", 0, [[2e6] * 4, [4e6] * 4, [8e6] * 4])
    assert sessions.log_ratio(a, b) == pytest.approx(math.log(2))


def test_the_ratio_is_of_time_per_work() -> None:
    """Twice the time for twice the work is no change."""
    plan = ab_plan()
    a = row_of(plan, "A", 0, [[1e6] * 3] * 4)
    b = row_of(plan, "B", 0, [[2e6] * 3] * 4, flops=2 * WORK)
    assert sessions.log_ratio(a, b) == pytest.approx(0)
    assert sessions.log_ratio(a, b | {"value": b["value"] / 2}) == pytest.approx(math.log(2))


def test_one_burst_that_something_disturbed_hardly_moves_the_session() -> None:
    plan = ab_plan()
    bursts = [[1e6] * 5] * 9
    disturbed = [[1e6] * 5] * 8 + [[1e9] * 5]
    assert sessions.log_ratio(row_of(plan, "A", 0, bursts), row_of(plan, "B", 0, disturbed)) == pytest.approx(0)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of a quantile between two infinite samples
@pytest.mark.parametrize("ns", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("sides", [("A",), ("B",), ("A", "B")])
def test_a_time_that_makes_no_sense_is_inconclusive_and_no_crash(ns: float, sides: tuple[str, ...]) -> None:
    plan = ab_plan()
    rows = rows_of(plan, [1.0] * 4)
    rows += [row_of(plan, arm, 4, [[ns if arm in sides else 1e6] * 3] * 4) for arm in ("A", "B")]
    found = judged(plan, rows)
    assert (found.verdict, found.interval) == ("INCONCLUSIVE", None)
    assert found.log_sd is None


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_rate_that_makes_no_sense_is_inconclusive_and_no_crash(value: float) -> None:
    plan = ab_plan()
    rows = rows_of(plan, [1.0] * 5)
    found = judged(plan, [*rows[:-1], rows[-1] | {"value": value}])
    assert (found.verdict, found.interval) == ("INCONCLUSIVE", None)


# ---------------------------------------------------------------- collecting


def test_sessions_are_in_their_order_whatever_the_rows_are_in() -> None:
    plan = ab_plan()
    rows = rows_of(plan, [1.0, 1.1, 1.2])
    for order in itertools.permutations(rows):
        (found,) = sessions.collect(plan, order)
        assert found.log_ratios == pytest.approx([0, math.log(1.1), math.log(1.2)])
        assert (found.workload, found.device, found.obstacle) == (ONE, "cpu", None)


def test_a_session_that_lacks_an_arm_is_passed_over() -> None:
    """It was cut off by a signal, or its process was killed."""
    plan = ab_plan()
    rows = rows_of(plan, [1.0, 1.1, 1.2])
    (found,) = sessions.collect(plan, [rows[0], rows[1], rows[3], rows[4], rows[5]])
    assert found.log_ratios == pytest.approx([0, math.log(1.2)])
    assert found.obstacle is None


@pytest.mark.parametrize("status", ["failed", "wrong", "timeout", "crashed", "oom"])
@pytest.mark.parametrize("alone", [True, False])
def test_an_arm_that_failed_is_an_error_with_its_reason(status: str, alone: bool) -> None:
    """In its last session too, and though all others are clear."""
    plan = ab_plan()
    rows = rows_of(plan, [1.0] * 6)
    rows[-1] |= {"status": status, "reason": "it said so", "value": None, "elapsed_ns": None, "burst_samples": None}
    if alone:
        del rows[-2]
    found = judged(plan, rows)
    assert (found.verdict, found.reason) == ("ERROR", f"arm B: {status}: it said so")
    assert (found.ratio, found.interval, found.tolerance) == (None, None, TRIAL.tolerance)
    assert exit_code([found]) == 3


def test_what_an_arm_does_not_support_is_incomparable() -> None:
    plan = ab_plan()
    rows = pair(plan, 0, 1.0)
    rows[0] |= {"status": "unsupported", "reason": "no bf16", "value": None}
    found = judged(plan, rows)
    assert (found.verdict, found.reason) == ("INCOMPARABLE", "arm A: unsupported: no bf16")
    assert exit_code([found]) == 6


def test_figures_in_different_units_are_incomparable() -> None:
    arms = Arm("A", workload=ONE), Arm("B", workload=TWO)
    plan = ab_plan(ONE, TWO, arms=arms)
    rows = rows_of(plan, [1.0] * 5)
    for row in rows[1::2]:
        row |= {"workload": TWO, "unit": "token/s"}
    found = judged(plan, rows)
    assert found.workload == f"{ONE} : {TWO}"
    assert (found.verdict, found.reason) == (
        "INCOMPARABLE",
        "arm B: unsupported: its figure is in token/s, that of A in FLOP/s",
    )


def test_arms_with_workloads_of_their_own_are_one_test() -> None:
    plan = ab_plan(ONE, TWO, arms=(Arm("A", workload=ONE), Arm("B", workload=TWO)))
    rows = rows_of(plan, [1.1] * 5)
    for row in rows[1::2]:
        row["workload"] = TWO
    (found,) = sessions.collect(plan, rows)
    assert (found.workload, len(found.log_ratios)) == (f"{ONE} : {TWO}", 5)


def test_workloads_and_devices_are_kept_apart() -> None:
    devices = tuple(DeviceInfo("cuda", index, "a GPU") for index in (0, 1))
    plan = ab_plan(ONE, TWO, devices=devices)
    cells = itertools.product((0, 1), (ONE, TWO))
    rows = [
        row_of(plan, arm, 0, [[1e6 * factor]] * 4, workload=workload, device=device)
        for ratio, (device, workload) in zip((1.0, 1.1, 1.2, 1.3), cells, strict=True)
        for arm, factor in (("A", 1.0), ("B", ratio))
    ]
    found = {(one.workload, one.device): one.log_ratios for one in sessions.collect(plan, rows)}
    assert {key: round(math.exp(logs[0]), 6) for key, logs in found.items()} == {
        (ONE, "cuda:0"): 1.0,
        (TWO, "cuda:0"): 1.1,
        (ONE, "cuda:1"): 1.2,
        (TWO, "cuda:1"): 1.3,
    }


def test_what_was_never_reached_is_missing_and_no_pass() -> None:
    plan = ab_plan()
    (one,) = sessions.judge(plan, sessions.collect(plan, []))
    assert (one.verdict, one.is_missing, one.n) == ("INCONCLUSIVE", True, 0)
    assert sessions.judge(plan, []) == []


# ---------------------------------------------------------------- the decision over several workloads


def spread(shift: float, sd: float, n: int) -> list[float]:
    """Log-ratios of that mean and about that spread, the same ones always."""
    return [shift + sd * (-1) ** i * (1 + i / n) / 1.5 for i in range(n)]


@given(st.lists(st.floats(-0.2, 0.2), max_size=12))
@settings(deadline=None)
def test_a_single_workload_is_decided_as_by_itself(log_ratios: list[float]) -> None:
    found = sessions.settle({"x": log_ratios}, TRIAL)
    assert found == {
        "x": (sequential.decide(log_ratios, TRIAL.tolerance, Design(TRIAL.looks, TRIAL.alpha)), TRIAL.alpha)
    }


def test_the_second_change_is_found_at_the_alpha_that_the_first_leaves() -> None:
    """Holm's step: at alpha / 2 it would not be seen."""
    weak = spread(0.05, 0.024, 5)
    assert sequential.decide(weak, 0.01, Design(TRIAL.looks, 0.025)).verdict == "GO_ON"
    assert sequential.decide(weak, 0.01, Design(TRIAL.looks, 0.05)).verdict == "REGRESSED"
    beside_nothing = sessions.settle({"weak": weak, "none": spread(0, 0.001, 5)}, TRIAL)
    assert (beside_nothing["weak"][0].verdict, beside_nothing["weak"][1]) == ("GO_ON", 0.025)
    for strong in (0.5, -0.5):
        beside_strong = sessions.settle({"weak": weak, "strong": spread(strong, 0.001, 5)}, TRIAL)
        assert (beside_strong["weak"][0].verdict, beside_strong["weak"][1]) == ("REGRESSED", 0.05)
        assert beside_strong["strong"][1] == 0.025


def test_each_change_leaves_more_to_the_rest() -> None:
    strong = {f"strong{i}": spread(0.5, 0.001, 5) for i in range(3)}
    found = sessions.settle({**strong, "none": spread(0, 0.001, 5)}, TRIAL)
    assert {name: alpha for name, (_, alpha) in found.items()} == {
        **dict.fromkeys(strong, pytest.approx(TRIAL.alpha / 4)),
        "none": pytest.approx(TRIAL.alpha),
    }


def test_nothing_to_settle_is_settled() -> None:
    assert sessions.settle({}, TRIAL) == {}


SERIES = st.lists(st.integers(-60, 60).map(lambda i: i / 1000), min_size=5, max_size=5)


@settings(deadline=None, max_examples=60)
@given(st.lists(SERIES, min_size=1, max_size=4))
def test_a_change_is_one_whose_adjusted_p_value_is_within_alpha(suite: list[list[float]]) -> None:
    found = [sessions.Sessions(f"w{index}", "cpu", tuple(logs)) for index, logs in enumerate(suite)]
    judgements = sessions.judge(ab_plan(), found)
    for one in judgements:
        assert one.p is not None
        assert (one.p <= TRIAL.alpha) == (one.verdict in ("REGRESSED", "IMPROVED"))
        assert one.interval is not None
        assert (one.interval.low > 1.01) == (one.verdict == "REGRESSED")
        assert (one.interval.high < 1 / 1.01) == (one.verdict == "IMPROVED")


@pytest.mark.parametrize("workloads", [1, 2, 3, 75, 95, 150])
def test_rounding_parts_no_p_value_from_its_verdict(workloads: int) -> None:
    """A p-value at alpha / m itself, times m."""
    decision = sequential.Decision("REGRESSED", 1, 1.1, None, TRIAL.alpha / workloads)
    one = sessions.Sessions("w", "cpu", (0.1,) * 5)
    judgement = sessions._judgement(one, decision, TRIAL.alpha / workloads, TRIAL)
    assert judgement.p is not None
    assert judgement.p <= TRIAL.alpha


def test_adjusted_p_values_keep_to_one() -> None:
    found = [sessions.Sessions(f"w{index}", "cpu", tuple(spread(0, 0.05, 5))) for index in range(4)]
    assert [one.p for one in sessions.judge(ab_plan(), found)] == [1.0] * 4


# ---------------------------------------------------------------- judgements


@pytest.mark.parametrize(
    ("ratio", "verdict", "code"), [(1.05, "REGRESSED", 5), (0.95, "IMPROVED", 0), (1.0, "PASS", 0)]
)
def test_a_clear_answer_after_the_first_look(ratio: float, verdict: str, code: int) -> None:
    plan = ab_plan()
    found = judged(plan, rows_of(plan, [ratio * (1 + 0.001 * (-1) ** i) for i in range(5)]))
    assert (found.verdict, found.reason, found.n, found.tolerance) == (verdict, "", 5, 0.01)
    assert found.ratio == pytest.approx(ratio, rel=1e-3)
    assert found.interval.low < found.ratio < found.interval.high
    assert found.log_sd == pytest.approx(0.0011, rel=0.1)
    assert 1.01 < found.detectable < 1.02
    assert exit_code([found]) == code


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (1, "1 sessions, where the first look is after 5"),
        (4, "4 sessions, where the first look is after 5"),
        (6, "6 of at most 12 sessions gave no clear answer"),
        (12, "12 of at most 12 sessions gave no clear answer"),
    ],
)
def test_what_is_not_clear_is_inconclusive_and_says_how_far_it_came(count: int, reason: str) -> None:
    plan = ab_plan()
    found = judged(plan, rows_of(plan, [1 + 0.2 * (-1) ** i for i in range(count)]))
    assert (found.verdict, found.reason) == ("INCONCLUSIVE", reason)
    assert exit_code([found]) == 6


def test_sessions_after_the_answer_do_not_change_it() -> None:
    """Another workload of the suite went on; or the run was recovered."""
    plan = ab_plan()
    clear = [1.1, 1.101, 1.1, 1.102, 1.1]
    early, late = (judged(plan, rows_of(plan, ratios)) for ratios in (clear, [*clear, 0.5, 0.5]))
    assert (early.verdict, early.ratio, early.interval, early.n) == (late.verdict, late.ratio, late.interval, late.n)


def test_one_bad_workload_takes_no_answer_from_another() -> None:
    plan = ab_plan(ONE, TWO)
    rows = rows_of(plan, [1.1, 1.1, 1.101, 1.1, 1.1]) + pair(plan, 0, 1.0, workload=TWO)
    rows[-1] |= {"status": "failed", "reason": "no"}
    found = {one.workload: one for one in sessions.judge(plan, sessions.collect(plan, rows))}
    assert {name: one.verdict for name, one in found.items()} == {ONE: "REGRESSED", TWO: "ERROR"}
    # It was asked about, so it keeps its share of alpha.
    interval = found[ONE].interval
    assert interval is not None
    assert interval.confidence == 1 - plan.trial.alpha / 2


def test_what_can_be_found_shrinks_with_the_noise_and_grows_with_the_tolerance() -> None:
    design = Design(TRIAL.looks, TRIAL.alpha)
    noisy, quiet = (sessions.detectable(sd, 0.01, design) for sd in (0.02, 0.002))
    assert noisy is not None
    assert quiet is not None
    assert 1.01 < quiet < noisy
    wide = sessions.detectable(0.002, 0.05, design)
    assert wide == pytest.approx(quiet * 1.05 / 1.01)
    assert sessions.detectable(None, 0.01, design) is None
    assert sessions.detectable(0.0, 0.01, design) == pytest.approx(1.01)


def test_what_it_says_it_finds_is_found_four_times_in_five() -> None:
    design = Design(TRIAL.looks, TRIAL.alpha)
    effect = sessions.detectable(0.01, 0.01, design)
    assert effect is not None
    logs = np.random.default_rng(5).normal(math.log(effect), 0.01, (400, TRIAL.looks[-1]))
    found = sum(sequential.decide(each.tolist(), 0.01, design).verdict == "REGRESSED" for each in logs) / 400
    assert 0.7 <= found <= 0.97  # at the last look alone it would be 80 %; the earlier ones add to it


# ---------------------------------------------------------------- noise


def noise_of(log_ratios: Sequence[float], alpha: float = 0.05) -> sessions.Noise:
    plan = ab_plan(trial=Trial(looks=(len(log_ratios),), alpha=alpha, tolerance=0.01))
    (found,) = sessions.noise(plan, [sessions.Sessions(ONE, "cpu", tuple(log_ratios))])
    return found


def jitter(shift: float) -> Iterator[float]:
    return (shift + 0.0005 * (-1) ** i for i in itertools.count())


def take(shift: float, count: int) -> list[float]:
    return list(itertools.islice(jitter(shift), count))


FIRST = Trial().looks[0]
LAST = Trial().looks[-1]


def test_false_alarms_are_counted_in_trials_that_share_no_session() -> None:
    """Two that pass, one that cries slower, one that cries faster: each takes as many sessions as a test would."""
    found = noise_of([*take(0.0, FIRST), *take(0.2, FIRST), *take(0.0, FIRST), *take(-0.2, FIRST)])
    assert (found.sessions, found.trials, found.alarms, found.decided) == (4 * FIRST, 4, 2, 2)
    assert found.false_alarms is not None
    assert found.false_alarms.low < 0.5 < found.false_alarms.high


def test_a_trial_that_comes_to_no_answer_takes_all_its_sessions() -> None:
    unclear = [0.3 * (-1) ** i for i in range(LAST)]
    found = noise_of([*unclear, *take(0.0, FIRST)])
    assert (found.trials, found.alarms, found.decided) == (2, 0, 1)


def test_sessions_that_make_no_trial_are_not_counted_as_one() -> None:
    assert noise_of(take(0.0, FIRST + 2)).trials == 1
    few = noise_of(take(0.0, FIRST - 1))
    assert (few.trials, few.alarms, few.false_alarms) == (0, 0, None)
    assert few.log_sd is not None


def test_without_an_alarm_the_share_may_still_not_be_none() -> None:
    """0 of n is no proof: the upper end by Clopper and Pearson."""
    found = noise_of(take(0.0, 10 * FIRST))
    assert found.false_alarms is not None
    assert found.false_alarms.low == 0
    assert found.false_alarms.high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_noise_of_too_little_is_unknown() -> None:
    found = noise_of([0.0, 0.1] + [0.0] * 1)
    assert found.log_sd is not None
    plan = ab_plan()
    (one,) = sessions.noise(plan, [sessions.Sessions(ONE, "cpu", (0.1,))])
    assert (one.log_sd, one.detectable, one.trials, one.false_alarms) == (None, None, 0, None)
    (nan,) = sessions.noise(plan, [sessions.Sessions(ONE, "cpu", (math.nan,) * 5)])
    assert (nan.log_sd, nan.alarms) == (None, 0)


def test_the_noise_is_the_standard_deviation() -> None:
    logs = np.random.default_rng(4).normal(0, 0.02, 60)
    assert noise_of(logs.tolist()).log_sd == pytest.approx(float(np.std(logs, ddof=1)))


# ---------------------------------------------------------------- what makes the machine unfit


def test_unfit_flags_are_counted_and_other_flags_are_not() -> None:
    plan = ab_plan()
    rows = rows_of(plan, [1.0] * 2)
    rows[0]["validity"] = ["unfit:steal", "simulated"]
    rows[1]["validity"] = ["unfit:steal", "unfit:foreign-load"]
    rows[2]["validity"] = None
    assert sessions.unfit(iter(rows)) == {"unfit:foreign-load": ["1 of 4 rows"], "unfit:steal": ["2 of 4 rows"]}
    assert sessions.unfit([]) == {}


def test_sessions_are_plain_data() -> None:
    one = sessions.Sessions(ONE, "cpu", (0.1,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.workload = "other"  # type: ignore[misc]

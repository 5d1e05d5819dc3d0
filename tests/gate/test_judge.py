"""``bench.gate.judge``: a regression needs five processes a side, Holm, and a second measurement; all else says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit

from bench import errors, stats
from bench.errors import UnreadableResult, UsageError
from bench.gate import alike, side
from bench.gate import judge as gate
from bench.gate.judge import Outcome, Rule
from bench.judgement import Judgement
from bench.stats import Interval, RatioTest
from tests.results import WORKLOAD
from tests.stored import GPU, OTHER, STEADY, noisy, stored


class Gate:
    """Results in a folder, and what a gate says of them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.baseline = [self.stored()]

    def stored(self, *arguments: Any, **changes: Any) -> Path:
        return stored(self.out, *arguments, **changes)

    def outcome(self, current: Path | Sequence[Path], confirmation: Path | None = None, **rule: Any) -> Outcome:
        paths = [current] if isinstance(current, Path) else current
        second = None if confirmation is None else side.load([confirmation])
        return gate.judge(side.load(self.baseline), side.load(paths), Rule(**rule), second)

    def one(self, *arguments: Any, **rule: Any) -> Judgement:
        (judgement,) = self.outcome(*arguments, **rule).judgements
        return judgement


@pytest.fixture
def results(tmp_path: Path) -> Gate:
    """A folder with a baseline of five steady processes."""
    return Gate(tmp_path)


# ---------------------------------------------------------------- the verdicts


def test_equal_results_pass(results: Gate) -> None:
    outcome = results.outcome(results.stored())
    (one,) = outcome.judgements
    assert (one.verdict, one.n, one.tolerance) == ("PASS", 5, 0.02)
    assert one.interval is not None and one.interval.low < 1.0 < one.interval.high < 1.02
    assert outcome.exit_code == errors.OK and not outcome.unfit and not outcome.notes


def test_a_regression_that_a_second_measurement_confirms_is_one(results: Gate) -> None:
    outcome = results.outcome(results.stored(slower=1.05), results.stored(slower=1.05))
    (one,) = outcome.judgements
    assert one.verdict == "REGRESSED"
    assert one.ratio == pytest.approx(1.05, rel=1e-9)
    assert one.reason.startswith("confirmed by a second measurement, 1.050 (1.04")
    assert one.p is not None and one.p < 0.05
    assert outcome.exit_code == errors.REGRESSED


def test_without_a_second_measurement_it_is_advisory(results: Gate) -> None:
    outcome = results.outcome(results.stored(slower=1.05))
    (one,) = outcome.judgements
    assert one.verdict == "INCONCLUSIVE"
    assert one.reason == "looks worse: not confirmed by a second measurement, which is missing"
    assert outcome.exit_code == errors.INCONCLUSIVE


def test_a_second_measurement_that_disagrees_withdraws_it(results: Gate) -> None:
    one = results.one(results.stored(slower=1.05), results.stored())
    assert one.verdict == "INCONCLUSIVE"
    assert one.reason.startswith("looks worse: not confirmed by a second measurement, PASS, 1.000 (0.99")


def test_a_second_measurement_of_too_few_processes_confirms_nothing(results: Gate) -> None:
    one = results.one(results.stored(slower=1.05), results.stored(STEADY[:4], slower=1.05))
    assert one.verdict == "INCONCLUSIVE"
    assert "4 processes on one side, and it takes 5 on each" in one.reason


def test_a_second_measurement_on_another_machine_confirms_nothing(results: Gate) -> None:
    one = results.one(results.stored(slower=1.05), results.stored(slower=1.05, cpu_model="another"))
    assert one.verdict == "INCONCLUSIVE"
    assert "INCOMPARABLE: cpu_model differs: some CPU in the baseline, another now" in one.reason


def test_a_second_measurement_that_fails_is_an_error(results: Gate) -> None:
    second = results.stored({WORKLOAD: [*STEADY[:4], None]}, slower=1.05)
    one = results.one(results.stored(slower=1.05), second)
    assert one.verdict == "ERROR"
    assert one.reason == "in the second measurement, failed: ValueError: on purpose"


def test_an_improvement_takes_a_second_measurement_and_is_a_pass_without(results: Gate) -> None:
    first, second, alike_ = (results.stored(slower=slower) for slower in (0.95, 0.95, 1.0))
    outcome = results.outcome(first, second)
    (one,) = outcome.judgements
    assert (one.verdict, outcome.exit_code) == ("IMPROVED", errors.OK)
    assert one.ratio == pytest.approx(0.95)
    for missing_or_alike in ((first,), (first, alike_)):
        one = results.one(*missing_or_alike)
        assert one.verdict == "PASS"
        assert one.reason.startswith("looks better: not confirmed by a second measurement, ")


@pytest.mark.parametrize(("slower", "look"), [(1.05, "worse"), (1.0, "no worse"), (0.95, "better")])
@pytest.mark.parametrize("few_on", ["baseline", "current"])
def test_four_processes_on_a_side_are_too_few(tmp_path: Path, slower: float, look: str, few_on: str) -> None:
    results = Gate(tmp_path)
    values = {"baseline": STEADY, "current": STEADY} | {few_on: STEADY[:4]}
    results.baseline = [results.stored(values["baseline"])]
    one = results.one(results.stored(values["current"], slower=slower))
    assert (one.verdict, one.n) == ("INCONCLUSIVE", 4)
    assert one.reason == f"looks {look}: 4 processes on one side, and it takes 5 on each"


def test_an_interval_across_the_limit_is_inconclusive_and_says_what_it_could_find(results: Gate) -> None:
    one = results.one(results.stored(noisy(5, 0.03), slower=1.02))
    assert one.verdict == "INCONCLUSIVE"
    assert one.reason == "the interval reaches across the limit of 1.02"
    assert one.detectable is not None and one.detectable > 1.04


def test_the_tolerance_moves_the_limit(results: Gate) -> None:
    slower = results.stored(slower=1.05), results.stored(slower=1.05)
    assert results.one(*slower, tolerance=0.1).verdict == "PASS"
    assert results.one(*slower, tolerance=0.01).verdict == "REGRESSED"
    assert results.one(results.stored(slower=1 / 1.05), tolerance=0.1).verdict == "PASS"


def test_lower_is_better_where_the_row_says_so(tmp_path: Path) -> None:
    results = Gate(tmp_path)
    results.baseline = [results.stored(better="lower")]
    one = results.one(results.stored(slower=0.9, better="lower"), results.stored(slower=0.9, better="lower"))
    assert one.verdict == "REGRESSED"
    assert one.ratio == pytest.approx(1 / 0.9)


def test_equal_values_are_a_point_and_no_crash(tmp_path: Path) -> None:
    results = Gate(tmp_path)
    results.baseline = [results.stored([2.0] * 5)]
    same = results.one(results.stored([2.0] * 5))
    assert same.verdict == "PASS" and same.interval is not None
    assert (same.interval.low, same.interval.high, same.detectable) == (1.0, 1.0, 1.02)
    assert results.one(results.stored([1.0] * 5), results.stored([1.0] * 5)).verdict == "REGRESSED"


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_a_value_that_is_no_positive_number_decides_nothing(results: Gate, bad: float) -> None:
    one = results.one(results.stored([*STEADY[:4], bad]))
    assert one.verdict == "INCONCLUSIVE" and one.ratio is None
    assert "a value is no positive number" in one.reason


@pytest.mark.filterwarnings("error")
def test_a_value_too_small_for_a_reciprocal_is_named_and_no_warning(results: Gate) -> None:
    one = results.one(results.stored([*STEADY[:4], 5e-324]))
    assert one.verdict == "INCONCLUSIVE"
    assert "in the current results, a value is no positive number (zero, infinite, or beyond" in one.reason


def test_rows_of_one_process_are_one_observation(tmp_path: Path) -> None:
    results = Gate(tmp_path)
    again = {"only": {WORKLOAD: {"replicate": 0}}}
    one = results.one(results.stored(slower=1.05, **again), results.stored(slower=1.05, **again))
    assert (one.verdict, one.n) == ("INCONCLUSIVE", 1)
    (cell,) = side.load([results.stored([1.0, 4.0], **again)]).cells.values()
    assert cell.badness.tolist() == pytest.approx([0.5])  # their geometric mean, of a rate


def test_where_it_is_not_known_which_way_is_good_there_is_no_verdict(tmp_path: Path) -> None:
    results = Gate(tmp_path)
    for of_baseline, of_current in ((None, None), (None, "higher"), ("higher", None)):
        results.baseline = [results.stored(better=of_baseline)]
        one = results.one(results.stored(slower=1.5, better=of_current), results.stored(slower=1.5, better=of_current))
        assert (one.verdict, one.ratio) == ("INCOMPARABLE", None)
        assert one.reason == "which way is good is not known, so no ratio is worse than another"


UNCALIBRATED = {"calibration_before_ns": None, "calibration_after_ns": None}


@pytest.mark.parametrize("where", ["baseline", "current results"])
def test_a_calibration_on_one_side_only_is_incomparable(tmp_path: Path, where: str) -> None:
    results = Gate(tmp_path)
    results.baseline = [results.stored(**UNCALIBRATED if where == "baseline" else {})]
    one = results.one(results.stored(**{} if where == "baseline" else UNCALIBRATED))
    assert one.verdict == "INCOMPARABLE"
    assert one.reason.startswith(f"the {where} did not record the calibration workload")


def test_without_a_calibration_on_either_side_there_is_a_verdict_and_a_note(tmp_path: Path) -> None:
    results = Gate(tmp_path)
    results.baseline = [results.stored(**UNCALIBRATED)]
    outcome = results.outcome(results.stored(**UNCALIBRATED))
    assert [one.verdict for one in outcome.judgements] == ["PASS"]
    (note,) = outcome.notes
    assert note.startswith("cpu: no calibration on either side")


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_processes_give_no_interval(results: Gate, n: int) -> None:
    one = results.one(results.stored(STEADY[:n]))
    assert one.verdict == "INCONCLUSIVE" and one.interval is None
    assert one.reason == f"{n} processes on one side: an interval takes 3, a verdict 5"


# ---------------------------------------------------------------- several workloads


def test_holm_asks_more_of_one_among_many(tmp_path: Path) -> None:
    """Just beyond the tolerance alone; among forty workloads, one such is to be expected by chance."""
    names = [f"matmul/fp32/{size}" for size in range(64, 64 + 40)]
    results = Gate(tmp_path)
    results.baseline = [results.stored(dict.fromkeys(names, STEADY))]
    shift = 1.02 * math.exp(3.0 * 0.00079 / math.sqrt(2.5))
    slow = {name: [value / shift for value in STEADY] if name == names[0] else STEADY for name in names}
    alone = {names[0]: slow[names[0]]}
    seen = gate.looks(side.load(results.baseline), side.load([results.stored(alone)]), Rule(), [(names[0], "cpu")])
    assert [one.verdict for one in seen] == ["REGRESSED"]
    among = gate.looks(side.load(results.baseline), side.load([results.stored(slow)]), Rule())
    (first,) = [one for one in among if one.workload == names[0]]
    assert first.interval == seen[0].interval and first.interval is not None and first.interval.low > 1.02
    assert first.verdict == "INCONCLUSIVE"
    assert "corrected for the number of workloads (Holm: p = " in first.reason


def test_only_what_looks_worse_has_to_be_measured_again(results: Gate) -> None:
    results.baseline = [results.stored({WORKLOAD: STEADY, OTHER: STEADY})]
    current = results.stored({WORKLOAD: STEADY, OTHER: [value / 1.05 for value in STEADY]})
    seen = gate.looks(side.load(results.baseline), side.load([current]), Rule())
    assert gate.suspects(seen) == [(OTHER, "cpu")]
    outcome = results.outcome(current, results.stored({OTHER: [value / 1.05 for value in STEADY]}))
    assert {one.workload: one.verdict for one in outcome.judgements} == {WORKLOAD: "PASS", OTHER: "REGRESSED"}


@pytest.mark.parametrize("missing_from", ["current results", "baseline"])
def test_a_workload_on_one_side_only_is_missing_and_no_pass(tmp_path: Path, missing_from: str) -> None:
    results = Gate(tmp_path)
    both = results.stored({WORKLOAD: STEADY, OTHER: STEADY})
    current = both if missing_from == "baseline" else results.stored()
    results.baseline = results.baseline if missing_from == "baseline" else [both]
    outcome = results.outcome(current)
    lost = {one.workload: one for one in outcome.judgements}[OTHER]
    assert (lost.verdict, lost.is_missing, lost.reason) == ("INCONCLUSIVE", True, f"not in the {missing_from}")
    assert outcome.exit_code == errors.INCONCLUSIVE


def test_a_failed_process_is_an_error_and_not_a_gap(results: Gate) -> None:
    outcome = results.outcome(results.stored({WORKLOAD: [*STEADY, None]}))
    (one,) = outcome.judgements
    assert (one.verdict, one.reason) == ("ERROR", "failed: ValueError: on purpose")
    assert outcome.exit_code == errors.FAILED


def test_a_failure_in_the_baseline_is_no_pass(tmp_path: Path) -> None:
    results = Gate(tmp_path)
    results.baseline = [results.stored({WORKLOAD: [*STEADY, None]})]
    one = results.one(results.stored())
    assert one.verdict == "INCONCLUSIVE"
    assert one.reason == "in the baseline, failed: ValueError: on purpose: set a new baseline"


def test_what_neither_side_can_run_is_left_out_and_what_one_lost_is_missing(results: Gate) -> None:
    unsupported = {"status": "unsupported", "reason": "the library says no", "value": None}
    without = results.stored({WORKLOAD: STEADY, OTHER: STEADY}, only={OTHER: unsupported})
    again = results.stored({WORKLOAD: STEADY, OTHER: STEADY}, only={OTHER: unsupported})
    results.baseline = [without]
    assert [one.workload for one in results.outcome(again).judgements] == [WORKLOAD]
    results.baseline = [results.stored({WORKLOAD: STEADY, OTHER: STEADY})]
    lost = {one.workload: one for one in results.outcome(again).judgements}[OTHER]
    assert lost.is_missing
    assert lost.reason == "no figure in the current results: unsupported: the library says no"


# ---------------------------------------------------------------- only like is compared with like


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpu_model": "another"}, "cpu_model differs: some CPU in the baseline, another now: it is another machine"),
        (
            {"torch": "2.14"},
            "torch differs: 2.13 in the baseline, 2.14 now: if that is what is to be tested: --vary torch",
        ),
        ({"torch": None}, "torch differs: 2.13 in the baseline, – now"),
        ({"cpu_governor": "powersave"}, "cpu_governor differs: – in the baseline, powersave now"),
        ({"debug": ["PYTHONDEVMODE"]}, "debug differs: none in the baseline, PYTHONDEVMODE now"),
        ({"memory_bytes": 15 << 30}, "memory_bytes differs"),
        ({"spec_id": "x"}, "spec_id differs"),
        ({"policy_id": "x"}, "policy_id differs"),
        ({"threads": 1}, "threads differs: 2 in the baseline, 1 now"),
        ({"world_size": 8}, "world_size differs: 1 in the baseline, 8 now"),
        ({"env_id": None}, "the current results did not record the environment"),
        (
            {"calibration_before_ns": 11_600_000, "calibration_after_ns": 11_600_000},
            "the calibration workload took 11.00 ms in the baseline, 11.60 ms now (5%, limit 5%)",
        ),
    ],
)
def test_what_is_not_alike_is_incomparable_and_has_no_ratio(results: Gate, change: dict[str, Any], words: str) -> None:
    outcome = results.outcome(results.stored(slower=1.05, **change))
    (one,) = outcome.judgements
    assert (one.verdict, one.ratio, outcome.exit_code) == ("INCOMPARABLE", None, errors.INCONCLUSIVE)
    assert words in one.reason


@pytest.mark.parametrize(
    "change",
    [
        {"memory_bytes": (16 << 30) + 4096},  # what the kernel leaves of it changes with every boot
        {"calibration_before_ns": 11_500_000, "calibration_after_ns": 11_500_000},
        {"vnbench_version": "9", "node": "node7"},
    ],
)
def test_what_does_not_matter_does_not_stop_a_gate(results: Gate, change: dict[str, Any]) -> None:
    assert results.one(results.stored(**change)).verdict == "PASS"


def test_a_key_that_is_varied_may_differ_and_no_other(results: Gate) -> None:
    current = results.stored(torch="2.14", os_kernel="6.2")
    assert results.one(current, vary=alike.check_vary(["torch", "os_kernel"])).verdict == "PASS"
    one = results.one(current, vary=alike.check_vary(["torch"]))
    assert one.verdict == "INCOMPARABLE" and "os_kernel differs" in one.reason and "torch" not in one.reason


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("drivers", "'drivers' is no key. There are: driver, vbios"),
        ("cpu_model", "is of the hardware, which has to be"),
    ],
)
def test_a_key_that_cannot_be_varied_is_named_with_those_that_can(key: str, words: str) -> None:
    with pytest.raises(UsageError, match="--vary") as caught:
        alike.check_vary(["torch", key])
    assert words in str(caught.value)


def test_a_baseline_of_two_kinds_of_machine_is_incomparable(results: Gate) -> None:
    results.baseline.append(results.stored(node="other", cpu_model="another"))
    one = results.one(results.stored())
    assert "cpu_model differs: another | some CPU in the baseline, some CPU now" in one.reason


def test_another_node_or_gpu_of_the_same_kind_is_a_note(tmp_path: Path) -> None:
    results = Gate(tmp_path)
    results.baseline = [results.stored(info=GPU)]
    assert results.outcome(results.stored(info=GPU)).notes == ()
    notes = results.outcome(results.stored(info=GPU, node="node8", device_uuid="GPU-2")).notes
    assert notes == (
        "the baseline is of node node7, the current results are of node node8: what two machines differ in is in the "
        "ratio",
        "cuda:0 is another GPU than the baseline's: what two of a kind differ in is in the ratio",
    )


def test_sides_that_share_a_run_are_refused(results: Gate) -> None:
    current = results.stored(run_id="aaaaaaaaaa")
    with pytest.raises(UsageError, match="run aaaaaaaaaa is in the current and in the confirmation"):
        results.outcome(current, current)
    with pytest.raises(UsageError, match="is in the baseline and in the current"):
        results.outcome(results.baseline[0])


# ---------------------------------------------------------------- the machine


@pytest.mark.parametrize("unfit_side", ["baseline", "current"])
def test_an_unfit_machine_is_named_and_stops_a_pass(tmp_path: Path, unfit_side: str) -> None:
    results = Gate(tmp_path)
    flags = ["no-steady-state", "unfit:steal"]
    path = results.stored(validity=flags)
    current = path if unfit_side == "current" else results.stored()
    results.baseline = [path] if unfit_side == "baseline" else results.baseline
    outcome = results.outcome(current)
    assert outcome.unfit == {"unfit:steal": (unfit_side,)}
    assert [one.verdict for one in outcome.judgements] == ["PASS"]
    assert outcome.exit_code == errors.UNFIT


def test_a_regression_outweighs_an_unfit_machine(results: Gate) -> None:
    outcome = results.outcome(results.stored(slower=1.1, validity=["unfit:steal"]), results.stored(slower=1.1))
    assert outcome.exit_code == errors.REGRESSED


def test_simulated_results_are_told(results: Gate) -> None:
    assert results.outcome(results.stored(validity=["simulated"])).is_simulated
    assert not results.outcome(results.stored()).is_simulated


# ---------------------------------------------------------------- nodes, files


def nodes(results: Gate, means: Sequence[float]) -> list[Path]:
    return [results.stored([mean * value for value in STEADY[:3]], node=f"n{i}") for i, mean in enumerate(means)]


def test_with_three_nodes_on_each_side_the_nodes_are_the_unit(results: Gate) -> None:
    rng = np.random.default_rng(1)
    a, b = np.exp(rng.normal(0.0, 0.05, 6)).tolist(), np.exp(rng.normal(0.0, 0.05, 4)).tolist()
    results.baseline = nodes(results, a)
    one = results.one(nodes(results, b))
    expected = stats.welch_ratio_test([1 / value for value in b], [1 / value for value in a])
    assert expected is not None and one.interval is not None
    assert one.n == 4
    assert (one.interval.low, one.interval.high) == pytest.approx((expected.interval.low, expected.interval.high))


def test_a_fleet_against_one_node_is_of_these_very_nodes(results: Gate) -> None:
    results.baseline = nodes(results, [1.0, 1.1, 0.9])
    one = results.one(results.stored(slower=1.2))
    assert one.ratio == pytest.approx(1.2 * (1.1 * 0.9) ** (1 / 3), rel=1e-3)
    assert one.n == 3 and one.interval is not None and one.interval.high / one.interval.low < 1.01


def test_processes_of_several_runs_on_one_node_count_together(results: Gate) -> None:
    results.baseline = [results.stored(STEADY[:3]), results.stored(STEADY[2:])]
    assert results.one(results.stored()).verdict == "PASS"
    assert results.one([results.stored(STEADY[:2]), results.stored(STEADY[2:])]).n == 5


def test_arms_of_an_ab_test_are_no_results_of_a_gate(results: Gate) -> None:
    with pytest.raises(UnreadableResult, match="no measurement in"):
        results.outcome(results.stored(arm="A"))


def test_a_file_of_the_first_schema_that_lacks_columns_is_read(results: Gate, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    old = tmp_path / "old.parquet"
    table = pq.read_table(results.stored())
    pq.write_table(table.drop_columns(["virtualization", "hypervisor", "debug", "arm"]), old)
    results.baseline = [old]
    assert "debug differs: – in the baseline, none now" in results.one(results.stored()).reason
    assert results.one(results.stored(), vary=frozenset({"debug"})).verdict == "PASS"


@pytest.mark.parametrize("n", [5, 20])
def test_what_is_said_to_be_detectable_is_found_80_percent_of_the_time(n: int) -> None:
    sd, trials = 0.01, 500
    half = float(stdtrit(2 * n - 2, 0.975)) * sd * math.sqrt(2 / n)  # the interval of two groups of this spread
    interval = Interval(math.exp(-half), math.exp(half), n)
    slower = gate._sensitivity(RatioTest(1.0, interval, 1.0, 1.0), Rule())[1]
    assert slower is not None
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(trials):
        a, b = np.exp(rng.normal(0, sd, (2, n))).tolist()
        test = stats.welch_ratio_test([slower * value for value in a], b, 1.02)
        found += test is not None and test.interval.low > 1.02
    assert 0.77 < found / trials < 0.88

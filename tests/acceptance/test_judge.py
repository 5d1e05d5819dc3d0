"""The judgement of a result: each kind of criterion both ways, and what holds for all of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import errors, stats
from bench.acceptance import figures
from bench.acceptance.judge import judge
from bench.acceptance.model import WORST_FIRST, Outcome
from bench.errors import UsageError
from bench.schema import Row
from bench.sequential import Design, levels
from bench.types import BUDGET_SPENT, Arm, DeviceInfo
from tests.acceptance.results import FIRST_LOOK, FLOOR, WORKLOAD, criteria, gpus, healthy, judged
from tests.results import make_plan, make_row

pure = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANSWERS = '[[answers]]\nid = "answers"\nsource = "a test"\n'
ALIKE = f'[[uniformity]]\nid = "alike"\nworkload = "{WORKLOAD}"\nat_least = 0.9\nsource = "a test"\n'
DEVICES = '[[inventory]]\nid = "gpus"\nwhat = "devices"\nequal = 2\nsource = "a test"\n'
XIDS = '[[state]]\nid = "xid"\ncolumn = "xids"\nat_most = 0\nsource = "a test"\n'


def inventory(what: str, limit: str) -> str:
    return f'[[inventory]]\nid = "it"\nwhat = "{what}"\n{limit}\nsource = "a test"\n'


def state(column: str, limit: str) -> str:
    return f'[[state]]\nid = "it"\ncolumn = "{column}"\n{limit}\nsource = "a test"\n'


def performance(limit: str) -> str:
    return f'[[performance]]\nid = "it"\nworkload = "{WORKLOAD}"\n{limit}\nsource = "a test"\n'


# ---------------------------------------------------------------- performance


@pytest.mark.parametrize(
    ("limit", "outcome", "observed"),
    [
        ('at_least = 190\nunit = "TFLOP/s"', "PASS", 200e12),
        ('at_least = 210\nunit = "TFLOP/s"', "FAIL", 200e12),
        ('at_least = 0.2\nunit = "PFLOP/s"', "INCONCLUSIVE", 200e12),
        ('metric = "step_s"\nat_most = 7\nunit = "ms"', "PASS", 0.00688),
        ('metric = "step_s"\nat_most = 6\nunit = "ms"', "FAIL", 0.00688),
        ('of = "measured roof"\nat_least = 0.75', "PASS", 0.8),
        ('of = "measured roof"\nat_least = 0.85', "FAIL", 0.8),
        ('of = "datasheet"\nat_least = 0.19', "PASS", 0.2),
        ('of = "datasheet"\nat_least = 0.21', "FAIL", 0.2),
        ('metric = "mfu"\nunit = "%"\nat_least = 75', "PASS", 0.8),
        ('metric = "mfu"\nunit = "1"\nat_least = 0.85', "FAIL", 0.8),
    ],
)
def test_a_figure_is_held_against_floor_and_ceiling(tmp_path: Path, limit: str, outcome: str, observed: float) -> None:
    found = judged(tmp_path, performance(limit), *healthy())
    assert found.outcome == outcome
    assert found.worst.observed == pytest.approx(observed, rel=1e-3)
    assert found.worst.n == 5


def test_the_interval_is_students_t_on_the_logs_at_the_level_of_its_look(tmp_path: Path) -> None:
    plan, rows = healthy()
    found = judged(tmp_path, FLOOR, plan, rows).worst
    level = levels(Design((5, 8, 12), 0.05))[0]
    expected = stats.log_t_interval([row["value"] for row in rows], 1 - level)
    assert found.interval is not None and expected is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.interval.confidence == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "1 fit replicate, where the first look is after 5"),
        (4, "4 fit replicates, where the first look is after 5"),
        (7, "the interval holds the limit; the next look is after 8"),
        (12, "the interval holds the limit, and no look is left"),
    ],
)
def test_what_the_replicates_do_not_decide_is_inconclusive(tmp_path: Path, count: int, words: str) -> None:
    around = [0.5 * factor for factor in (0.9, 1.1) * 6][:count]
    found = judged(tmp_path, FLOOR, *healthy(spread=around)).worst
    assert found.outcome == "INCONCLUSIVE"
    assert words in found.words


@pytest.mark.parametrize(
    ("spread", "wants"),
    [
        (FIRST_LOOK, 0),  # it is decided
        ((1.0,), 4),
        ((0.45, 0.55) * 2, 1),
        ((0.45, 0.55) * 3, 2),
        ((0.45, 0.55) * 4, 4),
        ((0.45, 0.55) * 6, 0),  # no look is left
    ],
)
def test_it_says_how_many_replicates_the_next_look_waits_for(
    tmp_path: Path, spread: tuple[float, ...], wants: int
) -> None:
    plan, rows = healthy(spread=[0.01, *spread])
    rows[0]["validity"] = ["unfit:steal"]
    assert judged(tmp_path, FLOOR, plan, rows).worst.wants == wants


def test_the_first_look_with_an_answer_decides_and_replicates_beyond_the_last_count_for_nothing(tmp_path: Path) -> None:
    slow_later = [*FIRST_LOOK, *[0.01] * 3]
    assert judged(tmp_path, FLOOR, *healthy(spread=slow_later)).outcome == "PASS"
    undecided = [0.5 * factor for factor in (0.9, 1.1) * 6]
    assert judged(tmp_path, FLOOR, *healthy(spread=[*undecided, *[0.01] * 9])).outcome == "INCONCLUSIVE"


def test_looks_alarm_no_oftener_than_the_confidence_allows() -> None:
    # With 95 % at each look, as if there was but one, it would be about 10 %.
    generator, design, trials = np.random.default_rng(1), Design((5, 8, 12), 0.05), 2000
    ended = [
        figures.decided("cpu", np.exp(generator.normal(0, 0.05, 12)).tolist(), 1.0, True, design).outcome
        for _ in range(trials)
    ]
    for outcome, nominal in (("FAIL", 0.025), ("PASS", 0.025)):
        bounds = stats.clopper_pearson(ended.count(outcome), trials, 0.999)  # type: ignore[arg-type]
        assert bounds.low <= nominal <= bounds.high
    assert ended.count("INCONCLUSIVE") < 0.97 * trials


# ---------------------------------------------------------------- what is no figure


@pytest.mark.parametrize("table", [FLOOR, ALIKE, ANSWERS], ids=["performance", "uniformity", "answers"])
@pytest.mark.parametrize("status", ["failed", "crashed", "oom", "timeout", "interrupted", "unheard-of"])
def test_a_recorded_failure_is_an_error(tmp_path: Path, table: str, status: str) -> None:
    plan, rows = healthy(2)
    rows[3] |= {"status": status, "reason": "its own words", "value": None}
    found = judged(tmp_path, table, plan, rows)
    assert (found.outcome, found.worst.device) == ("ERROR", "cuda:1")
    assert "replicate 1" in found.worst.words and f"{status}: its own words" in found.worst.words


@pytest.mark.parametrize("table", [FLOOR, ALIKE, ANSWERS], ids=["performance", "uniformity", "answers"])
def test_what_a_budget_left_out_was_not_measured_and_did_not_fail(tmp_path: Path, table: str) -> None:
    plan, rows = healthy(2, spread=FIRST_LOOK[:1])
    cut = [row | {"status": "timeout", "reason": BUDGET_SPENT, "value": None, "check_error": None} for row in rows]
    assert judged(tmp_path, table, plan, cut).outcome == "INCONCLUSIVE"
    assert judged(tmp_path, table, plan, [rows[0], cut[1]]).outcome == "INCONCLUSIVE"


@pytest.mark.parametrize("table", [FLOOR, ALIKE, ANSWERS], ids=["performance", "uniformity", "answers"])
@pytest.mark.parametrize(
    "change", [{"status": "wrong", "value": None}, {"check_error": 0.5}, {"check_error": math.nan}], ids=str
)
def test_a_wrong_answer_is_a_fail(tmp_path: Path, table: str, change: dict[str, Any]) -> None:
    plan, rows = healthy(2)
    rows[3] |= change
    found = judged(tmp_path, table, plan, rows)
    assert (found.outcome, found.worst.device) == ("FAIL", "cuda:1")
    assert "wrong" in found.worst.words


@pytest.mark.parametrize("value", [None, 0.0, -1.0, math.nan, math.inf])
def test_a_row_that_claims_to_be_ok_without_a_figure_is_an_error(tmp_path: Path, value: float | None) -> None:
    plan, rows = healthy()
    rows[0]["value"] = value
    assert judged(tmp_path, FLOOR, plan, rows).outcome == "ERROR"


def test_what_was_not_measured_is_inconclusive(tmp_path: Path) -> None:
    plan, _ = healthy()
    for table in (FLOOR, ANSWERS, XIDS):
        found = judged(tmp_path, table, plan, []).worst
        assert (found.outcome, found.observed) == ("INCONCLUSIVE", None)
        assert "measured" in found.words


def test_an_answer_that_has_to_be_asked_for_is_missed(tmp_path: Path) -> None:
    asked = ANSWERS + f'workloads = ["{WORKLOAD}", "matmul/bf16/4096"]\n'
    found = judged(tmp_path, asked, *healthy()).worst
    assert (found.outcome, found.words) == ("INCONCLUSIVE", "not measured: matmul/bf16/4096")
    assert judged(tmp_path, ANSWERS + f'workloads = ["{WORKLOAD}"]\n', *healthy()).outcome == "PASS"


def test_what_a_device_cannot_do_is_inconclusive_in_the_librarys_words(tmp_path: Path) -> None:
    plan, rows = healthy()
    rows = [row | {"status": "unsupported", "reason": "no such instruction", "value": None} for row in rows]
    found = judged(tmp_path, FLOOR, plan, rows).worst
    assert (found.outcome, found.words) == ("INCONCLUSIVE", "not measured: unsupported: no such instruction")


@pytest.mark.parametrize(
    "change",
    [
        {"roofs": []},
        {"metrics": None},
        {"validity": ["roof-too-low"]},
    ],
    ids=str,
)
def test_a_fraction_or_metric_that_is_not_there_is_inconclusive(tmp_path: Path, change: dict[str, Any]) -> None:
    plan, rows = healthy()
    rows = [row | change for row in rows]
    limit = (
        'metric = "mfu"\nunit = "1"\nat_least = 0.1' if "metrics" in change else 'of = "measured roof"\nat_least = 0.1'
    )
    assert judged(tmp_path, performance(limit), plan, rows).outcome == "INCONCLUSIVE"


def test_a_figure_in_another_unit_is_an_error(tmp_path: Path) -> None:
    plan, rows = healthy()
    rows = [row | {"unit": "token/s"} for row in rows]
    found = judged(tmp_path, FLOOR, plan, rows).worst
    assert (found.outcome, found.words) == ("ERROR", "the figure is in token/s, the limit in FLOP/s")


# ---------------------------------------------------------------- unfit


@pytest.mark.parametrize("factor", [0.01, 1.0])
@pytest.mark.parametrize("flag", ["unfit:throttled", "unfit:xid", "mixed-environment", "unfit:of-a-later-version"])
def test_a_device_that_is_unfit_itself_has_no_figure(tmp_path: Path, flag: str, factor: float) -> None:
    plan, rows = healthy(spread=[*FIRST_LOOK, factor])
    rows[5]["validity"] = [flag]
    found = judged(tmp_path, FLOOR, plan, rows).worst
    assert found.outcome == "INCONCLUSIVE"
    assert f"{flag} in 1" in found.words


def test_disturbed_replicates_are_set_aside_and_told(tmp_path: Path) -> None:
    plan, rows = healthy(spread=[0.01, *FIRST_LOOK])
    rows[0]["validity"] = ["unfit:steal"]
    found = judged(tmp_path, FLOOR, plan, rows).worst
    assert (found.outcome, found.n) == ("PASS", 5)
    assert "1 of 6 replicates set aside (unfit:steal in 1)" in found.words
    rows[1]["validity"] = ["unfit:foreign-load"]
    assert judged(tmp_path, FLOOR, plan, rows).outcome == "INCONCLUSIVE"


def test_what_is_undecided_because_the_machine_was_unfit_says_so_in_its_exit_code(tmp_path: Path) -> None:
    plan, rows = healthy(spread=FIRST_LOOK)
    too_few = criteria(tmp_path, FLOOR)
    assert judge(plan, rows, too_few).exit_code == errors.OK
    assert judge(plan, rows[1:], too_few).exit_code == errors.INCONCLUSIVE
    for flag in ("unfit:steal", "unfit:throttled"):
        rows[0]["validity"] = [flag]
        assert judge(plan, rows, too_few).exit_code == errors.UNFIT
    wrong = criteria(tmp_path, FLOOR, state("swapped_bytes", 'at_most = 0\nunit = "B"'))
    swapped = [row | {"swapped_bytes": 1} for row in rows]
    assert judge(plan, swapped, wrong).exit_code == errors.REGRESSED


def test_throttling_is_what_a_state_criterion_fails(tmp_path: Path) -> None:
    plan, rows = healthy(2)
    rows[1] |= {"validity": ["unfit:throttled"], "throttle_s": 3.0, "throttle_reasons": ["hw_thermal_slowdown"]}
    found = judge(plan, rows, criteria(tmp_path, FLOOR, state("throttle_s", "at_most = 0.1")))
    assert [one.outcome for one in found.criteria] == ["INCONCLUSIVE", "FAIL"]
    assert (found.outcome, found.exit_code, found.criteria[1].worst.device) == ("FAIL", errors.REGRESSED, "cuda:1")


# ---------------------------------------------------------------- uniformity


def test_the_slowest_device_is_held_against_the_median_of_its_node(tmp_path: Path) -> None:
    plan, rows = healthy(4)
    assert judged(tmp_path, ALIKE, plan, rows).outcome == "PASS"
    slow = [row | {"value": row["value"] * (0.8 if row["device_index"] == 2 else 1)} for row in rows]
    found = judged(tmp_path, ALIKE, plan, slow)
    assert (found.outcome, found.worst.device) == ("FAIL", "cuda:2")
    assert found.worst.observed == pytest.approx(0.8)
    assert [one.outcome for one in found.findings] == ["PASS", "PASS", "FAIL", "PASS"]


def test_a_drift_of_all_devices_together_is_no_difference(tmp_path: Path) -> None:
    assert judged(tmp_path, ALIKE, *healthy(4, spread=[1, 0.5, 2, 0.7, 1.4])).outcome == "PASS"


def test_of_times_the_longer_is_the_slower(tmp_path: Path) -> None:
    plan, rows = healthy(3)
    rows = [row | {"better": "lower", "value": row["value"] * (1.5 if row["device_index"] == 1 else 1)} for row in rows]
    assert judged(tmp_path, ALIKE, plan, rows).worst.device == "cuda:1"


def test_one_device_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    assert judged(tmp_path, ALIKE, *healthy(1)).outcome == "INCONCLUSIVE"


# ---------------------------------------------------------------- inventory


@pytest.mark.parametrize(
    ("what", "good", "bad"),
    [
        ("device_name", 'equal = "NVIDIA H100 80GB HBM3"', 'equal = "NVIDIA H200"'),
        ("device_name", 'one_of = ["NVIDIA H100 80GB HBM3", "x"]', 'one_of = ["NVIDIA H200"]'),
        ("device_memory", 'at_least = 80\nunit = "GB"', 'at_least = 86\nunit = "GiB"'),
        ("driver", 'at_least = "580.82"\nat_most = "580"', 'at_least = "580.105"'),
        ("driver", 'at_most = "580.95"', 'at_most = "570"'),
        ("vbios", 'equal = "96.00.74"', 'equal = "96"'),
        ("ecc_mode", "equal = true", "equal = false"),
        ("mig_mode", "equal = false", "equal = true"),
        ("power_limit", "at_least = 700", "at_least = 701"),
        ("pcie_generation", "at_least = 5", "at_least = 6"),
        ("pcie_width", "equal = 16", "equal = 8"),
        ("nvlinks", "equal = 18", "equal = 12"),
        ("ecc_uncorrected", "at_most = 1", "at_most = 0"),
        ("remapped_rows_corrected", "at_most = 2", "at_most = 1"),
        ("remapped_rows_uncorrected", "at_most = 0", "at_least = 1"),
        ("cpu_model", 'equal = "some CPU"', 'equal = "another"'),
        ("cpu_cores", "at_least = 96", "at_least = 97"),
        ("cpu_threads", "at_least = 192", "at_most = 191"),
        ("sockets", "equal = 2", "equal = 1"),
        ("numa_nodes", "equal = 2", "equal = 1"),
        ("memory", 'at_least = 2\nunit = "TiB"', 'at_least = 2.1\nunit = "TiB"'),
        ("virtualization", 'equal = "none"', 'equal = "vm"'),
    ],
)
def test_a_fact_is_as_demanded_or_it_fails(tmp_path: Path, what: str, good: str, bad: str) -> None:
    plan, rows = healthy()
    assert judged(tmp_path, inventory(what, good), plan, rows).outcome == "PASS"
    assert judged(tmp_path, inventory(what, bad), plan, rows).outcome == "FAIL"
    unknown = {name: None for name in rows[0] if name in (what, f"{what}_bytes", f"{what}_w", "environment")}
    found = judged(tmp_path, inventory(what, good), plan, [row | unknown for row in rows])
    assert found.outcome == "INCONCLUSIVE"
    assert "could not be read" in found.worst.words


def test_facts_that_cannot_be_compared_are_not_known(tmp_path: Path) -> None:
    plan, rows = healthy()
    odd = '{"gpu":{"nvlinks_active":"18"},"host":3}'
    mixed = [rows[0] | {"environment": odd, "driver": "unknown"}, *rows[1:]]
    for table in (inventory("nvlinks", "equal = 18"), inventory("driver", 'at_least = "580"')):
        found = judged(tmp_path, table, plan, mixed).worst
        assert found.outcome == "INCONCLUSIVE"
        assert "cannot be compared" in found.words
    unreadable = [row | {"environment": "{"} for row in rows]
    assert judged(tmp_path, inventory("sockets", "equal = 2"), plan, unreadable).outcome == "INCONCLUSIVE"


def test_a_missing_device_is_a_fail(tmp_path: Path) -> None:
    assert judged(tmp_path, DEVICES, *healthy(2)).outcome == "PASS"
    found = judged(tmp_path, DEVICES, *healthy(1)).worst
    assert (found.outcome, found.observed, found.words) == ("FAIL", 1, "a device is missing")


def test_without_a_gpu_everything_fails_and_the_cpu_is_not_judged_in_its_place(tmp_path: Path) -> None:
    plan = make_plan(WORKLOAD)
    rows = [make_row(plan, WORKLOAD, replicate=replicate, value=1e15) for replicate in range(5)]
    found = judge(plan, rows, criteria(tmp_path, DEVICES, FLOOR, ALIKE, XIDS, ANSWERS))
    assert {one.outcome for one in found.criteria} == {"FAIL"}


def test_a_driver_that_changed_in_the_run_has_to_meet_the_limit_both_times(tmp_path: Path) -> None:
    plan, rows = healthy()
    rows[4]["driver"] = "570.10"
    found = judged(tmp_path, inventory("driver", 'at_least = "580"'), plan, rows).worst
    assert (found.outcome, found.observed) == ("FAIL", "570.10")
    assert "it changed during the run: 570.10, 580.95.05" in found.words


# ---------------------------------------------------------------- state


@pytest.mark.parametrize(
    ("column", "limit", "bad"),
    [
        ("throttle_s", "at_most = 0.1", 0.2),
        ("power_cap_s", "at_most = 10", 11.0),
        ("throttle_reasons", 'none_of = ["hw_slowdown"]', ["hw_slowdown", "sw_power_cap"]),
        ("temperature_c_max", "at_most = 85", 86.0),
        ("memory_temperature_c_max", "at_most = 95", 96.0),
        ("temperature_margin_c_min", "at_least = 5", 4.0),
        ("ecc_corrected_delta", "at_most = 10", 11),
        ("ecc_uncorrected_delta", "at_most = 0", 1),
        ("row_remap_pending", "equal = false", True),
        ("row_remap_failed", "equal = false", True),
        ("xids", "at_most = 0", [79]),
        ("pcie_replay_delta", "at_most = 3", 4),
        ("nvlinks_down", "at_most = 0", 1),
        ("nvlink_errors_delta", "at_most = 0", 1),
        ("device_error", "equal = false", "GPU is lost"),
        ("clocks_locked", "equal = false", True),
        ("foreign_gpu_processes", "at_most = 0", 1),
        ("steal_fraction", "at_most = 0.01", 0.02),
        ("cpu_quota_s", "at_most = 0.01", 0.02),
        ("swapped_bytes", 'at_most = 1\nunit = "MB"', 2_000_000),
    ],
)
def test_a_state_is_within_its_limit_or_it_fails_and_unknown_is_neither(
    tmp_path: Path, column: str, limit: str, bad: Any
) -> None:
    plan, rows = healthy(2)
    assert judged(tmp_path, state(column, limit), plan, rows).outcome == "PASS"
    unread: dict[str, Any] = {column: None, "telemetry_readings": 0, "throttle_reasons": None}
    unknown = [*rows[:3], rows[3] | unread | {"telemetry_obstacle": "no permission"}, *rows[4:]]
    found = judged(tmp_path, state(column, limit), plan, unknown).worst
    assert (found.outcome, found.device) == ("INCONCLUSIVE", "cuda:1")
    assert found.words == "not read in 1 of 5 measurements: no permission"
    unknown[5] = rows[5] | {column: bad}
    found = judged(tmp_path, state(column, limit), plan, unknown).worst
    assert (found.outcome, found.device) == ("FAIL", "cuda:1")
    assert f"{WORKLOAD}, replicate 2" in found.words


def test_seconds_and_errors_add_up_over_the_measurements(tmp_path: Path) -> None:
    plan, rows = healthy()
    rows = [row | {"throttle_s": 0.03, "xids": [31]} for row in rows]
    assert judged(tmp_path, state("throttle_s", "at_most = 0.1"), plan, rows).worst.observed == pytest.approx(0.15)
    assert judged(tmp_path, state("xids", "at_most = 4"), plan, rows).worst.observed == 5


def test_a_window_too_short_to_count_seconds_in_is_judged_by_the_drivers_reasons(tmp_path: Path) -> None:
    plan, rows = healthy()
    short = [row | {"throttle_s": None} for row in rows]
    assert judged(tmp_path, state("throttle_s", "at_most = 0"), plan, short).outcome == "PASS"
    held = [row | {"throttle_reasons": ["hw_thermal_slowdown"]} for row in short]
    assert judged(tmp_path, state("throttle_s", "at_most = 0"), plan, held).outcome == "INCONCLUSIVE"


# ---------------------------------------------------------------- the node


def test_the_nodes_verdict_is_the_worst_of_its_criteria(tmp_path: Path) -> None:
    plan, rows = healthy(2)
    tables = {
        "PASS": XIDS,
        "INCONCLUSIVE": state("clocks_locked", "equal = false"),
        "ERROR": FLOOR,
        "FAIL": DEVICES.replace("2", "3"),
    }
    rows[0] |= {"unit": "token/s", "clocks_locked": None}
    codes = {"PASS": 0, "INCONCLUSIVE": 6, "ERROR": 3, "FAIL": 5}
    chosen: list[str] = []
    for outcome in reversed(WORST_FIRST):
        chosen.insert(0, tables[outcome])
        found = judge(plan, rows, criteria(tmp_path, *chosen))
        assert (found.outcome, found.exit_code) == (outcome, codes[outcome])


def test_a_fake_device_makes_the_verdict_a_simulated_one(tmp_path: Path) -> None:
    plan = make_plan(WORKLOAD, devices=(DeviceInfo("fake", 0, "fake", scenario="steady"),))
    rows = [make_row(plan, WORKLOAD, replicate=replicate, value=200e12) for replicate in range(5)]
    rows = [row | {"value": row["value"] * factor} for row, factor in zip(rows, FIRST_LOOK, strict=True)]
    found = judge(plan, rows, criteria(tmp_path, FLOOR))
    assert (found.outcome, found.simulated) == ("PASS", True)
    assert not judge(*healthy(), criteria(tmp_path, FLOOR)).simulated


def test_an_ab_test_is_no_result_of_a_node(tmp_path: Path) -> None:
    plan = make_plan(WORKLOAD, devices=gpus(1), arms=(Arm("A"), Arm("B")))
    with pytest.raises(UsageError, match="is an A/B test"):
        judge(plan, [], criteria(tmp_path, FLOOR))


def test_what_several_devices_do_together_is_judged_on_the_first(tmp_path: Path) -> None:
    workload = "collective/all-reduce/w2/mib64"
    table = FLOOR.replace(WORKLOAD, workload).replace("TFLOP/s", "GB/s")
    plan = make_plan(workload, devices=gpus(2))
    rows = [
        make_row(plan, workload, replicate=number, unit="B/s", value=2e11 * factor)
        for number, factor in enumerate(FIRST_LOOK)
    ]
    found = judged(tmp_path, table, plan, rows)
    assert (found.outcome, [one.device for one in found.findings]) == ("PASS", ["cuda:0"])


# ---------------------------------------------------------------- properties

EVERYTHING = (
    DEVICES,
    FLOOR,
    ALIKE,
    XIDS,
    ANSWERS,
    state("throttle_s", "at_most = 0.1"),
    inventory("ecc_mode", "equal = true").replace('"it"', '"ecc"'),
)


def _broken(rows: list[Row], choose: Callable[[int], int]) -> list[Row]:
    """The rows with something wrong, or nothing, in one of them."""
    changes: list[dict[str, Any]] = [
        {},
        {"status": "crashed", "value": None},
        {"validity": ["unfit:steal"]},
        {"xids": None},
        {"value": 1e12},
        {"throttle_s": 9.0},
        {"ecc_mode": None},
    ]
    at = choose(len(rows))
    return [*rows[:at], rows[at] | changes[choose(len(changes))], *rows[at + 1 :]]


@pure
@given(seed=st.integers(0, 2**31))
def test_the_order_of_rows_never_matters(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    plan, rows = healthy(2)
    rows = _broken(_broken(rows, chance.randrange), chance.randrange)
    contract = criteria(tmp_path, *EVERYTHING)
    assert judge(plan, chance.sample(rows, len(rows)), contract) == judge(plan, rows, contract)


@pure
@given(seed=st.integers(0, 2**31))
def test_a_wrong_answer_never_improves_a_verdict(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    plan, rows = healthy(2)
    rows = _broken(rows, chance.randrange)
    at = chance.randrange(len(rows))
    wrong = [*rows[:at], rows[at] | {"status": "wrong", "value": None}, *rows[at + 1 :]]
    contract = criteria(tmp_path, *EVERYTHING)
    before, after = judge(plan, rows, contract), judge(plan, wrong, contract)
    assert WORST_FIRST.index(after.outcome) <= WORST_FIRST.index(before.outcome)
    assert after.outcome == "FAIL"


@pure
@given(factor=st.floats(1e-12, 0.3), spread=st.lists(st.floats(0.9, 1.1), min_size=12, max_size=12))
def test_a_value_far_below_the_floor_always_fails(tmp_path: Path, factor: float, spread: list[float]) -> None:
    plan, rows = healthy(spread=spread)
    slow = [row | {"value": row["value"] * factor / 2} for row in rows]
    assert judged(tmp_path, FLOOR, plan, slow).outcome == "FAIL"


@pure
@given(scale=st.floats(1e-6, 1e6), spread=st.lists(st.floats(0.5, 2), min_size=1, max_size=14))
def test_value_and_limit_in_another_unit_give_the_same_outcome(scale: float, spread: list[float]) -> None:
    design = Design((5, 8, 12), 0.05)
    outcomes: list[Outcome] = [
        figures.decided("cpu", [value * by for value in spread], 1.3 * by, True, design).outcome for by in (1, scale)
    ]
    assert outcomes[0] == outcomes[1]


@pure
@given(spread=st.lists(st.floats(0.5, 2), min_size=1, max_size=14), limit=st.floats(0.4, 2.5))
def test_a_floor_and_a_ceiling_at_one_limit_never_agree_on_a_clear_answer(spread: list[float], limit: float) -> None:
    design = Design((5, 8, 12), 0.05)
    floor, ceiling = (figures.decided("cpu", spread, limit, is_floor, design).outcome for is_floor in (True, False))
    assert (floor, ceiling) in {("PASS", "FAIL"), ("FAIL", "PASS"), ("INCONCLUSIVE", "INCONCLUSIVE")}


def test_where_most_replicates_were_disturbed_the_others_decide_nothing(tmp_path: Path) -> None:
    """Five were fit, as many as the first look needs, and six were not."""
    plan, rows = healthy(spread=[*FIRST_LOOK, *FIRST_LOOK, 1.0])
    noisy = [row | {"validity": ["unfit:steal"]} if row["replicate"] >= 5 else row for row in rows]
    found = judged(tmp_path, FLOOR, plan, noisy)
    assert found.outcome == "INCONCLUSIVE"
    assert "most replicates were disturbed: 6 of 11 replicates set aside (unfit:steal in 6)" in found.worst.words
    assert judged(tmp_path, FLOOR, plan, noisy[:10]).outcome == "PASS"


@pytest.mark.parametrize(("fit", "disturbed", "wants"), [(2, 3, 3), (1, 4, 4), (5, 11, 6), (0, 11, 11), (0, 12, 0)])
def test_where_most_were_disturbed_others_may_take_their_place_unless_none_is_ever_fit(
    tmp_path: Path, fit: int, disturbed: int, wants: int
) -> None:
    plan, rows = healthy(spread=[1.0] * (fit + disturbed))
    noisy = [row | {"validity": ["unfit:steal"]} if row["replicate"] >= fit else row for row in rows]
    assert judged(tmp_path, FLOOR, plan, noisy).worst.wants == wants


def test_what_a_script_says_is_disturbed_by_nothing(tmp_path: Path) -> None:
    plan, rows = healthy()
    noisy = [row | {"validity": ["unfit:foreign-load", "simulated"]} for row in rows]
    assert judged(tmp_path, FLOOR, plan, noisy).outcome == "PASS"
    hot = [row | {"validity": ["unfit:throttled", "simulated"]} for row in rows]
    assert judged(tmp_path, FLOOR, plan, hot).outcome == "INCONCLUSIVE"

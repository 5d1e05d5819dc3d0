"""``bench.merge``: the rows of a result from what the workers left."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import math
from typing import Any

import pytest

from bench import merge, registry, schema
from bench.peaks import peak
from bench.schema import Row
from bench.telemetry.reading import Reading
from bench.types import SOAK_ARM, DeviceInfo, Plan, Soak
from tests.results import CPU, make_plan, make_row
from tests.small_kernel import KERNELS

WORK = "small/n1"
COMPUTE = "roof/compute/fp32"
MEMORY = "roof/memory/copy"
H100 = "NVIDIA H100 80GB HBM3"
GPUS = tuple(DeviceInfo("cuda", index, H100, uuid=f"GPU-{index}") for index in range(2))
SECOND_NS = 1e9


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "kernels", lambda: KERNELS)


def key_of(row: Row) -> str:
    return merge.calibration_key(row["concurrency_group"], row["rank"])


def plan_of(*devices: DeviceInfo, replicates: int = 1, workloads: tuple[str, ...] = (WORK, COMPUTE, MEMORY)) -> Plan:
    return make_plan(*workloads, devices=devices or (CPU,), replicates=replicates)


def work_row(plan: Plan, *, flops: int = 1000, bytes_moved: int = 100, **changes: Any) -> Row:
    """One launch a second, so that the rates are the amounts."""
    figures = {"flops": flops, "bytes_moved": bytes_moved, "value": float(flops), "median_ns": SECOND_NS}
    return make_row(plan, WORK, **figures | changes)


def roof_row(plan: Plan, name: str, value: float, **changes: Any) -> Row:
    unit, amount = ("B/s", "bytes_moved") if name == MEMORY else ("FLOP/s", "flops")
    figures = {"flops": None, amount: round(value), "value": value, "unit": unit, "median_ns": SECOND_NS}
    return make_row(plan, name, **figures | changes)


def measured(row: Row) -> dict[str, float]:
    return {roof["name"]: roof["fraction"] for roof in row["roofs"] if roof["source"] == "measured"}


def metrics(row: Row) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in row["metrics"]}


# ---------------------------------------------------------------- roofs


def test_a_workload_is_held_against_the_roofs_measured_beside_it() -> None:
    plan = plan_of()
    row, *_ = merge.finish(plan, [work_row(plan), roof_row(plan, COMPUTE, 4000), roof_row(plan, MEMORY, 125)], {})
    assert row["workload"] == WORK
    assert [list(roof.values()) for roof in row["roofs"]] == [
        [COMPUTE, pytest.approx(4000), "FLOP/s", "measured", pytest.approx(0.25)],
        [MEMORY, pytest.approx(125), "B/s", "measured", pytest.approx(0.8)],
    ]
    assert row["fraction_of_roof"] == pytest.approx(0.8), "the tightest is the one that is reached most"
    assert metrics(row) == {"mfu": pytest.approx(0.25), "mbu": pytest.approx(0.8)}
    assert row["validity"] == []


def test_a_roof_is_the_best_of_its_replicates_on_the_same_device() -> None:
    plan = plan_of(*GPUS, replicates=3)
    rows = [work_row(plan, device=device) for device in range(2)]
    for replicate, factor in enumerate((1, 4, 2)):
        rows += [roof_row(plan, COMPUTE, 1000 * factor, replicate=replicate)]
        rows += [roof_row(plan, COMPUTE, 5000 * factor, replicate=replicate, device=1)]
    finished = merge.finish(plan, rows, {})
    fractions = [measured(row)[COMPUTE] for row in finished if row["workload"] == WORK and row["status"] == "ok"]
    assert fractions == [pytest.approx(1 / 4), pytest.approx(1 / 20)]


@pytest.mark.parametrize(("flops", "flagged"), [((1000, 1010, 1500), False), ((1030, 900, 1021), True)])
def test_a_workload_is_too_fast_where_its_median_replicate_is_and_then_all_are_flagged(
    flops: tuple[int, ...], flagged: bool
) -> None:
    plan = plan_of(replicates=3)
    rows = [work_row(plan, replicate=i, flops=each) for i, each in enumerate(flops)]
    finished = merge.finish(plan, [*rows, roof_row(plan, COMPUTE, 1000)], {})
    ours = [row for row in finished if row["workload"] == WORK]
    assert ["roof-too-low" in row["validity"] for row in ours] == [flagged] * 3
    assert [row["fraction_of_roof"] for row in ours] == [pytest.approx(each / 1000) for each in flops]


def test_a_roof_that_failed_is_no_limit() -> None:
    plan = plan_of()
    failed = roof_row(plan, COMPUTE, 10) | {"status": "wrong", "value": None}
    row, *_ = merge.finish(plan, [work_row(plan), failed, roof_row(plan, MEMORY, 125)], {})
    assert list(measured(row)) == [MEMORY]


def test_without_roofs_there_is_no_fraction() -> None:
    plan = plan_of()
    row, *_ = merge.finish(plan, [work_row(plan)], {})
    assert (row["roofs"], row["fraction_of_roof"], metrics(row)) == ([], None, {})


def test_what_is_not_known_of_the_work_has_no_fraction() -> None:
    plan = plan_of()
    rows = [work_row(plan) | {"bytes_moved": None}, roof_row(plan, COMPUTE, 4000), roof_row(plan, MEMORY, 125)]
    row, *_ = merge.finish(plan, rows, {})
    assert measured(row) == {COMPUTE: pytest.approx(0.25), MEMORY: None}
    assert row["fraction_of_roof"] == pytest.approx(0.25)
    assert metrics(row) == {"mfu": pytest.approx(0.25)}


def test_a_row_that_is_not_ok_is_left_as_it_is() -> None:
    plan = plan_of()
    failed = work_row(plan, status="failed", reason="ValueError", value=None)
    row, *_ = merge.finish(plan, [failed, roof_row(plan, COMPUTE, 4000)], {})
    assert row == failed


@pytest.mark.parametrize(("flops", "flagged"), [(1000, False), (1019, False), (1021, True), (2000, True)])
def test_a_workload_above_its_roof_is_flagged_and_the_roof_not_raised(flops: int, flagged: bool) -> None:
    plan = plan_of()
    row, *_ = merge.finish(plan, [work_row(plan, flops=flops), roof_row(plan, COMPUTE, 1000)], {})
    assert ("roof-too-low" in row["validity"]) is flagged
    assert row["roofs"][0]["value"] == pytest.approx(1000)
    assert row["fraction_of_roof"] == pytest.approx(flops / 1000)


def test_a_known_gpu_is_held_against_its_datasheet_as_well() -> None:
    plan = plan_of(GPUS[0])
    rows = [work_row(plan), roof_row(plan, COMPUTE, 4000), roof_row(plan, MEMORY, 125)]
    by_name = {row["workload"]: row for row in merge.finish(plan, rows, {})}
    published = {name: peak(H100, name) for name in (COMPUTE, MEMORY)}
    for name, rate in ((COMPUTE, 1000), (MEMORY, 100)):
        promised = published[name]
        assert promised is not None
        (entry,) = [roof for roof in by_name[WORK]["roofs"] if roof["source"] == "datasheet" and roof["name"] == name]
        assert (entry["value"], entry["unit"]) == (promised.value, promised.unit)
        assert entry["fraction"] == pytest.approx(rate / promised.value)
        (own,) = by_name[name]["roofs"]
        assert (own["name"], own["source"]) == (name, "datasheet")
    assert by_name[WORK]["fraction_of_roof"] == pytest.approx(0.8), "the datasheet's is not the measured one"
    assert by_name[COMPUTE]["fraction_of_roof"] is None, "a roof is not held against itself"


def test_an_unknown_device_has_no_datasheet() -> None:
    plan = plan_of()
    rows = merge.finish(plan, [work_row(plan), roof_row(plan, COMPUTE, 4000)], {})
    assert {roof["source"] for row in rows for roof in row["roofs"] or ()} == {"measured"}


# ---------------------------------------------------------------- calibration


@pytest.mark.parametrize(("after_ns", "flagged"), [(1000, False), (1049, False), (1051, True), (940, True)])
def test_a_pass_in_which_the_machine_changed_is_flagged(after_ns: int, flagged: bool) -> None:
    plan = plan_of(replicates=2)
    first, second = work_row(plan), work_row(plan, replicate=1)
    calibrations = {key_of(first): (1000, after_ns), key_of(second): (1000, 1001)}
    rows = merge.finish(plan, [first, second], calibrations)
    by_replicate = {row["replicate"]: row for row in rows if row["workload"] == WORK}
    assert (by_replicate[0]["calibration_before_ns"], by_replicate[0]["calibration_after_ns"]) == (1000, after_ns)
    assert ("unfit:calibration-shift" in by_replicate[0]["validity"]) is flagged
    assert by_replicate[1]["validity"] == []


def test_the_calibration_is_that_of_the_same_process() -> None:
    plan = plan_of()
    one, other = work_row(plan), work_row(plan) | {"rank": 1, "device_index": 1}
    assert key_of(one) != key_of(other)
    rows = merge.finish(plan, [one, other], {key_of(other): (10, 20)})
    flagged = [row["rank"] for row in rows if row["validity"]]
    assert flagged == [1]


def test_a_pass_that_was_killed_has_no_calibration_after() -> None:
    plan = plan_of()
    row, *_ = merge.finish(plan, [work_row(plan, calibration_before_ns=1000)], {})
    assert (row["calibration_before_ns"], row["calibration_after_ns"]) == (1000, None)
    assert row["validity"] == []


def test_flags_that_the_columns_do_not_tell_are_kept() -> None:
    plan = plan_of()
    row, *_ = merge.finish(plan, [work_row(plan, validity=["unfit:steal", "no-steady-state"])], {})
    assert row["validity"] == ["unfit:steal", "no-steady-state"]


# ---------------------------------------------------------------- state

BEGAN = dt.datetime(2026, 11, 22, 5, 20, tzinfo=dt.UTC)
BEGAN_NS = 1_795_324_800_000_000_000


def timed(from_s: float, until_s: float) -> dict[str, Any]:
    return {"timed_from": BEGAN + dt.timedelta(seconds=from_s), "timed_until": BEGAN + dt.timedelta(seconds=until_s)}


def reading(second: float, device: int, **fields: Any) -> Reading:
    return Reading(at_ns=BEGAN_NS + round(second * 1e9), device="cuda", device_index=device, **fields)


def two_gpus() -> list[Reading]:
    """A healthy GPU and one that is slowed down from second 3 to 5, in no order."""
    states = [
        reading(tenth / 10, device, power_w=100.0 * (device + 1), sm_clock_mhz=1980.0, temperature_c=60.0)
        for tenth in range(80)
        for device in range(2)
    ]
    hot = ("hw_thermal_slowdown",)
    return [
        dataclasses.replace(
            one, throttle_reasons=hot if one.device_index and 3 <= (one.at_ns - BEGAN_NS) / 1e9 < 5 else ()
        )
        for one in reversed(states)
    ]


def test_each_row_has_the_state_of_its_device_in_its_window() -> None:
    plan = plan_of(*GPUS, workloads=(WORK,))
    rows = [work_row(plan, device=device, **timed(2.5, 6.5)) for device in range(2)]
    healthy, hot = merge.finish(plan, rows, {}, two_gpus())
    assert (healthy["power_w_mean"], hot["power_w_mean"]) == (pytest.approx(100), pytest.approx(200))
    assert (healthy["energy_j"], hot["energy_j"]) == (pytest.approx(400), pytest.approx(800))
    assert (healthy["throttle_s"], hot["throttle_s"]) == (0.0, pytest.approx(2.0))
    assert (healthy["validity"], hot["validity"]) == ([], ["unfit:throttled"])


def test_power_and_energy_are_of_all_gpus_that_a_launch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "devices_of", lambda name: 2)
    plan = plan_of(*GPUS, workloads=(WORK,))
    (row,) = merge.finish(plan, [work_row(plan, **timed(2.5, 6.5))], {}, two_gpus())
    assert (row["power_w_mean"], row["energy_j"]) == (pytest.approx(300), pytest.approx(1200))
    alone = [one for one in two_gpus() if one.device_index == 0]
    (row,) = merge.finish(plan, [work_row(plan, **timed(2.5, 6.5))], {}, alone)
    assert (row["power_w_mean"], row["energy_j"]) == (None, None)
    assert row["sm_clock_mhz_mean"] == pytest.approx(1980)


def test_a_row_timed_while_its_device_was_fine_is_fine() -> None:
    plan = plan_of(*GPUS, workloads=(WORK,))
    rows = [work_row(plan, device=device, **timed(5.5, 7.5)) for device in range(2)]
    assert [row["validity"] for row in merge.finish(plan, rows, {}, two_gpus())] == [[], []]


def test_a_gpu_whose_state_nobody_read_is_flagged() -> None:
    plan = plan_of(GPUS[0], workloads=(WORK,))
    (row,) = merge.finish(plan, [work_row(plan, **timed(1, 2))], {}, [])
    assert row["validity"] == ["state-unknown"]
    unread = dataclasses.replace(plan, telemetry_hz=0.0)
    (row,) = merge.finish(unread, [work_row(unread, **timed(1, 2))], {}, [])
    assert row["validity"] == ["state-unknown"]


def test_a_row_that_failed_keeps_what_befell_its_device() -> None:
    plan = plan_of(GPUS[0], workloads=(WORK,))
    failed = work_row(plan, status="failed", reason="AcceleratorError", value=None, **timed(1, 3))
    lost = [reading(0.9, 0, xids=()), reading(2, 0, xids=(79,)), reading(2.1, 0, error="GPU is lost")]
    (row,) = merge.finish(plan, [failed], {}, lost)
    assert (row["xids"], row["device_error"]) == ([79], "GPU is lost")
    assert {"unfit:no-answer", "unfit:xid"} <= set(row["validity"])


def test_no_error_of_a_device_lies_between_two_rows() -> None:
    """An Xid in each second from the run's start to its end is told by some row, whatever came when."""
    plan = plan_of(GPUS[0], workloads=(WORK,), replicates=3)
    windows = ((2, 3), (5, 6), (7, 8))
    rows = [work_row(plan, replicate=replicate, **timed(*seconds)) for replicate, seconds in enumerate(windows)]
    readings = [reading(second + 0.5, 0, xids=(second,), ecc_corrected_total=second) for second in range(10)]
    first, second, third = merge.finish(plan, rows, {}, readings)
    assert [one["xids"] for one in (first, second, third)] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert [one["ecc_corrected_delta"] for one in (first, second, third)] == [3, 4, 4]


def test_both_arms_of_a_session_tell_what_befell_it() -> None:
    plan = plan_of(GPUS[0], workloads=(WORK,))
    sessions = ((1, 2), (4, 6))
    rows = [
        work_row(plan, replicate=number, arm=arm, **timed(begin + 0.1 * (arm == "B"), end - 0.1 * (arm == "A")))
        for number, (begin, end) in enumerate(sessions)
        for arm in "AB"
    ]
    readings = [reading(tenth / 10, 0, xids=(79,) if tenth == 50 else ()) for tenth in range(80)]
    found = merge.finish(plan, rows, {}, readings)
    assert [row["xids"] for row in found if row["value"] is not None] == [[], [], [79], [79]]


def test_a_state_that_is_known_is_not_lost_with_the_series() -> None:
    plan = plan_of(*GPUS, workloads=(WORK,))
    rows = [work_row(plan, device=device, **timed(2.5, 6.5)) for device in range(2)]
    once = merge.finish(plan, rows, {}, two_gpus())
    assert merge.finish(plan, copy.deepcopy(once), {}, []) == once
    assert merge.finish(plan, copy.deepcopy(once), {}, two_gpus()) == once


# ---------------------------------------------------------------- what is missing


def test_what_was_planned_and_not_measured_is_a_row() -> None:
    plan = plan_of(*GPUS, CPU, replicates=2)
    rows = merge.finish(plan, [work_row(plan, device=1, replicate=1)], {})
    assert len(rows) == 3 * 3 * 2
    assert len({merge.row_key(row) for row in rows}) == len(rows)
    missing = [row for row in rows if row["status"] != "ok"]
    assert len(missing) == 17
    assert {row["status"] for row in missing} == {"interrupted"}
    assert {row["reason"] for row in missing} == {"the run ended before this was measured"}
    assert {(row["value"], row["rank"], row["concurrency_group"]) for row in missing} == {(None, None, None)}
    assert {row["device_uuid"] for row in missing} == {"GPU-0", "GPU-1", None}


def test_each_kind_of_device_misses_only_its_own_workloads() -> None:
    plan = make_plan(devices=(CPU, GPUS[0]), workloads={"cpu": (MEMORY,), "cuda": (COMPUTE,)}, replicates=1)
    rows = merge.finish(plan, [], {})
    assert [(row["device"], row["workload"]) for row in rows] == [("cpu", MEMORY), ("cuda", COMPUTE)]


def test_a_measurement_repeated_by_a_resumed_run_is_the_later_one() -> None:
    plan = plan_of(workloads=(WORK,))
    before = work_row(plan, status="failed", value=None)
    after = work_row(plan) | {"started_at": before["started_at"] + dt.timedelta(seconds=1)}
    for rows in ([before, after], [after, before]):
        assert [row["status"] for row in merge.finish(plan, rows, {})] == ["ok"]


def test_rows_are_in_the_order_they_were_measured() -> None:
    plan = plan_of(*GPUS, replicates=2)
    rows = [
        work_row(plan, device=device, replicate=replicate) | {"sequence": sequence, "workload": name}
        for name, sequence in ((WORK, 2), (MEMORY, 1), (COMPUTE, 0))
        for device in (1, 0)
        for replicate in (1, 0)
    ]
    keys = [(row["replicate"], row["sequence"], row["device_index"]) for row in merge.finish(plan, rows, {})]
    assert keys == sorted(keys)
    assert len(keys) == 12


# ---------------------------------------------------------------- again


def everything(plan: Plan) -> tuple[list[Row], dict[str, merge.Calibration]]:
    rows = [
        work_row(plan, flops=5000, validity=["unfit:steal"]),
        work_row(plan, replicate=1, status="failed", reason="x", value=None, metrics=None),
        roof_row(plan, COMPUTE, 4000),
        roof_row(plan, MEMORY, 125, replicate=1),
        work_row(plan, device=1, replicate=1),
    ]
    return rows, {key_of(rows[0]): (1000, 1200)}


def test_a_run_resumed_in_another_environment_is_flagged() -> None:
    plan = plan_of(replicates=2)
    rows = [work_row(plan) | {"env_id": "a"}, work_row(plan, replicate=1) | {"env_id": "b"}]
    assert all("mixed-environment" in row["validity"] for row in merge.finish(plan, rows, {}) if row["status"] == "ok")
    rows[1]["env_id"] = "a"
    assert not any("mixed-environment" in row["validity"] for row in merge.finish(plan, rows, {}))


def test_merging_again_changes_nothing() -> None:
    plan = plan_of(*GPUS, replicates=3)
    rows, calibrations = everything(plan)
    once = merge.finish(plan, rows, calibrations)
    flags = {flag for row in once for flag in row["validity"]}
    assert flags == {"unfit:steal", "unfit:calibration-shift", "roof-too-low"}
    for known in (calibrations, {}):
        assert merge.finish(plan, copy.deepcopy(once), known) == once


def test_merging_what_parquet_gives_back_changes_nothing() -> None:
    plan = plan_of(*GPUS, replicates=3)
    once = merge.finish(plan, *everything(plan))
    again = schema.to_table(once, plan).to_pylist()
    assert schema.to_table(merge.finish(plan, again, {}), plan).equals(schema.to_table(once, plan))


def test_merging_leaves_its_input_alone() -> None:
    plan = plan_of(*GPUS, replicates=3)
    rows, calibrations = everything(plan)
    before = copy.deepcopy(rows)
    merge.finish(plan, rows, calibrations)
    assert rows == before


def test_a_flag_is_taken_back_when_its_cause_is_gone() -> None:
    plan = plan_of()
    row, *_ = merge.finish(plan, [work_row(plan, flops=5000), roof_row(plan, COMPUTE, 4000)], {})
    assert row["validity"] == ["roof-too-low"]
    better = roof_row(plan, COMPUTE, 6000) | {"started_at": row["started_at"] + dt.timedelta(seconds=9)}
    row, *_ = merge.finish(plan, [row, better], {})
    assert row["validity"] == []
    assert math.isclose(row["fraction_of_roof"], 5 / 6)


# ---------------------------------------------------------------- soaks


def test_each_stretch_of_a_soak_stays_a_row_and_none_is_made_up_for_what_is_missing() -> None:
    plan = dataclasses.replace(plan_of(workloads=(WORK,)), soak=Soak(WORK, 4, 60.0, 1.0))
    rows = [work_row(plan, session=number, arm=SOAK_ARM, sequence=number) for number in range(3)]
    found = merge.finish(plan, rows, {})
    assert [row["session"] for row in found if row["arm"] == SOAK_ARM] == [0, 1, 2]
    assert [row["arm"] for row in found if row["status"] == "interrupted"] == [None]  # of the pass
    assert merge.finish(plan, found, {}) == found


def test_the_state_of_a_stretch_is_judged_by_how_often_it_was_read() -> None:
    """A reading every five seconds is a gap where ten a second were asked for, and none where that was the plan."""
    window: dict[str, Any] = {"timed_from": BEGAN, "timed_until": BEGAN + dt.timedelta(seconds=60)}
    readings = [reading(5.0 * i, 0, power_w=500.0) for i in range(-1, 15)]
    plan = dataclasses.replace(plan_of(GPUS[0], workloads=(WORK,)), soak=Soak(WORK, 1, 60.0, 0.2))
    rows = [work_row(plan, **window), work_row(plan, session=0, arm=SOAK_ARM, **window)]
    found = {row["arm"]: row["energy_j"] for row in merge.finish(plan, rows, {}, readings)}
    assert found == {None: None, SOAK_ARM: pytest.approx(30_000)}

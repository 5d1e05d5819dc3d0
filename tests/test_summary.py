"""``bench.summary``: the only intervals there are, and they come from replicates."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest

from bench import errors, summary
from bench.schema import Row
from bench.types import DeviceInfo, Status
from tests.results import CPU, WORKLOAD, make_plan, make_row

GPUS = tuple(DeviceInfo("cuda", index, "a GPU") for index in range(4))
ROOF = "roof/memory/copy"
PLAN = make_plan(WORKLOAD, ROOF, devices=(*GPUS, CPU))
ON_CPU = len(GPUS)


def rows_of(*values: float | None, workload: str = WORKLOAD, device: int = ON_CPU, **changes: Any) -> list[Row]:
    """A replicate per value."""
    return [
        make_row(PLAN, workload, device=device, replicate=replicate, value=value, **changes)
        for replicate, value in enumerate(values)
    ]


def one(rows: list[Row]) -> summary.Summary:
    (found,) = summary.summarize(rows)
    return found


# ---------------------------------------------------------------- the figure


@pytest.mark.parametrize("value", [None, 0.0, -1.0, math.nan, math.inf])
def test_a_value_that_no_rate_or_time_can_have_is_a_failure(value: float | None) -> None:
    rows = rows_of(1.0, 1.0, 1.0, value)
    found = one(rows)
    assert (found.status, found.replicates) == ("failed", 3)
    assert found.value == pytest.approx(1.0)
    assert found.reason == f"its value is no positive number: {value}"
    assert summary.exit_code(rows) == errors.FAILED


def test_an_outcome_of_a_later_version_is_worse_than_all_that_are_known() -> None:
    rows = [*rows_of(1.0, 1.0), *rows_of(1.0, status="wrong"), *rows_of(1.0, status="melted", reason="too hot")]
    assert (one(rows).status, one(rows).reason) == ("melted", "too hot")


def test_the_value_is_the_geometric_mean_of_the_replicates() -> None:
    found = one(rows_of(1.0, 10.0, 100.0))
    assert found.value == pytest.approx(10.0)
    assert (found.unit, found.better, found.replicates, found.device) == ("FLOP/s", "higher", 3, "cpu")


def test_the_interval_is_students_on_the_logarithms_of_the_replicates() -> None:
    found = one(rows_of(math.e**1, math.e**2, math.e**3))
    assert found.interval is not None
    # Student's t for 2 degrees of freedom at 97.5 % is 4.302653 (any table); the standard deviation of 1, 2, 3 is 1.
    half = 4.302653 / math.sqrt(3)
    assert math.log(found.interval.low) == pytest.approx(2 - half, rel=1e-6)
    assert math.log(found.interval.high) == pytest.approx(2 + half, rel=1e-6)
    assert (found.interval.n, found.interval.confidence) == (3, 0.95)


def test_samples_inside_a_replicate_make_no_interval() -> None:
    many = list(range(900, 1100))
    assert one(rows_of(1.0, 2.0, elapsed_ns=many)).interval is None
    few = one(rows_of(1.0, 2.0, 3.0, elapsed_ns=[1000]))
    assert one(rows_of(1.0, 2.0, 3.0, elapsed_ns=many)).interval == few.interval


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, 2.0), (1.0, 2.0, None)])
def test_fewer_than_three_replicates_have_no_interval(values: tuple[float | None, ...]) -> None:
    rows = [row | ({"status": "failed"} if row["value"] is None else {}) for row in rows_of(*values)]
    assert all(found.interval is None for found in summary.summarize(rows))


def test_a_replicate_that_is_not_ok_has_no_part_in_the_figure() -> None:
    rows = rows_of(1.0, 4.0) + rows_of(1e9, status="wrong", reason="error 3")
    found = one(rows)
    assert found.value == pytest.approx(2.0)
    assert (found.status, found.reason, found.replicates) == ("wrong", "error 3", 2)


def test_without_any_that_is_ok_there_is_no_figure() -> None:
    found = one(rows_of(None, None, None, status="unsupported", reason="this library says no", unit=None, metrics=None))
    assert (found.status, found.reason) == ("unsupported", "this library says no")
    assert (found.value, found.unit, found.interval, found.roof, found.fraction_of_roof) == (None,) * 5
    assert (found.replicates, found.metrics) == (0, {})


# ---------------------------------------------------------------- the outcome

WORST_FIRST: list[Status] = ["wrong", "crashed", "oom", "timeout", "failed", "interrupted", "unsupported", "ok"]


@pytest.mark.parametrize(("worse", "better"), list(itertools.pairwise(WORST_FIRST)))
def test_the_worst_replicate_decides(worse: Status, better: Status) -> None:
    for statuses in ([worse, better, "ok"], ["ok", better, worse]):
        rows = [
            row | {"status": status, "reason": status}
            for row, status in zip(rows_of(1.0, 1.0, 1.0), statuses, strict=True)
        ]
        assert (one(rows).status, one(rows).reason) == (worse, worse)


def test_flags_of_all_replicates_come_together() -> None:
    first, second, third = rows_of(1.0, 1.0, 1.0)
    rows = [first | {"validity": ["unfit:steal"]}, second | {"validity": None}]
    rows += [third | {"validity": ["cut-short", "unfit:steal"]}]
    assert one(rows).validity == ("cut-short", "unfit:steal")


def test_metrics_are_medians_over_the_replicates() -> None:
    rows = [
        row | {"metrics": [{"name": "ttft_p50", "value": value, "unit": "s", "better": "lower"}]}
        for row, value in zip(rows_of(1.0, 1.0, 1.0), (3.0, 1.0, 100.0), strict=True)
    ]
    assert one(rows).metrics == {"ttft_p50": 3.0}


def test_the_roof_is_the_tightest_measured_one() -> None:
    def roof(name: str, source: str, fraction: float | None) -> dict[str, Any]:
        return {"name": name, "value": 1.0, "unit": "B/s", "source": source, "fraction": fraction}

    roofs = [
        roof("roof/compute/fp32", "measured", 0.2),
        roof("roof/memory/read", "measured", 0.7),
        roof("roof/memory/copy", "measured", None),
        roof("roof/memory/triad", "datasheet", 0.9),
    ]
    found = one([row | {"fraction_of_roof": row["value"]} for row in rows_of(0.4, 0.9, roofs=roofs)])
    assert found.roof == "roof/memory/read"
    assert found.fraction_of_roof == pytest.approx(0.6)


def test_each_workload_on_each_device_has_a_summary_and_roofs_come_last() -> None:
    rows = rows_of(1.0, workload=ROOF) + rows_of(1.0, device=1) + rows_of(1.0, device=0) + rows_of(1.0)
    assert [(found.workload, found.device, found.is_roof) for found in summary.summarize(rows)] == [
        (WORKLOAD, "cpu", False),
        (WORKLOAD, "cuda:0", False),
        (WORKLOAD, "cuda:1", False),
        (ROOF, "cpu", True),
    ]


# ---------------------------------------------------------------- several devices


def test_the_spread_names_the_slowest_and_how_far_it_is_behind() -> None:
    rows = [row for device, value in enumerate((100.0, 98.0, 80.0, 99.0)) for row in rows_of(value, device=device)]
    rows += rows_of(1.0)  # the CPU is of another kind
    (spread,) = summary.spreads(summary.summarize(rows))
    assert (spread.workload, spread.slowest) == (WORKLOAD, "cuda:2")
    assert spread.fraction == pytest.approx(0.2)


def test_one_device_has_no_spread() -> None:
    rows = rows_of(1.0, device=0) + rows_of(2.0)
    rows += rows_of(None, device=1, status="failed")
    assert summary.spreads(summary.summarize(rows)) == []


# ---------------------------------------------------------------- the exit code


@pytest.mark.parametrize(
    ("statuses", "unfit", "strict", "code"),
    [
        ("ok", False, False, errors.OK),
        ("ok unsupported interrupted", False, True, errors.OK),
        ("ok", True, False, errors.OK),
        ("ok", True, True, errors.UNFIT),
        ("ok failed", False, False, errors.FAILED),
        ("wrong", False, False, errors.FAILED),
        ("timeout", False, False, errors.FAILED),
        ("crashed", False, False, errors.FAILED),
        ("oom", False, False, errors.FAILED),
        ("ok failed", True, True, errors.FAILED),
        ("", False, True, errors.OK),
    ],
)
def test_the_exit_code(statuses: str, unfit: bool, strict: bool, code: int) -> None:
    (row,) = rows_of(1.0)
    rows = [row | {"status": status} for status in statuses.split()]
    rows += [row | {"validity": ["no-steady-state", *(["unfit:steal"] if unfit else [])]}] if statuses else []
    assert summary.exit_code(rows, strict=strict) == code


def test_flags_that_speak_only_against_the_figure_are_no_matter_of_strictness() -> None:
    (row,) = rows_of(1.0)
    rows = [row | {"validity": ["no-steady-state", "roof-too-low", "cut-short", "simulated"]}, row | {"validity": None}]
    assert summary.exit_code(rows, strict=True) == errors.OK


def test_a_summary_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        one(rows_of(1.0)).value = 2.0  # type: ignore[misc]

"""``bench.sustained``: figures of stretches whose samples are known."""

from __future__ import annotations

from typing import Any

import pytest

from bench import summary, sustained
from bench.schema import Row
from bench.types import SOAK_ARM, DeviceInfo, Plan, Soak
from tests.results import WORKLOAD, make_plan, make_row

GPUS = tuple(DeviceInfo("cuda", index, "GPU") for index in range(3))
PLAN = make_plan(devices=GPUS, soak=Soak(WORKLOAD, 4, 60.0, 1.0))
ROUND_NS = 10**9
ROUND_FLOPS = 10**12


def stretch(number: int, factor: float = 1.0, device: int = 0, plan: Plan = PLAN, **changes: Any) -> Row:
    """Sixty rounds of a second each, or of a second times the factor."""
    ns = round(ROUND_NS * factor)
    measured: dict[str, Any] = {
        "session": number,
        "arm": SOAK_ARM,
        "elapsed_ns": [ns] * 60,
        "launches_per_sample": 1,
        "median_ns": float(ns),
        "value": ROUND_FLOPS / ns * 1e9,
    }
    return make_row(plan, device=device, sequence=number, **measured | changes)


def only(rows: list[Row]) -> sustained.Sustained:
    return sustained.figures(PLAN, rows)[0]


def test_the_first_minute_and_the_steady_rate_are_told_apart() -> None:
    hot = 1.25
    first = stretch(0) | {"elapsed_ns": [ROUND_NS] * 60 + [5 * ROUND_NS] * 9}  # what came after the minute is not of it
    found = only([first, stretch(1, 1.1), stretch(2, hot), stretch(3, hot)])
    assert found.first_minute == pytest.approx(1e12)
    assert found.steady == pytest.approx(0.8e12)
    assert found.kept == pytest.approx(0.8)
    assert found.slowest == pytest.approx(0.8e12)
    assert found.slowest_stretch == 2
    assert found.soaked_s == 240.0


def test_a_soak_shorter_than_two_minutes_has_a_first_half() -> None:
    found = only([stretch(number, factor) for number, factor in enumerate((1, 1, 2, 2))])
    assert found.first_minute == pytest.approx(1e12)
    assert found.steady == pytest.approx(0.5e12)
    alone = only([stretch(0)])
    assert (alone.first_minute, alone.steady, alone.kept) == (None, None, None)


def test_what_did_not_begin_cool_has_no_first_minute() -> None:
    assert only([stretch(0, status="crashed", value=None), *map(stretch, (1, 2, 3))]).first_minute is None


def test_only_what_is_ok_was_soaked_and_the_rest_is_counted() -> None:
    rows = [stretch(0), stretch(1, status="wrong"), stretch(2, status="crashed"), stretch(3, replicate=1)]
    found = only(rows)
    assert (found.soaked_s, found.wrong, found.failed, found.processes) == (120.0, 1, 1, 2)


def test_states_are_added_up_and_unknown_ones_stay_unknown() -> None:
    known: dict[str, Any] = {
        "throttle_s": 1.5,
        "temperature_c_max": 80.0,
        "ecc_corrected_delta": 2,
        "ecc_uncorrected_delta": 0,
    }
    found = only([stretch(0, **known), stretch(1, **known | {"temperature_c_max": 85.0}), stretch(2)])
    assert (found.throttle_s, found.temperature_c_max, found.ecc_corrected) == (3.0, 85.0, 4)
    assert found.power_cap_s is None


def test_a_device_stands_beside_the_median_of_its_node() -> None:
    rows = [stretch(number, factor, device) for device, factor in enumerate((1.0, 1.0, 1.25)) for number in range(4)]
    assert [one.over_median for one in sustained.figures(PLAN, rows)] == pytest.approx([1.0, 1.0, 0.8])
    assert only([stretch(0), stretch(1)]).over_median is None


def test_stretches_are_no_replicates() -> None:
    """A thousand of them, and there is no interval; a process is one replicate, beside those of the passes."""
    rows = [stretch(number, 1 + number / 1000) for number in range(1001)]
    (one,) = summary.summarize(rows)
    assert (one.replicates, one.interval) == (1, None)
    assert one.value == pytest.approx(1e12 / 1.5)
    worst = summary.summarize([*rows, stretch(1001, status="crashed", value=None)])
    assert [each.status for each in worst] == ["crashed"]

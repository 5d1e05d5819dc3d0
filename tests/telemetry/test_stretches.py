"""``bench.telemetry.stretches``: when a device was held back, counted as ``window`` counts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.telemetry import window
from bench.telemetry.reading import Reading
from bench.telemetry.stretches import Stretch, gap_ns, stretches

MS = 10**6
PERIOD_NS = 100 * MS
HOT = "hw_thermal_slowdown"
BRAKE = "hw_power_brake_slowdown"
CAP = "sw_power_cap"


def series(reasons: Sequence[tuple[str, ...] | None]) -> list[Reading]:
    """A reading every 100 ms with these reasons."""
    return [
        Reading(at_ns=index * PERIOD_NS, device="cuda", device_index=0, throttle_reasons=named)
        for index, named in enumerate(reasons)
    ]


def spans(found: Sequence[Stretch]) -> list[tuple[float, float]]:
    return [(one.from_ns / MS, one.until_ns / MS) for one in found]


def test_throttling_from_second_3_to_5_is_a_stretch_of_two_seconds() -> None:
    readings = series([(HOT,) if 30 <= index < 50 else () for index in range(80)])
    assert stretches(readings) == [Stretch(2950 * MS, 4950 * MS, (HOT,), "throttled")]


def test_a_device_that_was_free_has_none() -> None:
    assert stretches(series([()] * 5)) == []
    assert stretches(series([("gpu_idle",), ("applications_clocks_setting",)] * 3)) == []


def test_a_device_that_does_not_tell_has_none() -> None:
    assert stretches(series([None] * 5)) == []
    assert stretches([]) == []


def test_a_power_cap_is_told_apart_from_throttling() -> None:
    found = stretches(series([(), (CAP,), (CAP, HOT), (CAP,), ()]))
    assert [(one.kind, one.reasons) for one in found] == [("power-capped", (CAP,)), ("throttled", (HOT,))]
    assert spans(found) == [(50, 350), (150, 250)]


def test_one_stretch_has_all_the_reasons_that_were_named_in_it() -> None:
    (one,) = stretches(series([(), (HOT,), (HOT, BRAKE), (HOT,), ()]))
    assert one.reasons == (BRAKE, HOT)


def test_stretches_are_apart_where_a_reading_between_them_is_free() -> None:
    assert spans(stretches(series([(), (HOT,), (), (HOT,), ()]))) == [(50, 150), (250, 350)]


def test_the_first_and_the_last_reading_speak_for_nothing_beyond_them() -> None:
    assert spans(stretches(series([(HOT,), (HOT,)]))) == [(0, 100)]
    assert spans(stretches(series([(HOT,)]))) == [(0, 0)]


def test_nothing_is_said_across_a_gap() -> None:
    readings = series([(HOT,)] * 20)
    del readings[5:15]
    assert spans(stretches(readings)) == [(0, 400), (1500, 1900)]


def test_one_missing_reading_is_no_gap() -> None:
    readings = series([(HOT,)] * 9)
    del readings[4]
    assert spans(stretches(readings)) == [(0, 800)]


def counted(readings: Sequence[Reading], totals_s: Sequence[float | None]) -> list[Reading]:
    return [
        dataclasses.replace(reading, throttled_s_total=total) for reading, total in zip(readings, totals_s, strict=True)
    ]


@pytest.mark.parametrize("reasons", [(), None])
def test_what_only_the_counter_saw_is_as_long_as_it_says(reasons: tuple[str, ...] | None) -> None:
    found = stretches(counted(series([reasons] * 4), [7.0, 7.0, 7.02, 7.02]))
    assert found == [Stretch(180 * MS, 200 * MS, (), "throttled")]


def test_a_counter_says_no_more_than_the_time_between_two_readings() -> None:
    assert spans(stretches(counted(series([()] * 3), [0.0, 5.0, 5.0]))) == [(0, 100)]


def test_what_the_readings_name_is_not_counted_again() -> None:
    found = stretches(counted(series([(), (HOT,), ()]), [0.0, 0.08, 0.16]))
    assert found == [Stretch(50 * MS, 150 * MS, (HOT,), "throttled")]


def test_a_counter_that_was_set_back_or_not_read_says_nothing() -> None:
    assert stretches(counted(series([()] * 4), [5.0, 0.0, None, 3.0])) == []


def test_a_counter_says_nothing_across_a_gap() -> None:
    readings = counted(series([()] * 20), [0.0] * 5 + [9.0] * 15)
    del readings[5:15]
    assert stretches(readings) == []


def test_the_power_caps_counter_is_its_own() -> None:
    readings = [
        dataclasses.replace(one, power_capped_s_total=index / 100) for index, one in enumerate(series([()] * 2))
    ]
    assert stretches(readings) == [Stretch(90 * MS, 100 * MS, (), "power-capped")]


def test_the_longest_gap_follows_from_the_series() -> None:
    assert gap_ns(series([()] * 5)) == window.LONGEST_GAP * PERIOD_NS
    assert gap_ns(series([()])) == 0.0


@given(st.lists(st.booleans(), min_size=4, max_size=40))
def test_all_stretches_together_are_what_a_row_counts(held: list[bool]) -> None:
    readings = series([(HOT,) if one else () for one in held])
    total_s = sum(one.until_ns - one.from_ns for one in stretches(readings)) * 1e-9
    columns = window.state(readings, 0, readings[-1].at_ns, PERIOD_NS)
    assert columns["throttle_s"] == pytest.approx(total_s)

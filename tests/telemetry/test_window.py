"""``bench.telemetry.window``: readings joined by time to a window, and nothing said across a gap."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import schema
from bench.telemetry import window
from bench.telemetry.reading import Reading

S = 1_000_000_000
PERIOD = S // 10


def series(count: int = 21, **fields: Any) -> list[Reading]:
    """Readings from second 0 on, ten a second; a callable field is given the time in seconds."""

    def at(index: int) -> Reading:
        seconds = index / 10
        values = {name: value(seconds) if callable(value) else value for name, value in fields.items()}
        return Reading(at_ns=index * PERIOD, device="cuda", device_index=0, **values)

    return [at(index) for index in range(count)]


def state(readings: list[Reading], from_s: float, until_s: float) -> dict[str, Any]:
    return window.state(readings, round(from_s * S), round(until_s * S), PERIOD)


def test_its_columns_are_columns_of_a_row() -> None:
    assert set(state([], 0, 1)) <= set(schema.SCHEMA.names)


def test_without_readings_nothing_is_known() -> None:
    found = state([], 0.2, 0.9)
    assert found.pop("telemetry_readings") == 0
    assert set(found.values()) == {None}


def test_what_the_driver_does_not_tell_is_null() -> None:
    found = state(series(), 0.2, 0.9)
    known = {name: value for name, value in found.items() if value is not None}
    assert known == {"telemetry_readings": 8, "telemetry_gap_s": pytest.approx(0.1)}


# ---------------------------------------------------------------- energy


def test_energy_is_what_the_counter_grew_by_over_the_exact_window() -> None:
    found = state(series(energy_j=lambda s: 1000 + 300 * s), 0.234, 1.111)
    assert found["energy_j"] == pytest.approx(300 * 0.877)
    assert found["power_w_mean"] == pytest.approx(300)


def test_where_there_is_no_counter_the_power_is_integrated() -> None:
    found = state(series(power_w=lambda s: 100 + 200 * s), 0.25, 1.75)
    assert found["energy_j"] == pytest.approx((100 + 200 * 1.0) * 1.5)
    assert found["power_w_mean"] == pytest.approx(300)


def test_the_counter_is_believed_before_the_power() -> None:
    found = state(series(energy_j=lambda s: 10 * s, power_w=500.0), 0.3, 1.3)
    assert found["power_w_mean"] == pytest.approx(10)


@pytest.mark.parametrize("missing", [range(7, 10), range(5), range(14, 21)], ids=["middle", "begin", "end"])
def test_energy_is_not_told_across_a_gap(missing: range) -> None:
    readings = [one for index, one in enumerate(series(energy_j=lambda s: s)) if index not in missing]
    assert state(readings, 0.42, 1.38)["energy_j"] is None
    assert state(series(energy_j=lambda s: s), 0.42, 1.38)["energy_j"] == pytest.approx(0.96)


def test_a_reading_without_a_figure_is_a_gap_in_that_figure_alone() -> None:
    readings = series(energy_j=lambda s: None if 0.6 < s < 1.0 else s, power_w=50.0)
    assert state(readings, 0.2, 1.5)["energy_j"] == pytest.approx(50 * 1.3)


def test_one_reading_that_came_late_is_no_gap() -> None:
    readings = series(energy_j=lambda s: s)
    del readings[8]
    assert state(readings, 0.4, 1.4)["energy_j"] == pytest.approx(1.0)
    assert state(readings, 0.4, 1.4)["telemetry_gap_s"] == pytest.approx(0.2)


def test_a_window_of_less_than_two_periods_has_no_energy_but_a_clock() -> None:
    found = state(series(energy_j=lambda s: s, sm_clock_mhz=1980.0), 0.51, 0.59)
    assert (found["energy_j"], found["telemetry_readings"]) == (None, 0)
    assert found["sm_clock_mhz_mean"] == 1980.0


def test_a_counter_that_was_set_back_counts_nothing() -> None:
    readings = series(energy_j=lambda s: 1000 * s if s < 1 else s, ecc_corrected_total=lambda s: 5 if s < 1 else 0)
    found = state(readings, 0.5, 1.5)
    assert (found["energy_j"], found["ecc_corrected_delta"]) == (None, None)


@given(st.integers(0, 10**9), st.integers(2 * PERIOD, S), st.lists(st.floats(0, 2000), min_size=21, max_size=21))
def test_energy_adds_up_and_lies_between_the_extremes(start: int, length: int, watts: list[float]) -> None:
    readings = [dataclasses.replace(one, power_w=watts[index]) for index, one in enumerate(series())]
    middle, end = start + length // 2, min(start + length, 2 * S)
    whole = window.state(readings, start, end, PERIOD)
    parts = [window.state(readings, *ends, PERIOD)["energy_j"] for ends in ((start, middle), (middle, end))]
    if None not in (whole["energy_j"], *parts):
        assert sum(parts) == pytest.approx(whole["energy_j"], abs=1e-6)
    if whole["power_w_mean"] is not None:
        assert min(watts) - 1e-6 <= whole["power_w_mean"] <= max(watts) + 1e-6


# ---------------------------------------------------------------- levels


def test_levels_are_those_of_the_readings_inside() -> None:
    readings = series(
        sm_clock_mhz=lambda s: 1000 + 100 * s,
        mem_clock_mhz=2600.0,
        cpu_clock_mhz=lambda s: 3000 - 100 * s,
        temperature_c=lambda s: 60 + s,
        memory_temperature_c=lambda s: 70 + s,
        temperature_margin_c=lambda s: 30 - s,
    )
    found = state(readings, 0.45, 1.55)
    assert (found["sm_clock_mhz_min"], found["sm_clock_mhz_mean"]) == (pytest.approx(1050), pytest.approx(1100))
    assert (found["cpu_clock_mhz_min"], found["cpu_clock_mhz_mean"]) == (pytest.approx(2850), pytest.approx(2900))
    assert found["mem_clock_mhz_mean"] == 2600
    assert found["telemetry_readings"] == 11
    # Heat does not end with the window: the readings within a period of it count.
    assert found["temperature_c_max"] == pytest.approx(61.6)
    assert found["memory_temperature_c_max"] == pytest.approx(71.6)
    assert found["temperature_margin_c_min"] == pytest.approx(28.4)


def test_links_sharing_and_locks_are_the_worst_that_was_seen() -> None:
    readings = series(
        pcie_generation=lambda s: 5 if s > 0.8 else 1,
        pcie_width=lambda s: 8 if s > 0.8 else 16,
        pcie_width_max=16,
        nvlinks_down=lambda s: int(s > 0.8),
        foreign_processes=lambda s: int(s > 0.8),
        clocks_locked=lambda s: s > 0.8,
    )
    names = ["pcie_generation", "pcie_width", "nvlinks_down", "foreign_gpu_processes", "clocks_locked"]
    assert [state(readings, 0.1, 0.6)[name] for name in names] == [1, 16, 0, 0, False]
    assert [state(readings, 0.1, 1.6)[name] for name in names] == [5, 8, 1, 1, True]


# ---------------------------------------------------------------- held back


def test_throttled_seconds_come_from_the_reasons_where_there_is_no_counter() -> None:
    hot = series(51, throttle_reasons=lambda s: ("hw_thermal_slowdown",) if 3 <= s < 5 else ("gpu_idle",))
    found = state(hot, 0.5, 4.95)
    assert found["throttle_s"] == pytest.approx(2.0, abs=0.06)
    assert found["throttle_reasons"] == ["gpu_idle", "hw_thermal_slowdown"]
    assert state(hot, 0.5, 2.5)["throttle_s"] == 0.0
    assert found["power_cap_s"] == 0.0


def test_throttled_seconds_between_two_readings_come_from_the_counter() -> None:
    readings = series(throttle_reasons=(), throttled_s_total=lambda s: 7 + (0.03 if s > 0.6 else 0))
    assert state(readings, 0.2, 1.2)["throttle_s"] == pytest.approx(0.03)


def test_a_counter_that_stays_at_zero_is_not_believed_against_the_reasons() -> None:
    readings = series(throttle_reasons=("hw_slowdown",), throttled_s_total=0.0)
    assert state(readings, 0.2, 1.2)["throttle_s"] == pytest.approx(1.0)


def test_a_power_cap_is_no_throttling() -> None:
    readings = series(throttle_reasons=("sw_power_cap",), power_capped_s_total=lambda s: 0.4 * s)
    found = state(readings, 0.2, 1.2)
    assert (found["throttle_s"], found["power_cap_s"]) == (0.0, pytest.approx(1.0))


def test_held_back_is_never_longer_than_the_window() -> None:
    readings = series(throttled_s_total=lambda s: 3 * s)
    assert state(readings, 0.2, 1.2)["throttle_s"] == pytest.approx(1.0)


# ---------------------------------------------------------------- errors


def test_an_error_within_a_period_of_the_window_belongs_to_it() -> None:
    readings = series(
        ecc_corrected_total=lambda s: 3 if s > 1.05 else 0,
        ecc_uncorrected_total=lambda s: 1 if s > 1.05 else 0,
        pcie_replays_total=lambda s: 2 if s > 1.05 else 0,
        nvlink_errors_total=lambda s: 4 if s > 1.05 else 0,
        xids=lambda s: (48,) if s == 1.1 else (),
    )
    names = ["ecc_corrected_delta", "ecc_uncorrected_delta", "pcie_replay_delta", "nvlink_errors_delta", "xids"]
    assert [state(readings, 0.2, 1.05)[name] for name in names] == [3, 1, 2, 4, [48]]
    assert [state(readings, 0.2, 0.95)[name] for name in names] == [0, 0, 0, 0, []]
    assert [state(readings, 1.12, 1.6)[name] for name in names] == [0, 0, 0, 0, []], "what came before is not its own"


def test_an_error_is_not_lost_in_a_pause_of_the_readings() -> None:
    """A device in trouble is slow to answer: the readings around the window may be far away."""
    early = [Reading(at_ns=round(0.4 * S), device="cuda", device_index=0, xids=(79,))]
    late = [Reading(at_ns=9 * S, device="cuda", device_index=0, xids=(48,), error="GPU is lost")]
    for readings in (early, [*early, *late]):
        assert 79 in state(readings, 0.0, 1.0)["xids"], "in the window, though nothing was read before"
    found = state([Reading(at_ns=0, device="cuda", device_index=0, xids=(13,)), *late], 0.5, 1.2)
    assert (found["xids"], found["device_error"]) == ([48], "GPU is lost")


def test_errors_are_counted_over_all_the_time_that_a_row_answers_for() -> None:
    readings = series(
        ecc_corrected_total=lambda s: (s > 0.35) + 2 * (s > 1.85),
        xids=lambda s: {0.4: (31,), 1.9: (48,)}.get(s, ()),
        power_w=100.0,
    )
    of_window = state(readings, 1.0, 1.4)
    assert (of_window["ecc_corrected_delta"], of_window["xids"]) == (0, [])
    for answers_for_s, errors, xids in (((0.2, 1.4), 1, [31]), ((0.6, 9.0), 2, [48]), ((0.0, 9.0), 3, [31, 48])):
        answers_for_ns = round(answers_for_s[0] * S), round(answers_for_s[1] * S)
        found = window.state(readings, S, round(1.4 * S), PERIOD, answers_for_ns)
        assert (found.pop("ecc_corrected_delta"), found.pop("xids")) == (errors, xids)
        assert found == {name: of_window[name] for name in found}, "nothing else is of another time"


def test_a_count_that_was_set_back_before_the_window_tells_both_its_parts() -> None:
    readings = series(ecc_corrected_total=lambda s: 7 + (s > 0.15) if s < 0.55 else 0 + (s > 0.75))
    found = window.state(readings, S, round(1.4 * S), PERIOD, (0, round(1.4 * S)))
    assert found["ecc_corrected_delta"] == 2


def test_a_part_of_the_window_that_nobody_read_is_a_gap() -> None:
    readings = series(power_w=100.0, throttle_reasons=())
    found = state(readings, 0.5, 6.0)
    assert found["telemetry_gap_s"] == pytest.approx(4.0)
    assert (found["energy_j"], found["throttle_s"]) == (None, None)
    assert state(readings[5:], 0.1, 1.0)["telemetry_gap_s"] == pytest.approx(0.4)


def test_a_short_window_has_the_state_of_the_nearest_reading_alone() -> None:
    clocks = {1: 1980.0}
    readings = series(
        3,
        sm_clock_mhz=lambda s: clocks.get(round(s * 10), 345.0),
        throttle_reasons=lambda s: () if round(s * 10) == 1 else ("gpu_idle",),
    )
    found = state(readings, 0.11, 0.14)
    assert (found["sm_clock_mhz_min"], found["sm_clock_mhz_mean"], found["throttle_reasons"]) == (1980.0, 1980.0, [])


def test_a_device_that_stops_answering_says_so_and_has_no_energy() -> None:
    readings = series(energy_j=lambda s: s if s < 1 else None, error=lambda s: "GPU is lost" if s >= 1 else None)
    found = state(readings, 0.2, 1.6)
    assert (found["device_error"], found["energy_j"]) == ("GPU is lost", None)
    assert state(readings, 0.2, 0.8)["device_error"] is None


def test_memory_that_waits_for_a_reset_is_seen() -> None:
    found = state(series(row_remap_pending=True, row_remap_failed=False), 0.2, 1.6)
    assert (found["row_remap_pending"], found["row_remap_failed"]) == (True, False)

"""The state of a device over a window: the readings of its series, joined by time to the samples of one measurement.

Pure: the same readings and the same window give the same columns, on any machine.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from bench.telemetry.reading import POWER_CAP_REASON, THROTTLE_REASONS, Reading

# A reading that came later than this many periods after the one before leaves a gap that nothing is said across.
LONGEST_GAP = 2.5
# What is integrated needs so many periods: in less, the ends decide.
SHORTEST_INTEGRAL = 2.0

Columns = dict[str, Any]


def state(
    readings: Sequence[Reading],
    from_ns: int,
    until_ns: int,
    period_ns: int,
    answers_for_ns: tuple[int, int] | None = None,
) -> Columns:
    """The row columns of one device's state from ``from_ns`` to ``until_ns``; None where no reading tells.

    Args:
        readings: of that device, in the order of time.
        period_ns: the time between two readings, as it was asked for.
        answers_for_ns: from when until when errors are counted: the window, and what no other one answers for.

    Levels (clocks, temperatures) are of the readings inside the window, or of the nearest one within a period of a
    short window. Counters (energy, throttled seconds) are interpolated at both ends. Errors are counted from the last
    reading before their time to the first after it, however far away: a device in trouble is slow to answer.
    """
    gap_ns = round(LONGEST_GAP * period_ns)
    bracket = _bracket(readings, from_ns, until_ns)
    errors_from_ns, errors_until_ns = answers_for_ns or (from_ns, until_ns)
    watched = _bracket(readings, errors_from_ns, errors_until_ns)
    around = [one for one in bracket if from_ns - gap_ns <= one.at_ns <= until_ns + gap_ns]
    near = [one for one in around if from_ns - period_ns <= one.at_ns <= until_ns + period_ns]
    inside = [one for one in around if from_ns <= one.at_ns <= until_ns]
    middle_ns = (from_ns + until_ns) // 2
    levels = inside or sorted(near, key=lambda one: abs(one.at_ns - middle_ns))[:1]
    join = _Join(around, from_ns, until_ns, gap_ns, SHORTEST_INTEGRAL * period_ns)
    energy_j = join.counted(lambda one: one.energy_j)
    if energy_j is None:
        energy_j = join.integrated(lambda one: one.power_w)
    window_s = (until_ns - from_ns) * 1e-9
    return {
        "power_w_mean": None if energy_j is None else energy_j / window_s,
        "energy_j": energy_j,
        "sm_clock_mhz_min": _of(min, levels, lambda one: one.sm_clock_mhz),
        "sm_clock_mhz_mean": _of(_mean, levels, lambda one: one.sm_clock_mhz),
        "mem_clock_mhz_mean": _of(_mean, levels, lambda one: one.mem_clock_mhz),
        "cpu_clock_mhz_min": _of(min, levels, lambda one: one.cpu_clock_mhz),
        "cpu_clock_mhz_mean": _of(_mean, levels, lambda one: one.cpu_clock_mhz),
        "clocks_locked": _of(any, near, lambda one: one.clocks_locked),
        "temperature_c_max": _of(max, near, lambda one: one.temperature_c),
        "memory_temperature_c_max": _of(max, near, lambda one: one.memory_temperature_c),
        "temperature_margin_c_min": _of(min, near, lambda one: one.temperature_margin_c),
        "throttle_s": join.held_back(THROTTLE_REASONS, lambda one: one.throttled_s_total),
        "power_cap_s": join.held_back((POWER_CAP_REASON,), lambda one: one.power_capped_s_total),
        "throttle_reasons": _of(_union, levels, lambda one: one.throttle_reasons),
        "ecc_corrected_delta": _growth(watched, from_ns, lambda one: one.ecc_corrected_total),
        "ecc_uncorrected_delta": _growth(watched, from_ns, lambda one: one.ecc_uncorrected_total),
        "row_remap_pending": _of(any, around, lambda one: one.row_remap_pending),
        "row_remap_failed": _of(any, around, lambda one: one.row_remap_failed),
        # What the first one brings came before that time, unless it lies in it.
        "xids": _of(_union, [one for one in watched if one.at_ns > errors_from_ns], lambda one: one.xids),
        "pcie_generation": _of(max, near, lambda one: one.pcie_generation),
        "pcie_width": _of(min, near, lambda one: one.pcie_width),
        "pcie_width_max": _of(max, near, lambda one: one.pcie_width_max),
        "pcie_replay_delta": _growth(watched, from_ns, lambda one: one.pcie_replays_total),
        "nvlinks_down": _of(max, near, lambda one: one.nvlinks_down),
        "nvlink_errors_delta": _growth(watched, from_ns, lambda one: one.nvlink_errors_total),
        "foreign_gpu_processes": _of(max, near, lambda one: one.foreign_processes),
        "device_error": _of(min, watched, lambda one: one.error),
        "telemetry_obstacle": _of(min, bracket, lambda one: one.obstacle),
        "telemetry_readings": len(inside),
        "telemetry_gap_s": _longest_gap_s(bracket, from_ns, until_ns),
    }


def _bracket(readings: Sequence[Reading], from_ns: int, until_ns: int) -> Sequence[Reading]:
    """The readings inside the window, the last before it and the first after it."""
    first = bisect.bisect_right(readings, from_ns, key=lambda one: one.at_ns) - 1
    last = bisect.bisect_left(readings, until_ns, key=lambda one: one.at_ns)
    return readings[max(first, 0) : last + 1]


def _longest_gap_s(bracket: Sequence[Reading], from_ns: int, until_ns: int) -> float | None:
    """The longest time in the window without a reading, up to the ones around it where there are any."""
    if not bracket:
        return None
    times_ns = [one.at_ns for one in bracket]
    ends_ns = [min(from_ns, times_ns[0]), *times_ns, max(until_ns, times_ns[-1])]
    return max(b - a for a, b in itertools.pairwise(ends_ns)) * 1e-9


Field = Callable[[Reading], Any]


def _of(combine: Callable[[Sequence[Any]], Any], readings: Sequence[Reading], field: Field) -> Any:
    """What is known of a field, combined; None where nothing is."""
    known = [value for value in map(field, readings) if value is not None]
    return combine(known) if known else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _union(values: Sequence[Sequence[Any]]) -> list[Any]:
    return sorted({each for value in values for each in value})


def _growth(readings: Sequence[Reading], from_ns: int, field: Field) -> int | None:
    """How far a count grew over the readings; None where it was set back after ``from_ns``, or hardly read.

    Set back before that, as by a reboot between two sittings of a run, it tells what it grew by on either side.
    """
    known = [(one.at_ns, field(one)) for one in readings if field(one) is not None]
    steps = [(at_ns, later - before) for (_, before), (at_ns, later) in itertools.pairwise(known)]
    if not steps or any(step < 0 and at_ns > from_ns for at_ns, step in steps):
        return None
    growth: int = sum(max(step, 0) for _, step in steps)
    return growth


class _Join:
    """What is integrated over the exact window, with its gaps checked."""

    def __init__(self, around: Sequence[Reading], from_ns: int, until_ns: int, gap_ns: int, shortest_ns: float) -> None:
        self.around = around
        self.from_ns = from_ns
        self.until_ns = until_ns
        self.gap_ns = gap_ns
        self.is_long_enough = until_ns - from_ns >= shortest_ns

    def _points(self, field: Field) -> list[tuple[int, float]]:
        """(time, value) across the whole window, the ends interpolated; empty where there is a gap."""
        known = [(one.at_ns, field(one)) for one in self.around if field(one) is not None]
        if not known or not self.is_long_enough or known[0][0] > self.from_ns or known[-1][0] < self.until_ns:
            return []
        if any(b[0] - a[0] > self.gap_ns for a, b in itertools.pairwise(known)):
            return []
        inner = [point for point in known if self.from_ns < point[0] < self.until_ns]
        return [(self.from_ns, _at(known, self.from_ns)), *inner, (self.until_ns, _at(known, self.until_ns))]

    def counted(self, field: Field) -> float | None:
        """What a counter grew by over the window."""
        points = self._points(field)
        if not points or any(b[1] < a[1] for a, b in itertools.pairwise(points)):  # set back in between
            return None
        return points[-1][1] - points[0][1]

    def integrated(self, field: Field) -> float | None:
        """The trapezoidal integral of a level over the window, in its unit times seconds."""
        points = self._points(field)
        if not points:
            return None
        return sum((b[0] - a[0]) * 1e-9 * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))

    def held_back(self, reasons: Sequence[str], counter: Field) -> float | None:
        """Seconds held back: the driver's counter or the readings that name a reason, whichever is more.

        A driver that does not keep its counter leaves it at zero; and between two readings, only the counter sees.
        """

        def is_held(one: Reading) -> float | None:
            return (
                None if one.throttle_reasons is None else float(any(name in reasons for name in one.throttle_reasons))
            )

        known = [seconds for seconds in (self.counted(counter), self.integrated(is_held)) if seconds is not None]
        return min(max(known), (self.until_ns - self.from_ns) * 1e-9) if known else None


def _at(points: Sequence[tuple[int, float]], at_ns: int) -> float:
    """The value at a moment between two points, by linear interpolation."""
    after = bisect.bisect_left(points, at_ns, key=lambda point: point[0])
    (b_ns, b) = points[after]
    if b_ns == at_ns or after == 0:
        return b
    (a_ns, a) = points[after - 1]
    return a + (b - a) * (at_ns - a_ns) / (b_ns - a_ns)

"""What follows from the difference of two readings of one device."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from bench.telemetry.reading import Reading


def label(reading: Reading) -> str:
    """The device of a reading, as a run names it: ``cpu``, ``cuda:0``."""
    return reading.device if reading.device == "cpu" else f"{reading.device}:{reading.device_index}"


def by_device(readings: Iterable[Reading]) -> dict[str, list[Reading]]:
    """The readings of each device under its label, in the order of time; GPUs by their number, the CPU last."""
    series: dict[str, list[Reading]] = {}
    for one in sorted(readings, key=lambda one: (one.device == "cpu", one.device, one.device_index, one.at_ns)):
        series.setdefault(label(one), []).append(one)
    return series


def cost_ms(readings: Iterable[Reading]) -> float | None:
    """What one sample cost of one core, all devices together: the median over the run; None where nobody looked."""
    costs: dict[int, int] = {}
    for series in by_device(readings).values():
        for place, one in enumerate(series):
            costs[place] = costs.get(place, 0) + one.cpu_ns
    return statistics.median(costs.values()) / 1e6 if any(costs.values()) else None


def power_w(before: Reading | None, now: Reading) -> float | None:
    """The power at a reading; where only energy is known, its mean since the reading before; None where neither is."""
    if now.power_w is not None:
        return now.power_w
    energy_j = growth(before, now, lambda one: one.energy_j)
    if before is None or energy_j is None or now.at_ns <= before.at_ns:
        return None
    return energy_j / ((now.at_ns - before.at_ns) * 1e-9)


def busy_fraction(before: Reading | None, now: Reading) -> float | None:
    """The share of all CPUs' time that was spent working since the reading before."""
    return _share(before, now, lambda one: one.cpu_busy_s_total)


def steal_fraction(before: Reading | None, now: Reading) -> float | None:
    """The share of all CPUs' time that the hypervisor gave to others since the reading before."""
    return _share(before, now, lambda one: one.cpu_steal_s_total)


def growth(before: Reading | None, now: Reading, counter: Callable[[Reading], float | None]) -> float | None:
    """How far a counter grew; None where it is not known at both, or was set back."""
    first, last = None if before is None else counter(before), counter(now)
    return None if first is None or last is None or last < first else last - first


def _share(before: Reading | None, now: Reading, counter: Callable[[Reading], float | None]) -> float | None:
    passed_s = growth(before, now, lambda one: one.cpu_time_s_total)
    spent_s = growth(before, now, counter)
    # The kernel rounds each of them to its ticks.
    return None if spent_s is None or not passed_s else min(1.0, spent_s / passed_s)

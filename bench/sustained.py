"""From the stretches of a soak to its figures, device by device; pure, so that a result tells them at any time.

None of them has an interval: stretches of one process are no replicates. They are read, and decide nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.schema import Row
from bench.types import SOAK_ARM, DeviceInfo, Plan

_FIRST_NS = 60_000_000_000  # "the first minute"


@dataclass(frozen=True)
class Sustained:
    """One device's soak. Rates are in ``unit``; None is what is not known, or not yet."""

    device: str
    soaked_s: float  # of stretches that are ok
    processes: int  # more than one: it crashed, or was resumed
    unit: str | None = None
    first_minute: float | None = None  # median of its samples, or of the first half's where that is shorter
    steady: float | None = None  # median of the stretches of the second half
    slowest: float | None = None  # of all stretches
    slowest_stretch: int | None = None
    over_median: float | None = None  # steady, over the median of the node's devices
    throttle_s: float | None = None
    power_cap_s: float | None = None
    temperature_c_max: float | None = None
    ecc_corrected: float | None = None
    ecc_uncorrected: float | None = None
    wrong: int = 0  # stretches
    failed: int = 0

    @property
    def kept(self) -> float | None:
        """The steady rate over that of the first minute."""
        return self.steady / self.first_minute if self.steady and self.first_minute else None


def stretches(rows: Iterable[Row], device: DeviceInfo) -> list[Row]:
    """A device's, in their order."""
    own = (device.kind, device.index)
    found = (row for row in rows if row["arm"] == SOAK_ARM and (row["device"], row["device_index"]) == own)
    return sorted(found, key=lambda row: int(row["session"]))


def soaked_s(plan: Plan, found: Sequence[Row]) -> float:
    """How long a device was under load with right answers before and after: whole stretches, of the planned length."""
    return 0.0 if plan.soak is None else plan.soak.stretch_s * sum(row["status"] == "ok" for row in found)


def figures(plan: Plan, rows: Sequence[Row]) -> list[Sustained]:
    """Those of all devices of a run, in the plan's order."""
    found = [_figures(plan, device, stretches(rows, device)) for device in plan.devices]
    steady = [one.steady for one in found if one.steady is not None]
    if len(steady) < 2:
        return found
    median = statistics.median(steady)
    return [one if one.steady is None else dataclasses.replace(one, over_median=one.steady / median) for one in found]


def _figures(plan: Plan, device: DeviceInfo, found: Sequence[Row]) -> Sustained:
    good = [row for row in found if row["status"] == "ok"]
    slowest: Row = min(good, key=lambda row: float(row["value"]), default={})
    return Sustained(
        device.label,
        soaked_s(plan, found),
        len({row["replicate"] for row in found}),
        unit=good[0]["unit"] if good else None,
        first_minute=_first_minute(good[: len(good) // 2]),
        steady=statistics.median(row["value"] for row in good[len(good) // 2 :]) if len(good) > 1 else None,
        slowest=slowest.get("value"),
        slowest_stretch=slowest.get("session"),
        throttle_s=_sum(found, "throttle_s"),
        power_cap_s=_sum(found, "power_cap_s"),
        temperature_c_max=max(_known(found, "temperature_c_max"), default=None),
        ecc_corrected=_sum(found, "ecc_corrected_delta"),
        ecc_uncorrected=_sum(found, "ecc_uncorrected_delta"),
        wrong=sum(row["status"] == "wrong" for row in found),
        failed=sum(row["status"] not in ("ok", "wrong") for row in found),
    )


def _first_minute(first_half: Sequence[Row]) -> float | None:
    """The rate at the median of the samples that ended in the first minute, of the process that began the soak."""
    if not first_half or first_half[0]["session"] != 0:  # what followed a failure did not begin cool
        return None
    rows = [row for row in first_half if row["replicate"] == first_half[0]["replicate"]]
    taken_ns = [ns for row in rows for ns in row["elapsed_ns"]]
    spent_ns = itertools.accumulate(ns * row["launches_per_sample"] for row in rows for ns in row["elapsed_ns"])
    early_ns = [ns for ns, spent in zip(taken_ns, spent_ns, strict=True) if spent <= _FIRST_NS] or taken_ns[:1]
    work: float = rows[0]["value"] * rows[0]["median_ns"]  # alike in every launch
    median_ns: float = statistics.median(early_ns)
    return work / median_ns


def _known(rows: Sequence[Row], column: str) -> list[float]:
    return [row[column] for row in rows if row[column] is not None]


def _sum(rows: Sequence[Row], column: str) -> float | None:
    known = _known(rows, column)
    return sum(known) if known else None

"""From replicates to figures; the only place that makes an interval. Rows in, ``Summary`` out.

The value is the geometric mean of the replicates' values; its interval is Student's t on their logarithms. Samples
inside a replicate are never treated as independent.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench import errors, fitness
from bench.fitness import Finding
from bench.schema import Row
from bench.stats import Interval, geometric_mean, log_t_interval
from bench.types import FAILURES, SOAK_ARM


@dataclass(frozen=True)
class Summary:
    """What the replicates of one workload on one device say together."""

    workload: str
    device: str  # "cpu", "cuda:0"
    status: str  # the worst of the replicates' outcomes
    reason: str | None
    value: float | None
    unit: str | None
    better: str
    interval: Interval | None
    replicates: int  # that are ok
    fraction_of_roof: float | None
    roof: str | None  # the tightest measured one
    validity: tuple[str, ...]
    findings: tuple[Finding, ...]  # the worst of each rule that fired, with what was measured
    metrics: Mapping[str, float]  # medians over the replicates
    candidates: tuple[str, ...] = ()  # the workloads that performed it, where a search chose them

    @property
    def is_roof(self) -> bool:
        return self.workload.startswith("roof/")


@dataclass(frozen=True)
class Spread:
    """One workload over several devices that were loaded together."""

    workload: str
    slowest: str
    fraction: float  # (fastest - slowest) / fastest


# The outcome of a workload is the worst of its replicates'; one that this version does not know is worse than all.
_WORST_FIRST = ("wrong", "crashed", "oom", "timeout", "failed", "interrupted", "unsupported", "ok")


def summarize(rows: Iterable[Row]) -> list[Summary]:
    """One summary per workload and device, in the order of first appearance by name; roofs come last."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in _without_stretches(map(_judged, rows)):
        device = row["device"] if row["device"] == "cpu" else f"{row['device']}:{row['device_index']}"
        groups.setdefault((row["workload"], device), []).append(row)
    found = [_summary(workload, device, group) for (workload, device), group in groups.items()]
    return sorted(found, key=lambda one: (one.is_roof, one.workload, one.device))


def _without_stretches(rows: Iterable[Row]) -> list[Row]:
    """The stretches of a soak's process are one replicate: of those that are ok, the median one stands for all."""
    found = []
    processes: dict[tuple[str, str, int, int], list[Row]] = {}
    for row in rows:
        if row["arm"] == SOAK_ARM and row["status"] == "ok":
            key = row["workload"], row["device"], row["device_index"], row["replicate"]
            processes.setdefault(key, []).append(row)
        else:
            found.append(row)
    for stretches in processes.values():
        flags = sorted({flag for row in stretches for flag in row["validity"] or ()})
        median = sorted(stretches, key=lambda row: float(row["value"]))[len(stretches) // 2]
        found.append(median | {"validity": flags})
    return found


def spreads(summaries: Sequence[Summary]) -> list[Spread]:
    """The slowest device of each workload that ran on several of a kind, and how far it lies behind the fastest."""
    by_workload: dict[tuple[str, str], list[Summary]] = {}
    for one in summaries:
        if one.value is not None:
            by_workload.setdefault((one.workload, one.device.partition(":")[0]), []).append(one)
    found = []
    for (workload, _), group in by_workload.items():
        if len(group) > 1:
            ordered = sorted(group, key=lambda one: one.value or 0.0)
            slowest, fastest = ordered[0].value or 0.0, ordered[-1].value or 0.0
            found.append(Spread(workload, ordered[0].device, (fastest - slowest) / fastest))
    return found


def exit_code(rows: Iterable[Row], *, strict: bool = False) -> int:
    """What the rows' outcomes mean for the caller of vnbench."""
    codes = []
    for row in map(_judged, rows):
        if row["status"] in FAILURES:
            codes.append(errors.FAILED)
        if strict and any(map(fitness.is_unfit, row["validity"] or ())):
            codes.append(errors.UNFIT)
    return errors.worst(codes)


def _judged(row: Row) -> Row:
    """The row itself; as a failed one where it claims to be ok without a value that a rate or a time can have."""
    value = row["value"]
    if row["status"] != "ok" or (value is not None and math.isfinite(value) and value > 0):
        return row
    return row | {"status": "failed", "reason": f"its value is no positive number: {value}", "value": None}


def _severity(row: Row) -> int:
    return _WORST_FIRST.index(row["status"]) if row["status"] in _WORST_FIRST else -1


def _summary(workload: str, device: str, rows: Sequence[Row]) -> Summary:
    worst = min(rows, key=_severity)
    good = [row for row in rows if row["status"] == "ok"]
    values = [row["value"] for row in good]
    fractions = [row["fraction_of_roof"] for row in good if row["fraction_of_roof"]]
    return Summary(
        workload=workload,
        device=device,
        status=worst["status"],
        reason=worst["reason"],
        value=geometric_mean(values) if values else None,
        unit=good[0]["unit"] if good else None,
        better=rows[0]["better"],
        interval=log_t_interval(values),
        replicates=len(good),
        fraction_of_roof=geometric_mean(fractions) if fractions else None,
        roof=_tightest_roof(good[0]) if good else None,
        validity=tuple(sorted({flag for row in rows for flag in row["validity"] or ()})),
        findings=_worst_findings(rows),
        metrics=_metrics(good),
        candidates=tuple(dict.fromkeys(row["candidate"] for row in good if row["candidate"])),
    )


def _worst_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    worst: dict[str, Finding] = {}
    for row in rows:
        for one in fitness.findings(row):
            if one.flag in (row["validity"] or ()) and (one.flag not in worst or worst[one.flag].value < one.value):
                worst[one.flag] = one
    return tuple(worst.values())


def _tightest_roof(row: Row) -> str | None:
    measured = [roof for roof in row["roofs"] or () if roof["source"] == "measured" and roof["fraction"] is not None]
    return max(measured, key=lambda roof: roof["fraction"])["name"] if measured else None


def _metrics(rows: Sequence[Row]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in rows:
        for metric in row["metrics"] or ():
            values.setdefault(metric["name"], []).append(metric["value"])
    return {name: statistics.median(found) for name, found in values.items()}

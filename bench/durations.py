"""``Durations``: how long runs like one have taken before, from their results."""

from __future__ import annotations

import contextlib
import datetime as dt
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench import dataset, packed, store
from bench.files import DAMAGE
from bench.types import Plan

_WHOLE = frozenset({"ok", "unsupported"})  # outcomes of a run that did all it set out to do


@dataclass(frozen=True)
class Durations:
    """From a run's start to the end of its last timed sample; what follows takes seconds."""

    runs: int
    median_s: float
    shortest_s: float
    longest_s: float

    def one_after_another_s(self, nodes: int) -> float:
        return nodes * self.median_s


def past(plan: Plan, out: Path) -> Durations | None:
    """Of the runs in the results folder that did what the plan would do, on devices of the same models.

    A run that was cut short, or in which something failed, tells nothing of how long a whole one takes. One that was
    resumed counts with its pause, which is why the median stands for them all.

    Returns:
        None where there is no such run: no time is guessed.
    """
    alike: dict[str, Plan] = {}
    paths: list[Path] = []
    for path in store.result_files(out / "runs"):
        with contextlib.suppress(*DAMAGE):
            found = packed.plans(pq.read_metadata(path).metadata or {})
            matching = {one.run_id: one for one in found if _task(one) == _task(plan)}
            alike |= matching
            paths += [path] if matching else []
    rows: dict[str, list[Mapping[str, Any]]] = {run_id: [] for run_id in alike}
    for row in dataset.read(paths, ["run_id", "status", "timed_until"], runs=alike).to_pylist():
        rows[row["run_id"]].append(row)
    known = [_duration_s(alike[run_id].started_at, its) for run_id, its in rows.items()]
    seconds = [one for one in known if one is not None]
    if not seconds:
        return None
    return Durations(len(seconds), statistics.median(seconds), min(seconds), max(seconds))


def _task(plan: Plan) -> tuple[object, ...]:
    """What decides how long a run takes, as far as a plan says it."""
    devices = [(device.kind, device.name) for device in plan.devices]
    return dict(plan.workloads), plan.policy_id, plan.replicates, plan.arms, plan.soak, devices


def _duration_s(started_at: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
    ends = [row["timed_until"] for row in rows if row["timed_until"] is not None]
    if not ends or any(row["status"] not in _WHOLE for row in rows):
        return None
    seconds: float = (max(ends) - dt.datetime.fromisoformat(started_at)).total_seconds()
    return seconds if seconds > 0 else None  # the system's clock was set back in between

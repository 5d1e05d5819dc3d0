"""``History``: the figure of one workload over runs, oldest first, on machines that are alike.

A point is a run. Only points of the same hardware, device, spec and policy share a line; a version bump of the workload
begins another. Software may differ along a line, for that is what a history is to show; it is named where it changes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import dataset, environment
from bench.changes import Change, change_points
from bench.errors import UsageError
from bench.fitness import is_unfit
from bench.gate.baseline import plans
from bench.gate.side import by_process, label
from bench.stats import Interval, geometric_mean, log_t_interval

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.01  # of `change_points`, for each line

_IDENTITY = ["device", "device_index", "spec_id", "policy_id"]
_COLUMNS = [
    *(
        "workload",
        "arm",
        "run_id",
        "node",
        "replicate",
        "source_commit",
        "vnbench_version",
        "started_at",
        "label",
        "kernel_version",
    ),
    *_IDENTITY,
    *("value", "unit", "better", "status", "validity", "env_id"),
    *(key for keys in environment.KEYS.values() for key in keys),
]
_HARDWARE = [key for key in environment.KEYS["hardware"] if key != "memory_bytes"]
_SOFTWARE = [*environment.KEYS["software"], *environment.KEYS["settings"]]


@dataclass(frozen=True)
class Point:
    """What one run says: the geometric mean of its replicates; without a value where none of them is ok."""

    run_id: str
    node: str
    started_at: str  # ISO 8601, UTC
    source_commit: str | None
    vnbench_version: str | None
    label: str | None
    value: float | None
    interval: Interval | None
    replicates: int  # that are ok
    statuses: tuple[str, ...]
    flags: tuple[str, ...]  # of `validity`
    # Software and settings that differ from the point before: key → from, to.
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def is_unfit(self) -> bool:
        return any(map(is_unfit, self.flags))


@dataclass(frozen=True)
class Line:
    """Points that may be compared with each other. ``changes`` are hints; their index is into ``measured``."""

    device: str
    hardware: Mapping[str, Any]
    spec_id: str
    policy_id: str
    kernel_version: int | None
    unit: str | None
    better: str | None  # None: which way is good is not known
    points: tuple[Point, ...]
    changes: tuple[Change, ...]

    @property
    def measured(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if point.value is not None)

    @property
    def machine(self) -> tuple[str, tuple[Any, ...]]:
        """Lines with the same one are of machines that are alike."""
        return self.device, tuple(self.hardware.values())

    @property
    def change_at(self) -> Mapping[str, Change]:
        """By the id of the run that a change begins with."""
        return {self.measured[change.index].run_id: change for change in self.changes}


@dataclass(frozen=True)
class History:
    """The lines of a workload: by machine, and of each machine the oldest first."""

    workload: str
    lines: tuple[Line, ...]

    @property
    def is_simulated(self) -> bool:
        return any("simulated" in point.flags for line in self.lines for point in line.points)


def read(
    paths: Sequence[Path], workload: str, device: str | None = None, *, runs: Collection[str] | None = None
) -> History:
    """The history of a workload in some result files, or in these runs of them.

    ``device`` is ``cpu``, ``cuda``, ``cuda:0``, or None for all.

    Raises:
        UnreadableResult: a file cannot be read.
        UsageError: the workload is in none of them, or not on that device.
    """
    import pyarrow.compute as pc

    table = dataset.read(paths, _COLUMNS, runs=runs)
    table = table.filter(pc.and_(pc.equal(table["workload"], workload), pc.is_null(table["arm"])))
    if not table.num_rows:
        raise UsageError(
            f"no result of {workload!r} in {len(paths)} files", "`vnbench show RUN` names what it measured"
        )
    frame = table.to_pandas(integer_object_nulls=True)
    frame = frame[_on_device(frame, device)]
    if not len(frame):
        raise UsageError(f"{workload} was never measured on {device}", "Leave out --device to see where it was")
    # A row that was imported may not tell when it began; its run's plan does.
    starts = {one.run_id: one.started_at for one in plans(paths, runs)} if frame["started_at"].isna().any() else {}
    grouped = frame.groupby(["run_id", *_IDENTITY], sort=False, dropna=False)
    seen = [_seen(rows, starts) for _, rows in grouped]
    lines = [_line(group) for group in _alike(sorted(seen, key=lambda one: (one.point.started_at, one.point.run_id)))]
    return History(workload, tuple(sorted(lines, key=lambda line: (str(line.machine), line.points[0].started_at))))


@dataclass(frozen=True)
class _Seen:
    """A run's point, and what decides on the line that it belongs to."""

    point: Point
    identity: Mapping[str, Any]
    hardware: Mapping[str, Any] | None  # None where no process told
    software: Mapping[str, Any]
    unit: str | None

    def is_like(self, other: _Seen) -> bool:
        if self.identity != other.identity:
            return False
        if self.hardware is None or other.hardware is None:
            return self.point.node == other.point.node
        sizes = [self.hardware["memory_bytes"], other.hardware["memory_bytes"]]
        same = all(self.hardware[key] == other.hardware[key] for key in _HARDWARE)
        return same and environment.same_memory(sizes)


def _on_device(frame: pd.DataFrame, device: str | None) -> Any:
    kind, _, index = (device or "").partition(":")
    if not kind:
        return frame["device"].notna()
    on_kind = frame["device"] == kind
    return on_kind & (frame["device_index"] == int(index)) if index.isdecimal() else on_kind


def _alike(seen: Sequence[_Seen]) -> list[list[_Seen]]:
    """Those that share a line, in their order."""
    groups: list[list[_Seen]] = []
    for one in seen:
        group = next((group for group in groups if any(one.is_like(other) for other in group[:1])), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _line(seen: Sequence[_Seen]) -> Line:
    points = [seen[0].point]
    for before, one in itertools.pairwise(seen):
        points.append(dataclasses.replace(one.point, changed=_changed(before.software, one.software)))
    values = [point.value for point in points if point.value is not None]
    identity = seen[0].identity
    return Line(
        device=label(identity["device"], identity["device_index"]),
        hardware=next((one.hardware for one in seen if one.hardware), {}),
        spec_id=identity["spec_id"],
        policy_id=identity["policy_id"],
        kernel_version=identity["kernel_version"],
        unit=next((one.unit for one in seen if one.unit), None),
        better=identity["better"],
        points=tuple(points),
        changes=tuple(change_points(values, ALPHA) or ()),
    )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Of what both runs know."""
    keys = before.keys() & after.keys()
    return {key: (str(before[key]), str(after[key])) for key in sorted(keys) if before[key] != after[key]}


def _seen(rows: pd.DataFrame, starts: Mapping[str, str]) -> _Seen:
    good = rows[rows["status"] == "ok"]
    values = by_process(good, good["value"].to_numpy(dtype="float64", na_value=math.nan))[0].tolist()
    told = rows[rows["env_id"].notna()]
    first = rows.iloc[0]
    point = Point(
        run_id=first["run_id"],
        node=first["node"],
        started_at=_start(rows, starts),
        source_commit=_known(first["source_commit"]),
        vnbench_version=_known(first["vnbench_version"]),
        label=_known(first["label"]),
        value=geometric_mean(values) if values and all(0 < value < math.inf for value in values) else None,
        interval=log_t_interval(values),
        replicates=len(values),
        statuses=tuple(sorted(set(rows["status"]))),
        flags=tuple(sorted({flag for flags in rows["validity"].dropna() for flag in flags})),
    )
    facts = {key: _known(told.iloc[0][key]) for keys in environment.KEYS.values() for key in keys} if len(told) else {}
    return _Seen(
        point,
        {key: _known(first[key]) for key in (*_IDENTITY, "kernel_version", "better")},
        {key: facts[key] for key in environment.KEYS["hardware"]} if facts else None,
        {key: facts[key] for key in _SOFTWARE if facts.get(key) is not None},
        _known(next(iter(good["unit"]), None)),
    )


def _start(rows: pd.DataFrame, starts: Mapping[str, str]) -> str:
    import pandas as pd

    began = rows["started_at"].min()
    at = pd.Timestamp(starts[rows["run_id"].iloc[0]]) if pd.isna(began) else began
    return str(at.isoformat(timespec="seconds"))


def _known(value: Any) -> Any:
    """None for what pandas makes of a null; lists as texts."""
    if isinstance(value, str | None):
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return None if isinstance(value, float) and math.isnan(value) else value

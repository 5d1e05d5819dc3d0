"""``Side``: what one side of a gate has of every workload and device, out of result files.

A side is read once and by columns; its rows are grouped, never walked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import dataset, environment, estimates
from bench.errors import UnreadableResult
from bench.types import FAILURES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from bench.estimates import Estimates

Key = tuple[str, str]  # workload, device: "cpu", "cuda:0"

# The column that a process is judged by. Any other statistic of a process takes its place here, and in `_badness`.
_STATISTIC = "value"

_DEVICE = ["device", "device_index"]
_CELL = ["workload", *_DEVICE]
_PROCESS = ["node", "run_id", "replicate"]
_ALIKE = ("spec_id", "policy_id", "unit", "better", "threads", "world_size")
_CALIBRATION = ("calibration_before_ns", "calibration_after_ns")
_KEYS = [key for keys in environment.KEYS.values() for key in keys]
# What the rows of a pass tell of the machine over and over: read only where it changes.
_TOLD_KEYS = ["run_id", *_DEVICE, "device_uuid", "env_id", "arm", "memory_bytes", *_CALIBRATION]
_TOLD = [*dict.fromkeys([*_TOLD_KEYS, *_KEYS])]


@dataclass(frozen=True, eq=False)
class Cell:
    """One workload on one device.

    ``badness`` is of each process that is ok, above that of another is worse; ``node`` says on which node it ran, as a
    number from 0.
    """

    badness: NDArray[np.float64]
    node: NDArray[np.int64]
    alike: Mapping[str, tuple[Any, ...]]  # the distinct values of spec_id, policy_id, … over the rows that are ok
    statuses: frozenset[str]
    reason: str | None  # of a row that is not ok
    flags: frozenset[str]  # of `validity`

    @property
    def processes(self) -> int:
        return len(self.badness)

    @property
    def nodes(self) -> int:
        import numpy as np

        return len(np.unique(self.node))

    @property
    def has_failed(self) -> bool:
        return bool(self.statuses & FAILURES)

    def estimate(self, *, by_node: bool) -> Estimates:
        """The logarithm of the badness, as `bench.stats.two_level_ratio` estimates it, in arrays of one element.

        ``by_node``: each node counts once, by its mean; else it is of these very nodes, by their processes.
        """
        import numpy as np

        order = np.argsort(self.node, kind="stable")
        nodes = self.node[order]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(self.badness[order])
        parts = estimates.of_groups(logs, np.flatnonzero(np.diff(nodes, prepend=-1)))
        whole = np.array([0])
        return estimates.of_groups(parts.mean, whole) if by_node else estimates.averages(parts, whole)


@dataclass(frozen=True)
class Machine:
    """What is recorded of the machine behind a device: distinct values, several where its rows differ."""

    keys: Mapping[str, tuple[Any, ...]]
    uuids: frozenset[str]
    calibration_ns: float | None  # median


@dataclass(frozen=True)
class Side:
    """Everything that some result files say, by workload and device."""

    cells: Mapping[Key, Cell]
    machines: Mapping[str, Machine]  # by device
    run_ids: frozenset[str] = frozenset()
    nodes: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_simulated(self) -> bool:
        return any("simulated" in cell.flags for cell in self.cells.values())


def load(paths: Sequence[Path], runs: Collection[str] | None = None) -> Side:
    """The side that some result files make, or only these runs in them.

    The arms of A/B sessions are left out: they are not alike.

    Raises:
        UnreadableResult: a file cannot be read, or no row of any is to be judged.
    """
    import pyarrow.compute as pc

    columns = [*_CELL, *_ALIKE, _STATISTIC, *_PROCESS, "status", "reason", "validity", "arm"]
    table, told = dataset.read_with_changes(paths, columns, _TOLD, _TOLD_KEYS, runs=runs)
    table, told = (one.filter(pc.is_null(one["arm"])) for one in (table, told))
    if not table.num_rows:
        raise UnreadableResult(f"no measurement in {_named(paths)}", "Name the result of `vnbench run`")
    flags = _flags(table)
    frame = table.drop_columns(["validity", "arm"]).to_pandas(integer_object_nulls=True)
    cells = {}
    for (workload, kind, index), part in frame.groupby(_CELL, observed=True, sort=True):
        cells[workload, label(kind, index)] = _cell(part, flags.get((workload, kind, index), frozenset()))
    return Side(cells, _machines(told), *(frozenset(frame[name].unique()) for name in ("run_id", "node")))


def label(kind: str, index: int) -> str:
    """``cpu``, ``cuda:0``"""
    return kind if kind == "cpu" else f"{kind}:{index}"


def _named(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{len(paths)} files"


def _cell(rows: pd.DataFrame, flags: frozenset[str]) -> Cell:
    good = rows[rows["status"] == "ok"]
    bad = rows.loc[rows["status"] != "ok", "reason"].dropna()
    badness, process = by_process(good, _badness(good))
    return Cell(
        badness=badness,
        node=process["node"].astype("category").cat.remove_unused_categories().cat.codes.to_numpy(dtype="int64"),
        alike={name: _distinct(good[name].unique()) for name in _ALIKE},
        statuses=frozenset(rows["status"].unique()),
        reason=bad.iloc[0] if len(bad) else None,
        flags=flags,
    )


def by_process(rows: pd.DataFrame, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """The geometric mean of each process's values, and its first row: several rows of a process are one observation."""
    import numpy as np

    is_first = ~rows.duplicated(_PROCESS).to_numpy()
    if is_first.all():
        return values, rows
    number = rows.groupby(_PROCESS, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.exp(np.bincount(number, np.log(values)) / np.bincount(number))
    return means[number[is_first]], rows[is_first]


def _badness(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Of each row: what grows as it gets worse. A rate counts by its reciprocal, the time of one unit of work."""
    import numpy as np

    values = rows[_STATISTIC].to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(divide="ignore", over="ignore"):  # the reciprocal of a subnormal number is infinite
        return np.asarray(np.where((rows["better"] == "lower").to_numpy(), values, 1 / values))


def _flags(table: pa.Table) -> dict[tuple[str, str, int], frozenset[str]]:
    """The flags of each workload and device; rows without any are not looked at."""
    import pyarrow as pa
    import pyarrow.compute as pc

    validity = table["validity"].combine_chunks()
    rows = table.select(_CELL).take(pc.list_parent_indices(validity))
    flat = rows.append_column("flag", pa.chunked_array([pc.list_flatten(validity)], pa.string()))
    found: dict[tuple[str, str, int], set[str]] = {}
    for one in flat.group_by([*_CELL, "flag"]).aggregate([]).to_pylist():
        found.setdefault((one["workload"], one["device"], one["device_index"]), set()).add(one["flag"])
    return {key: frozenset(flags) for key, flags in found.items()}


def _machines(told: pa.Table) -> dict[str, Machine]:
    """The environment of each device. Rows of a process that died before it could tell do not count."""
    import pandas as pd
    import pyarrow.compute as pc

    told = told.filter(pc.is_valid(told["env_id"]))
    frame = told.to_pandas(integer_object_nulls=True)
    frame["debug"] = [None if one is None else ", ".join(one) for one in told["debug"].to_pylist()]
    machines = {}
    for (kind, index), rows in frame.groupby(_DEVICE, observed=True, sort=True):
        calibration = pd.concat([rows[name] for name in _CALIBRATION]).dropna()
        machines[label(kind, index)] = Machine(
            {key: _distinct(rows[key].unique()) for key in _KEYS},
            frozenset(rows["device_uuid"].dropna().unique()),
            float(calibration.median()) if len(calibration) else None,
        )
    return machines


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each value once, in the order of its words; unknown is None."""
    known = {None if value is None or (isinstance(value, float) and math.isnan(value)) else value for value in values}
    return tuple(sorted(known, key=str))

"""``Observations``: what is known of each workload on each side, from millions of rows, without a loop over them.

A group is one workload on one kind of device on one side. Its rows are first reduced to one observation per replicate
(the devices of a node are measured together), those to one per node. Everything is an array with an element per group;
group ``side * cells + cell``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench import estimates
from bench.estimates import Estimates

if TYPE_CHECKING:
    from bench.estimates import Array

COLUMNS = (
    "run_id", "node", "label", "workload", "spec_id", "policy_id", "device", "replicate", "arm", "status", "reason",
    "value", "unit", "better", "fraction_of_roof", "flops", "bytes_moved", "items", "item_unit", "power_w_mean",
    "validity",
)  # fmt: skip


@dataclass(frozen=True)
class Coded:
    """A column of texts as numbers; the null is a text of its own, None."""

    codes: Array
    texts: tuple[str | None, ...]

    def __getitem__(self, row: int) -> str | None:
        return self.texts[int(self.codes[row])]

    def present(self) -> list[str | None]:
        """The texts that some row has."""
        return [self.texts[code] for code in np.flatnonzero(np.bincount(self.codes, minlength=len(self.texts)))]


@dataclass(frozen=True)
class Replicates:
    """The observations themselves, sorted by side, cell, node, run and replicate."""

    group: Array
    node: Array
    unit: Array  # one number per node, run and replicate
    log: Array


@dataclass(frozen=True)
class Observations:
    """Arrays over groups; NaN or 0 where nothing is known. ``cells`` are (workload, kind of device)."""

    table: pa.Table
    side: Array  # of each row
    group: Array  # of each row
    sides: int
    cells: tuple[tuple[str, str], ...]
    first: Array  # a row of the group, one that is ok if there is one; -1 if there is no row
    told: Array  # the first row of the group that gives a reason; -1 if none does
    statuses: dict[str, Array]  # rows of each outcome
    flags: dict[str, Array]  # rows with each flag
    unusable: Array  # rows that say they are ok and have no positive finite value; they count as failed
    replicates: Replicates
    nodes: Array  # with a value
    replicate_count: Array
    by_node: Estimates
    by_replicate: Estimates
    fraction_of_roof: Array
    power_w: Array

    @property
    def is_roof(self) -> Array:
        """Of each cell: whether it is a roof, which vnbench measures beside the work; those are the last."""
        return np.array([workload.startswith("roof/") for workload, _ in self.cells], dtype=bool)

    def at(self, column: str, row: int) -> Any:
        return self.table[column][row].as_py()


def observe(table: pa.Table, side: Array, sides: int) -> Observations:
    """Group the rows of all sides; ``side`` is the number of each row's."""
    cells, cell = _cells(table)
    group, groups = side * len(cells) + cell, sides * len(cells)
    values = table["value"].to_numpy()
    status = coded(table, "status")
    is_ok = status.codes == _code(status, "ok")
    with np.errstate(invalid="ignore"):
        has_value = is_ok & np.isfinite(values) & (values > 0)
    rows, replicates = _replicates(table, group, has_value, values)
    at_node = starts(replicates.group, replicates.node)
    nodes = estimates.of_groups(replicates.log, at_node)
    node_group = replicates.group[at_node]
    at_group = starts(node_group)
    known = node_group[at_group]
    unusable = np.bincount(group[is_ok & ~has_value], minlength=groups)
    return Observations(
        table=table,
        side=side,
        group=group,
        sides=sides,
        cells=cells,
        first=_first(group, groups, np.arange(len(group)), np.flatnonzero(has_value)),
        told=_first(group, groups, np.flatnonzero(pc.is_valid(table["reason"]).to_numpy())),
        statuses=_judged(_counts(group, groups, status), unusable),
        flags=_flag_counts(table, group, groups),
        unusable=unusable,
        replicates=replicates,
        nodes=np.bincount(node_group, minlength=groups),
        replicate_count=np.bincount(replicates.group, minlength=groups),
        by_node=_spread_out(estimates.of_groups(nodes.mean, at_group), known, groups),
        by_replicate=_spread_out(estimates.averages(nodes, at_group), known, groups),
        fraction_of_roof=_means(table["fraction_of_roof"].to_numpy()[rows], group[rows], groups),
        power_w=_means(table["power_w_mean"].to_numpy()[rows], group[rows], groups),
    )


def _cells(table: pa.Table) -> tuple[tuple[tuple[str, str], ...], Array]:
    """All workloads and kinds of device that occur, roofs last; and which of them each row is of."""
    workload, device = coded(table, "workload"), coded(table, "device")
    pairs = workload.codes.astype(np.int64) * len(device.texts) + device.codes
    names = {
        int(pair): (workload.texts[pair // len(device.texts)] or "", device.texts[pair % len(device.texts)] or "")
        for pair in np.flatnonzero(np.bincount(pairs))
    }
    order = sorted(names, key=lambda pair: (names[pair][0].startswith("roof/"), *names[pair]))
    cell_of = np.zeros(int(pairs.max(initial=0)) + 1, dtype=np.int64)
    cell_of[order] = np.arange(len(order))
    return tuple(names[pair] for pair in order), cell_of[pairs]


def coded(table: pa.Table, column: str) -> Coded:
    """A dictionary-encoded column as numbers."""
    chunks = table[column].combine_chunks()
    array = chunks.chunk(0) if isinstance(chunks, pa.ChunkedArray) else chunks
    texts = tuple(array.dictionary.to_pylist())
    return Coded(pc.fill_null(array.indices, len(texts)).to_numpy(), (*texts, None))


def distinct(side: Array, column: Coded, sides: int) -> list[tuple[str, ...]]:
    """The texts that each side has in a column; nulls are left out."""
    found: list[list[str]] = [[] for _ in range(sides)]
    for pair in np.unique(side.astype(np.int64) * len(column.texts) + column.codes).tolist():
        text = column.texts[pair % len(column.texts)]
        if text is not None:
            found[pair // len(column.texts)].append(text)
    return [tuple(sorted(texts)) for texts in found]


def _code(column: Coded, text: str) -> int:
    return column.texts.index(text) if text in column.texts else -1


def _replicates(table: pa.Table, group: Array, has_value: Array, values: Array) -> tuple[Array, Replicates]:
    """The rows with a value, sorted; and one observation per group, node, run and replicate: the devices' mean.

    Sorted by names, not by where files are read first: so the same rows give the same last digits.
    """
    rows = np.flatnonzero(has_value)
    node, run = (_by_name(coded(table, name))[rows] for name in ("node", "run_id"))
    replicate = pc.fill_null(table["replicate"], 0).to_numpy()[rows].astype(np.int64)
    # Runs in the order of their nodes, so that a node's replicates are neighbours.
    unit = (node * (int(run.max(initial=0)) + 1) + run) * (int(replicate.max(initial=0)) + 1) + replicate
    units, unit = _compressed(unit)
    order = np.argsort(group[rows] * max(1, len(units)) + unit, kind="stable")
    rows, node, unit = rows[order], node[order], unit[order]
    group, logs = group[rows], np.log(values[rows])
    first = starts(group, unit)
    if len(first) < len(logs):
        logs = estimates.of_groups(logs, first).mean
    return rows, Replicates(group[first], node[first], unit[first], logs)


def _by_name(column: Coded) -> Array:
    """The texts' places in the alphabet, None last."""
    rank = np.empty(len(column.texts), dtype=np.int64)
    rank[sorted(range(len(rank)), key=lambda code: (column.texts[code] is None, column.texts[code] or ""))] = np.arange(
        len(rank)
    )
    ranks: Array = rank[column.codes]
    return ranks


def _compressed(codes: Array) -> tuple[Array, Array]:
    """The distinct numbers, ascending, and each number's place among them."""
    changes = np.flatnonzero(np.diff(codes, prepend=codes[:1] - 1)) if len(codes) else np.zeros(0, dtype=np.int64)
    distinct_codes = np.unique(codes[changes])  # rows of one replicate are neighbours in most files
    places = np.searchsorted(distinct_codes, codes[changes])
    return distinct_codes, np.repeat(places, np.diff(np.append(changes, len(codes))))


def starts(*keys: Array) -> Array:
    """Where a stretch of equal keys begins."""
    if not len(keys[0]):
        return np.zeros(0, dtype=np.int64)
    changed = np.zeros(len(keys[0]), dtype=bool)
    changed[0] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def _first(group: Array, groups: int, *choices: Array) -> Array:
    """The first row of each group, by preference one of the last choice."""
    first = np.full(groups, -1, dtype=np.int64)
    for rows in choices:
        first[group[rows][::-1]] = rows[::-1]
    return first


def _counts(group: Array, groups: int, column: Coded) -> dict[str, Array]:
    found = {}
    for code, text in enumerate(column.texts):
        counts = np.bincount(group[column.codes == code], minlength=groups)
        if counts.any():
            found[text or "unknown"] = counts
    return found


def _judged(statuses: dict[str, Array], unusable: Array) -> dict[str, Array]:
    """The outcomes, where a measurement without a value that a rate or a time can have has failed."""
    if not unusable.any():
        return statuses
    return statuses | {"ok": statuses["ok"] - unusable, "failed": statuses.get("failed", 0 * unusable) + unusable}


def _flag_counts(table: pa.Table, group: Array, groups: int) -> dict[str, Array]:
    lists = table["validity"].combine_chunks()
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    flags = pc.dictionary_encode(pc.list_flatten(lists))
    rows = pc.list_parent_indices(lists).to_numpy()
    codes = flags.indices.to_numpy()
    return {
        flag: np.bincount(group[rows[codes == code]], minlength=groups)
        for code, flag in enumerate(flags.dictionary.to_pylist())
    }


def _means(values: Array, group: Array, groups: int) -> Array:
    """The mean of each group's positive finite values."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(values) & (values > 0)
        group, values = group[known], values[known]
        return np.bincount(group, weights=values, minlength=groups) / np.bincount(group, minlength=groups)


def _spread_out(found: Estimates, known: Array, groups: int) -> Estimates:
    """From the groups that have a value to all of them."""
    arrays = []
    for each in (found.mean, found.variance, found.freedom, found.n):
        whole = np.full(groups, np.nan) if each.dtype.kind == "f" else np.zeros(groups, dtype=np.int64)
        whole[known] = each
        arrays.append(whole)
    return Estimates(arrays[0], arrays[1], arrays[2], arrays[3])

"""From the rows of several sides to their ``Comparison``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, overload

import numpy as np
import pyarrow as pa

from bench import estimates, fitness, stats
from bench.comparison import contrast as contrasts
from bench.comparison import suite_ratios as suite_contrast
from bench.comparison import surroundings
from bench.comparison.contrast import VERDICTS, Contrast
from bench.comparison.model import Cell, Comparison, Side
from bench.comparison.observations import Observations, coded, distinct, observe
from bench.comparison.selection import Gathered
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.estimates import Array


_FEW = 4  # sides, that a sentence names


@dataclass(frozen=True)
class Cells(Sequence[Cell]):
    """The cells of a comparison, made one by one when they are asked for."""

    observed: Observations
    contrast: Contrast
    names: tuple[str, ...]
    reference: int
    confidence: float

    def __len__(self) -> int:
        return len(self.contrast.verdicts)

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Cell]: ...
    def __getitem__(self, index: int | slice) -> Cell | Sequence[Cell]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        cell, side = divmod(range(len(self))[index], len(self.names))
        return _cell(self, side, cell)

    def __iter__(self) -> Iterator[Cell]:
        return (self[i] for i in range(len(self)))


def compare_selected(
    gathered: Gathered, reference: str | None = None, *, tolerance: float = 0.0, is_open: bool = False
) -> Comparison:
    """Compare what was selected with the side of that name, or that was given so; the first if none is named.

    Raises:
        UsageError: no side is called so.
    """
    place = 0
    if reference is not None:
        # What the user typed goes before the names that were found for it.
        places = [i for which in (1, 0) for i, side in enumerate(gathered.sides) if side[which] == reference]
        if not places:
            names = ", ".join(name for name, _ in gathered.sides[:10])
            raise UsageError(f"no side is called {reference!r}", f"The sides are {names}")
        place = places[0]
    return compare(gathered, reference=place, tolerance=tolerance, is_open=is_open)


def compare(
    gathered: Gathered, *, reference: int = 0, tolerance: float = 0.0, confidence: float = 0.95, is_open: bool = False
) -> Comparison:
    """Compare all sides with the one at ``reference``.

    Raises:
        UsageError: all measurements are of A/B sessions, whose arms are no sides, or of soaks.
    """
    table, side, sides = gathered.table, gathered.side, gathered.sides
    notes: tuple[str, ...] = ()
    arms = coded(table, "arm")
    is_side = arms.codes == len(arms.texts) - 1
    if len(is_side) and not is_side.any():
        raise UsageError(
            "there are only measurements of A/B sessions or soaks here", "vnbench show says what those found"
        )
    if not is_side.all():
        notes += (
            f"{int((~is_side).sum())} measurements of A/B sessions or soaks are left out: they are no replicates",
        )
        table, side = table.filter(pa.array(is_side)), side[is_side]
    observed = observe(table, side, len(sides))
    contrast = contrasts.contrast(observed, reference, tolerance, confidence, is_open)
    names = tuple(name for name, _ in sides)
    differences, more = surroundings.differences(gathered.machines, gathered.machine_side, len(sides))
    return Comparison(
        sides=_sides(gathered),
        reference=names[reference],
        tolerance=tolerance,
        confidence=confidence,
        cells=Cells(observed, contrast, names, reference, confidence),
        suite_ratios=suite_contrast.suite_ratios(observed, contrast, names, reference, confidence),
        differences=differences,
        refusals=contrasts.refusals(observed, contrast, names, reference),
        is_open=is_open,
        notes=(*notes, *_notes(observed, contrast), *more),
        outcomes=frozenset(VERDICTS[i] for i in np.unique(contrast.verdicts).tolist()),
        is_simulated=bool(observed.flags.get("simulated", np.zeros(1)).any()),
        warnings=(*_shared(gathered), *_unfit(observed)),
    )


def _notes(observed: Observations, contrast: Contrast) -> Iterator[str]:
    """What is to be said of the figures as a whole."""
    if observed.is_roof.any():
        yield "roofs not counted: neither among all workloads nor in Holm's number of them; they have one of their own"
    if (~contrast.levels & np.isfinite(contrast.p_alone)).any():
        yield (
            "with fewer than 3 nodes on a side, an interval is of these runs on these nodes: what changes from hour to "
            "hour is not in it"
        )


def _shared(gathered: Gathered) -> Iterator[str]:
    """That sides hold the same measurements. A run of several nodes is no such case where they are sides."""
    sides = len(gathered.sides)
    node, run = (coded(gathered.machines, name) for name in ("node", "run_id"))
    of_node = node.codes.astype(np.int64) * len(run.texts) + run.codes
    pairs = np.unique(of_node * sides + gathered.machine_side)
    runs, counts = np.unique(pairs // sides, return_counts=True)
    shared = runs[counts > 1]
    if len(shared):
        found = np.unique(pairs[np.isin(pairs // sides, shared)] % sides).tolist()
        names = " and ".join(gathered.sides[i][0] for i in found) if len(found) <= _FEW else f"{len(found)} sides"
        runs_ = f"{len(shared)} run{'' if len(shared) == 1 else 's'}"
        yield f"SHARED: {names} hold the same {runs_}: what is compared with itself differs in nothing"


def _unfit(observed: Observations) -> Iterator[str]:
    """How many figures are of machines that were not fit to measure."""
    count = int((_is_unfit(observed) & (observed.nodes > 0)).sum())
    if count:
        of = int((observed.nodes > 0).sum())
        yield f"UNFIT: {count} of {of} figures are from a machine that was not fit to measure."


def _is_unfit(observed: Observations) -> Array:
    """Of each group: whether a row of it is from an unfit machine."""
    found = np.zeros(len(observed.nodes), dtype=bool)
    for flag, counts in observed.flags.items():
        if fitness.is_unfit(flag):
            found |= counts > 0
    return found


def _sides(gathered: Gathered) -> tuple[Side, ...]:
    columns = ("node", "device_name", "label", "suite", "run_id")
    count = len(gathered.sides)
    texts = {name: distinct(gathered.machine_side, coded(gathered.machines, name), count) for name in columns}
    rows = np.bincount(gathered.side, minlength=count)
    return tuple(
        Side(
            name=name,
            text=text,
            nodes=texts["node"][i],
            devices=texts["device_name"][i] or ("unknown model",),
            labels=texts["label"][i],
            suites=texts["suite"][i],
            runs=len(texts["run_id"][i]),
            rows=int(rows[i]),
        )
        for i, (name, text) in enumerate(gathered.sides)
    )


# ---------------------------------------------------------------- one cell


def _cell(all_: Cells, side: int, cell: int) -> Cell:
    observed, contrast = all_.observed, all_.contrast
    group = side * len(observed.cells) + cell
    row = int(observed.first[group])
    has_value = bool(observed.nodes[group])
    test = stats.ratio_test_at(contrast.tests, group, all_.confidence)
    own = stats.ratio_test_at(contrast.interval, group, all_.confidence)
    mean = float(observed.by_node.mean[group])
    level: Literal["node", "replicate"] = "node" if contrast.levels[group] else "replicate"
    workload, device = observed.cells[cell]

    def known(column: str) -> object:
        return observed.at(column, row) if row >= 0 else None

    return Cell(
        workload=workload,
        device=device,
        side=all_.names[side],
        verdict=VERDICTS[int(contrast.verdicts[group])],
        note=_note(all_, side, cell),
        value=math.exp(mean) if has_value and abs(mean) < estimates.LARGEST_LOG else None,
        interval=None if own is None else own.interval,
        unit=cast("str | None", known("unit")) if has_value else None,
        better=cast("str | None", known("better")),
        nodes=int(observed.nodes[group]),
        replicates=int(observed.replicate_count[group]),
        level=None if test is None else level,
        ratio=test,
        ratio_of_values=_or_none(contrast.point[group]),
        p=_or_none(contrast.p[group]),
        is_open=bool(contrast.is_open[group]),
        fraction_of_roof=_or_none(observed.fraction_of_roof[group]),
        flops=cast("int | None", known("flops")),
        bytes_moved=cast("int | None", known("bytes_moved")),
        items=cast("int | None", known("items")),
        item_unit=cast("str | None", known("item_unit")),
        power_w=_or_none(observed.power_w[group]),
        statuses=_counted(observed.statuses, group),
        validity=_counted(observed.flags, group),
    )


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _counted(counts: Mapping[str, Array], group: int) -> tuple[tuple[str, int], ...]:
    found = [(name, int(each[group])) for name, each in counts.items() if each[group]]
    return tuple(sorted(found, key=lambda one: (-one[1], one[0])))


def _note(all_: Cells, side: int, cell: int) -> str:
    """Why the verdict is not a plain one."""
    observed, contrast = all_.observed, all_.contrast
    group = side * len(observed.cells) + cell
    theirs = all_.reference * len(observed.cells) + cell
    verdict = VERDICTS[int(contrast.verdicts[group])]
    if verdict in ("failed", "unsupported"):
        counts = ", ".join(f"{name} {count}" for name, count in _counted(observed.statuses, group))
        if verdict == "unsupported" and observed.nodes[group]:
            return f"the reference cannot do it{_reason(observed, theirs)}"
        return f"{counts}{_reason(observed, group)}"
    if verdict == "missing":
        if observed.nodes[group]:
            return "the reference has no sound measurement of it"
        return "no measurement" if observed.first[group] < 0 else f"no value{_reason(observed, group)}"
    if verdict == "incomparable":
        keys = contrast.unlike.get(group, ("unit",))
        return f"{' and '.join(keys)} differ from the reference's"
    marks = ["compared all the same (--open): not alike"] if contrast.is_open[group] else []
    if _unfit_at(observed, group):
        marks.append("measured on an unfit machine")
    if theirs != group and _unfit_at(observed, theirs):
        marks.append("the reference was measured on an unfit machine")
    if verdict == "undecided":
        if observed.at("better", int(observed.first[group])) not in ("higher", "lower"):
            marks.append("which way is good is not known")
        elif np.isnan(contrast.p_alone[group]):
            marks.append("too few replicates for an interval: 3 fresh processes, or 3 nodes, on each side give one")
        elif contrast.p_alone[group] < 1 - all_.confidence:
            marks.append("clear by itself, not among so many workloads (Holm)")
    return "; ".join(marks)


def _unfit_at(observed: Observations, group: int) -> bool:
    return any(counts[group] and fitness.is_unfit(flag) for flag, counts in observed.flags.items())


def _reason(observed: Observations, group: int) -> str:
    """The words of the first row of a group that has some."""
    row = int(observed.told[group])
    if row >= 0:
        return f": {observed.at('reason', row)}"
    return ": a value is no positive number" if observed.unusable[group] else ""

"""A side's ``SuiteRatio``: all its workloads that have a ratio, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench import estimates, stats
from bench.comparison.contrast import VERDICTS, Contrast, signs
from bench.comparison.model import SuiteRatio
from bench.comparison.observations import Observations, starts
from bench.estimates import MIN_OBSERVATIONS, Estimates

if TYPE_CHECKING:
    from bench.estimates import Array

_COMPARED = [VERDICTS.index(name) for name in ("better", "worse", "undecided")]


@dataclass(frozen=True)
class _Level:
    """A side's replicates, each reduced over the workloads."""

    nodes: int
    left_out: int  # replicates that lack a workload
    by_node: Estimates
    by_replicate: Estimates


def suite_ratios(
    observed: Observations, contrast: Contrast, names: Sequence[str], reference: int, confidence: float
) -> tuple[SuiteRatio, ...]:
    """One per side but the reference.

    As `stats.suite_ratio` has it: each replicate is reduced to its geometric mean over the workloads that both sides
    have, and those are compared on two levels. A replicate that lacks one of them takes no part; where none has them
    all, there is the geometric mean of the workloads' ratios, without an interval. Roofs are not counted.
    """
    cells = len(observed.cells)
    verdicts = contrast.verdicts.reshape(len(names), cells)
    has_ratio = np.isfinite(contrast.point.reshape(len(names), cells))
    is_compared = np.isin(verdicts, _COMPARED) & has_ratio & ~observed.is_roof
    sign = signs(observed).reshape(len(names), cells)
    of_reference: dict[bytes, _Level | None] = {}
    found = []
    for side, name in enumerate(names):
        if side == reference:
            continue
        common = is_compared[side]
        key = np.where(common, sign[side], 0.0).tobytes()
        if key not in of_reference:
            of_reference[key] = _reduced(observed, reference, common, sign[side])
        ours, theirs = _reduced(observed, side, common, sign[side]), of_reference[key]
        found.append(_suite_ratio(observed, contrast, name, side, common, (ours, theirs), confidence))
    return tuple(found)


def _reduced(observed: Observations, side: int, common: Array, sign: Array) -> _Level | None:
    """The replicates of a side over its common workloads; None where none has them all."""
    cells, all_ = len(observed.cells), observed.replicates
    first, last = np.searchsorted(all_.group, [side * cells, (side + 1) * cells])
    cell = all_.group[first:last] - side * cells
    rows = np.flatnonzero(common[cell])
    order = rows[np.argsort(all_.unit[first:last][rows], kind="stable")]
    unit, node = all_.unit[first:last][order], all_.node[first:last][order]
    logs = all_.log[first:last][order] * sign[cell[order]]
    at_unit = starts(unit)
    is_whole = np.diff(np.append(at_unit, len(unit))) == common.sum()
    if not is_whole.any():
        return None
    means = estimates.of_groups(logs, at_unit).mean[is_whole]
    at_node = starts(node[at_unit][is_whole])
    nodes = estimates.of_groups(means, at_node)
    whole = np.zeros(1, dtype=np.int64)
    return _Level(
        len(at_node), int((~is_whole).sum()), estimates.of_groups(nodes.mean, whole), estimates.averages(nodes, whole)
    )


def _suite_ratio(
    observed: Observations,
    contrast: Contrast,
    name: str,
    side: int,
    common: Array,
    levels: tuple[_Level | None, _Level | None],
    confidence: float,
) -> SuiteRatio:
    here = slice(side * len(common), (side + 1) * len(common))
    points = np.where(common, contrast.point[here], np.inf)
    worst = int(np.argmin(points)) if common.any() else None
    counts = [int((common & (contrast.verdicts[here] == number)).sum()) for number in _COMPARED]
    test, ratio, level, note = None, None, None, "no workload to compare"
    ours, theirs = levels
    if common.any() and (ours is None or theirs is None):
        ratio = float(np.exp(np.log(points[common]).mean()))
        note = f"no interval: no replicate has all {int(common.sum())} workloads"
    elif ours is not None and theirs is not None:
        level = "node" if min(ours.nodes, theirs.nodes) >= MIN_OBSERVATIONS else "replicate"
        difference = ours.by_node - theirs.by_node if level == "node" else ours.by_replicate - theirs.by_replicate
        test = stats.ratio_test_at(estimates.t_tests(difference, 1.0, confidence), 0, confidence)
        ratio = float(np.exp(difference.mean[0]))
        left_out = ours.left_out + theirs.left_out
        note = f"{left_out} replicates lack a workload and take no part" if left_out else ""
        if test is None:
            note = "too few replicates for an interval: 3 on each side"
    return SuiteRatio(
        side=name,
        ratio=test,
        ratio_of_values=ratio,
        level="node" if level == "node" and test else "replicate" if test else None,
        workloads=int(common.sum()),
        worst=None if worst is None else observed.cells[worst][0],
        worst_ratio=None if worst is None else float(points[worst]),
        better=counts[0],
        worse=counts[1],
        undecided=counts[2],
        other=int((~observed.is_roof).sum()) - sum(counts),
        note=note,
    )

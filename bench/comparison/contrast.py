"""``Contrast``: every side beside the reference, all groups at once: ratios, intervals, verdicts, refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench import estimates
from bench.comparison.model import Refusal, Verdict
from bench.comparison.observations import Observations, coded
from bench.estimates import MIN_OBSERVATIONS, Tests
from bench.types import FAILURES

if TYPE_CHECKING:
    from bench.estimates import Array

VERDICTS: tuple[Verdict, ...] = (
    "reference", "better", "worse", "undecided", "incomparable", "failed", "unsupported", "missing",
)  # fmt: skip
# Of several that hold, the first is the verdict; a group of which none holds is undecided.
_ORDER: tuple[Verdict, ...] = (
    "failed", "missing", "unsupported", "missing", "reference", "unsupported", "incomparable", "missing",
    "better", "worse",
)  # fmt: skip
_NUMBER = {verdict: i for i, verdict in enumerate(VERDICTS)}


@dataclass(frozen=True)
class Contrast:
    """Every side against the reference: arrays with an element per group."""

    tests: Tests  # of the ratio, above 1 is better; against 1
    levels: Array  # whether the interval speaks of nodes
    interval: Tests  # of the value itself
    point: Array  # the ratio of the values
    p: Array  # Holm-adjusted: over the workloads of the side, and apart over its roofs
    p_alone: Array  # of this workload by itself
    verdicts: Array
    is_open: Array
    unlike: Mapping[int, tuple[str, ...]]  # groups whose specs or policies differ, with the keys


def contrast(observed: Observations, reference: int, tolerance: float, confidence: float, is_open: bool) -> Contrast:
    cells = len(observed.cells)
    ours = np.arange(observed.sides * cells)
    theirs = reference * cells + ours % cells if cells else ours
    levels = np.minimum(observed.nodes[ours], observed.nodes[theirs]) >= MIN_OBSERVATIONS
    whole = estimates.where(levels, observed.by_node, observed.by_replicate)
    at_reference = estimates.where(levels, observed.by_node[theirs], observed.by_replicate[theirs])
    unlike, other_unit = _unlike(observed, reference)
    failed = sum((observed.statuses[name] for name in FAILURES if name in observed.statuses), np.zeros(len(ours), int))
    is_unlike = np.zeros(len(ours), dtype=bool)
    is_unlike[list(unlike)] = True
    refused = other_unit if is_open else is_unlike | other_unit
    has_ratio = ~refused & (failed == 0) & (failed[theirs] == 0) & (ours != theirs)
    # The sign is NaN where nobody knows which way is good.
    difference = (whole - at_reference).scaled(np.where(has_ratio, signs(observed), np.nan))
    tests = estimates.t_tests(difference, 1.0, confidence)
    above = estimates.t_tests(difference, 1 + tolerance, confidence).p_above
    below = estimates.t_tests(difference, 1 / (1 + tolerance), confidence).p_below
    p_alone = np.minimum(1.0, 2 * np.minimum(above, below))
    p = _holm(observed, p_alone)
    decided = p < 1 - confidence
    rows = sum(observed.statuses.values(), np.zeros(len(ours), int))
    unsupported = observed.statuses.get("unsupported", rows * 0)
    verdicts = np.select(
        [
            failed > 0,
            rows == 0,
            (observed.nodes == 0) & (unsupported > 0),
            observed.nodes == 0,
            ours == theirs,
            (unsupported[theirs] > 0) & (unsupported[theirs] == rows[theirs]),
            refused,
            (observed.nodes[theirs] == 0) | (failed[theirs] > 0),
            decided & (above < below),
            decided,
        ],
        [_NUMBER[name] for name in _ORDER],
        _NUMBER["undecided"],
    )
    own_levels = observed.nodes >= MIN_OBSERVATIONS
    interval = estimates.t_tests(estimates.where(own_levels, observed.by_node, observed.by_replicate), 1.0, confidence)
    return Contrast(tests, levels, interval, np.exp(difference.mean), p, p_alone, verdicts, is_unlike & is_open, unlike)


def _holm(observed: Observations, p_alone: Array) -> Array:
    """Roofs are vnbench's own and go with the work beside them: they take nothing from the workloads' error rate."""
    table = p_alone.reshape(observed.sides, -1)
    parts = (table[:, ~observed.is_roof], table[:, observed.is_roof])
    return np.concatenate([estimates.holm_rows(part) for part in parts], axis=1).ravel()  # roofs are the last cells


def signs(observed: Observations) -> Array:
    """1 where a higher value is the better one, -1 where a lower one is, NaN where that is not known."""
    better = coded(observed.table, "better")
    sign = np.array([{"higher": 1.0, "lower": -1.0}.get(text or "", np.nan) for text in better.texts])
    codes = better.codes[observed.first] if len(better.codes) else np.full(len(observed.first), len(sign) - 1)
    signs_: Array = np.where(observed.first >= 0, sign[codes], np.nan)
    return signs_


def _unlike(observed: Observations, reference: int) -> tuple[dict[int, tuple[str, ...]], Array]:
    """Groups whose specs or policies are not the reference's one; and where not even the unit is."""
    cells, groups = len(observed.cells), len(observed.first)
    found: dict[int, tuple[str, ...]] = {}
    for key in ("spec_id", "policy_id"):
        for cell, kinds in _mixed(observed, key).items():
            theirs = kinds[reference]
            for side in range(observed.sides):
                if kinds[side] and theirs and (kinds[side] != theirs or len(theirs) > 1):
                    group = side * cells + cell
                    found[group] = (*found.get(group, ()), key)
    other = np.zeros(groups, dtype=bool)
    theirs_of = reference * cells + np.arange(groups) % max(cells, 1)
    has_both = (observed.first >= 0) & (observed.first[theirs_of] >= 0) if groups else other
    for key in ("unit", "better"):
        codes = coded(observed.table, key).codes
        if len(codes):
            other |= has_both & (codes[observed.first] != codes[observed.first[theirs_of]])
    return found, other & (observed.nodes > 0) & (observed.nodes[theirs_of] > 0) if groups else other


def _mixed(observed: Observations, key: str) -> dict[int, list[set[str]]]:
    """The cells that have several values of a key, and the values of each side."""
    column, cells = coded(observed.table, key), len(observed.cells)
    kinds = len(column.texts)
    by_cell = np.bincount((observed.group % max(cells, 1)) * kinds + column.codes, minlength=cells * kinds)
    several = (by_cell.reshape(cells, kinds) > 0).sum(axis=1) > 1
    rows = several[observed.group % max(cells, 1)] if cells else np.zeros(0, dtype=bool)
    found: dict[int, list[set[str]]] = {
        int(cell): [set() for _ in range(observed.sides)] for cell in np.flatnonzero(several)
    }
    for pair in np.unique(observed.group[rows] * kinds + column.codes[rows]).tolist():
        side, cell = divmod(pair // kinds, cells)
        found[cell][side].add(column.texts[pair % kinds] or "unknown")
    return found


def refusals(observed: Observations, contrast: Contrast, names: Sequence[str], reference: int) -> tuple[Refusal, ...]:
    found = []
    for key in ("spec_id", "policy_id"):
        mixed = _mixed(observed, key) if any(key in keys for keys in contrast.unlike.values()) else {}
        for group, keys in sorted(contrast.unlike.items()):
            side, cell = divmod(group, len(observed.cells))
            if key in keys and (side != reference or len(mixed[cell][reference]) > 1):
                values = (" and ".join(sorted(mixed[cell][one])) for one in (side, reference))
                found.append(Refusal(observed.cells[cell][0], names[side], key, *values))
    return tuple(found)

"""Where workloads and sides stand: under their roofs, and between performance, cost and power."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.comparison.model import Cell, Comparison
from bench.prices.model import Economics
from bench.stats import Interval, geometric_mean

_COMPUTE, _MEMORY = "roof/compute/", "roof/memory/"


class Figure(Protocol):
    """What a place in a roofline needs: a `Cell` has it, and so has a run's own workload."""

    @property
    def workload(self) -> str: ...
    @property
    def side(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def unit(self) -> str | None: ...
    @property
    def flops(self) -> int | None: ...
    @property
    def bytes_moved(self) -> int | None: ...
    @property
    def items(self) -> int | None: ...
    @property
    def item_unit(self) -> str | None: ...


@dataclass(frozen=True)
class Place:
    """A workload in a roofline picture."""

    workload: str
    side: str
    flop_per_byte: float
    flop_per_s: float


@dataclass(frozen=True)
class Roofs:
    """What one side's devices of a kind can do at most, as measured."""

    side: str
    compute: Mapping[str, float]  # number format -> FLOP/s
    memory_b_s: float | None  # the fastest way of reading or writing that was measured


@dataclass(frozen=True)
class Standing:
    """A side as a whole: its performance beside the reference's, and what that takes."""

    side: str
    performance: float
    interval: Interval | None
    cost_per_hour: float | None  # mean over the workloads whose cost is known on all sides shown, as power_w
    power_w: float | None


def place(cell: Figure) -> Place | None:
    """Arithmetic intensity and speed; None for what does no arithmetic, moves nothing, or is no rate.

    Source: S. Williams, A. Waterman and D. Patterson, "Roofline", CACM 52(4), 2009. A launch does ``flops``
    operations, moves ``bytes_moved`` and makes ``items``, of which the value counts one kind per second.
    """
    unit = (cell.unit or "").removesuffix("/s")
    per_launch = {"FLOP": cell.flops, "OP": cell.flops, "B": cell.bytes_moved, cell.item_unit: cell.items}.get(unit)
    if not (per_launch and cell.flops and cell.bytes_moved and cell.value) or cell.workload.startswith("roof/"):
        return None
    return Place(cell.workload, cell.side, cell.flops / cell.bytes_moved, cell.value / per_launch * cell.flops)


def roofs(cells: Iterable[Figure]) -> list[Roofs]:
    """The measured roofs of each side among cells of one kind of device."""
    compute: dict[str, dict[str, float]] = {}
    memory: dict[str, float] = {}
    for cell in cells:
        if not cell.value:
            continue
        if cell.workload.startswith(_COMPUTE):
            name = cell.workload.removeprefix(_COMPUTE).partition("/")[0].partition("@")[0]
            of_side = compute.setdefault(cell.side, {})
            of_side[name] = max(cell.value, of_side.get(name, 0.0))
        elif cell.workload.startswith(_MEMORY) and "@where=" not in cell.workload:  # the host's is not the device's
            memory[cell.side] = max(cell.value, memory.get(cell.side, 0.0))
    return [
        Roofs(side, dict(sorted(compute.get(side, {}).items())), memory.get(side))
        for side in dict.fromkeys([*compute, *memory])
    ]


def standings(comparison: Comparison, cells: Sequence[Cell], economics: Economics | None) -> list[Standing]:
    """The sides among the cells that have a ratio over their suite, and the reference, which is 1."""
    cost = {(one.side, one.workload, one.device): one.cost_per_hour for one in economics.worths} if economics else {}
    power = {(one.side, one.workload, one.device): one.power_w for one in cells if not one.workload.startswith("roof/")}
    ratios = {one.side: one for one in comparison.suite_ratios if one.ratio_of_values}
    shown = [
        side for side in dict.fromkeys(one.side for one in cells) if side == comparison.reference or side in ratios
    ]
    costs, powers = _common_means(shown, cost), _common_means(shown, power)
    found = []
    for side in shown:
        suite = ratios.get(side)
        interval = suite.ratio.interval if suite and suite.ratio else None
        performance = (suite.ratio_of_values if suite else None) or 1.0
        found.append(Standing(side, performance, interval, costs.get(side), powers.get(side)))
    return found


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of some (less is better, more is better) points no other surpasses: V. Pareto's optimum."""
    best = -math.inf
    found = [False] * len(points)
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        found[i] = points[i][1] > best
        best = max(best, points[i][1])
    return found


def _common_means(sides: Sequence[str], values: Mapping[tuple[str, str, str], float | None]) -> dict[str, float]:
    """By side the geometric mean over what is known of every side that knows anything; else nothing."""
    known = {
        side: {(workload, device) for (one, workload, device), value in values.items() if one == side and value}
        for side in sides
    }
    known = {side: keys for side, keys in known.items() if keys}
    common = set.intersection(*known.values()) if known else set()
    if not common:
        return {}
    return {side: geometric_mean([values[side, *key] or 1.0 for key in sorted(common)]) for side in known}

"""Comparisons for tests that need one: what `compare` would have found, without a measurement."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from bench.comparison.model import Cell, Comparison, EnvironmentDifference, Side, SuiteRatio
from bench.stats import Interval, RatioTest

WORKLOADS = (
    "matmul/bf16/4096",
    "matmul/bf16/16384",
    "matmul/fp32/4096@backend=numpy",
    "prefill/llama-3.2-1b/b1/ctx512",
    "decode/llama-3.2-1b/b1/ctx512",
    "decode/llama-3.2-1b/b8/ctx512",
    "dataload/tokens/warm",
    "roof/compute/bf16",
    "roof/memory/read",
)
# unit -> value, flops, bytes moved, items of one launch
_WORK: dict[str, tuple[float, int, int, int]] = {
    "FLOP/s": (7e14, 2 * 4096**3, 3 * 2 * 4096**2, 1),
    "token/s": (180.0, 2 * 1_235_800_000, 2_470_000_000, 1),
    "B/s": (3e12, 0, 1 << 30, 1),
}


def unit_of(workload: str) -> str:
    if workload.startswith("roof/memory"):
        return "B/s"
    return "token/s" if workload.startswith(("decode", "prefill", "dataload")) else "FLOP/s"


def make_side(name: str, **changes: Any) -> Side:
    fields: dict[str, Any] = {
        "name": name,
        "text": name,
        "nodes": (f"{name}-1", f"{name}-2", f"{name}-3"),
        "devices": ("NVIDIA H100 80GB HBM3",),
        "labels": (name,),
        "suites": ("quick",),
        "runs": 3,
        "rows": 135,
    }
    return Side(**fields | changes)


def make_ratio(ratio: float, half: float = 0.02) -> RatioTest:
    """A ratio whose interval reaches ``half`` of it to either side."""
    return RatioTest(ratio, Interval(ratio * (1 - half), ratio * (1 + half), 3), 0.001, 0.999)


def make_cell(side: str, workload: str = WORKLOADS[0], ratio: float | None = None, **changes: Any) -> Cell:
    """A cell of that side: the reference's unless it is given a ratio, then with as much more work."""
    unit = unit_of(workload)
    value, flops, bytes_moved, items = _WORK[unit]
    value *= ratio or 1.0
    test = None if ratio is None else make_ratio(ratio)
    verdict = "reference"
    if test is not None:
        verdict = "better" if test.interval.low > 1 else "worse" if test.interval.high < 1 else "undecided"
    fields: dict[str, Any] = {
        "workload": workload,
        "device": "cuda",
        "side": side,
        "verdict": verdict,
        "note": "",
        "value": value,
        "interval": Interval(value * 0.985, value * 1.015, 3),
        "unit": unit,
        "better": "higher",
        "nodes": 3,
        "replicates": 15,
        "level": None if ratio is None else "node",
        "ratio": test,
        "ratio_of_values": ratio,
        "p": None if ratio is None else 0.001,
        "is_open": False,
        "fraction_of_roof": 0.81,
        "flops": flops,
        "bytes_moved": bytes_moved,
        "items": items,
        "item_unit": "token" if unit == "token/s" else None,
        "power_w": 640.0,
        "statuses": (("ok", 15),),
        "validity": (),
    }
    return Cell(**fields | changes)


def make_comparison(sides: Sequence[Side], cells: Sequence[Cell], **changes: Any) -> Comparison:
    """The sides, the first of which is the reference, with these cells and the ratios that follow from them."""
    drivers = (('"580.95"',), *[('"570.1"',)] * (len(sides) - 1))
    fields: dict[str, Any] = {
        "sides": tuple(sides),
        "reference": sides[0].name,
        "tolerance": 0.0,
        "confidence": 0.95,
        "cells": list(cells),
        "suite_ratios": tuple(_suite_ratio(side.name, cells) for side in sides[1:]),
        "differences": (EnvironmentDifference("software", "driver", drivers),),
        "refusals": (),
        "is_open": False,
        "notes": (),
        "outcomes": frozenset(cell.verdict for cell in cells),
    }
    return Comparison(**fields | changes)


def make_whole(*names: str, workloads: Sequence[str] = WORKLOADS) -> Comparison:
    """Sides of those names; the further back, the more they differ, more or less by workload."""
    cells = []
    for index, workload in enumerate(workloads):
        for place, name in enumerate(names):
            ratio = None if place == 0 else math.exp(0.08 * place * math.sin(2.0 * index + place))
            cells.append(make_cell(name, workload, ratio, power_w=640.0 + 40 * place))
    return make_comparison([make_side(name) for name in names], cells)


def changed(comparison: Comparison, place: int, **changes: Any) -> Comparison:
    """The same with another cell at that place."""
    cells = list(comparison.cells)
    cells[place] = dataclasses.replace(cells[place], **changes)
    return dataclasses.replace(comparison, cells=cells, outcomes=frozenset(cell.verdict for cell in cells))


def _suite_ratio(side: str, cells: Sequence[Cell]) -> SuiteRatio:
    own = [cell for cell in cells if cell.side == side and cell.ratio_of_values is not None]
    ratios = {cell.workload: cell.ratio_of_values for cell in own if cell.ratio_of_values is not None}
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios)) if ratios else None
    worst = min(ratios, key=lambda name: ratios[name], default=None)
    count = {verdict: sum(cell.verdict == verdict for cell in own) for verdict in ("better", "worse", "undecided")}
    return SuiteRatio(
        side=side,
        ratio=None if mean is None else make_ratio(mean, 0.01),
        ratio_of_values=mean,
        level="node",
        workloads=len(own),
        worst=worst,
        worst_ratio=None if worst is None else ratios[worst],
        other=sum(cell.side == side for cell in cells) - len(own),
        note="",
        **count,
    )

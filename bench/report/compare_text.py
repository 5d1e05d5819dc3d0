"""A comparison for documents and scripts: Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator
from typing import Any

from bench import units
from bench.comparison.model import Cell, Comparison
from bench.prices.model import Economics
from bench.report import compare as words
from bench.report.console import harmless

COLUMNS = (
    "workload", "device", "side", "reference", "verdict", "value", "unit", "better", "value_low", "value_high", "ratio",
    "ratio_low", "ratio_high", "ratio_level", "ratio_n", "p_holm", "nodes", "replicates", "fraction_of_roof", "power_w",
    "energy_j_per_work", "is_open", "is_simulated", "validity", "note",
)  # fmt: skip


def markdown(comparison: Comparison) -> str:
    """The tables of the terminal as Markdown."""
    cells = list(comparison.cells) if len(comparison.sides) <= words.MOST_SIDES else []
    parts = ["\n".join(f"- {_text(line.strip())}" for line in words.heading(comparison))]
    if comparison.is_simulated:
        parts.append(f"**{words.SIMULATED}**")
    parts += [f"**{_text(line)}**" for line in comparison.warnings]
    if cells:
        parts.append(_table("workload|device|side|value|95 % CI|ratio|95 % CI|verdict", map(_cell_row, cells)))
    rows = (
        [one.side, words.ratio(one.ratio, one.ratio_of_values), words.ratio_interval(one.ratio), one.workloads,
         one.better, one.worse, one.undecided, one.other, f"{one.worst or '–'} {words.number(one.worst_ratio)}"]
        for one in comparison.suite_ratios
    )  # fmt: skip
    parts.append(
        _table("all workloads|ratio|95 % CI|of|better|worse|undecided|other|worst", ([*map(str, row)] for row in rows))
    )
    lines = [
        *(f"{one.side}: {one.note}" for one in comparison.suite_ratios if one.note),
        *words.legend(comparison),
        *words.remarks(comparison, cells),
        *words.differences(comparison),
    ]
    parts.append("\n".join(f"- {_text(line.strip())}" for line in lines))
    return "\n\n".join(parts) + "\n"


def _cell_row(cell: Cell) -> list[str]:
    return [
        cell.workload,
        cell.device,
        cell.side,
        units.show(cell.value, cell.unit or ""),
        words.value_interval(cell),
        words.ratio(cell.ratio, cell.ratio_of_values),
        words.ratio_interval(cell.ratio),
        words.verdict(cell),
    ]


def _table(heads: str, rows: Any) -> str:
    columns = heads.split("|")
    lines = [columns, ["---"] * len(columns), *([_text(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(words_of_others: str) -> str:
    """Text that stays text: names and labels are the user's."""
    for character in "\\`*_[]<>|#":
        words_of_others = words_of_others.replace(character, f"\\{character}")
    return " ".join(harmless(words_of_others).split())


def csv_lines(comparison: Comparison) -> Iterator[str]:
    """A heading, then a line for each workload and side, figures unrounded; unknown is empty."""
    yield _csv_line(COLUMNS)
    for cell in comparison.cells:
        yield _csv_line(_record(cell, comparison.reference))


def _csv_line(values: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow("" if value is None else value for value in values)
    return buffer.getvalue()


def _record(cell: Cell, reference: str) -> tuple[Any, ...]:
    test, own = cell.ratio, cell.interval
    return (
        cell.workload, cell.device, cell.side, reference, cell.verdict, cell.value, cell.unit, cell.better,
        own and own.low, own and own.high, cell.ratio_of_values if test is None else test.ratio,
        test and test.interval.low, test and test.interval.high, cell.level, test and test.interval.n, cell.p,
        cell.nodes, cell.replicates, cell.fraction_of_roof, cell.power_w, cell.energy_j_per_work, cell.is_open,
        cell.is_simulated, " ".join(flag for flag, _ in cell.validity), cell.note,
    )  # fmt: skip


def to_json(comparison: Comparison, economics: Economics | None = None) -> str:
    """Everything, with stable keys and figures unrounded; what is no number is null."""
    value: dict[str, Any] = {
        "reference": comparison.reference,
        "tolerance": comparison.tolerance,
        "confidence": comparison.confidence,
        "is_open": comparison.is_open,
        "is_simulated": comparison.is_simulated,
        "sides": [dataclasses.asdict(one) for one in comparison.sides],
        "cells": [
            {**dataclasses.asdict(cell), "energy_j_per_work": cell.energy_j_per_work, "is_simulated": cell.is_simulated}
            for cell in comparison.cells
        ],
        "suite_ratios": [dataclasses.asdict(one) for one in comparison.suite_ratios],
        "differences": [dataclasses.asdict(one) for one in comparison.differences],
        "refusals": [dataclasses.asdict(one) for one in comparison.refusals],
        "warnings": comparison.warnings,
        "notes": comparison.notes,
        "exit_code": comparison.exit_code,
    }
    if economics is not None:
        value["economics"] = {
            "currency": economics.prices.currency,
            "worths": [{**dataclasses.asdict(one), "cost_per_lot": one.cost_per_lot} for one in economics.worths],
            "leads": [dataclasses.asdict(one) for one in economics.leads],
            "notes": economics.notes,
        }
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value

"""A comparison as one HTML file that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import __version__, fitness, units
from bench.comparison.model import Cell, Comparison, Side
from bench.files import write_report
from bench.prices.model import Economics
from bench.report import compare as words
from bench.report import html
from bench.report.page_pictures import Seen, choose, lead_pictures, pictures
from bench.report.prices import UNSURE, Sheet, sheet

MOST_DIFFERENCES = 60
_MOST_NAMES = 6  # of nodes, in a cell of a table


@dataclass(frozen=True)
class Line:
    """One side's figures of a workload, as text."""

    place: int
    side: str
    value: str
    interval: str
    ratio: str
    ratio_interval: str
    verdict: str
    roof: str
    remarks: str


def write(path: Path, comparison: Comparison, economics: Economics | None = None) -> None:
    """Write the page, whole or not at all. The same comparison makes the same bytes.

    Raises:
        OutputNotWritable: the file cannot be written.
        UsageError: Jinja2 or matplotlib is not installed.
    """
    write_report(path, render(comparison, economics).encode())


def render(comparison: Comparison, economics: Economics | None = None) -> str:
    """The page."""
    return html.render("page.html.j2", {"lang": "en", **_content(comparison, economics)})


def _content(comparison: Comparison, economics: Economics | None) -> Mapping[str, Any]:
    seen = choose(comparison)
    by_name = {one.side: one for one in comparison.suite_ratios}
    return {
        "version": __version__,
        "unsure": UNSURE,
        "comparison": comparison,
        "confidence": f"{comparison.confidence:.0%}".replace("%", " %"),
        "warnings": _warnings(seen),
        "omissions": _omissions(seen),
        "sides": [(place, side, _side(side)) for place, side in enumerate(seen.sides)],
        "summaries": [
            (place, by_name[name], _times(by_name[name].ratio_of_values), words.ratio_interval(by_name[name].ratio))
            for place, name in enumerate(seen.names)
            if name in by_name
        ],
        "worst_ratio": lambda one: _times(one.worst_ratio),
        "groups": [(cells[0].workload, cells[0].device, _lines(cells, seen)) for cells in seen.workloads],
        "flags": _flags(seen),
        "pictures": pictures(seen, economics),
        "differences": comparison.differences[:MOST_DIFFERENCES],
        "omitted_differences": max(0, len(comparison.differences) - MOST_DIFFERENCES),
        "place_of": {name: place for place, name in enumerate(seen.names)},
        "values_of": lambda difference: [" | ".join(difference.values[index]) or "–" for index in seen.places],
        "sheet": None if economics is None else _sheet(seen, economics),
        "lead_pictures": [] if economics is None else lead_pictures(seen, economics),
    }


def _warnings(seen: Seen) -> list[str]:
    """What has to be read before any figure."""
    found = []
    if any(cell.is_simulated for cell in seen.cells):
        found.append("SIMULATED: figures come from a script and measure nothing.")
    if any(cell.is_open for cell in seen.cells):
        found.append("OPEN: unequal work or unequal rules are compared here; every such line is marked “open”.")
    found += seen.comparison.warnings
    failed = [cell for cell in seen.cells if cell.verdict == "failed"]
    if failed:
        found.append(f"FAILED: {len(failed)} of {len(seen.cells)} measurements failed or gave wrong answers.")
    found += [f"Not compared: {one}" for one in seen.comparison.refusals[:10]] if not seen.comparison.is_open else []
    return found


def _omissions(seen: Seen) -> list[str]:
    notes = list(seen.comparison.notes)
    if len(seen.places) < len(seen.comparison.sides):
        notes.append(
            f"{len(seen.places)} of {len(seen.comparison.sides)} sides are shown: the reference, "
            "and those with the best and the worst ratios."
        )
    if len(seen.workloads) < seen.total:
        notes.append(
            f"{len(seen.workloads)} of {seen.total} workloads are shown: what failed or cannot be compared, "
            "and what is farthest from the reference."
        )
    if len(seen.comparison.refusals) > 10 and not seen.comparison.is_open:
        notes.append(f"{len(seen.comparison.refusals)} workloads were refused in all; ten are named.")
    return notes


def _side(side: Side) -> dict[str, str]:
    return {
        "nodes": _some(side.nodes),
        "devices": _some(side.devices),
        "labels": _some(side.labels) or "–",
        "suites": _some(side.suites) or "–",
    }


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _lines(cells: Sequence[Cell], seen: Seen) -> list[Line]:
    return [
        Line(
            place=seen.names.index(cell.side),
            side=cell.side,
            value=units.show(cell.value, cell.unit or ""),
            interval=words.value_interval(cell),
            ratio=_times(cell.ratio_of_values),
            ratio_interval=words.ratio_interval(cell.ratio),
            verdict=cell.verdict,
            roof="–" if cell.fraction_of_roof is None else f"{cell.fraction_of_roof:.0%}".replace("%", " %"),
            remarks=_remarks(cell),
        )
        for cell in cells
    ]


def _remarks(cell: Cell) -> str:
    said = ["open"] * cell.is_open + [cell.note] * bool(cell.note)
    said += [f"{status} ({count})" for status, count in cell.statuses if status != "ok"]
    said += [f"{flag} ({count})" for flag, count in cell.validity]
    return "; ".join(said)


def _times(ratio: float | None) -> str:
    return "–" if ratio is None or not math.isfinite(ratio) else f"{units.significant(ratio, 4)}×"


def _flags(seen: Seen) -> list[tuple[str, str]]:
    """What each flag on the page means."""
    flags = sorted({flag for cell in seen.cells for flag, _ in cell.validity})
    return [
        (flag, f"{fitness.RULES[flag].meaning}; {fitness.RULES[flag].remedy}")
        if flag in fitness.RULES
        else (flag, "a flag of another version of vnbench")
        for flag in flags
    ]


def _sheet(seen: Seen, economics: Economics) -> Sheet:
    """The economics of what the page shows."""
    return sheet(economics, set(seen.names), {(cells[0].workload, cells[0].device) for cells in seen.workloads})

"""What a page shows of a comparison, and its pictures: the sides and the workloads that tell most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.comparison.model import Cell, Comparison, Side
from bench.comparison.positions import Standing, front, place, roofs, standings
from bench.prices.assess import by_workload, foremost
from bench.prices.model import Economics, Lead, Sensitivity
from bench.report import plots
from bench.report.html import Picture
from bench.report.prices import assumption

MOST_WORKLOADS = 100  # in the table
MOST_BARS = 60  # in a picture
MOST_LEADS = 4  # pictures of who leads
_MOST_FLOP_PER_S = 1e24  # that is drawn, far beyond any machine
_LEAST = 1e-6  # ratio that is drawn: beyond, the others could not be told apart


@dataclass
class Seen:
    """What a page shows of a comparison: the sides and the workloads that tell most."""

    comparison: Comparison
    places: list[int]
    workloads: list[list[Cell]] = field(default_factory=list)
    total: int = 0

    @property
    def sides(self) -> list[Side]:
        return [self.comparison.sides[index] for index in self.places]

    @property
    def names(self) -> list[str]:
        return [side.name for side in self.sides]

    @property
    def cells(self) -> list[Cell]:
        return [cell for cells in self.workloads for cell in cells]


def choose(comparison: Comparison) -> Seen:
    seen = Seen(comparison, foremost(comparison, plots.MOST_SIDES))
    groups = list(by_workload(comparison, seen.places))
    seen.total = len(groups)
    telling = sorted(range(len(groups)), key=lambda index: _says_little(groups[index]))[:MOST_WORKLOADS]
    seen.workloads = [groups[index] for index in sorted(telling)]
    return seen


def _says_little(cells: Sequence[Cell]) -> tuple[bool, float]:
    """Sorts what failed or cannot be compared before all else, then what is farthest from the reference."""
    is_plain = all(cell.verdict in ("reference", "better", "worse", "undecided") for cell in cells)
    distances = [abs(math.log(cell.ratio_of_values)) for cell in cells if cell.ratio_of_values]
    return is_plain, -max(distances, default=0.0)


def pictures(seen: Seen, economics: Economics | None) -> list[Picture]:
    found = [_interval_picture(seen)]
    for device in dict.fromkeys(cell.device for cell in seen.cells):
        found.append(_roofline_picture(seen, device))
    return [*(one for one in found if one is not None), *_pareto_pictures(seen, economics)]


def _interval_picture(seen: Seen) -> Picture | None:
    every = ((cells, [cell for cell in cells if _is_drawable(cell)]) for cells in seen.workloads)
    groups = [(cells, own) for cells, own in every if own]
    devices = {cells[0].device for cells, _ in groups}
    ranked = sorted(range(len(groups)), key=lambda index: _says_little(groups[index][0]))
    kept = sorted(ranked[: max(1, MOST_BARS // max(1, len(seen.places) - 1))])
    rows = []
    for cells, own in (groups[index] for index in kept):
        name = cells[0].workload + (f" on {cells[0].device}" if len(devices) > 1 else "")
        rows.append(plots.Row(name, [_bar(cell, seen) for cell in own]))
    if not rows:
        return None
    note = f"The {len(rows)} of {len(groups)} workloads farthest from the reference." if len(rows) < len(groups) else ""
    label = f"× {plots.short(seen.comparison.reference)}; right of 1 is better"
    text = f"Ratios of {len(rows)} workloads to {seen.comparison.reference}; the figures are in the table of workloads."
    return Picture("Ratios and their intervals", text, plots.intervals(rows, seen.names, label), note)


def _is_drawable(cell: Cell) -> bool:
    ratio, interval = cell.ratio_of_values, cell.ratio.interval if cell.ratio else None
    ends = [ratio or 0.0] + ([interval.low, interval.high] if interval else [])
    return all(_LEAST < end < 1 / _LEAST for end in ends)


def _bar(cell: Cell, seen: Seen) -> plots.Bar:
    low, high = (cell.ratio.interval.low, cell.ratio.interval.high) if cell.ratio else (None, None)
    return plots.Bar(seen.names.index(cell.side), cell.ratio_of_values or 1.0, low, high, cell.is_open)


def _roofline_picture(seen: Seen, device: str) -> Picture | None:
    cells = [cell for cell in seen.cells if cell.device == device]
    every = (found for cell in cells if (found := place(cell)) is not None)
    places = [one for one in every if 1 <= one.flop_per_s < _MOST_FLOP_PER_S]
    if not places:
        return None
    limits = [plots.Roof(seen.names.index(one.side), one.compute, one.memory_b_s) for one in roofs(cells)]
    points = [
        plots.Point(seen.names.index(one.side), one.workload, one.flop_per_byte, one.flop_per_s) for one in places
    ]
    text = f"{len(points)} points: speed against arithmetic intensity on {device}, under the measured roofs."
    note = "" if limits else "No roof was measured."
    return Picture(f"Roofline, {device}", text, plots.roofline(limits, points, seen.names), note)


def _pareto_pictures(seen: Seen, economics: Economics | None) -> list[Picture]:
    every = standings(seen.comparison, seen.cells, economics)
    currency = "" if economics is None else economics.prices.currency
    cost = [(one.cost_per_hour, one) for one in every]
    power = [(one.power_w, one) for one in every]
    found = [
        _pareto_picture("Performance and cost", f"{currency} per device and hour of useful work", cost, seen),
        _pareto_picture("Performance and power", "W per device, mean over the workloads", power, seen),
    ]
    return [one for one in found if one is not None]


def _pareto_picture(
    title: str, x_label: str, every: Sequence[tuple[float | None, Standing]], seen: Seen
) -> Picture | None:
    known = [(x, one) for x, one in every if x and _LEAST < one.performance < 1 / _LEAST]
    if len(known) < 2:
        return None
    optimal = front([(x, one.performance) for x, one in known])
    points = []
    for (x, one), is_on_front in zip(known, optimal, strict=True):
        # An interval without an end would leave no room for the points themselves.
        is_drawn = one.interval is not None and one.interval.high < 1 / _LEAST
        low, high = (one.interval.low, one.interval.high) if one.interval and is_drawn else (None, None)
        points.append(plots.Point(seen.names.index(one.side), one.side, x, one.performance, low, high, is_on_front))
    best = ", ".join(one.side for (_, one), is_best in zip(known, optimal, strict=True) if is_best)
    text = f"{title} of {len(points)} sides; none surpasses these in both: {best}."
    note = "Filled: no other side does more and takes less. Performance is the geometric mean of the ratios."
    return Picture(title, text, plots.pareto(points, seen.names, x_label), note)


def lead_pictures(seen: Seen, economics: Economics) -> list[Picture]:
    """Strips of who leads, for the workloads whose lead changes hands."""
    shown = {(cells[0].workload, cells[0].device) for cells in seen.workloads}
    telling = [
        lead
        for lead in economics.leads
        if (lead.workload, lead.device) in shown and any(one.changes_lead for one in lead.sensitivities)
    ]
    return [_lead_picture(lead, seen, economics) for lead in telling[:MOST_LEADS]]


def _lead_picture(lead: Lead, seen: Seen, economics: Economics) -> Picture:
    strips = [_strip(one, seen, economics) for one in lead.sensitivities]
    title = f"Who leads: {lead.workload} on {lead.device}"
    text = f"As stated {lead.leader} does most for the money; the table below says where that changes."
    return Picture(title, text, plots.leads([one for one in strips if one], seen.names), "Pale: undecided.")


def _strip(one: Sensitivity, seen: Seen, economics: Economics) -> plots.Strip | None:
    """None where a side leads that is not shown."""
    if not {stretch.leader for stretch in one.stretches} <= set(seen.names):
        return None
    stated = one.stated or 1.0
    pieces = [
        (stretch.low / stated, stretch.high / stated, seen.names.index(stretch.leader), stretch.is_sure)
        for stretch in one.stretches
    ]
    return plots.Strip(assumption(one, economics.prices.currency), pieces)

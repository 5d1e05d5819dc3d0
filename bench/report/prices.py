"""The economics of a comparison as text: tables for a terminal, for Markdown, and for a page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from bench import units
from bench.prices.file import Machine
from bench.prices.model import Economics, Lead, Sensitivity, Worth

_NAMES = {
    "price": "price",
    "lifetime": "lifetime",
    "utilisation": "utilisation",
    "power_price": "power price",
    "pue": "PUE",
}
_UNITS = {"price": "{}", "lifetime": "years", "utilisation": "", "power_price": "{}/kWh", "pue": ""}
MOST_LEADS = 40  # workloads whose sensitivities are listed
UNSURE = "“a → 5 → b”: a leads below 5, b above. “?”: within the interval, not decided."


@dataclass(frozen=True)
class Grid:
    """A table: its first ``texts`` columns are words, the rest are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True)
class Sheet:
    """All of it as text."""

    heading: str
    assumptions: Grid
    worths: Sequence[Grid]  # one per workload
    leads: Sequence[Grid]  # one per workload
    notes: Sequence[str]


def sheet(
    economics: Economics, sides: Collection[str] | None = None, workloads: Collection[tuple[str, str]] | None = None
) -> Sheet:
    """The economics of some sides and workloads (with their kind of device), or of all."""
    worths = [
        one
        for one in economics.worths
        if (sides is None or one.side in sides) and (workloads is None or (one.workload, one.device) in workloads)
    ]
    leads = [one for one in economics.leads if workloads is None or (one.workload, one.device) in workloads]
    leads = sorted(leads, key=lambda lead: not any(one.changes_lead for one in lead.sensitivities))
    notes = list(economics.notes)
    if len(leads) > MOST_LEADS:
        notes.append(f"of {len(leads)} workloads, {MOST_LEADS} are listed with who leads; those that change come first")
    return Sheet(
        heading=_heading(economics),
        assumptions=_assumptions(economics, sides),
        worths=list(_worths(worths, economics.prices.currency)),
        leads=list(_leads(leads[:MOST_LEADS], economics.prices.currency)),
        notes=notes,
    )


def show(out: Console, economics: Economics) -> None:
    """On a terminal."""
    found = sheet(economics)
    out.print(found.heading, style="bold")
    for grid in (found.assumptions, *found.worths, *found.leads):
        if grid.rows:
            out.print(grid.title, style="bold")
            out.print(_table(grid, out.width))
    if found.leads:
        out.print(UNSURE, style="dim")
    for note in found.notes:
        out.print(note, style="yellow")


def markdown(economics: Economics) -> str:
    """For a document: headings and tables."""
    found = sheet(economics)
    lines = [f"## {_escaped(found.heading)}", ""]
    for grid in (found.assumptions, *found.worths, *found.leads):
        if not grid.rows:
            continue
        lines += [f"### {_escaped(grid.title)}", ""]
        lines.append("| " + " | ".join(map(_escaped, grid.columns)) + " |")
        lines.append("|" + "".join(" --- |" if index < grid.texts else " ---: |" for index in range(len(grid.columns))))
        lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in grid.rows]
        lines.append("")
    lines += [UNSURE, ""] * bool(found.leads)
    lines += [f"- {_escaped(note)}" for note in found.notes]
    return "\n".join(lines).rstrip() + "\n"


def _escaped(text: str) -> str:
    """Others' words as they are, whatever Markdown or HTML would make of them."""
    for sign in "\\|<>*_`[]":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def _table(grid: Grid, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), width=width)
    for index, column in enumerate(grid.columns):
        is_text = index < grid.texts
        justify: Literal["left", "right"] = "left" if is_text else "right"
        table.add_column(column, overflow="fold", ratio=1 if is_text else None, min_width=9 * is_text, justify=justify)
    for row in grid.rows:
        table.add_row(*row)
    return table


def number(value: float | None) -> str:
    """Four digits, with M and G for millions and milliards."""
    if value is None:
        return "–"
    if abs(value) >= 1e6:
        return "{:.4g} {}".format(*units.scaled(value, ""))
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _heading(economics: Economics) -> str:
    prices = economics.prices
    text = f"Energy and money, amounts in {prices.currency}, by {prices.path.name}"
    if prices.vnd_per_usd is not None:
        text += f" ({number(prices.vnd_per_usd)} VND per USD on {prices.vnd_per_usd_date})"
    return text


def _assumptions(economics: Economics, sides: Collection[str] | None) -> Grid:
    machines = {key: one for key, one in economics.machines.items() if sides is None or key[0] in sides}
    rows = [(f"{side} ({kind})", *_terms(machine)) for (side, kind), machine in machines.items()]
    columns = ("side", "price", "years", "use", "per kWh", "PUE", "a year", "host W", "W")
    unused = {
        index for index in (6, 7, 8) if all(row[index] in ("–", "0") for row in rows)
    }  # what nobody assumes needs no column
    keep = [index for index in range(len(columns)) if index not in unused]
    return Grid(
        "Assumed, per device", [columns[index] for index in keep], [[row[index] for index in keep] for row in rows]
    )


def _terms(machine: Machine) -> tuple[str, ...]:
    return (
        number(machine.price),
        f"{machine.lifetime_years:g}",
        f"{machine.utilisation:g}",
        number(machine.power_price_per_kwh),
        f"{machine.pue:g}",
        number(machine.yearly_cost),
        f"{machine.host_power_w:.4g}",
        "–" if machine.power_w is None else f"{machine.power_w:g}",
    )


def _worths(worths: Sequence[Worth], currency: str) -> Iterator[Grid]:
    groups: dict[tuple[str, str], list[Worth]] = {}
    for one in worths:
        groups.setdefault((one.workload, one.device), []).append(one)
    for (workload, device), group in groups.items():
        unit, lot = group[0].unit, group[0].lot
        columns = (
            "side",
            "power",
            f"{unit}/J",
            "with PUE",
            f"{currency}/h",
            f"{currency}/{lot}",
            "ratio",
            "95 % CI",
        )
        rows = [
            (
                one.side,
                "–" if one.power_w is None else f"{one.power_w:.4g} W" + "*" * one.is_power_assumed,
                _scaled(one.work_per_j),
                _scaled(one.work_per_facility_j),
                number(one.cost_per_hour),
                number(one.cost_per_lot),
                "–" if one.money_ratio is None else f"{units.significant(one.money_ratio, 4)}×",
                _ends(one),
            )
            for one in group
        ]
        yield Grid(f"{workload} on {device}: work for energy and money", columns, rows)


def _scaled(value: float | None) -> str:
    if value is None:
        return "–"
    number, prefix = units.scaled(value, "")
    return f"{units.significant(number, 4)} {prefix}".rstrip()


def _ends(one: Worth) -> str:
    interval = one.money_interval
    if interval is None:
        return "–"
    return "–".join(units.significant(end, 4) for end in (interval.low, interval.high))


def _leads(leads: Sequence[Lead], currency: str) -> Iterator[Grid]:
    for lead in leads:
        rows = []
        steady = [one for one in lead.sensitivities if len(one.stretches) == 1]
        for one in lead.sensitivities:
            if one not in steady:
                stated = "each its own" if one.stated is None else _amount(one.stated, one.assumption, currency)
                rows.append((_name(one), stated, _turns(one)))
        if steady:
            rows.append((", ".join(map(_name, steady)), "", "no change"))
        now = f"{lead.leader}{'' if lead.is_sure else '?'}"
        yield Grid(f"{lead.workload} on {lead.device}: {now} leads", ("varied", "stated", "who leads"), rows, texts=3)


def _name(one: Sensitivity) -> str:
    return _NAMES[one.assumption] + (f" of {one.side}" if one.side is not None else "")


def _amount(value: float, assumption: str, currency: str) -> str:
    return f"{number(value)} {_UNITS[assumption].format(currency)}".rstrip()


def _turns(one: Sensitivity) -> str:
    """Who leads, from the least to the greatest value, and where that changes: ``b → 3,100 → a``."""
    sign = "×" if one.stated is None else ""
    text = ""
    for stretch in one.stretches:
        text += f" → {number(stretch.low)}{sign} → " if text else ""
        text += f"{stretch.leader}{'' if stretch.is_sure else '?'}"
    return text


def assumption(one: Sensitivity, currency: str) -> str:
    """Its name with what is stated: ``power price, stated 2,500 VND/kWh``."""
    return _name(one) if one.stated is None else f"{_name(one)}, stated {_amount(one.stated, one.assumption, currency)}"

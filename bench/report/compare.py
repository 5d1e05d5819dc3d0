"""A comparison on a terminal, within 80 columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import fitness, units
from bench.comparison.model import Cell, Comparison, EnvironmentDifference, SuiteRatio, Verdict
from bench.stats import Interval, RatioTest

MOST_SIDES = 8  # with more, only the suite's ratios are shown
MOST_SUITES = 20  # of these, the best and the worst
MOST_VALUES = 3  # of a key of the environment on one side
MOST_LINES = 12  # of refusals, differences, reasons
_HEADS = ("side", "value", "95 % CI", "ratio", "95 % CI", "verdict")
_WIDTHS = (14, 13, 7, 13, 14)
_LONGEST_NAME = 40
SIMULATED = "SIMULATED: some of these figures come from a script and measure nothing"

_STYLES: dict[Verdict, str] = {
    "better": "green",
    "worse": "bold red",
    "failed": "bold red",
    "incomparable": "yellow",
    "missing": "yellow",
    "reference": "dim",
    "unsupported": "dim",
}


def show(out: Console, comparison: Comparison) -> None:
    """Sides, workloads, suites, and what is to be known of them."""
    cells = list(comparison.cells) if len(comparison.sides) <= MOST_SIDES else []
    for line in heading(comparison):
        out.print(line, style="bold")
    if comparison.is_simulated:
        out.print(SIMULATED, style="bold red")
    for line in comparison.warnings:
        out.print(line, style="bold red")
    out.print()
    if cells:
        _show_workloads(out, cells)
    else:
        out.print(f"{len(comparison.sides)} sides: --format csv has a line for each workload and side")
    out.print()
    out.print(_suites(comparison, out.width))
    out.print()
    for line in (*suite_notes(comparison), *legend(comparison), *remarks(comparison, cells)):
        out.print(line, style="dim")
    for line in differences(comparison):
        out.print(line)


# ---------------------------------------------------------------- tables


def _table(width: int, *columns: str, widths: Sequence[int | None] = (), has_heads: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), width=width, show_header=has_heads)
    table.add_column(columns[0], overflow="fold", ratio=1)
    for i, head in enumerate(columns[1:]):
        # A figure too long for its column goes on below: cut short, it would be another.
        table.add_column(
            head, justify="right", no_wrap=not widths, overflow="fold", width=widths[i] if widths else None
        )
    return table


def _show_workloads(out: Console, cells: Sequence[Cell]) -> None:
    """Each workload in a line of its own, since names are long, and its sides below."""
    has_kinds = len({cell.device for cell in cells}) > 1
    out.print(_table(out.width, *_HEADS, widths=_WIDTHS))
    for (workload, device), group in itertools.groupby(cells, lambda cell: (cell.workload, cell.device)):
        out.print(f"{workload} on {device}" if has_kinds else workload, style="bold")
        table = _table(out.width, *_HEADS, widths=_WIDTHS, has_heads=False)
        for cell in group:
            table.add_row(
                f"  {name(cell.side)}",
                units.show(cell.value, cell.unit or ""),
                value_interval(cell),
                ratio(cell.ratio, cell.ratio_of_values),
                ratio_interval(cell.ratio),
                Text(verdict(cell), style=_STYLES.get(cell.verdict, "")),
            )
        out.print(table)


def _suites(comparison: Comparison, width: int) -> Table:
    table = _table(width, "all workloads", "ratio", "95 % CI", "of", "better", "worse", "undecided", "other")
    for one in _ends(comparison.suite_ratios):
        if one is None:
            table.add_row("…")
            continue
        counts = (one.workloads, one.better, one.worse, one.undecided, one.other)
        table.add_row(
            f"  {name(one.side)}", ratio(one.ratio, one.ratio_of_values), ratio_interval(one.ratio), *map(str, counts)
        )
    return table


def _ends(found: Sequence[SuiteRatio]) -> list[SuiteRatio | None]:
    """All of them; or the best and the worst, with None for those between."""
    if len(found) <= MOST_SUITES:
        return list(found)
    ordered = sorted(found, key=lambda one: -(one.ratio_of_values or 0.0))
    return [*ordered[: MOST_SUITES // 2], None, *ordered[-(MOST_SUITES // 2) :]]


# ---------------------------------------------------------------- words


def name(side: str) -> str:
    """A side's name in one line: labels are others' words, of any length."""
    line = " ".join("".join(each if each.isprintable() else " " for each in side).split())
    half = _LONGEST_NAME // 2
    return line if len(line) <= _LONGEST_NAME else f"{line[: half - 1]}…{line[-half:]}"


def heading(comparison: Comparison) -> list[str]:
    """What is compared with what."""
    lines = [f"reference {name(comparison.reference)}"]
    for side in comparison.sides[:MOST_SIDES]:
        devices = ", ".join(side.devices[:MOST_VALUES])
        lines.append(f"  {name(side.name)}: {_count(len(side.nodes), 'node')}, {_count(side.runs, 'run')}, {devices}")
    more = len(comparison.sides) - MOST_SIDES
    return [*lines, f"  and {_count(more, 'more side')}"] if more > 0 else lines


def suite_notes(comparison: Comparison) -> list[str]:
    """The worst workload of each side, and what its suite's ratio lacks."""
    lines = []
    for one in _ends(comparison.suite_ratios):
        if one is not None and one.worst is not None and one.workloads > 1:
            lines.append(f"{name(one.side)}: worst at {one.worst}, {number(one.worst_ratio)}")
        if one is not None and one.note:
            lines.append(f"{name(one.side)}: {one.note}")
    return lines


def legend(comparison: Comparison) -> list[str]:
    """How to read it."""
    confidence = f"{comparison.confidence:.0%}".replace("%", " %")
    beyond = f" by more than {comparison.tolerance:.1%}".replace("%", " %") if comparison.tolerance else ""
    return [
        "ratio: above 1 is better than the reference, whether high or low values are good",
        f"better, worse: the whole interval says so{beyond}, at {confidence} for all workloads of a side (Holm)",
    ]


def remarks(comparison: Comparison, cells: Sequence[Cell]) -> list[str]:
    """What is refused, not plain, or flagged, each thing once."""
    lines = list(comparison.notes)
    refused = [str(one) for one in comparison.refusals]
    if refused:
        lines.append(
            "! not alike, and compared all the same (--open):" if comparison.is_open else "INCOMPARABLE, not alike:"
        )
        lines += _some([f"  {line}" for line in refused])
        if not comparison.is_open:
            lines.append("  --open compares them all the same, and marks them")
    lines += _some(list(dict.fromkeys(filter(None, map(_note, cells)))))
    return lines + _flags(cells)


def _note(cell: Cell) -> str:
    if not cell.note or cell.verdict in ("incomparable", "reference"):
        return ""
    if cell.verdict in ("failed", "unsupported", "missing"):
        return f"{cell.workload} of {name(cell.side)}: {cell.verdict}: {cell.note}"
    return f"{cell.verdict}: {cell.note}"


def _flags(cells: Sequence[Cell]) -> list[str]:
    counts: dict[str, int] = {}
    for cell in cells:
        for flag, count in cell.validity:
            counts[flag] = counts.get(flag, 0) + count
    lines = []
    for flag, count in sorted(counts.items()):
        rule = fitness.RULES.get(flag)
        text = f"{rule.meaning}; {rule.remedy}" if rule else "a flag of another version of vnbench"
        lines.append(f"* {flag} ({_count(count, 'measurement')}): {text}")
    return lines


def differences(comparison: Comparison) -> list[str]:
    """How the environments differ: the checked keys by value, the rest by name."""
    checked = [one for one in comparison.differences if one.kind != "details"]
    details = [one for one in comparison.differences if one.kind == "details"]
    lines = [f"environments differ in {_count(len(checked), 'checked key')}"] if checked else []
    for one in checked[:MOST_LINES]:
        lines.append(f"  {one.key}: {'; '.join(_values(comparison, one))}")
    if details:
        names = ", ".join(one.key for one in details[:MOST_VALUES])
        lines.append(f"{_count(len(details), 'detail')} of the environments differ, such as {names}")
    shown = min(len(checked), MOST_LINES)
    return [*lines, "--json has them all"] if details or shown < len(checked) else lines


def _values(comparison: Comparison, one: EnvironmentDifference) -> Iterator[str]:
    for side, values in list(zip(comparison.sides, one.values, strict=True))[:MOST_SIDES]:
        more = len(values) - MOST_VALUES
        text = " | ".join(values[:MOST_VALUES]) or "–"
        yield f"{name(side.name)} {text}{f' and {more} more' if more > 0 else ''}"


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"  and {more} more"] if more > 0 else lines


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# ---------------------------------------------------------------- figures


def number(value: float | None) -> str:
    """A ratio, to four digits."""
    return "–" if value is None else units.significant(value, 4)


def ratio(test: RatioTest | None, of_values: float | None) -> str:
    """The ratio; in brackets where nothing is known of its noise."""
    if test is not None:
        return number(test.ratio)
    return "–" if of_values is None else f"({number(of_values)})"


def ratio_interval(test: RatioTest | None) -> str:
    return "–" if test is None else _interval(test.interval, 1.0, 4)


def value_interval(cell: Cell) -> str:
    """Both ends under the value's own prefix."""
    if not cell.value or not math.isfinite(cell.value) or cell.interval is None:
        return "–"
    if cell.unit == "s":
        scaled_ns, _ = units.scaled_ns(cell.value * 1e9)
        return _interval(cell.interval, scaled_ns / cell.value, 4)
    return _interval(cell.interval, units.scaled(cell.value, "")[0] / cell.value, 4)


def verdict(cell: Cell) -> str:
    """The verdict, with a mark where unequal work was compared, and one where something speaks against the figure."""
    marks = "!" * cell.is_open + "*" * bool(cell.validity)
    return f"{cell.verdict} {marks}" if marks else cell.verdict


def _interval(interval: Interval, scale: float, digits: int) -> str:
    ends = (interval.low * scale, interval.high * scale)
    return "–".join(units.significant(end, digits) for end in ends)

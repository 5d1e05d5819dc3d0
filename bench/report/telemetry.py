"""The state of the devices over a run as a picture: on a terminal, and as a PNG or SVG file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bench.errors import UsageError
from bench.report import chart
from bench.report.chart import Layout, Line, Mark
from bench.report.panels import Panel, Span, View, heading, held_back_words, values_of, view
from bench.telemetry import rates
from bench.telemetry.reading import Reading
from bench.telemetry.stretches import Kind
from bench.types import Plan

__all__ = ["Span", "save_picture", "show_telemetry"]

_ROWS, _ROWS_ASIDE = 7, 4  # the four ticks of a scale are evenly spaced in them
_MOST_LINES = 3
_LINE_STYLES = ("cyan", "yellow", "magenta")
_SIGNS: dict[Kind, tuple[str, str]] = {"power-capped": ("░", "yellow"), "throttled": ("█", "bold red")}


# ---------------------------------------------------------------- on a terminal


def show_telemetry(out: Console, plan: Plan, readings: Sequence[Reading], spans: Sequence[Span]) -> None:
    """Clocks, power and temperature over time, as wide as the console; when a device was held back is marked below."""
    for line, style in zip(heading(plan), ("bold", "", "bold red"), strict=False):
        out.print(line, style=style)
    if not readings:
        out.print("no readings were taken")
        return
    seen = view(readings, spans)
    names = [*{name: None for panel in seen.panels for name in panel.lines}, *seen.held_back]
    longest = max(map(len, names), default=0)
    left = max(longest, 6) + 2
    layout = Layout(left, max(10, out.width - left - longest - 1), seen.span_s)
    for each in seen.panels:
        _show_panel(out, each, layout)
    for row in (*chart.axis(layout), *_mark_rows(seen, layout)) if seen.panels else ():
        out.print(row, soft_wrap=True)
    for kind, words in held_back_words(seen):
        sign, style = _SIGNS[kind]
        out.print(Text.assemble((sign, style), f" {words}"))
    for note in seen.notes:
        out.print(note)
    cost_ms = rates.cost_ms(readings)
    if cost_ms is not None:
        out.print(f"a sample of all devices cost {cost_ms:.2f} ms of one core", style="dim")


def _show_panel(out: Console, each: Panel, layout: Layout) -> None:
    shown, words = _chosen(each)
    lines = [Line(name, each.lines[name], style) for name, style in zip(shown, _LINE_STYLES, strict=False)]
    extent = f"{min(each.values):.0f}–{max(each.values):.0f} {each.quantity.unit}"
    low, high = each.extent
    scale = [low, (low + high) / 2, high] if each.quantity.limits else chart.ticks(low, high)
    out.print(Text.assemble((each.quantity.title, "bold"), f"  {extent}  {words}".rstrip()))
    for row in chart.panel(lines, layout, _ROWS_ASIDE if each.is_aside else _ROWS, scale):
        out.print(row, soft_wrap=True)


def _chosen(each: Panel) -> tuple[list[str], str]:
    """Whose lines to draw, from the top: all where they are few, else the worst, and the best and the median by mean.

    The worst is the device that went furthest, for however short a time: what is to be seen must not be left out.
    """
    if len(each.lines) <= _MOST_LINES:
        return list(each.lines), ""
    quantity, values = each.quantity, {name: values_of(pieces) for name, pieces in each.lines.items()}
    mean = {name: statistics.fmean(mine) for name, mine in values.items()}
    if quantity.is_high_worse:
        worst = max(values, key=lambda name: (max(values[name]), mean[name]))
    else:
        worst = min(values, key=lambda name: (min(values[name]), mean[name]))
    others = sorted(values.keys() - {worst}, key=lambda name: (mean[name], name))
    best, median = others[0 if quantity.is_high_worse else -1], others[len(others) // 2]
    most, least = (worst, best) if quantity.is_high_worse else (best, worst)
    words = f"{quantity.most} {most}, median {median}, {quantity.least} {least} of {len(values)}"
    return [most, median, least], words


def _mark_rows(seen: View, layout: Layout) -> list[Text]:
    rows = []
    if seen.spans:
        timed = [Mark(from_s, until_s, "▔", "dim", name) for name, from_s, until_s in seen.spans]
        rows.append(chart.marks("timed", timed, layout))
    for name, found in seen.held_back.items():
        # The worse of the two comes last, to be seen where both are.
        ordered = sorted(found, key=lambda one: list(_SIGNS).index(one[2].kind))
        rows.append(
            chart.marks(name, [Mark(from_s, until_s, *_SIGNS[one.kind]) for from_s, until_s, one in ordered], layout)
        )
    return rows


# ---------------------------------------------------------------- in a file


def save_picture(path: Path, plan: Plan, readings: Sequence[Reading], spans: Sequence[Span]) -> None:
    """Write the picture as the kind of file that the suffix says, whole or not at all.

    Raises:
        UsageError: the suffix is neither .png nor .svg, there is nothing to draw, or matplotlib is not installed.
        OutputNotWritable: the file cannot be written.
    """
    from bench.files import write_report
    from bench.report import drawing
    from bench.report.picture import render

    kind = drawing.kind_of(path)
    seen = view(readings, spans) if readings else None
    if seen is None or not seen.panels:
        why = "; ".join(seen.notes) if seen else "no readings were taken"
        raise UsageError(f"run {plan.run_id} has nothing to draw: {why}", "Measure with --telemetry-hz above 0")
    write_report(path, render(plan, seen, kind))

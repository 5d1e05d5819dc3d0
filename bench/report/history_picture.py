"""A workload's history as an image, drawn by matplotlib without a display and without its user's settings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import units
from bench.errors import UsageError
from bench.files import write_report
from bench.gate.history import History, Line
from bench.report import judgements
from bench.report.drawing import image, kind_of
from bench.report.history import break_words, by_machine, change_words, machine_words, pieces

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_MACHINES = 8

# Okabe and Ito 2008, "Color Universal Design": told apart by the colour-blind.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
_CHANGE, _BREAK = "#D55E00", "#7F7F7F"
_WIDTH_IN, _HEIGHT_IN = 12.0, 3.6  # the height is a machine's
_MOST_TICKS = 24


def save_picture(path: Path, history: History) -> None:
    """Write the picture as the kind of file that the suffix says, whole or not at all.

    Raises:
        UsageError: the suffix is neither .png nor .svg, there is nothing to draw, or matplotlib is not installed.
        OutputNotWritable: the file cannot be written.
    """
    kind = kind_of(path)
    if not any(line.measured for line in history.lines):
        raise UsageError(
            f"{history.workload} has no figure to draw: no run of it was ok", "`vnbench show RUN` says why"
        )
    write_report(path, render(history, kind))


def render(history: History, kind: str) -> bytes:
    """The image's bytes; ``kind`` is png or svg.

    Raises:
        UsageError: matplotlib is not installed.
    """
    return image(lambda: _figure(history), kind)


def _figure(history: History) -> Figure:
    from matplotlib.figure import Figure

    machines = [lines for lines in by_machine(history) if any(line.measured for line in lines)]
    shown = machines[:MOST_MACHINES]
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN * len(shown) + 1.0), layout="constrained")
    left_out = f"\n{len(machines) - len(shown)} more machines are left out" if len(machines) > len(shown) else ""
    simulated = f"\n{judgements.SIMULATED}" if history.is_simulated else ""
    figure.suptitle(f"history of {history.workload}{left_out}{simulated}", fontsize=13)
    for axes, lines in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
        _draw_machine(axes, lines)
    return figure


def _draw_machine(axes: Axes, lines: Sequence[Line]) -> None:
    values = [point.value for line in lines for point in line.measured if point.value is not None]
    number, unit = units.scaled(max(values), lines[0].unit or "")
    scale = number / max(values)
    _label(axes, lines)
    for (line, points), colour in zip(pieces(lines), itertools.cycle(_COLOURS), strict=False):
        at = [number for number, _ in points]
        figures = [(point.value or 0.0) * scale for _, point in points]
        axes.plot(at, figures, color=colour, linewidth=1.4, marker="o", markersize=4)
        for number, point in points:
            if point.interval is not None:
                ends = point.interval.low * scale, point.interval.high * scale
                axes.plot([number, number], ends, color=colour, linewidth=3, alpha=0.3, solid_capstyle="butt")
        _draw_changes(axes, line, {point.run_id: number for number, point in points})
    axes.margins(y=0.15)  # room for words above and below the figures
    _draw_breaks(axes, lines)
    axes.set_title(machine_words(lines), loc="left", fontsize=11)
    axes.set_ylabel(unit or "–")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_changes(axes: Axes, line: Line, number_of: dict[str, int]) -> None:
    for run_id, change in line.change_at.items():
        at = number_of[run_id] - 0.5
        axes.axvline(at, color=_CHANGE, linewidth=1.4, linestyle="--")
        _name(axes, at, f"hint: {change_words(line, change)}", _CHANGE, "top")


def _draw_breaks(axes: Axes, lines: Sequence[Line]) -> None:
    starts = itertools.accumulate(len(line.points) for line in lines[:-1])
    for start, (before, after) in zip(starts, itertools.pairwise(lines), strict=True):
        axes.axvline(start + 0.5, color=_BREAK, linewidth=1.4, linestyle=":")
        _name(axes, start + 0.5, break_words(before, after), _BREAK, "bottom")


def _name(axes: Axes, at: float, text: str, colour: str, edge: str) -> None:
    height = 0.97 if edge == "top" else 0.03
    side = "left" if at < sum(axes.get_xlim()) * 0.75 else "right"  # within the picture
    axes.text(
        at, height, f" {text} ", transform=axes.get_xaxis_transform(), color=colour, fontsize=9.5, va=edge, ha=side
    )


def _label(axes: Axes, lines: Sequence[Line]) -> None:
    """Commits below the points, or dates where there are none; no more than can be read."""
    points = [point for line in lines for point in line.points]
    step = -(-len(points) // _MOST_TICKS)
    chosen = list(enumerate(points, 1))[::step]
    names = [(point.source_commit or "")[:7] or point.started_at[:10] for _, point in chosen]
    axes.set_xticks([number for number, _ in chosen], names, rotation=45, ha="right", fontsize=9)
    axes.set_xlim(0.5, len(points) + 0.5)

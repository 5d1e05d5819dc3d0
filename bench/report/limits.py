"""Drawings for the report of an acceptance: devices beside a limit, and their state over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.acceptance.model import Outcome
from bench.report.panels import Panel, View, ranges, thinned
from bench.report.plots import BAD, FAINT, GOOD, INK, MOST_SIDES, OPEN, SIDES, SMALL, svg
from bench.telemetry.stretches import Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by form as well as by colour, for who cannot see that, and for paper without it.
_LOOKS: Mapping[Outcome, tuple[str, str]] = {
    "PASS": (GOOD, "o"),
    "FAIL": (BAD, "X"),
    "ERROR": (BAD, "P"),
    "INCONCLUSIVE": (OPEN, "s"),
}
_STEPS = 300  # of a time axis: as many as can be told apart in a narrow picture
_STYLES = ("-", "--", ":")  # of the ninth device, and the seventeenth
_HELD_BACK: Mapping[Kind, str] = {"power-capped": OPEN, "throttled": BAD}

Number = Callable[[str], str]  # how the reader's language writes one


@dataclass(frozen=True)
class Mark:
    """A device's value with its interval; ends that are not finite are not drawn."""

    device: str
    outcome: Outcome
    value: float
    low: float | None = None
    high: float | None = None


def against(marks: Sequence[Mark], floor: float | None, ceiling: float | None, label: str, number: Number) -> str:
    """Devices below each other, their intervals beside the limit; what misses it lies in the shade."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, mark in enumerate(marks):
            colour, form = _LOOKS[mark.outcome]
            if mark.low is not None and mark.high is not None and math.isfinite(mark.high):
                axes.plot([mark.low, mark.high], [place, place], color=colour, linewidth=3.0, solid_capstyle="butt")
            axes.plot(mark.value, place, form, color=colour, markersize=7.0)
        low, high = _extent(marks, floor, ceiling)
        axes.set_xlim(low, high)
        for limit, end in ((floor, low), (ceiling, high)):
            if limit is not None:
                axes.axvspan(min(limit, end), max(limit, end), facecolor=BAD, alpha=0.12, linewidth=0)
                axes.axvline(limit, color=INK, linewidth=1.4)
        axes.set_yticks(range(len(marks)), [mark.device for mark in marks], fontsize=SMALL)
        axes.set_ylim(len(marks) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        _numbers(axes, label, number, whole=not label and all(float(mark.value).is_integer() for mark in marks))

    return svg(draw, 0.2 * len(marks) + 0.85)


def _extent(marks: Sequence[Mark], floor: float | None, ceiling: float | None) -> tuple[float, float]:
    """Everything, and some room; a difference of less than a hundredth of the value is to look like one."""
    every = [end for mark in marks for end in (mark.value, mark.low, mark.high)]
    ends = [end for end in (*every, floor, ceiling) if end is not None and math.isfinite(end)]
    low, high = min(ends), max(ends)
    room = max(0.12 * (high - low), 0.01 * max(abs(low), abs(high)), 1e-9)
    return low - room, high + room


def _numbers(axes: Axes, label: str, number: Number, *, whole: bool = False) -> None:
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=5, integer=whole)
    axes.xaxis.set_major_formatter(lambda value, _: number(f"{value:.6g}"))
    axes.set_xlabel(label)


def over_time(panel: Panel, seen: View, devices: Sequence[str], label: str, number: Number) -> str:
    """A quantity of each device over the run; where one was throttled, the time is shaded."""
    scale, label = _time(seen, label)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name in panel.lines:
            for begin_s, length_s in ranges(seen, name, "throttled", _STEPS):
                axes.axvspan(begin_s / scale, (begin_s + length_s) / scale, facecolor=BAD, alpha=0.15, linewidth=0)
        for name, pieces in panel.lines.items():
            colour, style = _line(name, devices)
            for piece in pieces:
                points = thinned(piece, seen.span_s / _STEPS)
                xs, ys = [round(at_s / scale, 4) for at_s, _ in points], [value for _, value in points]
                form = "." if len(points) == 1 else ""
                axes.plot(xs, ys, color=colour, linestyle=style, linewidth=1.2, marker=form)
        low, high = panel.extent
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.set_xlim(0.0, seen.span_s / scale)
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(lambda value, _: number(f"{value:.6g}"))
        axes.set_ylabel(panel.quantity.unit)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        _numbers(axes, label, number)
        _legend(figure, list(panel.lines), devices)

    return svg(draw, 2.3 + 0.18 * math.ceil(len(panel.lines) / 4))


def lanes(seen: View, label: str, number: Number) -> str:
    """A lane for each device that was held back; the worse of the two kinds lies above."""
    scale, label = _time(seen, label)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for lane, name in enumerate(seen.held_back):
            for kind, colour in _HELD_BACK.items():
                found = [(begin / scale, length / scale) for begin, length in ranges(seen, name, kind, _STEPS)]
                # A line around it: what is shorter than the picture can show is still seen.
                height = 0.8 if kind == "throttled" else 0.4
                axes.broken_barh(found, (lane - height / 2, height), facecolor=colour, edgecolor=colour, linewidth=1.0)
        axes.set_yticks(range(len(seen.held_back)), list(seen.held_back), fontsize=SMALL)
        axes.set_ylim(len(seen.held_back) - 0.4, -0.6)
        axes.set_xlim(0.0, seen.span_s / scale)
        _numbers(axes, label, number)

    return svg(draw, 0.22 * len(seen.held_back) + 0.9)


def _time(seen: View, label: str) -> tuple[float, str]:
    """What a unit of the axis is in seconds, and its label."""
    scale, unit = (3600.0, "h") if seen.span_s > 7200 else (60.0, "min") if seen.span_s > 300 else (1.0, "s")
    return scale, f"{label}, {unit}"


def _line(name: str, devices: Sequence[str]) -> tuple[str, str]:
    if name not in devices:  # the host, beside the devices that are judged
        return INK, "-"
    place = devices.index(name)
    return SIDES[place % MOST_SIDES], _STYLES[place // MOST_SIDES % len(_STYLES)]


def _legend(figure: Figure, names: Sequence[str], devices: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    if len(names) < 2:
        return
    handles = []
    for name in names:
        colour, style = _line(name, devices)
        handles.append(Line2D([], [], color=colour, linestyle=style, label=name))
    figure.legend(handles=handles, loc="outside upper left", frameon=False, ncols=4, fontsize=SMALL)

"""A view of a run's telemetry as an image, drawn by matplotlib without a display and without its user's settings."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.report.drawing import image
from bench.report.panels import Panel, View, heading, held_back_words, ranges, thinned
from bench.telemetry.stretches import Kind
from bench.types import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by the colour-blind: Okabe and Ito 2008, "Color Universal Design", but its yellow, too pale for a line,
# and its vermillion, which is kept for throttling.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#8B6914", "#7F7F7F")
_CPU_COLOUR = "#444444"
_HELD_BACK: Mapping[Kind, str] = {"throttled": "#D55E00", "power-capped": "#F0E442"}
_TIMED = ("#D9D9D9", "#BFBFBF")
_WIDTH_IN = 12.0
_STEPS = 1000  # of the time axis: about as many as there are pixels
_LEGEND_COLUMNS = 150


def render(plan: Plan, seen: View, kind: str) -> bytes:
    """The image's bytes; ``kind`` is png or svg.

    Raises:
        UsageError: matplotlib is not installed.
    """
    return image(lambda: _figure(plan, seen), kind)


def _figure(plan: Plan, seen: View) -> Figure:
    from matplotlib.figure import Figure

    names = dict.fromkeys(name for panel in seen.panels for name in panel.lines if name != "cpu")
    colours = dict(zip(names, itertools.cycle(_COLOURS), strict=False))
    heights = [0.35] * bool(seen.spans) + [1.0 if panel.is_aside else 1.8 for panel in seen.panels]
    heights += [0.25 * len(seen.held_back) + 0.1] * bool(seen.held_back)
    figure = Figure(figsize=(_WIDTH_IN, sum(heights) + 1.9), layout="constrained")
    axes = list(figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    figure.suptitle("\n".join(heading(plan)), fontsize=13)
    axes[-1].set_xlabel("seconds since the first reading")
    axes[-1].set_xlim(0.0, seen.span_s)
    if seen.spans:
        _draw_spans(axes.pop(0), seen)
    for panel in seen.panels:
        _draw_panel(axes.pop(0), panel, seen, colours)
    if seen.held_back:
        _draw_held_back(axes.pop(0), seen)
    _draw_legends(figure, seen, colours)
    return figure


def _draw_panel(axes: Axes, panel: Panel, seen: View, colours: Mapping[str, str]) -> None:
    for name, pieces in panel.lines.items():
        for piece in pieces:
            # A piece of a single reading is a dot: there is no line to be seen.
            style = "." if len(piece) == 1 else ""
            points = zip(*thinned(piece, seen.span_s / _STEPS), strict=True)
            axes.plot(*points, color=colours.get(name, _CPU_COLOUR), linewidth=1.4, marker=style)
    for name in panel.lines:
        held_back = ranges(seen, name, "throttled", _STEPS)
        axes.broken_barh(
            held_back, (0, 1), transform=axes.get_xaxis_transform(), color=_HELD_BACK["throttled"], alpha=0.2
        )
    title = panel.quantity.title.replace(" temperature", "\ntemperature")
    axes.set_ylabel(f"{title}\n{panel.quantity.unit}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    low, high = panel.extent
    margin = 0.05 * (high - low)
    axes.set_ylim(low - margin, high + margin)


def _draw_held_back(axes: Axes, seen: View) -> None:
    """A lane for each device that was held back; the worse of the two lies above."""
    kinds: tuple[Kind, ...] = ("power-capped", "throttled")
    for lane, name in enumerate(seen.held_back):
        for kind in kinds:
            axes.broken_barh(ranges(seen, name, kind, _STEPS), (lane - 0.4, 0.8), color=_HELD_BACK[kind])
    axes.set_yticks(range(len(seen.held_back)), list(seen.held_back))
    axes.invert_yaxis()
    axes.set_ylabel("held\nback")


def _draw_spans(axes: Axes, seen: View) -> None:
    for index, (name, from_s, until_s) in enumerate(seen.spans):
        axes.broken_barh([(from_s, until_s - from_s)], (0, 1), color=_TIMED[index % 2])
        width_in = (until_s - from_s) / seen.span_s * _WIDTH_IN * 0.8
        if len(name) * 0.08 < width_in:
            axes.text((from_s + until_s) / 2, 0.5, name, ha="center", va="center", fontsize=8.5)
    axes.set_yticks([0.5], ["timed"])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_legends(figure: Figure, seen: View, colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if len(colours) > 1:
        handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
    words = [(_HELD_BACK[kind], text) for kind, text in held_back_words(seen)]
    words += [("none", text) for text in seen.notes]
    entries = [Patch(color=colour, label=textwrap.fill(text, _LEGEND_COLUMNS)) for colour, text in words]
    if entries:
        figure.legend(handles=entries, loc="outside lower left", frameon=False, ncols=1, fontsize=10)

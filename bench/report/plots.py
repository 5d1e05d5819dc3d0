"""The pictures of a comparison as SVG for a page: drawn by matplotlib without a display and its user's settings.

Colours are the page's own (CSS variables), so that they follow it into the dark. Text stays text.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import units
from bench.report.drawing import settings, settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SIDES = 8  # that can be told apart, by colour and by marker
_WIDTH_IN = 4.4  # narrow, so that the text is still read where a telephone shrinks it
_SETTINGS: Mapping[str, Any] = {"font.size": 10.0, "axes.spines.top": False, "axes.spines.right": False}
# Stand-ins that matplotlib writes and the page's variables replace: each is found nowhere else in a picture.
INK, FAINT, _CARD = "#010203", "#040506", "#030201"
SIDES = tuple(f"#0708{index:02x}" for index in range(MOST_SIDES))
GOOD, BAD, OPEN = "#0a0b01", "#0a0b02", "#0a0b03"
_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    _CARD: "var(--card)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    OPEN: "var(--open)",
} | {colour: f"var(--side-{index})" for index, colour in enumerate(SIDES)}
_MARKERS = "osD^vPX*"
SMALL = 9.0  # points
_LONGEST_NAME = 48
_LONGEST_LABEL = 26  # inside a picture
_LABEL: dict[str, Any] = {"facecolor": _CARD, "edgecolor": "none", "pad": 0.8}  # behind words that lines pass under


@dataclass(frozen=True)
class Bar:
    """A value of one side with its interval, None where there is none."""

    side: int  # its colour and marker
    value: float
    low: float | None
    high: float | None
    is_faint: bool = False  # compared although it should not be


@dataclass(frozen=True)
class Row:
    """What stands under one name of an interval plot."""

    name: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Point:
    """A place in a roofline or a Pareto picture."""

    side: int
    name: str
    x: float
    y: float
    low: float | None = None  # of y
    high: float | None = None
    is_on_front: bool = False


@dataclass(frozen=True)
class Roof:
    """One side's limits: FLOP/s by number format, and B/s."""

    side: int
    compute: Mapping[str, float]
    memory_b_s: float | None


def intervals(rows: Sequence[Row], sides: Sequence[str], label: str) -> str:
    """Ratios to the reference with their intervals, a line per side under each name; the axis is logarithmic."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        y, names = 0.0, []
        for row in rows:
            names.append((y, row.name))
            for bar in row.bars:
                y += 0.62
                _draw_bar(axes, bar, y)
            y += 1.05
        for at, name in names:
            axes.text(
                0.0, at, short(name), transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, bbox=_LABEL
            )
        axes.axvline(1.0, color=INK, linewidth=1.0)
        axes.set_ylim(y - 0.5, -0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _ratio_scale(axes, [end for row in rows for bar in row.bars for end in (bar.low, bar.value, bar.high) if end])
        axes.set_xlabel(label)
        _legend(figure, sides, sorted({bar.side for row in rows for bar in row.bars}))

    lines = sum(1.05 + 0.62 * len(row.bars) for row in rows)
    return svg(draw, 0.26 * lines + 1.0)


def _draw_bar(axes: Axes, bar: Bar, y: float) -> None:
    colour = SIDES[bar.side % MOST_SIDES]
    if bar.low is not None and bar.high is not None:
        axes.plot([bar.low, bar.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
    face = "none" if bar.is_faint or bar.low is None else colour
    axes.plot(bar.value, y, _MARKERS[bar.side % MOST_SIDES], color=colour, markerfacecolor=face, markersize=5.5)


def _ratio_scale(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with a few round ratios on it, wide enough that equal sides look equal."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min([*values, 0.95]), max([*values, 1.05])
    margin = (high / low) ** 0.04
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(FixedLocator(ratio_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}×"))
    axes.grid(axis="x", color=FAINT, linewidth=0.6)


def ratio_ticks(low: float, high: float) -> list[float]:
    """At most six round ratios from ``low`` to ``high``: evenly spaced where they are near, else by decades."""
    if high / low < 6:
        step = next(one for one in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if (high - low) / one < 6)
        return [round(step * i, 2) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits, stride in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), stride) for stride in range(1, 200))):
        ticks = (float(f"{digit}e{power}") for power in decades if power % stride == 0 for digit in digits)
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) <= 6:
            return found
    return [1.0]


def roofline(
    roofs: Sequence[Roof],
    points: Sequence[Point],
    sides: Sequence[str],
    label: str = "arithmetic intensity, FLOP per byte",
) -> str:
    """Work per second against arithmetic intensity, under each side's measured roofs; both axes are logarithmic.

    Source: S. Williams, A. Waterman and D. Patterson, "Roofline", CACM 52(4), 2009.
    """

    def draw(figure: Figure) -> Callable[[], None]:
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        ridges = [top / one.memory_b_s for one in roofs if one.memory_b_s for top in one.compute.values()]
        xs = [point.x for point in points] + ridges
        low, high = min(xs) / 3, max(xs) * 8
        axes.set_xlim(low, high)
        for one in roofs:
            _draw_roof(axes, one, low, high)
        for point in points:
            _draw_point(axes, point, size=5.0)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.minorticks_off()
        bottom, top = (math.log10(end) for end in axes.get_ylim())
        if math.floor(top) < math.ceil(bottom):  # between two powers of ten there is no tick
            axes.set_ylim(10 ** math.floor(bottom), 10 ** math.ceil(top))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(lambda value, _: "{:g} {}".format(*units.scaled(value, "FLOP/s")))
        axes.set_xlabel(label)
        _legend(figure, sides, sorted({point.side for point in points} | {one.side for one in roofs}))
        limits = [(name, high, limit) for one in roofs for name, limit in one.compute.items()]
        return lambda: _name(axes, limits + [(point.name, point.x, point.y) for point in _by_height(points)])

    return svg(draw, 4.4)


def _draw_roof(axes: Axes, roof: Roof, low: float, high: float) -> None:
    colour = SIDES[roof.side % MOST_SIDES]
    top = max(roof.compute.values(), default=math.inf)
    if roof.memory_b_s:
        until = min(high, top / roof.memory_b_s)
        axes.plot([low, until], [low * roof.memory_b_s, until * roof.memory_b_s], color=colour, linewidth=1.4)
    for limit in roof.compute.values():
        ridge = limit / roof.memory_b_s if roof.memory_b_s else low
        axes.plot([ridge, high], [limit, limit], color=colour, linewidth=1.4)


def _draw_point(axes: Axes, point: Point, size: float) -> None:
    colour = SIDES[point.side % MOST_SIDES]
    if point.low is not None and point.high is not None:
        axes.plot([point.x, point.x], [point.low, point.high], color=colour, linewidth=1.6)
    face = colour if point.is_on_front else "none"
    axes.plot(point.x, point.y, _MARKERS[point.side % MOST_SIDES], color=colour, markerfacecolor=face, markersize=size)


def _by_height(points: Sequence[Point]) -> list[Point]:
    """The topmost of each name, from the top."""
    topmost = {point.name: point for point in sorted(points, key=lambda one: one.y)}
    return sorted(topmost.values(), key=lambda one: (-one.y, one.x, one.name))


def _name(axes: Axes, names: Sequence[tuple[str, float, float]]) -> None:
    """Names beside their places, as far as they find room; what is not named here is in the table.

    It is called when the picture is laid out, for only then is it known how much room there is.
    """
    to_points = axes.transData.transform
    dots = axes.figure.dpi / 72
    left, right = (float(axes.transAxes.transform((end, 0))[0]) / dots for end in (0, 1))
    taken: list[tuple[float, float, float, float]] = []
    for name, x, y in names:
        text = short(name, _LONGEST_LABEL)
        at, height = (float(part) / dots for part in to_points((x, y)))
        width = 0.62 * SMALL * len(text) + 6
        for box in ((at, height - 6, at + width, height + 6), (at - width, height - 6, at, height + 6)):
            is_free = not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
            if is_free and left <= box[0] and box[2] <= right + 1:
                taken.append(box)
                side = "left" if box[0] == at else "right"
                offset = (6 if side == "left" else -6, 0)
                # Nothing behind it: that would hide the end of an interval.
                axes.annotate(text, (x, y), offset, textcoords="offset points", ha=side, va="center", fontsize=SMALL)
                break


def pareto(points: Sequence[Point], sides: Sequence[str], x_label: str) -> str:
    """Performance against what it takes, less of which is better: the sides that none surpasses in both are filled."""

    def draw(figure: Figure) -> Callable[[], None]:
        axes = figure.subplots()
        for point in points:
            _draw_point(axes, point, size=7.0)
        xs = [point.x for point in points]
        ys = [end for point in points for end in (point.low, point.y, point.high) if end is not None]
        # A difference of less than a twentieth is to look like one.
        width = max(max(xs) - min(xs), 0.05 * max(xs))
        height = max(max(ys) - min(ys), 0.05 * max(ys))
        middle_x, middle_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
        axes.set_xlim(max(0.0, middle_x - 0.65 * width), middle_x + 0.75 * width)
        axes.set_ylim(max(0.0, middle_y - 0.65 * height), middle_y + 0.65 * height)
        front = sorted((point.x, point.y) for point in points if point.is_on_front)
        if len(front) > 1:
            axes.step(*zip(*front, strict=True), where="post", color=INK, linewidth=0.8, linestyle="--", zorder=0)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(x_label)
        axes.set_ylabel("performance, × the reference")
        _legend(figure, sides, sorted({point.side for point in points}))
        return lambda: _name(axes, [(point.name, point.x, point.y) for point in _by_height(points)])

    return svg(draw, 4.0)


@dataclass(frozen=True)
class Strip:
    """Who leads from the least to the greatest value of an assumption, as factors of what is stated."""

    name: str
    pieces: Sequence[tuple[float, float, int, bool]]  # from, until, side, whether that is sure


def leads(strips: Sequence[Strip], sides: Sequence[str]) -> str:
    """A strip per assumption, in the colour of who leads: full where that is sure, pale where it is undecided."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        transform = axes.get_yaxis_transform()
        for index, strip in enumerate(strips):
            axes.text(
                0.0, index - 0.46, short(strip.name), transform=transform, va="center", fontsize=SMALL, bbox=_LABEL
            )
            for low, high, side, is_sure in strip.pieces:
                colour = SIDES[side % MOST_SIDES]
                axes.barh(index, high - low, 0.4, low, color=colour, alpha=1.0 if is_sure else 0.35, linewidth=0)
        ends = [end for strip in strips for piece in strip.pieces for end in piece[:2]]
        _ratio_scale(axes, ends)
        axes.axvline(1.0, color=INK, linewidth=1.0)
        axes.set_ylim(len(strips) - 0.6, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("the assumption, × what is stated")
        _legend(figure, sides, sorted({piece[2] for strip in strips for piece in strip.pieces}))

    return svg(draw, 0.45 * len(strips) + 1.0)


def _legend(figure: Figure, sides: Sequence[str], shown: Sequence[int]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=SIDES[i % MOST_SIDES],
            marker=_MARKERS[i % MOST_SIDES],
            markersize=5.5,
            label=short(sides[i]),
        )
        for i in shown
    ]
    longest = max((len(short(sides[i])) for i in shown), default=0)
    columns = max(1, min(len(handles), 52 // (longest + 7)))
    figure.legend(handles=handles, loc="outside upper left", frameon=False, ncols=columns, fontsize=SMALL)


def short(name: str, longest: int = _LONGEST_NAME) -> str:
    """A long name without its middle."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"


def svg(draw: Callable[[Figure], Callable[[], None] | None], height_in: float) -> str:
    """An ``svg`` element for the inside of a page; what drawing returns is called when it is laid out."""
    inks = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    content = io.BytesIO()
    with settings({**_SETTINGS, **inks}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        finish = draw(figure)
        settle(figure)
        if finish is not None:
            finish()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return _for_a_page(content.getvalue().decode())


def _for_a_page(svg: str) -> str:
    """Without what only a file of its own needs, in the page's colours, as wide as there is room."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg

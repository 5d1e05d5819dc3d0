"""Lines over time in plain text: braille dots, two by four to a character, with a scale at the left.

Without colours a line is known by the label beside its end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text

from bench.units import show_duration

Point = tuple[float, float]  # seconds, value

# The bits of a braille pattern by row and column of the dot (Unicode's block U+2800).
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


@dataclass(frozen=True)
class Line:
    """A named line in pieces: nothing is drawn from one piece to the next."""

    label: str
    pieces: Sequence[Sequence[Point]]
    style: str = ""

    @property
    def values(self) -> list[float]:
        return [value for piece in self.pieces for _, value in piece]


@dataclass(frozen=True)
class Mark:
    """A stretch of time in a row below the lines, and a name to write into it where it fits."""

    from_s: float
    until_s: float
    sign: str
    style: str = ""
    name: str = ""


@dataclass(frozen=True)
class Layout:
    """The widths, in characters, of the scale and of the picture, and how long a time the picture spans."""

    left: int
    width: int
    span_s: float

    def dot(self, seconds: float) -> int:
        return round(seconds / self.span_s * (2 * self.width - 1))

    def column(self, seconds: float) -> int:
        return self.dot(seconds) // 2


def panel(lines: Sequence[Line], layout: Layout, height: int, scale: Sequence[float]) -> list[Text]:
    """The rows of a picture of some lines, from the top, between the first and the last figure of a scale."""
    canvas = _Canvas(layout, height, scale[0], scale[-1])
    for line in lines:
        for piece in line.pieces:
            canvas.draw(piece, line.style)
    tick_of = {canvas.dot(tick) // 4: f"{tick:g}" for tick in scale}
    label_of = canvas.labels(lines)
    rows = []
    for row in range(height):
        text = Text(f"{tick_of.get(row, ''):>{layout.left - 2}} {'┤' if row in tick_of else '│'}")
        text.append_text(canvas.row(row))
        text.append_text(label_of.get(row, Text()))
        text.rstrip()
        rows.append(text)
    return rows


def axis(layout: Layout) -> list[Text]:
    """The time axis: seconds, or where it is long hours, minutes and seconds."""
    step_s = next((one for one in _STEPS_S if layout.span_s / one <= layout.width / 10), _STEPS_S[-1])
    line = ["─"] * layout.width
    names = [" "] * layout.width
    for index in range(int(layout.span_s / step_s + 1e-9) + 1):
        column = layout.column(index * step_s)
        line[column] = "┬"
        name = show_duration(index * step_s) if layout.span_s > 120 else f"{round(index * step_s, 1):g} s"
        if column + len(name) <= layout.width:
            names[column : column + len(name)] = name
    pad = " " * (layout.left - 1)
    return [Text(f"{pad}└{''.join(line)}"), Text(f"{pad} {''.join(names).rstrip()}")]


def marks(label: str, stretches: Iterable[Mark], layout: Layout) -> Text:
    """A row of marks below the axis; the later of two at the same place is the one seen."""
    signs = [" "] * layout.width
    styles = [""] * layout.width
    for mark in stretches:
        first, last = layout.column(mark.from_s), layout.column(mark.until_s)
        length = last - first + 1
        text = f" {mark.name} ".center(length, mark.sign) if mark.name and len(mark.name) + 4 <= length else ""
        signs[first : last + 1] = text or mark.sign * length
        styles[first : last + 1] = [mark.style] * length
    row = Text(f"{label:>{layout.left - 1}} ").append_text(_styled(signs, styles))
    row.rstrip()
    return row


def _styled(signs: Sequence[str], styles: Sequence[str]) -> Text:
    """The signs in their styles, as few pieces as there are changes of style."""
    text = Text()
    for style, group in itertools.groupby(zip(signs, styles, strict=True), key=lambda cell: cell[1]):
        text.append("".join(sign for sign, _ in group), style)
    return text


def ticks(low: float, high: float) -> list[float]:
    """Four round figures, evenly spaced, from at or below ``low`` to at or above ``high``."""
    power = math.floor(math.log10((high - low) / 3))
    for factor in (1, 2, 2.5, 3, 4, 5, 10, 20):
        step = factor * 10.0**power
        first = math.floor(low / step + 1e-9)
        if (first + 3) * step >= high - 1e-9 * step:
            break
    return [round((first + index) * step, max(0, 1 - power)) for index in range(4)]


class _Canvas:
    def __init__(self, layout: Layout, height: int, low: float, high: float) -> None:
        self.layout = layout
        self.height = height
        self.low = low
        self.high = high
        self.bits = [[0] * layout.width for _ in range(height)]
        self.styles = [[""] * layout.width for _ in range(height)]

    def dot(self, value: float) -> int:
        """The row of dots of a value, from the top."""
        return round((self.high - value) / (self.high - self.low) * (4 * self.height - 1))

    def draw(self, piece: Sequence[Point], style: str) -> None:
        dots = [key for key, _ in itertools.groupby((self.layout.dot(at_s), self.dot(value)) for at_s, value in piece)]
        for (x, y), (next_x, next_y) in itertools.pairwise([*dots, dots[-1]]):
            steps = max(abs(next_x - x), abs(next_y - y), 1)
            for step in range(steps + 1):
                self._set(x + round((next_x - x) * step / steps), y + round((next_y - y) * step / steps), style)

    def _set(self, x: int, y: int, style: str) -> None:
        self.bits[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        self.styles[y // 4][x // 2] = style

    def row(self, row: int) -> Text:
        return _styled([chr(0x2800 + bits) if bits else " " for bits in self.bits[row]], self.styles[row])

    def labels(self, lines: Sequence[Line]) -> dict[int, Text]:
        """Each line's label in the row of its end or, where lines end together, below one another in their order."""
        found: dict[int, Text] = {}
        row = -1
        for index, line in enumerate(sorted(lines, key=lambda line: -line.values[-1])):
            wanted = self.dot(line.values[-1]) // 4
            row = min(max(row + 1, wanted), self.height - len(lines) + index)
            found[row] = Text(f" {line.label}", line.style)
        return found

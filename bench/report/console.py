"""``PlainConsole``: a console on which others' words, out of files that anybody may have written, stay words."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Control characters could command the terminal, and those of bidirectional text reorder a line.
_CONTROLS = (*range(0x00, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_HARMLESS = dict.fromkeys({*_CONTROLS} - {ord("\n"), ord("\t")}, "�")


def harmless(words: str) -> str:
    """The text with a mark in the place of each character that would do something instead of being read."""
    return words.translate(_HARMLESS)


class PlainConsole(Console):
    """No markup, emoji or colour is read into what it prints, and no character of it commands the terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else harmless(text), style, control)

"""``Observer``: who is told how a run goes on."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Who is told how a run goes on."""

    def note(self, text: str) -> None:
        """Something the user should know, once."""

    def advance(self, done: int, total: int, left_s: float | None, doing: str) -> None:
        """So many of all measurements are done; the next is under way."""


class Silent:
    def note(self, text: str) -> None:
        pass

    def advance(self, done: int, total: int, left_s: float | None, doing: str) -> None:
        pass

"""Counters that count the same seconds side by side, made one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping


class LongestGrowth:
    """Adds up, from reading to reading, the largest growth of any counter.

    Several causes hold a device back at the same time, and several packages a host: their sum would count a second
    twice, and their largest total would hide the growth of all others.
    """

    def __init__(self) -> None:
        self._before: dict[Hashable, float] = {}
        self._total: float | None = None

    def add(self, counters: Mapping[Hashable, float]) -> float | None:
        """The total so far, from the largest counter on; None where there is none. One set back has not grown."""
        if not counters:
            return None
        if self._total is None:
            self._total = max(counters.values())
        growths = (value - self._before.get(name, value) for name, value in counters.items())
        self._total += max(0.0, *growths)
        self._before.update(counters)
        return self._total

"""Reading a source again and again, at a steady pace."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from bench.telemetry.reading import Reading, Source


def paced(source: Source, period_s: float, count: int | None = None) -> Iterator[list[Reading]]:
    """Readings at fixed moments, the first at once; a moment that was missed is left out, not made up for.

    Args:
        count: how many times; without end by default.
    """
    due_s = time.monotonic()
    for index in itertools.count() if count is None else range(count):
        if index:
            due_s += period_s * max(1, -(-(time.monotonic() - due_s) // period_s))
            time.sleep(max(0.0, due_s - time.monotonic()))
        yield source.read()

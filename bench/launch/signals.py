"""SIGINT and SIGTERM as notes, so that a run ends where no worker is half started or half ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def noted(note: Callable[[int], None]) -> Iterator[None]:
    """In here the two signals call ``note`` with their number, and nothing else."""

    def handle(signum: int, frame: object) -> None:
        note(signum)

    old = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)

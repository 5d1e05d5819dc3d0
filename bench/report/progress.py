"""The progress of a run on stderr: a bar with the time left on a terminal, a line a replicate or minute in a pipe."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench.units import show_duration

_SILENT_S = 60.0  # in a pipe, at most


class RunProgress:
    """An ``Observer`` that shows what it is told."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, left="")
        self._last_stage = ""
        self._last_line_s = 0.0

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        self._console.print(f"note: {text}", soft_wrap=True)

    def advance(self, done: int, total: int, left_s: float | None, doing: str) -> None:
        left = "" if left_s is None else f"{show_duration(left_s)} left"
        self._bar.update(self._task, completed=done, total=total, description=doing, left=left)
        stage = doing.partition("  ")[0]
        now_s = time.monotonic()
        is_due = stage != self._last_stage or now_s >= self._last_line_s + _SILENT_S
        if not self._console.is_terminal and is_due:
            self._last_stage, self._last_line_s = stage, now_s
            self._console.print(f"{stage}, {done} of {total} done" + (f", about {left}" if left else ""))

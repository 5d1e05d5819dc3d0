"""``bench.report.progress`` in a pipe: a line when a stage begins, and one a minute while it lasts."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.report import progress


def test_a_pipe_gets_a_line_per_stage_and_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 5000.0
    monkeypatch.setattr("bench.report.progress.time.monotonic", lambda: now_s)
    console = Console(file=io.StringIO(), width=80)
    with progress.RunProgress(console) as shown:
        for done in range(10):
            shown.advance(done, 10, 130.0 if done else None, "replicate 1/2  matmul/fp32/64")
            now_s += 25.0
        shown.advance(10, 20, None, "replicate 2/2  matmul/fp32/96")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "replicate 1/2, 0 of 10 done",
        "replicate 1/2, 3 of 10 done, about 2:10 left",
        "replicate 1/2, 6 of 10 done, about 2:10 left",
        "replicate 1/2, 9 of 10 done, about 2:10 left",
        "replicate 2/2, 10 of 20 done",
    ]

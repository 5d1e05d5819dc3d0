"""A run without processes: what stands in for its workers writes a row for every item, in scripted time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bench import choices, registry, schema, store
from bench.launch import local, process
from bench.schema import Row
from bench.types import Job


class Script:
    """Stands in for ``local.run_group``: writes a row for every item, in scripted time."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pass_s: Iterator[float] = itertools.repeat(1.0)
        self.jobs: list[Job] = []
        self.value_of: Callable[[Job, str], float] = lambda job, workload: 1.0
        self.winners = ("roof/compute/fp32@shape=64", "roof/compute/fp32@shape=96")  # of every search
        self.columns_of: Callable[[Job, str], Row] = lambda job, workload: {}

    def run_group(
        self,
        jobs: Sequence[Job],
        lock_fd: int,
        on_event: Callable[[Job, process.Event], None] = lambda job, event: None,
        on_poll: Callable[[], None] = lambda: None,
    ) -> list[process.Outcome]:
        on_poll()
        self.jobs += jobs
        outcomes = []
        for job in jobs:
            if job.task == "search":
                outcomes.append(process.Outcome(job, True, len(job.items), [*map(self._winner, range(len(job.items)))]))
                continue
            for index, item in enumerate(job.items):
                row = schema.blank_row(job, index, registry.resolve(item.workload), "ok")
                row |= {
                    "value": self.value_of(job, item.workload),
                    "unit": "FLOP/s",
                    "median_ns": 1.0,
                    "flops": 1,
                    "metrics": [],
                    "candidate": item.candidate,
                }
                row |= self.columns_of(job, item.workload)
                store.write_part(Path(job.folder), row, job.plan)
                on_event(job, {"event": "done", "item": index})
            calibration = {"event": "calibration", "before_ns": 100, "after_ns": 100}
            outcomes.append(process.Outcome(job, True, len(job.items), [calibration]))
        self.now_s += next(self.pass_s)
        return outcomes

    def _winner(self, index: int) -> process.Event:
        found = dict(zip(("candidate", "runner_up"), self.winners, strict=True))
        return {"event": "winner", "item": index, **found, "rate": 1.0, "tried": 2, "spent_s": 1.0, "budget_s": 1.0}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(local, "run_group", script.run_group)
    monkeypatch.setattr("bench.run.time.monotonic", lambda: script.now_s)
    monkeypatch.setattr(choices, "_has_candidates", lambda name: False)
    return script

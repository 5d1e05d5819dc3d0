"""One run: a soak if it has one, the search of roofs, replicate passes in fresh processes, the merge into one file.

Passes follow each other, so that drift hits all workloads alike; within a pass their order is random.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import choices, merge, recovery, registry, schema, store
from bench.choices import Choices
from bench.errors import Interrupted
from bench.launch import local, process, signals
from bench.launch.sampler import Sampler
from bench.observer import Observer, Silent
from bench.schema import Row
from bench.soaking import Soaking, cool_down
from bench.store import RunFolder
from bench.types import DeviceInfo, Item, Job, Plan, Soak, Status

# A later pass is begun only if it fits into the budget at the pace of the longest one so far.
_PACE = 1.05


Enough = Callable[[Plan, Sequence[Row]], bool]


def execute(
    plan: Plan,
    out: Path,
    *,
    budget_s: float | None = None,
    kept: Sequence[Row] = (),
    observer: Observer | None = None,
    enough: Enough | None = None,
) -> Path:
    """Do what the plan says and give the path of the result.

    Args:
        budget_s: no pass is begun that would not end in this time; the first is cut short at it.
        kept: rows of an earlier attempt, which are not measured again.
        enough: asked after every pass, with the plan and the rows that the result would have now; True ends the run.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the result is written, with the missing rows marked.
        OutputNotWritable: finished rows stay in their folder, and the next run recovers them.
    """
    observer = observer or Silent()
    folder = store.begin(out, plan, kept)
    try:
        run = _Run(folder, observer, budget_s, kept, enough)
        try:
            with signals.noted(run.note_signal):
                if plan.soak is not None:
                    with run.sampled(plan.soak.telemetry_hz):
                        run.soak(plan.soak)
                if plan.replicates:
                    with run.sampled(plan.telemetry_hz):
                        run.search()
                        run.passes()
        except Interrupted as interrupt:
            path, finished = recovery.commit(folder)
            raise Interrupted(
                interrupt.exit_code - 128,
                f"interrupted by {interrupt.signal_name}; {finished} measurements are kept in {path}",
                f"Go on with: vnbench run --resume {plan.run_id} --out {shlex.quote(str(out))}",
            ) from None
        plan = dataclasses.replace(plan, replicates=run.replicates_begun)
        return recovery.commit(dataclasses.replace(folder, plan=plan))[0]
    finally:
        folder.release()


class _Run:
    """The state of a run in progress."""

    def __init__(
        self, folder: RunFolder, observer: Observer, budget_s: float | None, kept: Sequence[Row], enough: Enough | None
    ) -> None:
        self.folder = folder
        self.enough = enough
        self.plan = folder.plan
        self.observer = observer
        self.kept_rows = kept
        self.kept = {merge.row_key(row) for row in kept}
        self.choices = Choices(kept)
        self.next_sequence: dict[tuple[int, str], int] = {}  # by replicate and kind of device
        for row in (one for one in kept if one["arm"] is None):
            key = row["replicate"], row["device"]
            self.next_sequence[key] = max(self.next_sequence.get(key, 0), row["sequence"] + 1)
        self.replicates_begun = 0
        self.longest_pass_s = 0.0  # of those that measured anything
        self.began_s = time.monotonic()
        # The run's clock: UTC now, carried on by the monotonic clock, so that no step of the system's clock moves it.
        self.clock_offset_ns = time.time_ns() - time.monotonic_ns()
        self.deadline_s = None if budget_s is None else self.began_s + budget_s
        self.signum: int | None = None  # a signal to end, once it has come
        self.done = 0
        self.total = sum(
            (name, device.kind, device.index, replicate, None, None) not in self.kept
            for group in self.groups
            for name in self.plan.workloads[group[0].kind]
            for device in registry.measured_by(name, group)
            for replicate in range(self.plan.replicates)
        )

    @property
    def groups(self) -> list[list[DeviceInfo]]:
        """Devices that are loaded together: all of a kind."""
        return [list(group) for _, group in itertools.groupby(self.plan.devices, key=lambda device: device.kind)]

    @contextlib.contextmanager
    def sampled(self, hz: float) -> Iterator[None]:
        """In here the devices' state is read so often, unless the plan is to read none."""
        plan = dataclasses.replace(self.plan, telemetry_hz=self.plan.telemetry_hz and hz)
        log = self.folder.logs / "telemetry.log"
        with Sampler(plan, self.folder.telemetry, log, os.getpid(), self.clock_offset_ns) as sampler:
            yield
            obstacle = sampler.obstacle()
            if obstacle is not None:
                self.observer.note(f"the devices' state was not read to the end: {obstacle}")

    # ------------------------------------------------------------ soak

    def soak(self, soak: Soak) -> None:
        """The sustained load, and a pause after it where more is to be measured. The budget is of what follows."""
        soaking = Soaking(
            self.folder, soak, self.kept_rows, self.clock_offset_ns, self.observer, self._write_death, self._end_if_told
        )
        if soaking.run() and self.plan.replicates:
            cool_down(self.folder, soak, self.observer, self._end_if_told)
        passed_s = time.monotonic() - self.began_s
        self.began_s += passed_s
        self.deadline_s = None if self.deadline_s is None else self.deadline_s + passed_s

    # ------------------------------------------------------------ search

    def search(self) -> None:
        """Let each device choose among the candidates of the workloads that have some."""
        for group in self.groups:
            names = self.plan.workloads[group[0].kind]
            jobs = [
                self._job(device, items, -1, task="search", search_budget_s=choices.budget_s(device))
                for device in group
                if (items := self.choices.open(device, names))
            ]
            while jobs and not self._budget_is_spent(time.monotonic()):
                outcomes = local.run_group(jobs, self.folder.lock_fd, self._on_search_event, self._end_if_told)
                jobs = [rest for outcome in outcomes for rest in self.choices.note(outcome)]

    def _on_search_event(self, job: Job, event: process.Event) -> None:
        if event["event"] == "begin":
            self.observer.advance(self.done, self.total, None, f"searching {job.items[event['item']].workload}")

    # ------------------------------------------------------------ passes

    def passes(self) -> None:
        """One pass per replicate, while the budget lasts and it is not enough."""
        for replicate in range(self.plan.replicates):
            began_s = time.monotonic()
            if self.longest_pass_s and self._budget_is_spent(began_s + _PACE * self.longest_pass_s):
                self.observer.note(f"the budget allows {replicate} of {self.plan.replicates} replicates")
                return
            self.replicates_begun = replicate + 1
            for group in self.groups:
                self._pass(group, replicate)
            if self.done:
                self.longest_pass_s = max(self.longest_pass_s, time.monotonic() - began_s)
            if self.enough is not None and self.enough(*self._so_far()):
                return

    def _so_far(self) -> tuple[Plan, list[Row]]:
        """The plan and the rows of the result, were this the last pass."""
        plan = dataclasses.replace(self.plan, replicates=self.replicates_begun)
        return plan, recovery.merged(dataclasses.replace(self.folder, plan=plan))[0]

    def _pass(self, group: Sequence[DeviceInfo], replicate: int) -> None:
        kind = group[0].kind
        pending = [
            name
            for name in self.plan.workloads[kind]
            if any(
                (name, kind, device.index, replicate, None, None) not in self.kept
                for device in registry.measured_by(name, group)
            )
        ]
        random.Random(f"{self.plan.run_id}-{replicate}-{kind}").shuffle(pending)
        sequence = self.next_sequence.get((replicate, kind), 0)
        for names in _processes(pending):
            devices = registry.measured_by(names[0], group)
            items = {device: tuple(self.choices.item(device, name, replicate) for name in names) for device in devices}
            jobs = [self._job(device, items[device], replicate, sequence=sequence) for device in devices]
            if shortage := registry.shortage(names[0], group):
                self._refuse(jobs, shortage)
            else:
                self._see_through(jobs)
            sequence += len(names)

    def _refuse(self, jobs: Sequence[Job], reason: str) -> None:
        """Write the rows of what need not be tried."""
        for job in jobs:
            for index in range(len(job.items)):
                store.write_part(self.folder.path, _unmeasured(job, index, "unsupported", reason), self.plan)
                self._on_event(job, {"event": "done", "item": index})

    def _see_through(self, jobs: Sequence[Job]) -> None:
        """Run jobs until each item has a row: what a dead worker had in hand gets one here, a new worker the rest."""
        pending = list(jobs)
        while pending:
            # Workers that died over the same item go on together; another one has nobody to be loaded together with.
            first = min(job.sequence for job in pending)
            group = [job for job in pending if job.sequence == first]
            pending = [job for job in pending if job.sequence > first]
            world_size = len(group) * registry.devices_of(group[0].items[0].workload)
            together = [dataclasses.replace(job, world_size=world_size, rank=rank) for rank, job in enumerate(group)]
            for outcome in local.run_group(together, self.folder.lock_fd, self._on_event, self._end_if_told):
                outcome.raise_fatal()
                self._note_calibration(outcome)
                pending += self._bury(outcome)

    def _bury(self, outcome: process.Outcome) -> list[Job]:
        """Write the rows that a dead worker owes; give what is left of its job, if anything."""
        if outcome.death is None:
            return []
        for index in range(outcome.finished, outcome.lost):
            self._write_death(outcome.job, index, *outcome.death, outcome.begun_ns)
            self._on_event(outcome.job, {"event": "done", "item": index})
        return outcome.rest

    def _write_death(self, job: Job, index: int, status: Status, reason: str, begun_ns: int) -> None:
        row = _unmeasured(job, index, status, reason)
        if begun_ns:
            row |= schema.window_columns(begun_ns, time.monotonic_ns(), self.clock_offset_ns)
        if not (self.folder.path / store.part_name(row)).exists():  # it may have died just after writing its own
            store.write_part(self.folder.path, row, self.plan)
            self.observer.note(f"{row['workload']} on {job.device.label}: {status}: {reason}")

    def _note_calibration(self, outcome: process.Outcome) -> None:
        for event in outcome.events:
            if event["event"] == "calibration":
                key = merge.calibration_key(outcome.job.concurrency_group, outcome.job.rank)
                self.folder.keep_calibration(key, event["before_ns"], event["after_ns"])

    def _job(self, device: DeviceInfo, items: tuple[Item, ...], replicate: int, **fields: Any) -> Job:
        return Job(
            plan=self.plan,
            device=device,
            items=items,
            replicate=replicate,
            folder=str(self.folder.path.resolve()),
            scratch=str(self.folder.scratch.resolve()),
            clock_offset_ns=self.clock_offset_ns,
            # Only the first pass is cut short: later ones are begun only if they fit.
            deadline_s=None if self.longest_pass_s else self.deadline_s,
            **fields,
        )

    def _budget_is_spent(self, at_s: float) -> bool:
        return self.deadline_s is not None and at_s >= self.deadline_s

    def note_signal(self, signum: int) -> None:
        self.signum = signum

    def _end_if_told(self) -> None:
        if self.signum is not None:
            raise Interrupted(self.signum, "interrupted")

    def _on_event(self, job: Job, event: process.Event) -> None:
        if event["event"] == "done":
            self.done += 1
        elif event["event"] == "begin":
            spent_s = time.monotonic() - self.began_s
            left_s = spent_s / self.done * (self.total - self.done) if self.done else None
            doing = f"replicate {job.replicate + 1}/{self.plan.replicates}  {job.items[event['item']].workload}"
            self.observer.advance(self.done, self.total, left_s, doing)


def _processes(names: Sequence[str]) -> list[list[str]]:
    """Which workloads share a process: all of a pass that take as many devices, but for the isolated ones."""
    alone = [name for name in names if registry.resolve(name).kernel.isolated]
    shared: dict[int, list[str]] = {}
    for name in names:
        if name not in alone:
            shared.setdefault(registry.devices_of(name), []).append(name)
    return [*(shared[devices] for devices in sorted(shared)), *([name] for name in alone)]


def _unmeasured(job: Job, index: int, status: Status, reason: str) -> Row:
    item = job.items[index]
    row = schema.blank_row(job, index, registry.resolve(item.workload), status, reason)
    return row | {"candidate": item.candidate}

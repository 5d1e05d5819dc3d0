"""An A/B test on one machine: sessions of two fresh workers in turns, until the answer is clear or the time is up.

What is measured becomes rows like those of any run, on disk as soon as each session ends; `bench.sessions` reads the
verdicts off them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from bench import arms, environment, recovery, registry, schema, sequential, sessions, stats, store
from bench.errors import INCONCLUSIVE, Interrupted, OutputNotWritable, VnbenchError
from bench.launch import duet, signals
from bench.launch.process import Outcome, Place
from bench.launch.sampler import Sampler
from bench.observer import Observer, Silent
from bench.schema import Row
from bench.store import RunFolder
from bench.telemetry import host
from bench.types import Arm, DeviceInfo, Item, Job, Plan, SampleFlag

_LEAST_TIMEOUT_S = 30.0  # an arm has to import torch, at least


class Incomparable(VnbenchError):
    """The arms differ in more than the user said."""

    exit_code = INCONCLUSIVE


def execute(
    plan: Plan,
    out: Path,
    *,
    budget_s: float | None = None,
    vary: Collection[str] = (),
    observer: Observer | None = None,
) -> Path:
    """Take sessions of every workload until each has its answer, and give the path of the result.

    Args:
        budget_s: for each workload; no session is begun that would end later, but for the first. That ends when an arm
            has given no answer for as long, though not before half a minute.
        vary: the software keys in which the arms may differ.

    Raises:
        Incomparable: they differ in others.
        Interrupted: SIGINT or SIGTERM came; the sessions so far are in the result.
        OutputNotWritable: finished sessions stay in their folder, and the next run recovers them.
    """
    if budget_s is not None:
        plan = dataclasses.replace(plan, timeout_s=min(plan.timeout_s, max(budget_s, _LEAST_TIMEOUT_S)))
    folder = store.begin(out, plan)
    try:
        try:
            test = _Test(folder, budget_s, observer or Silent())
            test.compare_arms(vary)
        except BaseException:  # an impatient user's as well: there is nothing to recover
            folder.abandon()
            raise
        log = folder.logs / "telemetry.log"
        try:
            with (
                signals.noted(test.note_signal),
                Sampler(plan, folder.telemetry, log, os.getpid(), test.clock_offset_ns),
            ):
                test.take_sessions()
        except OutputNotWritable:
            raise
        except VnbenchError as error:
            if not test.taken:
                folder.abandon()
                raise
            path, _ = recovery.commit(folder)
            remedy = error.remedy or f"vnbench show {plan.run_id} says what they show"
            raise error.with_words(f"{error.what}; {test.taken} sessions are kept in {path}", remedy) from None
        return recovery.commit(folder)[0]
    finally:
        folder.release()


def noise_known(plan: Plan, out: Path) -> list[tuple[sessions.Noise, str]]:
    """What the latest A/A tests on this node say of the test's workloads, each with the test's run id."""
    wanted = {(name, device.label) for device in plan.devices for name in plan.workloads[device.kind]}
    found: dict[tuple[str, str], tuple[sessions.Noise, str]] = {}
    for path in sorted((out / "runs" / plan.node).glob("*-aa-*.parquet"), reverse=True):
        with contextlib.suppress(VnbenchError):
            its_plan, rows = store.read(path)
            for one in sessions.noise(its_plan, sessions.collect(its_plan, rows)):
                if (one.workload, one.device) in wanted and one.trials:
                    found.setdefault((one.workload, one.device), (one, its_plan.run_id))
        if wanted <= found.keys():
            break
    return list(found.values())


class _Test:
    """The state of a test in progress."""

    def __init__(self, folder: RunFolder, budget_s: float | None, observer: Observer) -> None:
        self.folder = folder
        self.plan = folder.plan
        self.observer = observer
        self.budget_s = budget_s
        self.device: DeviceInfo = self.plan.devices[0]
        self.clock_offset_ns = time.time_ns() - time.monotonic_ns()
        self.places: list[Place] = [arms.place(arm, folder.scratch) for arm in self.plan.arms]
        self.environments: list[Row] = []
        self.rows: dict[str, list[Row]] = {name: [] for name in self.names}
        self.taken = 0
        self.signum: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What is asked for: workloads, or a single test whose arms have workloads of their own."""
        return sessions.names(self.plan, self.device.kind)

    def compare_arms(self, vary: Collection[str]) -> None:
        """Find what each arm runs in. The hardware is the same: it is one machine."""
        shared = environment.capture(self.device)
        versions = [arms.versions(place) for place in self.places]
        found = [
            f"{key} ({versions[0][key]} and {versions[1][key]})"
            for key in versions[0]
            if versions[0][key] != versions[1][key] and key not in vary
        ]
        if found:
            raise Incomparable(
                f"the arms differ in {', '.join(found)}",
                f"Make them alike, or say that it is meant: {' '.join(f'--vary {one.split()[0]}' for one in found)}",
            )
        for arm, its_versions in zip(self.plan.arms, versions, strict=True):
            details = {**shared.details, "arm": dataclasses.asdict(arm)}
            own = environment.Environment({**shared.keys, **its_versions}, details)
            self.environments.append(own.columns)

    def take_sessions(self) -> None:
        """In turns over the workloads, so that drift befalls all alike."""
        spent_s, longest_s = dict.fromkeys(self.names, 0.0), dict.fromkeys(self.names, 0.0)
        pending = list(self.names)
        for session in range(self.plan.trial.looks[-1]):
            for name in list(pending):
                if session and self.budget_s is not None and spent_s[name] + longest_s[name] > self.budget_s:
                    pending.remove(name)
                    continue
                mean_s = sum(spent_s.values()) / max(1, self.taken)
                self._say(session, name, mean_s, len(pending))
                began_s = time.monotonic()
                self._session(name, session)
                taken_s = time.monotonic() - began_s
                spent_s[name] += taken_s
                longest_s[name] = max(longest_s[name], taken_s)
                self.taken += 1
                if self._is_settled(name):
                    pending.remove(name)

    def _session(self, name: str, session: int) -> None:
        jobs = [self._job(arm, name, session) for arm in self.plan.arms]
        shortages = [registry.shortage(job.items[0].workload, self.plan.devices) for job in jobs]
        if any(shortages):
            self._refuse(name, jobs, shortages)
            return
        lot = random.Random(f"{self.plan.run_id}-{session}-{name}")
        before = host.read()
        outcomes = duet.play(jobs, self.places, self.folder.lock_fd, lot, self._end_if_told)
        state = host.window(before, host.read()).columns
        for outcome, captured in zip(outcomes, self.environments, strict=True):
            row = _row(outcome, self.clock_offset_ns)
            if row is None:
                continue
            row |= captured | state
            store.write_part(self.folder.path, row, self.plan)
            self.rows[name].append(row)

    def _refuse(self, name: str, jobs: Sequence[Job], shortages: Sequence[str | None]) -> None:
        """Write the rows of arms that need not be tried."""
        for job, shortage in zip(jobs, shortages, strict=True):
            if shortage:
                row = schema.blank_row(job, 0, registry.resolve(job.items[0].workload), "unsupported", shortage)
                store.write_part(self.folder.path, row, self.plan)
                self.rows[name].append(row)

    def _is_settled(self, name: str) -> bool:
        (found,) = (one for one in sessions.collect(self.plan, self.rows[name]) if one.workload == name)
        trial = self.plan.trial
        design = sequential.Design(trial.looks, trial.alpha / len(self.names))
        return bool(found.obstacle) or sequential.decide(found.log_ratios, trial.tolerance, design).verdict != "GO_ON"

    def _job(self, arm: Arm, name: str, session: int) -> Job:
        position = self.names.index(name)
        return Job(
            plan=self.plan,
            device=self.device,
            items=(Item(arm.workload or name),),
            world_size=registry.devices_of(arm.workload or name),
            replicate=session,
            folder=str(self.folder.path.resolve()),
            scratch=str(self.folder.scratch.resolve()),
            clock_offset_ns=self.clock_offset_ns,
            sequence=2 * position + self.plan.arms.index(arm),  # a number of its own for each row of a session
            arm=arm,
        )

    def _say(self, session: int, name: str, mean_s: float, workloads: int) -> None:
        total = self.plan.trial.looks[-1]
        left_s = mean_s * (total - session) * workloads if mean_s else None
        if left_s is not None and self.budget_s is not None:
            left_s = min(left_s, self.budget_s * workloads)
        self.observer.advance(session, total, left_s, f"session {session + 1}  {name}")

    def note_signal(self, signum: int) -> None:
        self.signum = signum

    def _end_if_told(self) -> None:
        if self.signum is not None:
            raise Interrupted(self.signum, f"interrupted by {signal.Signals(self.signum).name}")


def _row(outcome: Outcome, clock_offset_ns: int) -> Row | None:
    """The row of one arm; None where it was ended because the other one failed."""
    if outcome.fatal is not None:
        error = VnbenchError(outcome.fatal["what"], outcome.fatal["remedy"])
        error.exit_code = outcome.fatal["code"]
        raise error
    job = outcome.job
    row = schema.blank_row(job, 0, registry.resolve(job.items[0].workload), "ok")
    measured = [event["columns"] for event in outcome.events if event["event"] == "measured"]
    if not measured:
        if outcome.death is None:
            return None
        row["status"], row["reason"] = outcome.death
        return row
    columns: dict[str, Any] = measured[0]
    if "window_ns" in columns:
        from_ns, until_ns = columns.pop("window_ns")
        row |= schema.window_columns(from_ns, until_ns, clock_offset_ns) | {"metrics": []}
        limit = stats.far_out_limit(columns["elapsed_ns"])
        columns["sample_flags"] = [int(SampleFlag.OUTLIER if ns > limit else 0) for ns in columns["elapsed_ns"]]
    return row | columns

"""One session: ours, the limit and the peers, each in a fresh process, take turns as the arms of `ab` do.

With the same workers, bursts and reading of them; only that there may be more than two.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bench import arms, sessions
from bench.launch import duet
from bench.launch.process import Outcome
from bench.plan import make_ab_plan
from bench.suite import Suite
from bench.types import Arm, DeviceInfo, Item, Job, Trial
from tests.peers.lines import OWN, Line, Peer

Row = dict[str, Any]  # what a worker measured, or its status and reason

_START_S = 300.0  # a model of gigabytes is drawn, and checked


@dataclass(frozen=True)
class Contestants:
    """The arms of a line's sessions."""

    ours: tuple[Arm, ...]
    limit: Arm | None
    peers: Mapping[str, Arm]  # by the peer's name

    @property
    def arms(self) -> list[Arm]:
        return [*self.ours, *([self.limit] if self.limit else []), *self.peers.values()]

    def without(self, peer: str) -> Contestants:
        return dataclasses.replace(self, peers={name: arm for name, arm in self.peers.items() if name != peer})


def contestants(
    line: Line, candidate: str | None, interpreters: Mapping[str, str], variables: Mapping[str, str]
) -> Contestants:
    """Those whose environment is there.

    Args:
        candidate: the workload that performs the limit.
        interpreters: of the environments, by their names.
        variables: what all peers are told.
    """

    def arm(position: int, peer: Peer) -> Arm:
        python = None if peer.environment == OWN else interpreters[peer.environment]
        return Arm(f"peer-{position}", python, {**line.variables, **variables}, peer.workload)

    there = [peer for peer in line.peers if peer.environment == OWN or peer.environment in interpreters]
    return Contestants(
        tuple(Arm(f"ours-{position}", workload=name) for position, name in enumerate(line.ours)),
        Arm("limit", workload=candidate) if candidate else None,
        {peer.name: arm(position, peer) for position, peer in enumerate(there)},
    )


def session(line: Line, who: Contestants, device: DeviceInfo, number: int) -> dict[str, Row]:
    """What each arm measured, by its name; none of those that were ended because another one failed."""
    plan = make_ab_plan(
        Suite("peers", timeout_s=_START_S), device, who.arms, Trial(looks=(line.sessions,)), telemetry_hz=0.0
    )
    plan = dataclasses.replace(plan, duet=line.duet)
    with tempfile.TemporaryDirectory(prefix="vnbench-peers-") as name:
        folder = Path(name)
        scratch = folder / "scratch"
        for made in (scratch, folder / "logs"):
            made.mkdir()
        jobs = [
            Job(plan, device, (Item(arm.workload or ""),), number, name, str(scratch), sequence=position, arm=arm)
            for position, arm in enumerate(plan.arms)
        ]
        lock_fd = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            outcomes = duet.play(jobs, [arms.place(arm, scratch) for arm in plan.arms], lock_fd, Random(plan.run_id))
        finally:
            os.close(lock_fd)
    rows = {one.job.arm.name: _row(one) for one in outcomes if one.job.arm}
    return {name: row for name, row in rows.items() if row is not None}


def _row(outcome: Outcome) -> Row | None:
    if outcome.fatal is not None:
        return {"status": "failed", "reason": outcome.fatal["what"]}
    if outcome.death is not None:
        return {"status": outcome.death[0], "reason": outcome.death[1]}
    for event in outcome.events:
        if event["event"] == "measured":
            return {"status": "ok", **event["columns"]}
    return None


def failures(rows: Mapping[str, Row]) -> dict[str, str]:
    """Why arms could not be measured, by their names."""
    return {name: f"{row['status']}: {row['reason']}" for name, row in rows.items() if row["status"] != "ok"}


def record(line: Line, who: Contestants, rows: Mapping[str, Row], number: int) -> Row:
    """A session in which all were measured, as it is kept: rates in the unit of ours, and log-ratios.

    A log-ratio is how much longer the other one takes for the same work, positive where ours is ahead. Whoever took
    the same work to be another amount than ours does is found out here.

    Raises:
        ValueError: ours counts other work than the line says that peers do.
    """
    limit = rows["limit"] if who.limit else None
    found: Row = {
        "line": line.name,
        "session": number,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "ours": {},
        "limit": {} if who.limit is None else {"workload": who.limit.workload},
        "peers": {name: _rate(line.work, rows[arm.name]) for name, arm in who.peers.items()},
        "log_ratios": {},
    }
    for arm in who.ours:
        row = rows[arm.name]
        counted = row["value"] * row["median_ns"] * 1e-9
        if abs(counted / line.work - 1) > 1e-9:
            raise ValueError(f"{arm.workload} does {counted:g}, and its peers {line.work:g}")
        name = str(arm.workload)
        found["ours"][name] = _rate(line.work, row)
        if limit is not None:
            found["limit"][name] = limit_rate(line.work, row, limit)
        theirs = {peer: _of_work(line.work, rows[its.name]) for peer, its in who.peers.items()}
        found["log_ratios"][name] = {peer: sessions.log_ratio(row, other) for peer, other in theirs.items()}
    return found


def limit_rate(work: float, row: Row, limit: Row) -> float:
    """How fast ours would be at the roof: a roof of bytes by the bytes of a launch, one of operations by those."""
    counted = "bytes_moved" if limit["unit"] == "B/s" else "flops"
    return _rate(work * limit[counted] / row[counted], limit)


def _rate(work: float, row: Row) -> float:
    """Per second, in the median burst, which stands for itself with its lower quartile (`bench.sessions`)."""
    bursts_ns = np.reshape(row["elapsed_ns"], (-1, row["burst_samples"]))
    return float(work / np.median(np.quantile(bursts_ns, 0.25, axis=1)) * 1e9)


def _of_work(work: float, row: Row) -> Row:
    """A call, counted as the work that it does."""
    return {**row, "value": work / row["median_ns"] * 1e9}

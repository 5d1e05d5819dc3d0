"""Which workloads a device can run, found by trying each at a small size in a child process."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.launch import local
from bench.types import DeviceInfo, Item, Job, Plan, Policy

_TIMEOUT_S = 20.0


def obstacles(names: Sequence[str], device: DeviceInfo) -> dict[str, str | None]:
    """Why each workload cannot run on that device; None where it can."""
    found: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory(prefix="vnbench-") as folder, Path(os.devnull).open() as no_lock:
        (Path(folder) / "logs").mkdir()
        plan = Plan(
            run_id="probe",
            node="",
            suite="",
            started_at="",
            workloads={device.kind: tuple(names)},
            devices=(device,),
            policy=Policy(),
            replicates=1,
            timeout_s=_TIMEOUT_S,
            vnbench_version="",
        )
        job = Job(plan, device, tuple(map(Item, names)), 0, folder=folder, scratch=folder, task="probe")
        while job.items:
            (outcome,) = local.run_group([job], no_lock.fileno())
            for event in outcome.events:
                if event["event"] == "probed":
                    found[job.items[event["item"]].workload] = event["reason"]
            lost = len(job.items) if outcome.fatal else outcome.lost
            for item in job.items[outcome.finished : lost]:
                found[item.workload] = outcome.death[1] if outcome.death else (outcome.fatal or {}).get("what")
            job = dataclasses.replace(job, items=job.items[lost:], sequence=job.sequence + lost)
    return found

"""What a device can do, found by trying in a child process: which workloads run, and how steady its speed is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.launch import local
from bench.types import DeviceInfo, Item, Job, Plan, Policy

_TIMEOUT_S = 20.0


def obstacles(names: Sequence[str], device: DeviceInfo) -> dict[str, str | None]:
    """Why each workload cannot run on that device; None where it can."""
    found: dict[str, str | None] = {}
    with _place() as (folder, no_lock):
        job = _job(device, folder, task="probe", items=tuple(map(Item, names)))
        while job.items:
            (outcome,) = local.run_group([job], no_lock)
            for event in outcome.events:
                if event["event"] == "probed":
                    found[job.items[event["item"]].workload] = event["reason"]
            lost = len(job.items) if outcome.fatal else outcome.lost
            for item in job.items[outcome.finished : lost]:
                found[item.workload] = outcome.death[1] if outcome.death else (outcome.fatal or {}).get("what")
            job = dataclasses.replace(job, items=job.items[lost:], sequence=job.sequence + lost)
    return found


def calibrations(devices: Sequence[DeviceInfo]) -> dict[str, dict[str, int]]:
    """The calibration workload's two times a second apart, as columns, by device; a device that fails has none."""
    with _place() as (folder, no_lock):
        outcomes = local.run_group([_job(device, folder, task="calibrate", items=()) for device in devices], no_lock)
        return {
            outcome.job.device.label: {
                "calibration_before_ns": event["before_ns"],
                "calibration_after_ns": event["after_ns"],
            }
            for outcome in outcomes
            for event in outcome.events
            if event["event"] == "calibration"
        }


@contextlib.contextmanager
def _place() -> Iterator[tuple[str, int]]:
    """A folder for workers that leave no result, and a lock that locks nothing."""
    with tempfile.TemporaryDirectory(prefix="vnbench-") as folder, Path(os.devnull).open() as no_lock:
        (Path(folder) / "logs").mkdir()
        yield folder, no_lock.fileno()


def _job(device: DeviceInfo, folder: str, items: tuple[Item, ...], **fields: Any) -> Job:
    plan = Plan(
        run_id="probe",
        node="",
        suite="",
        started_at="",
        workloads={device.kind: tuple(item.workload for item in items)},
        devices=(device,),
        policy=Policy(),
        replicates=1,
        timeout_s=_TIMEOUT_S,
        vnbench_version="",
    )
    return Job(plan, device, items, 0, folder=folder, scratch=folder, **fields)

"""What a device can do, found by trying in a child process: which workloads run, and how steady its speed is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import registry
from bench.launch import local
from bench.types import DeviceInfo, Item, Job, Plan, Policy

_TIMEOUT_S = 20.0


def obstacles(names: Sequence[str], devices: Sequence[DeviceInfo]) -> dict[str, str | None]:
    """Why each workload cannot run on the first of the devices; None where it can. A launch may take several."""
    alike = [device for device in devices if device.kind == devices[0].kind]
    found = {name: registry.shortage(name, alike) for name in names}
    items = tuple(Item(name) for name in names if found[name] is None)
    with _place() as (folder, no_lock):
        job = _job(alike, folder, task="probe", items=items)
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
        outcomes = local.run_group([_job([device], folder, task="calibrate", items=()) for device in devices], no_lock)
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


def _job(devices: Sequence[DeviceInfo], folder: str, items: tuple[Item, ...], **fields: Any) -> Job:
    """For the first of the devices."""
    plan = Plan(
        run_id="probe",
        node="",
        suite="",
        started_at="",
        workloads={devices[0].kind: tuple(item.workload for item in items)},
        devices=tuple(devices),
        policy=Policy(),
        replicates=1,
        timeout_s=_TIMEOUT_S,
        vnbench_version="",
    )
    return Job(plan, devices[0], items, 0, folder=folder, scratch=folder, **fields)

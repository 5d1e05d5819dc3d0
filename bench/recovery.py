"""From a run's folder to its result: at its end, or after it was killed; and back again, so that it can go on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import bench
from bench import anonymous, merge, registry, store
from bench.device import select
from bench.errors import OutputNotWritable, UsageError
from bench.plan import node_names, source_commit
from bench.schema import Row
from bench.store import RunFolder
from bench.telemetry.reading import Reading
from bench.types import DeviceInfo, Plan


def merged(folder: RunFolder) -> tuple[list[Row], list[Reading]]:
    """The rows that the result would have now, and the readings that their state comes from."""
    readings = folder.readings()
    return merge.finish(folder.plan, folder.rows(), folder.calibrations(), readings), readings


def commit(folder: RunFolder) -> tuple[Path, int]:
    """Merge what is in a run's folder into its result, and give the file's path and how many rows were measured."""
    rows, readings = merged(folder)
    if folder.plan.anonymous:
        folder, rows, readings = _anonymous(folder, rows, readings)
    return folder.commit(rows, readings), sum(row["status"] != "interrupted" for row in rows)


def recover(out: Path, note: Callable[[str], None]) -> None:
    """Turn what killed runs left behind into results, their missing rows marked ``interrupted``."""
    for folder in store.abandoned(out, node_names()):
        try:
            path, finished = commit(folder)
            note(f"recovered the killed run {folder.plan.run_id}: {finished} measurements, now in {path}")
        except OutputNotWritable:
            raise
        except Exception as error:  # its workloads are not known to this version, say: it must not stop another run
            note(f"the killed run {folder.plan.run_id} stays in {folder.path}: {error}")
        finally:
            folder.release()


def resumable(out: Path, run_id: str) -> tuple[Plan, list[Row]]:
    """The plan of an interrupted run and the rows that need not be measured again.

    Raises:
        UsageError: the run was of another node, or its workloads have changed since.
    """
    plan, rows = store.read(store.find_one(out, run_id))
    if plan.node not in node_names():
        raise UsageError(f"run {plan.run_id} was on node {plan.node!r}, this is {node_names()[0]!r}", "Start a new run")
    kept = [row for row in rows if row["status"] != "interrupted"]
    for row in kept:
        if registry.resolve(row["workload"]).spec.spec_id != row["spec_id"]:
            raise UsageError(f"{row['workload']} has changed since run {plan.run_id} began", "Start a new run")
    is_hidden = plan.anonymous and any(device.uuid for device in plan.devices)
    devices = _known_again(plan.devices) if is_hidden else plan.devices
    return dataclasses.replace(
        plan, devices=devices, vnbench_version=bench.__version__, source_commit=source_commit()
    ), kept


def _known_again(devices: Sequence[DeviceInfo]) -> tuple[DeviceInfo, ...]:
    """The devices of an anonymous result with their true UUIDs, by which their state is read."""
    uuids = {anonymous.pseudonym(device.uuid): device.uuid for device in select.find("all") if device.uuid}
    return tuple(dataclasses.replace(device, uuid=uuids.get(device.uuid or "", device.uuid)) for device in devices)


def _anonymous(
    folder: RunFolder, rows: Sequence[Row], readings: Sequence[Reading]
) -> tuple[RunFolder, list[Row], list[Reading]]:
    """The same with a pseudonym for each serial and UUID, and for the host's name where a library told it."""
    details = (json.loads(row["environment"]) for row in rows if row["environment"])
    names = {serial for each in details for serial in anonymous.serials(each)}
    plan = Plan.from_json(anonymous.scrubbed(dataclasses.asdict(folder.plan), names))
    clean = [Reading.from_json(anonymous.scrubbed(one.to_json(), names)) for one in readings]
    return dataclasses.replace(folder, plan=plan), anonymous.scrubbed(list(rows), names), clean

"""What this node is, for a reader: devices, software, roofs, and what makes it unfit to measure just now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import environment, fitness, peaks, store
from bench.device import select
from bench.errors import UnreadableResult
from bench.summary import summarize
from bench.telemetry import host
from bench.types import DeviceInfo

_WATCH_S = 1.0
_PEAK_ROOFS = (
    "roof/compute/fp64",
    "roof/compute/fp32",
    "roof/compute/tf32",
    "roof/compute/bf16",
    "roof/compute/fp16",
    "roof/compute/fp8-e4m3",
    "roof/compute/int8",
    "roof/memory/read",
)


@dataclass(frozen=True)
class RoofValue:
    """One limit of a device: measured in its latest run, or from the datasheet."""

    device: str
    name: str
    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class NodeInfo:
    devices: tuple[DeviceInfo, ...]
    keys: dict[str, Any]
    details: dict[str, Any]
    roofs: tuple[RoofValue, ...]
    unfit: tuple[str, ...]
    state: host.HostWindow


def gather(selector: str, out: Path) -> NodeInfo:
    """Look at this node for a second; measured roofs come from its latest result in ``out``."""
    devices = select.find(selector)
    captured = environment.capture(devices[0])
    before = host.read()
    time.sleep(_WATCH_S)
    state = host.window(before, host.read())
    return NodeInfo(
        devices=devices,
        keys=dict(captured.keys),
        details=dict(captured.details),
        roofs=(*_measured(devices, out), *_datasheet(devices)),
        unfit=tuple(fitness.host_flags(state.steal_fraction, state.foreign_cpu_fraction, state.cpu_s)),
        state=state,
    )


def _datasheet(devices: tuple[DeviceInfo, ...]) -> list[RoofValue]:
    found = []
    for device in devices:
        for name in _PEAK_ROOFS:
            peak = peaks.peak(device.name, name)
            if peak is not None:
                found.append(RoofValue(device.label, name, peak.value, peak.unit, f"datasheet: {peak.source}"))
    return found


def _measured(devices: tuple[DeviceInfo, ...], out: Path) -> list[RoofValue]:
    """The roofs of the latest result that has some for these devices."""
    for path in sorted((out / "runs").rglob("*.parquet"), key=lambda path: path.name, reverse=True):
        try:
            plan, rows = store.read(path)
        except UnreadableResult:
            continue
        then = {(device.label, device.name, device.uuid) for device in plan.devices}
        here = {device.label for device in devices if (device.label, device.name, device.uuid) in then}
        found = [
            RoofValue(one.device, one.workload, one.value, one.unit, f"measured {plan.started_at[:16]}Z")
            for one in summarize(rows)
            if one.is_roof and one.device in here and one.value is not None and one.unit is not None
        ]
        if found:
            return found
    return []

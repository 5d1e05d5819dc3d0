"""What this node is, for a reader: devices and their state, software, roofs, and what makes it unfit to measure now."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import anonymous, environment, fitness, peaks, probe, schema, store
from bench.device import select
from bench.environment import Environment
from bench.errors import UnreadableResult, UnusableGpu
from bench.fitness import Finding
from bench.summary import summarize
from bench.telemetry import host, nvml, window
from bench.telemetry.reading import Reading
from bench.telemetry.sources import Sources
from bench.types import DeviceInfo

_WATCH_S = 1.0
_PERIOD_S = 0.1
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
    kind: str  # measured or datasheet
    source: str


@dataclass(frozen=True)
class DeviceState:
    """A device: what the driver says of it, the columns of its state as in a row, what speaks against measuring."""

    device: DeviceInfo
    facts: Mapping[str, Any]
    state: Mapping[str, Any]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class NodeInfo:
    node: str
    devices: tuple[DeviceState, ...]
    keys: Mapping[str, Any]
    details: Mapping[str, Any]
    roofs: tuple[RoofValue, ...]
    obstacle: str | None  # why the GPUs that are there cannot be measured on

    @property
    def is_fit(self) -> bool:
        flags = (one.flag for device in self.devices for one in device.findings)
        return self.obstacle is None and not any(map(fitness.is_unfit, flags))


def gather(selector: str, out: Path, node: str) -> NodeInfo:
    """Look at this node for some seconds; measured roofs come from its latest result in ``out``.

    The idle state is read for a second, and then the calibration workload is timed twice on what a run would use.
    """
    devices, usable, obstacle = _devices(selector)
    captured = [environment.capture(device) for device in devices]
    before = host.read()
    readings = _watch(devices)
    around = host.window(before, host.read())
    calibrated = probe.calibrations(usable)
    return NodeInfo(
        node=node,
        devices=tuple(
            _state(device, its, readings, {**around.columns, **calibrated.get(device.label, {})})
            for device, its in zip(devices, captured, strict=True)
        ),
        keys=captured[0].keys,
        details=captured[0].details,
        roofs=(*_measured(devices, out), *_datasheet(devices)),
        obstacle=obstacle,
    )


def _state(device: DeviceInfo, its: Environment, readings: Sequence[Reading], around: Mapping[str, Any]) -> DeviceState:
    """A device from its first reading to its last, with the columns that others have found."""
    series = [one for one in readings if (one.device, one.device_index) == (device.kind, device.index)]
    from_ns, until_ns = series[0].at_ns, series[-1].at_ns
    state = {"device": device.kind, **schema.window_columns(from_ns, until_ns, 0)}
    state |= window.state(series, from_ns, until_ns, round(_PERIOD_S * 1e9)) | dict(around) | dict(its.keys)
    return DeviceState(device, its.details["gpu"], state, tuple(fitness.findings(state)))


def anonymized(info: NodeInfo) -> NodeInfo:
    """The same with pseudonyms for serials and UUIDs."""
    names = {serial for one in info.devices for serial in anonymous.serials(one.facts)}

    def clean(value: Any) -> Any:
        return anonymous.scrubbed(value, names)

    devices = tuple(
        dataclasses.replace(
            one,
            device=DeviceInfo(**clean(dataclasses.asdict(one.device))),
            facts=clean(one.facts),
            state=clean(one.state),
        )
        for one in info.devices
    )
    return dataclasses.replace(info, devices=devices, keys=clean(info.keys), details=clean(info.details))


def _devices(selector: str) -> tuple[tuple[DeviceInfo, ...], tuple[DeviceInfo, ...], str | None]:
    """All that there are, those of them that a run would use, and why it cannot use the GPUs."""
    unread = nvml.obstacle()
    why = None if unread is None or unread.is_absence else f"NVML: {unread}"
    try:
        found, obstacle = select.find(selector), why
    except UnusableGpu as error:
        found = (select.cpu_info("shown beside what the driver shows"),)
        obstacle = " ".join(filter(None, (str(error), why)))
    has_gpus = any(device.kind == "cuda" for device in found)
    shown = nvml.devices() if selector in ("auto", "all") and not has_gpus else ()
    return (*found, *shown), found, obstacle


def _watch(devices: Sequence[DeviceInfo]) -> list[Reading]:
    sources = Sources(devices, os.getpid())
    try:
        found = []
        end_s = time.monotonic() + _WATCH_S
        while time.monotonic() < end_s:
            found += sources.read()
            time.sleep(_PERIOD_S)
        return found + sources.read()
    finally:
        sources.close()


def _datasheet(devices: Sequence[DeviceInfo]) -> list[RoofValue]:
    found = []
    for device in devices:
        for name in _PEAK_ROOFS:
            peak = peaks.peak(device.name, name)
            if peak is not None:
                found.append(RoofValue(device.label, name, peak.value, peak.unit, "datasheet", peak.source))
    return found


def _measured(devices: Sequence[DeviceInfo], out: Path) -> list[RoofValue]:
    """The roofs of the latest result that has some for these devices."""
    for path in sorted(store.result_files(out / "runs"), key=lambda path: path.name, reverse=True):
        try:
            plan, rows = store.read(path)
        except UnreadableResult:
            continue
        then = {(device.label, device.name, device.uuid) for device in plan.devices}
        here = {device.label for device in devices if (device.label, device.name, device.uuid) in then}
        found = [
            RoofValue(one.device, one.workload, one.value, one.unit, "measured", f"{plan.started_at[:16]}Z")
            for one in summarize(rows)
            if one.is_roof and one.device in here and one.value is not None and one.unit is not None
        ]
        if found:
            return found
    return []

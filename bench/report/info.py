"""What a node is and what two results differ in, on a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench import units
from bench.diff import Difference
from bench.fitness import Finding
from bench.info import DeviceState, NodeInfo

JSON_VERSION = 1

# Columns of the state that are worth a word in one line: (column, how to say it).
_NOW = (
    ("sm_clock_mhz_mean", "SM {:.0f} MHz"),
    ("mem_clock_mhz_mean", "memory {:.0f} MHz"),
    ("cpu_clock_mhz_mean", "{:.0f} MHz"),
    ("power_w_mean", "{:.0f} W"),
    ("temperature_c_max", "{:.0f} °C"),
)
_HOST_NOW = (
    ("load_1m", "load {:.1f}"),
    ("steal_fraction", "steal {:.1%}"),
    ("foreign_cpu_fraction", "others use {:.1%}"),
)


def show_info(out: Console, info: NodeInfo) -> None:
    """The node: devices, environment keys, roofs, fitness."""
    out.print(f"node {info.node}", style="bold")
    out.print(f"  now: {_now(info.devices[0], _HOST_NOW)}")
    for one in info.devices:
        _show_device(out, one)
    out.print("environment", style="bold")
    for key, value in info.keys.items():
        if value not in (None, []):
            shown = units.show_bytes(value) if key.endswith("memory_bytes") else value
            out.print(f"  {key:<21} {shown}")
    unknown = [key for key, value in info.keys.items() if value is None]
    if unknown:
        out.print(f"  unknown here: {', '.join(unknown)}", style="dim")
    out.print("roofs", style="bold")
    for roof in info.roofs:
        source = f" {roof.source}" if roof.kind == "measured" else ""
        out.print(f"  {roof.device}  {roof.name:<24} {units.show(roof.value, roof.unit):>14}  {roof.kind}{source}")
    for source in dict.fromkeys(roof.source for roof in info.roofs if roof.kind == "datasheet"):
        out.print(f"  datasheet: {source}", style="dim")
    if not info.roofs:
        out.print("  none measured yet: run `vnbench run quick`")
    _show_fitness(out, info)


def _show_device(out: Console, one: DeviceState) -> None:
    device = one.device
    memory = "" if device.memory_bytes is None else f", {units.show_bytes(device.memory_bytes)}"
    out.print(f"{device.label}  {device.name or 'unknown model'}{memory}", style="bold")
    out.print(f"  {device.reason}" + (f"; {device.uuid}" if device.uuid else ""))
    out.print(f"  now: {_now(one, _NOW)}")


def _now(one: DeviceState, columns: Sequence[tuple[str, str]]) -> str:
    said = [words.format(one.state[name]) for name, words in columns if one.state.get(name) is not None]
    return ", ".join(said) or "its state cannot be read here"


def _show_fitness(out: Console, info: NodeInfo) -> None:
    out.print("fitness", style="bold")
    if info.obstacle is not None:
        out.print(f"  {info.obstacle}", style="red")
    found: dict[tuple[str, str], tuple[Finding, list[str]]] = {}
    for one in info.devices:
        for finding in one.findings:
            found.setdefault((finding.flag, finding.measured), (finding, []))[1].append(one.device.label)
    for finding, labels in found.values():
        where = "this node" if len(labels) == len(info.devices) > 1 else ", ".join(labels)
        out.print(f"  {finding.flag} on {where}: {finding.measured} (limit: {finding.limit})")
        out.print(f"    {finding.meaning}; {finding.remedy}", style="yellow")
    if not found and info.obstacle is None:
        out.print("  nothing speaks against measuring now", style="green")


def info_json(info: NodeInfo) -> str:
    """What ``info --json`` prints; its keys are explained in docs/environment.md and stay what they are."""
    return json.dumps(
        {
            "version": JSON_VERSION,
            "node": info.node,
            "fit": info.is_fit,
            "obstacle": info.obstacle,
            "devices": [
                {
                    **dataclasses.asdict(one.device),
                    "facts": dict(one.facts),
                    "state": {name: _plain(value) for name, value in one.state.items() if name not in info.keys},
                    "findings": [dataclasses.asdict(finding) for finding in one.findings],
                }
                for one in info.devices
            ],
            "environment": dict(info.keys),
            "details": dict(info.details),
            "roofs": [dataclasses.asdict(roof) for roof in info.roofs],
        },
        indent=2,
    )


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.datetime) else value


def show_diff(out: Console, names: tuple[str, str], found: list[Difference]) -> None:
    """What differs, a line per key, under the kind of key that it is."""
    out.print(f"A  {names[0]}\nB  {names[1]}", soft_wrap=True)
    if not found:
        out.print("no difference in what was recorded", style="green")
    for kind in dict.fromkeys(one.kind for one in found):
        out.print(kind, style="bold")
        for one in found:
            if one.kind == kind:
                out.print(f"  {one.key}", style="yellow")
                out.print(f"    A  {one.a}\n    B  {one.b}", soft_wrap=True)


def diff_json(names: tuple[str, str], found: list[Difference]) -> str:
    """The same for scripts."""
    differences = [dataclasses.asdict(one) for one in found]
    return json.dumps({"a": names[0], "b": names[1], "differences": differences}, indent=2)

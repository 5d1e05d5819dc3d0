"""A soak as a table and as JSON: what each device kept of its first minute, and how it stands beside its node."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.report.judgements import SIMULATED
from bench.sustained import Sustained
from bench.types import Plan
from bench.units import scaled, show_duration, significant

_LEGEND = (
    "first: median of the first minute; steady: of the second half's stretches; kept: steady over first; slowest: of "
    "all stretches, and which; node: steady over the median of the node's devices; held: seconds slowed down by heat "
    "or a brake; ECC: corrected/uncorrected memory errors. None of it has an interval: see docs/soak.md"
)


def show(out: Console, plan: Plan, found: Sequence[Sustained]) -> None:
    """A line per device, then who crashed, was wrong, or lags behind."""
    soak = plan.soak
    assert soak is not None
    whole = min((one.soaked_s for one in found), default=0.0)
    out.print(
        f"soak {plan.run_id}  node {plan.node}  {show_duration(whole)} of {show_duration(soak.seconds)}  "
        f"{soak.workload}",
        style="bold",
        soft_wrap=True,
    )
    factor, unit = _scale(found)
    if any(device.kind == "fake" for device in plan.devices):
        out.print(SIMULATED, style="bold red")
    out.print(f"rates in {unit}")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # eleven columns in 80 characters
    table.add_column("device", no_wrap=True)
    for name in ("first", "steady", "kept", "slowest", "node", "held s", "°C", "ECC", "wrong", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        table.add_row(*_cells(one, factor))
    out.print(table)
    for line in remarks(found):
        out.print(line, soft_wrap=True)
    out.print(_LEGEND, style="dim")


def remarks(found: Sequence[Sustained]) -> list[str]:
    """What a reader should not miss."""
    lines = [
        f"{one.device}: {one.processes} processes: it crashed, or was resumed" for one in found if one.processes > 1
    ]
    lines += [f"{one.device}: wrong answers after {one.wrong} stretches" for one in found if one.wrong]
    beside = [one for one in found if one.over_median is not None]
    if beside:
        last = min(beside, key=lambda one: one.over_median or 0.0)
        behind = 1 - (last.over_median or 0.0)
        lines.append(f"slowest device: {last.device}, {behind:.1%} behind the median of its node")
    return lines


def to_json(plan: Plan, path: Path, found: Sequence[Sustained], verdict: bytes | None) -> str:
    """One line; rates are in base units, and the verdict is as judge has it, null where nothing was judged by."""
    assert plan.soak is not None
    return json.dumps(
        {
            "run_id": plan.run_id,
            "path": str(path),
            "node": plan.node,
            "simulated": any(device.kind == "fake" for device in plan.devices),
            "soak": dataclasses.asdict(plan.soak),
            "devices": [dataclasses.asdict(one) | {"kept": one.kept} for one in found],
            "verdict": None if verdict is None else json.loads(verdict),
        }
    )


def _scale(found: Sequence[Sustained]) -> tuple[float, str]:
    """What all rates are shown divided by, and the unit that this leaves: one for the table."""
    rates = [(rate, one.unit or "") for one in found for rate in (one.first_minute, one.slowest, one.steady) if rate]
    if not rates:
        return 1.0, "–"
    largest, unit = max(rates)
    number, shown = scaled(largest, unit)
    return largest / number, shown


def _cells(one: Sustained, factor: float) -> list[str]:
    def rate(value: float | None) -> str:
        return "–" if value is None else significant(value / factor, 4)

    return [
        one.device,
        rate(one.first_minute),
        rate(one.steady),
        _percent(one.kept),
        rate(one.slowest) if one.slowest is None else f"{rate(one.slowest)} ({one.slowest_stretch})",
        _percent(one.over_median),
        _number(one.throttle_s),
        _number(one.temperature_c_max),
        f"{_number(one.ecc_corrected)}/{_number(one.ecc_uncorrected)}",
        str(one.wrong),
        str(one.failed),
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"

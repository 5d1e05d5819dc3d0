"""What an A/A test says of a machine, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.report.judgements import SIMULATED, Report, asides, reasons
from bench.sessions import Noise
from bench.types import Plan

_LEGEND = (
    "noise: the standard deviation of a session's ratio; finds: the slowdown that ab finds 80 % of the time with all "
    "its sessions; trials: as long as ab would have been; alarms: those that saw a difference, though there is none"
)


def show(out: Console, plan: Plan, found: Sequence[Noise], report: Report) -> None:
    """A line per workload; what could not be measured, and what makes the machine unfit, as the report has it."""
    out.print(report.title, style="bold")
    if report.is_simulated:
        out.print(SIMULATED, style="bold red")
    table = Table(box=None, pad_edge=False, padding=(0, 1), width=out.width)
    table.add_column("workload", overflow="fold", ratio=1)
    for name in ("sessions", "noise", "finds", "trials", "alarms", "95 % CI"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        share = "–" if one.false_alarms is None else f"{one.false_alarms.low:.0%}–{one.false_alarms.high:.0%}"
        table.add_row(
            one.workload,
            str(one.sessions),
            _percent(one.log_sd),
            _detectable(one),
            str(one.trials),
            str(one.alarms),
            share,
        )
    out.print(table)
    for line in (*reasons(report.judgements), *asides(report)):
        out.print(line)
    out.print(f"{_LEGEND}; tolerance {plan.trial.tolerance * 100:g} %", style="dim")


def to_json(plan: Plan, path: Path, found: Sequence[Noise], report: Report) -> str:
    """One line of JSON."""
    return json.dumps(
        {
            "run_id": plan.run_id,
            "path": str(path),
            "node": plan.node,
            "tolerance": plan.trial.tolerance,
            "simulated": report.is_simulated,
            "unfit": report.unfit,
            "noise": [dataclasses.asdict(one) for one in found],
            "judgements": [dataclasses.asdict(one) for one in report.judgements],
        }
    )


def words(one: Noise, run_id: str) -> str:
    """The same in a line, for the report of an A/B test."""
    share = "" if one.false_alarms is None else f" (95 % CI {one.false_alarms.low:.0%}–{one.false_alarms.high:.0%})"
    return (
        f"A/A noise of this machine for {one.workload}: {_percent(one.log_sd)} a session, {one.alarms} false alarms in "
        f"{one.trials} trials{share}, run {run_id}"
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _detectable(one: Noise) -> str:
    return "–" if one.detectable is None or one.detectable > 1000 else f"{one.detectable - 1:.1%}"

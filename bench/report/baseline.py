"""Baselines in words: what one is made of, and the list of all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.errors import UnreadableResult
from bench.gate.side import Side
from bench.types import Plan


def summary_words(content: Side) -> str:
    """``2 runs of 1 node, 9 workloads on cpu, 10 processes each``"""
    processes = sorted({cell.processes for cell in content.cells.values()})
    span = f"{processes[0]}" if len(processes) == 1 else f"{processes[0]} to {processes[-1]}"
    workloads = len({workload for workload, _ in content.cells})
    devices = ", ".join(sorted({device for _, device in content.cells}))
    runs = f"{_many(len(content.run_ids), 'run')} of {_many(len(content.nodes), 'node')}"
    return f"{runs}, {_many(workloads, 'workload')} on {devices}, {span} processes each"


def show_list(out: Console, found: Mapping[str, Sequence[Plan] | UnreadableResult]) -> None:
    """A line per baseline, from its newest run; then why some cannot be read."""
    if not found:
        out.print("no baselines; make one with: vnbench baseline set NAME RUN")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1), width=out.width)
    table.add_column("name", overflow="fold", ratio=1)
    for name in ("runs", "workloads"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("node", overflow="ellipsis", no_wrap=True)
    for name in ("newest run", "commit"):
        table.add_column(name, no_wrap=True)
    for name, plans in found.items():
        if isinstance(plans, UnreadableResult):
            table.add_row(name, "–", "–", "unreadable", "–", "–")
            continue
        newest = plans[-1]
        nodes = {plan.node for plan in plans}
        node = newest.node if len(nodes) == 1 else f"{len(nodes)} nodes"
        commit = (newest.source_commit or "–")[:9]
        table.add_row(name, str(len(plans)), str(_workloads(plans)), node, f"{newest.started_at[:16]}Z", commit)
    out.print(table)
    for name, plans in found.items():
        if isinstance(plans, UnreadableResult):
            out.print(f"{name}: {plans.what}", markup=False, highlight=False)


def list_json(found: Mapping[str, Sequence[Plan] | UnreadableResult]) -> str:
    """The same for scripts, with every run's id."""
    return json.dumps([{"name": name, **_described(plans)} for name, plans in found.items()])


def _described(plans: Sequence[Plan] | UnreadableResult) -> dict[str, Any]:
    if isinstance(plans, UnreadableResult):
        unknown = ("run_ids", "nodes", "workloads", "newest_started_at", "source_commit")
        return {**dict.fromkeys(unknown), "error": plans.what}
    return {
        "run_ids": [plan.run_id for plan in plans],
        "nodes": sorted({plan.node for plan in plans}),
        "workloads": _workloads(plans),
        "newest_started_at": plans[-1].started_at,
        "source_commit": plans[-1].source_commit,
        "error": None,
    }


def _workloads(plans: Sequence[Plan]) -> int:
    return len({name for plan in plans for names in plan.workloads.values() for name in names})


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

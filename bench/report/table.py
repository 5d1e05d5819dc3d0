"""The table of results: 80 columns on a terminal, plain lines in a pipe, the same figures in both."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import fitness, registry, units
from bench.report.console import PlainConsole
from bench.summary import Spread, Summary
from bench.types import Plan

_WIDTH = 80
_NAME_WIDTH = 28
_STYLES = {"ok": "green", "unsupported": "dim", "interrupted": "yellow"}


def console(*, stderr: bool = False) -> Console:
    """A console 80 columns wide, or as wide as a smaller terminal; rich itself obeys NO_COLOR."""
    found = PlainConsole(stderr=stderr)
    found.width = min(_WIDTH, found.width) if found.is_terminal else _WIDTH
    return found


def show_results(out: Console, plan: Plan, summaries: Sequence[Summary], spreads: Sequence[Spread]) -> None:
    """The run, its table, the spread over devices, and what the flags mean."""
    devices = ", ".join(dict.fromkeys(f"{device.kind} ({device.name})" for device in plan.devices))
    out.print(f"run {plan.run_id}  suite {plan.suite}  node {plan.node}", style="bold")
    out.print(f"{plan.started_at[:19]}Z  {plan.replicates} replicates in fresh processes  {devices}")
    if any("simulated" in one.validity for one in summaries):
        out.print("SIMULATED: these figures come from a script and measure nothing", style="bold red")
    out.print(_table(summaries, out.width))
    for spread in spreads:
        out.print(f"{spread.workload}: slowest {spread.slowest}, {spread.fraction:.1%} behind the fastest")
    for line in _searches(summaries):
        out.print(line)
    for line in _explanations(summaries):
        out.print(line, style="dim")


def _table(summaries: Sequence[Summary], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), width=width)
    table.add_column("workload", overflow="fold", ratio=1)
    table.add_column("device", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % CI", justify="right", no_wrap=True)
    table.add_column("roof", justify="right", no_wrap=True)
    table.add_column("validity", no_wrap=True)
    for one in summaries:
        fraction = "–" if one.fraction_of_roof is None else f"{one.fraction_of_roof:.0%}"
        table.add_row(_name(one.workload), one.device, _value(one), _interval(one), fraction, _validity(one))
    return table


def _name(workload: str) -> str:
    """A long name breaks where its options begin, if it has to break."""
    return workload if len(workload) <= _NAME_WIDTH else workload.replace("@", "\n@", 1)


def _value(one: Summary) -> str:
    return units.show(one.value, one.unit or "")


def _interval(one: Summary) -> str:
    """Both ends under the value's own prefix."""
    if one.value is None or one.interval is None:
        return "–"
    number, _ = units.scaled(one.value, "")
    scale = number / one.value
    low, high = (units.significant(end * scale, 3) for end in (one.interval.low, one.interval.high))
    return f"{low}–{high}"


def _validity(one: Summary) -> Text:
    """A word and how many more there are; the explanations below the table say the rest."""
    if one.status != "ok":
        return Text(one.status, style=_STYLES.get(one.status, "bold red"))
    if not one.validity:
        return Text("ok", style="green")
    first = min(one.validity, key=lambda flag: not fitness.is_unfit(flag))
    word = fitness.RULES[first].word if first in fitness.RULES else first
    return Text(word + (f" +{len(one.validity) - 1}" if len(one.validity) > 1 else ""), style="yellow")


def _searches(summaries: Sequence[Summary]) -> list[str]:
    """What was tried in which time to find each workload that a search chose, and what won, on all devices together."""
    groups: dict[str, list[Summary]] = {}
    for one in summaries:
        if one.candidates and "search_tried" in one.metrics:
            groups.setdefault(one.workload, []).append(one)
    lines = []
    for workload, group in groups.items():
        tried = sorted(one.metrics["search_tried"] for one in group)
        spent_s = max(one.metrics["search_s"] for one in group)
        budget_s = max(one.metrics.get("search_budget_s", 0.0) for one in group)  # results of before lack it
        count = f"{tried[0]:.0f}" if tried[0] == tried[-1] else f"{tried[0]:.0f} to {tried[-1]:.0f}"
        budget = f" of {budget_s:.3g} s" if budget_s else ""
        chosen = (candidate.partition("@")[2] for one in group for candidate in one.candidates)
        best = " and ".join(dict.fromkeys(chosen))
        lines.append(f"{workload}: best of {count} candidates, {spent_s:.1f} s{budget} searched: {best}")
    return lines


def _explanations(summaries: Sequence[Summary]) -> list[str]:
    """What is not ok and why, each thing once, with how many workloads it befell."""
    lines = []
    for one in summaries:
        if one.status != "ok":
            lines.append(f"{one.workload} on {one.device}: {one.status}: {one.reason}")
    for flag in sorted({flag for one in summaries for flag in one.validity}):
        rule = fitness.RULES.get(flag)
        count = sum(flag in one.validity for one in summaries)
        measured = [finding for one in summaries for finding in one.findings if finding.flag == flag]
        worst = max(measured, key=lambda finding: finding.value, default=None)
        seen = "" if worst is None else f", worst: {worst.measured}, limit: {worst.limit}"
        text = f"{rule.meaning}; {rule.remedy}" if rule else "a flag of another version of vnbench"
        lines.append(f"{flag} ({count} of {len(summaries)}{seen}): {text}")
    return lines


def show_plan(out: Console, plan: Plan) -> None:
    """What a run would do."""
    out.print(f"suite {plan.suite}: {plan.replicates} replicates, policy {plan.policy.policy_id}", style="bold")
    for device in plan.devices:
        out.print(f"{device.label}  {device.name or 'unknown model'}  ({device.reason})")
        alike = [other for other in plan.devices if other.kind == device.kind]
        for name in plan.workloads[device.kind]:
            if device in registry.measured_by(name, alike):
                out.print(f"  {name}")

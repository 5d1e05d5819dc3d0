"""An inspection and a soak in plain words and small tables, and as JSON."""

from __future__ import annotations

import dataclasses
import json

from rich.console import Console
from rich.table import Table

from bench import units
from bench.durations import Durations
from bench.inspection import Inspection, Outcome, Soak

JSON_VERSION = 1


def show_inspection(out: Console, found: Inspection) -> None:
    """How many nodes to inspect, and what each number of failures says."""
    size = "any number of nodes" if found.nodes is None else f"{found.nodes} nodes"
    out.print(
        f"inspection of {size}: at most {percent(found.bad_share)} bad, {percent(found.confidence)} confidence",
        style="bold",
    )
    out.print(_advice(found))
    if found.sensitivity < 1:
        out.print(f"The test is taken to find {percent(found.sensitivity)} of the bad nodes.")
    out.print(_outcomes(found))


def _advice(found: Inspection) -> str:
    share = percent(found.bad_share)
    claim = f"at most {share} of the nodes are bad" if found.nodes is None else f"at most {found.bad_nodes} are bad"
    missed = percent(1 - found.sensitivity)
    if not found.is_enough:
        return (
            f"Inspecting all {found.inspected} once does not show that {claim}: the test misses {missed} of the bad "
            "ones. Take one that finds more, or add another that misses different ones."
        )
    drawn = "" if found.nodes is None else f" of the {found.nodes}"
    return (
        f"Inspect {found.inspected}{drawn}, drawn at random. If none fails, {claim}. A delivery with more bad ones "
        f"passes so with a chance of {percent(1 - found.confidence)} at most."
    )


def _outcomes(found: Inspection) -> Table:
    is_known = found.nodes is not None
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("failures", justify="right")
    if is_known:
        table.add_column(f"to show it,\nof {found.nodes} inspect", justify="right")
    table.add_column("to show it, of\nany number inspect", justify="right")
    if is_known:
        table.add_column(f"bad at most,\n{found.inspected} inspected", justify="right")
    table.add_column(f"of any number\n{found.inspected} inspected", justify="right")
    for one in found.outcomes:
        table.add_row(*_cells(one, is_known))
    return table


def _cells(one: Outcome, is_known: bool) -> list[str]:
    share = f"{units.significant(100 * one.bad_share_at_most, 3)} %"
    if not is_known:
        return [str(one.failures), str(one.to_inspect_of_any), share]
    needed = "more than all" if one.to_inspect is None else str(one.to_inspect)
    bad = "–" if one.bad_nodes_at_most is None else _nodes(one.bad_nodes_at_most)
    return [str(one.failures), needed, str(one.to_inspect_of_any), bad, share]


def show_soaks(out: Console, hours: float, confidence: float, soaks: list[Soak]) -> None:
    """What a soak without a failure can show, and what it cannot."""
    out.print(f"\nsoak of {hours:.10g} h without a failure", style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("failures in 1000 node-hours")
    for one in soaks:
        table.add_column(_nodes(one.nodes), justify="right")
    table.add_row(f"at most, at {percent(confidence)} confidence", *(_rate(one.rate_at_most) for one in soaks))
    table.add_row("seen at least once with a chance of 50 %", *(_rate(one.rate_caught_half) for one in soaks))
    table.add_row("seen at least once with a chance of 95 %", *(_rate(one.rate_caught_mostly) for one in soaks))
    out.print(table)
    out.print(
        "It does not show that rarer failures are absent, nor what comes with age (the rate is taken as constant and "
        "alike on all nodes) or under a load that it does not put on."
    )


def show_durations(out: Console, suite: str, found: Durations | None, nodes: int) -> None:
    """How long the measurement takes here."""
    out.print(f"\nhow long {suite} takes on a machine like this", style="bold")
    if found is None:
        out.print(f"not known here: run it once, vnbench run {suite}")
        return
    runs = "1 run" if found.runs == 1 else f"{found.runs} runs"
    out.print(
        f"{units.show_duration(found.median_s)}, the median of {runs} "
        f"({units.show_duration(found.shortest_s)} to {units.show_duration(found.longest_s)})"
    )
    if nodes > 1:
        out.print(f"{nodes} nodes one after another: {units.show_duration(found.one_after_another_s(nodes))}")


def to_json(found: Inspection, soaks: list[Soak], suite: str | None, durations: Durations | None) -> str:
    """The same for scripts, unrounded; rates are per node-hour."""
    return json.dumps(
        {
            "version": JSON_VERSION,
            "inspection": {**dataclasses.asdict(found), "bad_nodes": found.bad_nodes},
            "soaks": [dataclasses.asdict(one) for one in soaks],
            "suite": suite,
            "durations": None if durations is None else dataclasses.asdict(durations),
        },
        indent=2,
    )


def percent(share: float) -> str:
    """``2 %``, ``0.5 %``, ``99.999 %``: all the digits that were written."""
    return f"{100 * share:.10g} %"


def _rate(per_hour: float) -> str:
    return units.significant(1000 * per_hour, 3)


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"

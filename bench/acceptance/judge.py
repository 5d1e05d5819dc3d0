"""The judgement of a result by criteria: a pure function of both, so anybody can repeat it."""

from __future__ import annotations

from collections.abc import Sequence

from bench import registry
from bench.acceptance import bits, figures, soaks, states
from bench.acceptance.model import NODE, Finding, Judged, Verdict
from bench.acceptance.rows import device_of
from bench.criteria.facts import DEVICES, FACTS
from bench.criteria.model import Answers, Criteria, Criterion, Inventory, Performance, Soak, State, Uniformity
from bench.errors import UsageError
from bench.message import say
from bench.schema import Row
from bench.sequential import Design
from bench.types import BUDGET_SPENT, DeviceInfo, Plan

# What NVIDIA's hardware and a CPU are called where a result has none of them.
_ABSENT = {"cuda": say("this result has no NVIDIA GPU"), "cpu": say("this result has no CPU")}


def judge(plan: Plan, rows: Sequence[Row], criteria: Criteria) -> Verdict:
    """The verdict on a run's rows. Neither their order nor anything outside the arguments matters.

    Only devices of the criteria's kind are judged, never others in their place; a fake device plays any kind, and
    makes the verdict a simulated one.

    Raises:
        UsageError: the result is an A/B test's.
    """
    if plan.arms:
        raise UsageError(f"run {plan.run_id} is an A/B test: its two arms are no node", "Name the result of a run")
    devices = [device for device in plan.devices if device.kind in (criteria.device, "fake")]
    devices = sorted(devices, key=lambda device: (device.kind, device.index))
    labels = {device.label for device in devices}
    mine = sorted((row for row in rows if device_of(row) in labels), key=_place)
    design = Design(criteria.looks, 1 - criteria.confidence)
    return Verdict(
        plan.run_id,
        plan.node,
        any(device.kind == "fake" for device in devices) or any("simulated" in (row["validity"] or ()) for row in rows),
        criteria.sha256,
        tuple(Judged(one, _findings(one, plan, devices, mine, criteria, design)) for one in criteria.criteria),
    )


def _place(row: Row) -> tuple[object, ...]:
    """An order of rows that is the same however they came."""
    return row["workload"], row["replicate"], row["device"], row["device_index"], str(row["started_at"])


def _findings(
    one: Criterion,
    plan: Plan,
    devices: Sequence[DeviceInfo],
    rows: Sequence[Row],
    criteria: Criteria,
    design: Design,
) -> tuple[Finding, ...]:
    """Each device's; the node's where it is of all together."""
    if isinstance(one, Inventory) and one.what == DEVICES:
        return (states.devices(one, devices),)
    if not devices:
        return (Finding(NODE, "FAIL", _ABSENT[criteria.device]),)
    if not isinstance(one, Inventory):
        rows = [row for row in rows if row["reason"] != BUDGET_SPENT]  # it was not measured, and did not fail
    if isinstance(one, Uniformity):
        return figures.uniformity(one, {each.label: _of(each, rows, one.workload) for each in devices}, design)
    if isinstance(one, Inventory) and FACTS[one.what].is_of_node:
        return (states.inventory(one, NODE, rows),)
    if isinstance(one, Answers):
        return _answers(one, devices, rows)
    return tuple(_finding(one, each, plan, rows, design) for each in _judged_on(one, devices))


def _answers(one: Answers, devices: Sequence[DeviceInfo], rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Each device's, whose outputs have been held against those of the others."""
    golden = dict(one.golden)
    odd = bits.odd(rows, golden)
    found = []
    for each in devices:
        asked = [name for name in one.workloads if each in registry.measured_by(name, devices)]
        its_odd = [(row, words) for row, words in odd if device_of(row) == each.label]
        found.append(states.answers(each.label, _of(each, rows), asked, its_odd, golden))
    return tuple(found)


def _finding(one: Criterion, device: DeviceInfo, plan: Plan, rows: Sequence[Row], design: Design) -> Finding:
    if isinstance(one, Performance):
        return figures.performance(one, device.label, _of(device, rows, one.workload), design)
    if isinstance(one, Inventory):
        return states.inventory(one, device.label, _of(device, rows))
    if isinstance(one, Soak):
        return soaks.soaked(one, device, plan, rows)
    assert isinstance(one, State)
    return states.state(one, device.label, _of(device, rows))


def _judged_on(one: Criterion, devices: Sequence[DeviceInfo]) -> Sequence[DeviceInfo]:
    """All; the first alone where a launch takes several together."""
    return registry.measured_by(one.workload, devices) if isinstance(one, Performance) else devices


def _of(device: DeviceInfo, rows: Sequence[Row], workload: str | None = None) -> list[Row]:
    mine = (row for row in rows if device_of(row) == device.label)
    # Of a workload replicates are asked for, and stretches of a soak are none.
    return [row for row in mine if workload is None or (row["workload"] == workload and row["arm"] is None)]

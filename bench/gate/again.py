"""The plan that measures again what a baseline has."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bench import registry
from bench.errors import UnknownWorkload, UsageError
from bench.gate import baseline
from bench.gate.side import Key, Side
from bench.plan import make_plan
from bench.suite import Suite
from bench.types import DeviceInfo, Plan

_MOST_REPLICATES = 10  # unless the user says another number


def newest_known(plans: Sequence[Plan]) -> Plan:
    """The newest plan, of those that end with it, with a workload that this version of vnbench knows.

    Raises:
        UsageError: there is none, as where all was imported.
    """
    for plan in reversed(plans):
        if any(_is_known(name) for names in plan.workloads.values() for name in names):
            return plan
    raise UsageError(
        "vnbench cannot measure the baseline again: these are another program's workloads",
        "Name new results with --current (and --confirm)",
    )


def selector(plan: Plan) -> str:
    """The ``--device`` that finds devices of the same kinds."""
    kinds = {device.kind for device in plan.devices}
    if "fake" in kinds:
        return f"fake:{plan.devices[0].scenario or 'steady'}"
    return "all" if len(kinds) > 1 else kinds.pop()


def plan_again(
    reference: Side, plan: Plan, devices: Sequence[DeviceInfo], *, replicates: int | None, only: Collection[Key] = ()
) -> tuple[Plan, list[str]]:
    """What measures a baseline's workloads again under its plan's policy, or ``only`` some of them.

    Devices that the baseline does not know are left out. The second part names the workloads that this version of
    vnbench does not know: they are missing, and the gate says so.

    Raises:
        UsageError: nothing is left to measure.
    """
    keys = only or reference.cells.keys()
    labels = {device for _, device in keys}
    chosen = [device for device in devices if device.label in labels]
    unknown = sorted({name for name, _ in keys if not _is_known(name)})
    by_kind: dict[str, tuple[str, ...]] = {}
    for device in chosen:
        names_here = sorted(name for name, label in keys if label == device.label and name not in unknown)
        kind = "cpu" if device.kind == "fake" else device.kind  # a fake device plays a CPU
        by_kind[kind] = tuple(dict.fromkeys((*by_kind.get(kind, ()), *names_here)))
    if not any(by_kind.values()):
        have = ", ".join(sorted(labels))
        raise UsageError(f"nothing of the baseline can be measured here: it is of {have}", "Choose another --device")
    suite = Suite("gate-again" if only else "gate", by_kind=by_kind, policy=plan.policy, timeout_s=plan.timeout_s)
    count = replicates or min(max(plan.replicates, baseline.FEWEST_REPLICATES), _MOST_REPLICATES)
    return make_plan(suite, chosen, replicates=count, telemetry_hz=plan.telemetry_hz), unknown


def _is_known(workload: str) -> bool:
    try:
        registry.resolve(workload)
    except (UnknownWorkload, UsageError):
        return False
    return True

"""A soak: one load on all devices together for hours, as a run of its own or as the first stage of an acceptance."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import run
from bench.errors import Interrupted, UsageError
from bench.observer import Observer
from bench.plan import make_plan
from bench.schema import Row
from bench.suite import Suite
from bench.types import DeviceInfo, Plan, Soak

# Of each kind of device, what keeps all of it busy; a script takes a millisecond for anything.
WORKLOADS: Mapping[str, str] = {
    "cuda": "soak/8192/mib256/llama-3.2-1b",
    "cpu": "soak/1024/mib64/smollm2-135m@products=16,moves=4,copies=2,steps=2",
    "fake": "soak/64/mib1/tiny@products=1,moves=1,copies=1,steps=1",
}
# Of a stretch, beside its own length: a model is drawn, checked, and loaded.
_TIMEOUT_S = 600.0


def workload_on(devices: Sequence[DeviceInfo]) -> str:
    """The load for devices of a kind.

    Raises:
        UsageError: they are of several kinds, which no one load fits.
    """
    kinds = sorted({device.kind for device in devices})
    if len(kinds) > 1:
        raise UsageError(f"a soak is of devices of one kind, and these are {' and '.join(kinds)}", "Name one: --device")
    return WORKLOADS[kinds[0]]


def plan_of(
    soak: Soak,
    devices: Sequence[DeviceInfo],
    *,
    label: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Plan:
    """A run that is nothing but this soak."""
    suite = Suite("soak", workloads=(soak.workload,), timeout_s=_TIMEOUT_S)
    plan = make_plan(suite, devices, replicates=1, label=label, tags=tags, telemetry_hz=soak.telemetry_hz)
    return alone(dataclasses.replace(plan, soak=soak))


def alone(plan: Plan) -> Plan:
    """The plan with its soak, and nothing to be measured after it."""
    return dataclasses.replace(plan, workloads=dict.fromkeys(plan.workloads, ()), replicates=0)


def require(plan: Plan) -> Soak:
    """The soak of a run that is nothing else.

    Raises:
        UsageError: it has none, or is an acceptance, which goes on by its criteria.
    """
    if plan.soak is None or any(plan.workloads.values()):
        kind = "run" if plan.soak is None else "accept"
        raise UsageError(f"run {plan.run_id} is no soak alone", f"Go on with: vnbench {kind} --resume {plan.run_id}")
    return plan.soak


def execute(plan: Plan, out: Path, *, kept: Sequence[Row] = (), observer: Observer | None = None) -> Path:
    """Put the load on, and give the path of the result.

    Raises:
        Interrupted, OutputNotWritable: see `bench.run.execute`.
    """
    try:
        return run.execute(plan, out, kept=kept, observer=observer)
    except Interrupted as interrupt:
        go_on = f"vnbench soak --resume {plan.run_id} --out {shlex.quote(str(out))}"
        raise interrupt.with_words(interrupt.what, f"Go on with: {go_on}") from None

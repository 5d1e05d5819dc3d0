"""Plans and rows for tests that need some: what a run would have left, without running one."""

from __future__ import annotations

import datetime as dt
from typing import Any

from bench import registry, schema
from bench.schema import Row
from bench.types import DeviceInfo, Item, Job, Plan, Policy

WORKLOAD = "matmul/fp32/64"
CPU = DeviceInfo("cpu", 0, "some CPU", reason="a test")


def make_plan(*workloads: str, devices: tuple[DeviceInfo, ...] = (CPU,), **changes: Any) -> Plan:
    names = workloads or (WORKLOAD,)
    fields: dict[str, Any] = {
        "run_id": "5f0c2a91be",
        "node": "node7",
        "suite": "smoke",
        "started_at": "2026-11-22T05:15:00.000000+00:00",
        "workloads": {device.kind: names for device in devices},
        "devices": devices,
        "policy": Policy(),
        "replicates": 3,
        "timeout_s": 60.0,
        "vnbench_version": "0.1",
    }
    return Plan(**fields | changes)


def make_row(plan: Plan, workload: str = WORKLOAD, *, replicate: int = 0, device: int = 0, **changes: Any) -> Row:
    """A row of that plan: ok, with the value 2 FLOP/s, unless the changes say otherwise."""
    info = plan.devices[device]
    job = Job(plan, info, (Item(workload),), replicate, folder="", scratch="")
    sequence = plan.workloads[info.kind].index(workload) if workload in plan.workloads[info.kind] else 0
    row = schema.blank_row(job, 0, registry.resolve(workload), "ok")
    measured = {
        "sequence": sequence,
        "started_at": dt.datetime(2026, 11, 22, 5, 16, replicate, sequence, tzinfo=dt.UTC),
        "flops": 2_000_000,
        "value": 2.0,
        "unit": "FLOP/s",
        "median_ns": 1e15,
        "elapsed_ns": [10**15],
        "metrics": [],
    }
    return row | measured | changes

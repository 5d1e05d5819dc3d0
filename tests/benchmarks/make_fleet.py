"""Results of a fleet that never was, as real files: for benchmarks and tests of what reads many.

    python -m tests.benchmarks.make_fleet 1000 --out /tmp/fleet            one file per node, as runs leave them
    python -m tests.benchmarks.make_fleet 1000 --out /tmp/fleet --packed   the same, packed

Every row says that it is simulated. Node i carries the label of one of four vendors; each vendor's nodes are faster
than the first's by ``ADVANTAGES``, nodes of one vendor differ by 1 % and a node's replicates by 0.5 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import pack, schema, store
from bench.spec import content_id
from bench.types import DeviceInfo, Plan, Policy

ADVANTAGES = {"vendor-a": 1.0, "vendor-b": 1.05, "vendor-c": 1.002, "vendor-d": 0.97}
SAMPLES, WARMUP_SAMPLES = 30, 15
START_US = 1_795_000_000_000_000  # in November 2026


def workloads(count: int) -> tuple[str, ...]:
    return tuple(f"synthetic/load/{i}" for i in range(count))


def runs(nodes: int, workload_count: int = 200, replicates: int = 3, seed: int = 1) -> Iterator[tuple[Plan, pa.Table]]:
    """The run of each node, in the order of their names."""
    names = workloads(workload_count)
    template = _template(names, replicates)
    labels = tuple(ADVANTAGES)
    for i in range(nodes):
        plan = _plan(f"node{i:05d}", content_id([seed, i])[:10], labels[i % len(labels)], names, replicates)
        yield plan, _run(template, plan, np.random.default_rng([seed, i]))


def write(out: Path, nodes: int, workload_count: int = 200, replicates: int = 3, *, packed: bool = False) -> None:
    """Write them below ``out/runs``."""
    if packed:
        with pack.Writer(out / "runs") as writer:
            for plan, table in runs(nodes, workload_count, replicates):
                writer.add(plan, table)
        return
    for plan, table in runs(nodes, workload_count, replicates):
        path = store.result_path(out, plan)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="zstd")


def _plan(node: str, run_id: str, label: str, names: tuple[str, ...], replicates: int) -> Plan:
    device = DeviceInfo("cuda", 0, f"model of {label}", uuid=f"GPU-{run_id}", reason="made up")
    return Plan(
        run_id=run_id,
        node=node,
        suite="fleet",
        started_at="2026-11-22T05:15:00.000000+00:00",
        workloads={"cuda": names},
        devices=(device,),
        policy=Policy(),
        replicates=replicates,
        timeout_s=60.0,
        vnbench_version="0",
        label=label,
    )


def _template(names: tuple[str, ...], replicates: int) -> pa.Table:
    """What is the same on every node."""
    rows = [
        dict.fromkeys(schema.SCHEMA.names)
        | {
            "schema_version": schema.VERSION,
            "vnbench_version": "0",
            "suite": "fleet",
            "workload": name,
            "kernel": "synthetic",
            "kernel_version": 1,
            "spec_id": content_id(name),
            "policy_id": Policy().policy_id,
            "params": json.dumps({"size": i}),
            "dtype": "bf16",
            "backend": "none",
            "seed": 1,
            "device": "cuda",
            "device_index": 0,
            "device_reason": "made up",
            "replicate": replicate,
            "sequence": i,
            "world_size": 1,
            "rank": 0,
            "flops": 10**9 * (i + 1),
            "unit": "FLOP/s",
            "better": "higher",
            "launches_per_sample": 1,
            "metrics": [{"name": "a", "value": 1.0, "unit": "s", "better": None}],
            "roofs": [{"name": "roof", "value": 1e15, "unit": "FLOP/s", "source": "measured", "fraction": 0.5}],
            "fraction_of_roof": 0.5,
            "status": "ok",
            "validity": ["simulated"],
            "throttle_reasons": ["power cap"],
            "temperature_c_max": 60.0,
            "env_id": "0",
            "device_memory_bytes": 80 * 2**30,
            "cpu_model": "some CPU",
            "cpu_cores": 64,
            "memory_bytes": 2**40,
            "driver": "580.1",
            "torch": "2.13",
            "python": "3.11",
            "os": "some Linux",
        }
        for replicate in range(replicates)
        for i, name in enumerate(names)
    ]
    return pa.Table.from_pylist(rows, schema=schema.SCHEMA)


def _run(template: pa.Table, plan: Plan, rng: np.random.Generator) -> pa.Table:
    rows, count = template.num_rows, len(plan.workloads["cuda"])
    effects = rng.normal(0, 0.01) + rng.normal(0, 0.005, rows)
    rate = 1e14 * ADVANTAGES[plan.label or ""] * np.exp(effects)
    flops = np.tile(1e9 * np.arange(1, count + 1), rows // count)
    elapsed_ns = flops / rate * 1e9
    started_us = START_US + 1_000_000 * np.arange(rows)
    changed: dict[str, Any] = {
        "run_id": [plan.run_id] * rows,
        "node": [plan.node] * rows,
        "label": [plan.label] * rows,
        "device_uuid": [plan.devices[0].uuid] * rows,
        "device_name": [plan.devices[0].name] * rows,
        "value": rate,
        "median_ns": elapsed_ns,
        "elapsed_ns": _lists(elapsed_ns, SAMPLES, rng),
        "warmup_ns": _lists(elapsed_ns, WARMUP_SAMPLES, rng),
        "sample_flags": _flags(rows),
        "power_w_mean": rng.normal(600, 5, rows),
        "started_at": started_us,
        "timed_from": started_us,
        "timed_until": started_us + 900_000,
        "environment": [_environment(plan)] * rows,
    }
    columns = [
        template.column(field.name) if field.name not in changed else pa.array(changed[field.name], field.type)
        for field in schema.SCHEMA
    ]
    metadata = {schema.VERSION_KEY: str(schema.VERSION), schema.PLAN_KEY: json.dumps(dataclasses.asdict(plan))}
    return pa.table(columns, schema=schema.SCHEMA.with_metadata(metadata))


def _lists(centres: np.ndarray[Any, Any], length: int, rng: np.random.Generator) -> pa.Array:
    samples = np.repeat(centres, length) * (1 + 0.02 * rng.standard_exponential(len(centres) * length))
    offsets = np.arange(0, len(samples) + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(samples.astype(np.int64)))


def _flags(rows: int) -> pa.Array:
    offsets = np.arange(0, rows * SAMPLES + 1, SAMPLES, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(rows * SAMPLES, dtype=np.uint16)))


def _environment(plan: Plan) -> str:
    """As long as a real one, and different on each node."""
    facts = {f"fact_{i}": f"the value of fact {i}" for i in range(100)}
    return json.dumps({"host": {"serial": plan.node, **facts}, "cpu_flags": [f"flag_{i}" for i in range(120)]})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", type=int)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workloads", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--packed", action="store_true")
    options = parser.parse_args()
    write(options.out, options.nodes, options.workloads, options.replicates, packed=options.packed)

"""Results on disk for tests that judge some: real files, of runs that were never made."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import store
from bench.types import DeviceInfo
from tests.results import CPU, WORKLOAD, make_plan, make_row

GPU = DeviceInfo("cuda", 0, "NVIDIA H100", uuid="GPU-1")
OTHER = "matmul/fp32/96"
STEADY = (1.0, 1.001, 0.999, 1.0005, 0.9995)  # five processes of a quiet machine
ENVIRONMENT: dict[str, Any] = {
    "env_id": "e",
    "device_name": "some CPU",
    "cpu_model": "some CPU",
    "cpu_cores": 2,
    "memory_bytes": 16 << 30,
    "torch": "2.13",
    "os_kernel": "6.1",
    "environment": "{}",
    "debug": [],
    "threads": 2,
    "world_size": 1,
    "calibration_before_ns": 11_000_000,
    "calibration_after_ns": 11_000_000,
}


def stored(
    out: Path,
    values: Mapping[str, Sequence[float | None]] | Sequence[float] = STEADY,
    *,
    slower: float = 1.0,
    run_id: str | None = None,
    info: DeviceInfo = CPU,
    plan: Mapping[str, Any] | None = None,
    only: Mapping[str, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> Path:
    """A result with these values, a process each: of the usual workload, or by workload; None is a failed process.

    ``slower`` divides the values. ``changes`` are of all rows, ``only`` those of one workload.
    """
    by_workload = values if isinstance(values, Mapping) else {WORKLOAD: values}
    replicates = max(map(len, by_workload.values()), default=0)
    fields = {"run_id": run_id or secrets.token_hex(5), "replicates": replicates, **(plan or {})}
    made = make_plan(*by_workload, devices=(info,), **fields)
    rows = []
    for workload, of_processes in by_workload.items():
        for replicate, value in enumerate(of_processes):
            row = make_row(made, workload, replicate=replicate) | ENVIRONMENT | {"source_commit": made.source_commit}
            row["device_uuid"] = info.uuid
            row["value"] = None if value is None else value / slower
            if value is None:
                row |= {"status": "failed", "reason": "ValueError: on purpose", "env_id": None}
            rows.append(row | changes | dict((only or {}).get(workload, {})))
    folder = store.begin(out, made)
    try:
        return folder.commit(rows)
    finally:
        folder.release()


def noisy(n: int, sd: float, seed: int = 0) -> list[float]:
    """``n`` log-normal values around 1."""
    import numpy as np

    return [math.exp(value) for value in np.random.default_rng(seed).normal(0.0, sd, n)]

"""Dossiers for tests of reports: of nodes that never were, with every kind of criterion and of outcome."""

from __future__ import annotations

import dataclasses
import datetime as dt
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.acceptance.dossier import Dossier
from bench.acceptance.judge import judge
from bench.criteria import file as files
from bench.schema import Row
from bench.telemetry.reading import Reading
from bench.types import DeviceInfo, Plan
from tests.acceptance.results import FIRST_LOOK, healthy
from tests.report.readings import HOT, at_ns, gpu
from tests.results import make_plan, make_row

WORKLOAD = "matmul/bf16/8192"
CRITERIA = """
format = 1
title = "{title}"
device = "cuda"

[[inventory]]
id = "gpus"
what = "devices"
equal = {count}
source = "clause 2"

[[inventory]]
id = "model"
what = "device_name"
equal = "NVIDIA H100 80GB HBM3"
source = "clause 2"

[[inventory]]
id = "driver"
what = "driver"
at_least = "570.86"
source = "annex B"

[[inventory]]
id = "gpu-memory"
what = "device_memory"
at_least = 80
unit = "GB"
source = "clause 2"

[[performance]]
id = "bf16"
workload = "matmul/bf16/8192"
at_least = 190
unit = "TFLOP/s"
source = "annex A"
note = "95 % of what a good part reaches"

[[performance]]
id = "near-its-roof"
workload = "matmul/bf16/8192"
of = "measured roof"
at_least = 0.6
source = "annex A"

[[uniformity]]
id = "alike"
workload = "matmul/bf16/8192"
at_least = 0.9
source = "clause 5"

[[state]]
id = "throttled"
column = "throttle_s"
at_most = 0.1
unit = "s"
source = "clause 6"

[[state]]
id = "temperature"
column = "temperature_c_max"
at_most = 85
source = "clause 6"

[[state]]
id = "causes"
column = "throttle_reasons"
none_of = ["hw_thermal_slowdown"]
source = "clause 6"

[[state]]
id = "row-remap-failed"
column = "row_remap_failed"
equal = false
source = "clause 6"

[[answers]]
id = "answers"
workloads = ["matmul/bf16/8192"]
source = "clause 7"
"""


def dossier(
    folder: Path,
    *,
    count: int = 8,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    spread: Sequence[float] = FIRST_LOOK,
    title: str = "Node of 8 H100, contract 7/2026",
    readings: Sequence[Reading] | None = None,
    criteria: str = CRITERIA,
) -> Dossier:
    """Of a node of that many GPUs, sound but for the changes to rows of some, by their index."""
    plan, rows = healthy(count, spread)
    rows = [row | _timed(row) | dict((changes or {}).get(row["device_index"], {})) for row in rows]
    if readings is None:
        readings = [one for index in range(count) for one in gpu(index)]
    return _gathered(folder, plan, rows, criteria.format(title=title, count=count), readings)


def failing(folder: Path, **more: Any) -> Dossier:
    """Of a node with a GPU that got hot, one that is slow, one that scatters, and one that tells nothing."""
    made = dossier(
        folder,
        changes={
            5: {"throttle_s": 2.0, "throttle_reasons": [HOT], "temperature_c_max": 91.0},
            6: {"row_remap_failed": None, "telemetry_obstacle": "no permission"},
        },
        readings=[one for index in range(8) for one in (gpu(index, hot=(3, 5)) if index == 5 else gpu(index))],
        **more,
    )
    slow = [row | {"value": row["value"] * 0.8} if row["device_index"] == 2 else row for row in made.rows]
    wide = [
        row | {"value": row["value"] * (0.9, 1.02, 0.93, 0.99, 0.88)[row["replicate"]]}
        if row["device_index"] == 3
        else row
        for row in slow
    ]
    return dataclasses.replace(made, rows=wide, verdict=judge(made.plan, wide, made.criteria))


def errored(folder: Path) -> Dossier:
    return dossier(folder, changes={1: {"status": "oom", "value": None, "reason": "CUDA out of memory"}})


def undecided(folder: Path) -> Dossier:
    return dossier(folder, spread=(0.9, 1.02, 0.93, 0.99, 0.88))


def simulated(folder: Path) -> Dossier:
    plan = make_plan(WORKLOAD, devices=(DeviceInfo("fake", 0, "fake", scenario="steady"),), replicates=5)
    rows = [make_row(plan, WORKLOAD, replicate=number, value=2e14 * factor) for number, factor in enumerate(FIRST_LOOK)]
    return _gathered(folder, plan, rows, CRITERIA.format(title="a script", count=1), gpu(kind="fake"))


def _timed(row: Row) -> Row:
    start = dt.datetime.fromtimestamp(at_ns(1 + row["replicate"]) / 1e9, dt.UTC)
    return {
        "timed_from": start,
        "timed_until": start + dt.timedelta(seconds=0.8),
        "flops": 2 * 8192**3,
        "bytes_moved": 3 * 8192**2 * 2,
    }


def _gathered(folder: Path, plan: Plan, rows: Sequence[Row], criteria: str, readings: Sequence[Reading]) -> Dossier:
    path = folder / "contract.toml"
    path.write_text(textwrap.dedent(criteria), encoding="utf-8")
    found = files.load(str(path))
    name = "20261122T051500Z-accept-contract-5f0c2a91be.parquet"
    return Dossier(judge(plan, rows, found), found, plan, rows, readings, name, "0" * 64)

"""Plans, rows and criteria for tests that judge some."""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.acceptance.judge import judge
from bench.acceptance.model import Judged, Verdict
from bench.criteria import file as files
from bench.criteria.model import Criteria
from bench.schema import Row
from bench.types import DeviceInfo, Plan
from tests.results import make_plan, make_row

WORKLOAD = "matmul/bf16/8192"
FLOOR = """
[[performance]]
id = "floor"
workload = "matmul/bf16/8192"
at_least = 100
unit = "TFLOP/s"
source = "a test"
"""
FIRST_LOOK = (1.0, 1.01, 0.99, 1.005, 0.995)  # five replicates of a quiet device
_HEAD = 'format = 1\ntitle = "a test"\ndevice = "cuda"\n'


def gpus(count: int) -> tuple[DeviceInfo, ...]:
    return tuple(DeviceInfo("cuda", index, "NVIDIA H100 80GB HBM3", f"GPU-{index}", 85 << 30) for index in range(count))


def criteria(tmp_path: Path, *tables: str, head: str = _HEAD) -> Criteria:
    path = tmp_path / "contract.toml"
    path.write_text(head + textwrap.dedent("".join(tables)), encoding="utf-8")
    return files.load(str(path))


def healthy(count: int = 1, spread: Sequence[float] = FIRST_LOOK, workload: str = WORKLOAD) -> tuple[Plan, list[Row]]:
    """A run of sound GPUs at about 200 TFLOP/s, every state known."""
    plan = make_plan(workload, devices=gpus(count), replicates=len(spread))
    rows = [
        make_row(plan, workload, replicate=replicate, device=device) | _KNOWN | {"value": 200e12 * factor}
        for replicate, factor in enumerate(spread)
        for device in range(count)
    ]
    return plan, rows


_KNOWN: dict[str, Any] = {
    "timed_from": dt.datetime(2026, 11, 22, 5, 16, tzinfo=dt.UTC),
    "timed_until": dt.datetime(2026, 11, 22, 5, 17, tzinfo=dt.UTC),
    "check_error": 0.001,
    "check_tolerance": 0.01,
    "validity": [],
    "telemetry_readings": 600,
    "throttle_s": 0.0,
    "power_cap_s": 0.0,
    "throttle_reasons": [],
    "temperature_c_max": 60.0,
    "memory_temperature_c_max": 70.0,
    "temperature_margin_c_min": 25.0,
    "ecc_corrected_delta": 0,
    "ecc_uncorrected_delta": 0,
    "row_remap_pending": False,
    "row_remap_failed": False,
    "xids": [],
    "pcie_generation": 5,
    "pcie_width": 16,
    "pcie_replay_delta": 0,
    "nvlinks_down": 0,
    "nvlink_errors_delta": 0,
    "clocks_locked": False,
    "foreign_gpu_processes": 0,
    "steal_fraction": 0.0,
    "host_cpu_s": 60.0,
    "cpu_quota_s": 0.0,
    "swapped_bytes": 0,
    "device_memory_bytes": 85 << 30,
    "driver": "580.95.05",
    "vbios": "96.00.74",
    "ecc_mode": True,
    "power_limit_w": 700.0,
    "cpu_model": "some CPU",
    "cpu_cores": 96,
    "memory_bytes": 2 << 40,
    "virtualization": "none",
    "environment": '{"cpu_threads":192,"gpu":{"mig_mode":false,"nvlinks_active":18,"ecc_uncorrected":1,'
    '"remapped_rows_corrected":2,"remapped_rows_uncorrected":0},'
    '"host":{"sockets":2,"numa_nodes":[{},{}]}}',
    "roofs": [
        {"name": "roof/compute/bf16", "value": 250e12, "unit": "FLOP/s", "source": "measured", "fraction": 0.8},
        {"name": "roof/compute/bf16", "value": 989e12, "unit": "FLOP/s", "source": "datasheet", "fraction": 0.2},
    ],
    "metrics": [
        {"name": "mfu", "value": 0.8, "unit": "1", "better": "higher"},
        {"name": "step_s", "value": 0.00688, "unit": "s", "better": "lower"},
    ],
}


def only(verdict: Verdict) -> Judged:
    (one,) = verdict.criteria
    return one


def judged(tmp_path: Path, table: str, plan: Plan, rows: Sequence[Row], **head: Any) -> Judged:
    return only(judge(plan, rows, criteria(tmp_path, table, **head)))

"""What the timing loop itself costs: an empty launch on the CPU device. The goal is at most 5 µs a sample."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from bench.device.cpu import CpuDevice
from bench.kernel import Case
from bench.measure import measure
from bench.types import Check, DeviceInfo, Policy, Work

SAMPLES = 10_000
POLICY = Policy(warmup_rule="count", warmup_min_s=0.0, min_samples=SAMPLES, max_samples=SAMPLES)
FRESH_PROCESSES = 5
REPORT_COST = f"from {__name__} import report_cost; report_cost()"


class EmptyCase(Case):
    work = Work(unit="FLOP/s", flops=1)

    def launch(self) -> None:
        pass

    def check(self) -> Check:
        return Check(0.0, 0.0)


def report_cost() -> None:
    """Print, as JSON, ns per sample of the whole loop and of what lies inside the sample's own time."""
    with tempfile.TemporaryDirectory() as folder:
        device = CpuDevice(DeviceInfo("cpu", 0, None), Path(folder))
        gc.freeze()  # else the one collection before a measurement, over all of torch's objects, would be counted
        began_ns = time.perf_counter_ns()
        measurement = measure(EmptyCase(), device, POLICY)
        loop_ns = (time.perf_counter_ns() - began_ns) / SAMPLES
    print(json.dumps({"loop_ns": loop_ns, "inside_ns": statistics.median(measurement.elapsed_ns)}))


def fresh_process_costs() -> dict[str, float]:
    command = [sys.executable, "-c", REPORT_COST]
    printed = [
        subprocess.run(command, capture_output=True, check=True, text=True).stdout for _ in range(FRESH_PROCESSES)
    ]
    costs = [json.loads(text) for text in printed]
    return {key: statistics.median(cost[key] for cost in costs) for key in costs[0]}


def test_empty_launch(benchmark: BenchmarkFixture, cpu_device: CpuDevice) -> None:
    measurement = benchmark(measure, EmptyCase(), cpu_device, POLICY)
    assert len(measurement.elapsed_ns) == SAMPLES
    benchmark.extra_info["samples"] = SAMPLES
    for key, cost_ns in fresh_process_costs().items():
        benchmark.extra_info[f"{key}_per_sample_median_of_{FRESH_PROCESSES}_processes"] = cost_ns

"""What telemetry costs and what it does to the figures measured beside it. The goal is at most 1 ms of one core."""

from __future__ import annotations

import math
import os
import random
import signal
import statistics
import time
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from bench import registry
from bench.device.cpu import CpuDevice
from bench.launch.sampler import Sampler
from bench.measure import measure
from bench.spec import SEED
from bench.stats import log_t_interval
from bench.telemetry.sampler import read_back
from bench.telemetry.sources import Sources
from bench.types import DeviceInfo, Policy
from tests.results import CPU, make_plan
from tests.telemetry.test_sampler import readings

SESSIONS = 30
WORKLOAD = "matmul/fp32/1024"
POLICY = Policy(warmup_rule="count", warmup_min_samples=5, warmup_min_s=0.0, min_samples=40, max_samples=40)


def test_one_reading_of_the_host(benchmark: BenchmarkFixture) -> None:
    sources = Sources([])
    benchmark(sources.read)
    sources.close()


def test_a_sampler_at_10_hz(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Median CPU time of a sample, reading and writing, in a process of its own beside an idle run."""

    def sampled() -> None:
        with Sampler(
            make_plan("matmul/fp32/64", devices=(CPU,)), tmp_path / "t.jsonl", tmp_path / "log", os.getpid(), 0
        ):
            time.sleep(5.0)

    benchmark.pedantic(sampled, rounds=1)  # type: ignore[no-untyped-call]
    costs_ns = sorted(one.cpu_ns for one in read_back(tmp_path / "t.jsonl")[1:-1])
    benchmark.extra_info |= {
        "cpu_us_median": statistics.median(costs_ns) / 1e3,
        "cpu_us_p90": costs_ns[len(costs_ns) * 9 // 10] / 1e3,
    }
    print({key: round(value) for key, value in benchmark.extra_info.items()})


def test_its_effect_on_a_workload(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Sessions of the same workload with and without the sampler, in random order: the session's ratio is the unit."""
    device = CpuDevice(DeviceInfo("cpu", 0, None), tmp_path)
    workload = registry.resolve(WORKLOAD)
    case = workload.kernel.prepare(workload.params, device, SEED)
    ratios = []

    def compare() -> None:
        plan = make_plan(WORKLOAD, devices=(CPU,))
        with Sampler(plan, tmp_path / "t.jsonl", tmp_path / "log", os.getpid(), 0) as sampler:
            while not readings(tmp_path):
                time.sleep(0.1)
            assert sampler._process is not None
            for _ in range(SESSIONS):
                took_ns = {}
                for is_on in random.sample((True, False), 2):
                    os.kill(sampler._process.pid, signal.SIGCONT if is_on else signal.SIGSTOP)
                    took_ns[is_on] = statistics.fmean(measure(case, device, POLICY).elapsed_ns)
                ratios.append(took_ns[True] / took_ns[False])
            os.kill(sampler._process.pid, signal.SIGCONT)

    benchmark.pedantic(compare, rounds=1)  # type: ignore[no-untyped-call]
    interval = log_t_interval(ratios)
    assert interval is not None
    benchmark.extra_info |= {"ratio": math.exp(statistics.fmean(map(math.log, ratios))), **vars(interval)}
    print({key: round(value, 4) for key, value in benchmark.extra_info.items()})

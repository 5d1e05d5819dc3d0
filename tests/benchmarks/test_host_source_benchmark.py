"""What one reading of the host costs. The goal is below 1 ms of one core, ten times a second."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.telemetry import host
from bench.telemetry.host_source import HostSource
from tests.telemetry.trees import INTEL, write

SECOND_NS = 1_000_000_000
READINGS = 200


@pytest.fixture(params=["this machine", "all files there", "all files there, once a second"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostSource:
    """This machine's own; and one that shows all, as files on a disk, every clock at each reading if so asked."""
    if request.param == "this machine":
        return HostSource()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    clocks = {f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": "2000000\n" for cpu in range(16)}
    every = iter(range(0, 10**18, SECOND_NS))
    clock = time.time_ns if request.param == "all files there" else lambda: next(every)
    return HostSource(clock, write(tmp_path, INTEL, clocks))


def test_read_the_host(benchmark: BenchmarkFixture, source: HostSource) -> None:
    with contextlib.closing(source):
        (reading,) = benchmark(source.read)
        assert reading.cpu_time_s_total is not None
        costs_ns = [source.read()[0].cpu_ns for _ in range(READINGS)]
        benchmark.extra_info[f"cpu_ns_median_of_{READINGS}"] = statistics.median(costs_ns)


def test_read_the_counters_of_a_window(benchmark: BenchmarkFixture) -> None:
    """Twice per measurement, outside of the samples; nearly all of it is the walk over the processes."""
    assert benchmark(host.read).total_s > 0

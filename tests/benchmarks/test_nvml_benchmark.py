"""What it costs to read GPUs through NVML: pynvml and this reader, on a fake NVML that answers at once.

A real driver's own time comes on top; ``took_ns`` and ``cpu_ns`` of a run's readings have it. The goal for all of a
sampler's devices together is at most 1 ms of one core per sample.
"""

from __future__ import annotations

import ctypes
import itertools
import statistics
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.telemetry import nvml
from bench.telemetry.nvml import NvmlSource
from tests import nvml as fake

PERIOD_NS = 100_000_000  # the readings are those of 10 Hz, on a clock that does not wait
DRIVER = "1.2.3"


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """So many fake GPUs, in this process."""
    count: int = request.param
    script = fake.SCENARIOS["healthy"].replace("devices 8", f"devices {count}\n* driver {DRIVER}")
    variables = fake.environment(script, tmp_path)
    monkeypatch.setenv(fake.VARIABLE, variables[fake.VARIABLE])
    # pynvml asks for the library by its name and gets the one of that name which is loaded already.
    ctypes.CDLL(str(Path(variables["LD_LIBRARY_PATH"].partition(":")[0]) / fake.LIBRARY))
    if nvml.driver_version() != DRIVER:
        pytest.skip("this process has loaded a real NVML")
    return count


@pytest.mark.parametrize("gpus", [1, 8], indirect=True)
def test_read_gpus_at_ten_hertz(benchmark: BenchmarkFixture, gpus: int) -> None:
    now_ns = itertools.count(0, PERIOD_NS)
    clock = {"ns": 0}
    source = NvmlSource(nvml.devices(), clock=lambda: clock["ns"])
    cpu_ns: list[int] = []

    def read() -> None:
        clock["ns"] = next(now_ns)
        cpu_ns.append(sum(reading.cpu_ns for reading in source.read()))

    benchmark(read)
    source.close()
    benchmark.extra_info["cpu_ns_mean"] = statistics.fmean(cpu_ns)

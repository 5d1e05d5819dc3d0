"""``memory/latency``: one cycle through all lines, walked load by load, and a check that misses no link."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.spec import parse_params, workload_name
from bench.types import Measurement
from kernels import _cuda_kernels, _memory, memory_latency
from kernels.memory_latency import KERNEL, GpuChase, HostChase
from tests.conftest import prepare
from tests.kernels import cuda_on_cpu

MIB = 1 << 20
LOADS = 1 << 10
SEED = 3


@pytest.fixture(autouse=True)
def small(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> CpuDevice:
    """A CPU whose cache is so small that 1 MiB is an array, and a launch of a part of its 16384 lines."""
    monkeypatch.setattr(_memory, "_CPU_FLOOR_BYTES", MIB)
    monkeypatch.setattr(memory_latency, "_LOADS", LOADS)
    cpu_device.cache_bytes = cpu_device.host_cache_bytes = 64 << 10
    return cpu_device


@pytest.fixture(params=["host", "gpu"])
def chase(request: pytest.FixtureRequest, small: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The host's chase, and the GPU's with its kernel on the CPU."""
    if request.param == "host":
        return HostChase(MIB, SEED)
    cuda_on_cpu.install(monkeypatch)
    return GpuChase(MIB, small, SEED)


def walked(chase: Any, launches: int) -> list[int]:
    """Where each launch ends."""
    ends = []
    for _ in range(launches):
        chase.launch()
        ends.append(int(chase._places_L[-1] if isinstance(chase, HostChase) else chase._at_1.item()))
    return ends


# ---------------------------------------------------------------- names and figures


def test_catalogued_names_are_canonical() -> None:
    for workload in KERNEL.catalogue:
        assert workload_name(KERNEL.name, parse_params(KERNEL.name, KERNEL.params_type, workload)) == workload


def test_the_latency_is_the_time_of_a_load() -> None:
    measurement = Measurement((80 * LOADS, 100 * LOADS, 900 * LOADS), (), (0, 0, 0), (), 1, True, False)
    latency, size = HostChase(MIB, SEED).metrics(measurement)
    assert (latency.name, latency.value, latency.unit, latency.better) == ("latency_ns", 100, "ns", "lower")
    assert (size.name, size.value, size.unit) == ("array_bytes", MIB, "B")


def test_work_is_counted_in_loads(small: CpuDevice) -> None:
    work = prepare(KERNEL, "memory/latency", small).work
    assert (work.unit, work.items, work.item_unit) == ("load/s", LOADS, "load")
    assert KERNEL.work(KERNEL.params_type()) == work


def test_the_array_has_the_size_that_was_asked_for(small: CpuDevice) -> None:
    case = prepare(KERNEL, "memory/latency@mib=2", small)
    assert isinstance(case, HostChase)
    assert case._links_W.nbytes == 2 * MIB


# ---------------------------------------------------------------- the cycle


def test_the_links_are_one_cycle_through_every_line(chase: Any) -> None:
    links = np.asarray(chase._links_W)
    line = 8 if isinstance(chase, HostChase) else 16
    at, seen = 0, []
    for _ in range(MIB // (8 * line)):
        seen.append(at)
        at = int(links[at])
    assert at == 0
    assert sorted(seen) == list(range(0, MIB // 8, line))


def test_the_next_line_is_rarely_near(chase: Any) -> None:
    distances = np.abs(np.diff(chase._cycle_N)) * 8
    assert np.median(distances) > MIB / 5  # of two random places: 0.29 of the array


def test_a_launch_goes_on_where_the_last_one_ended(chase: Any) -> None:
    cycle = chase._cycle_N
    assert chase.check().ok
    after = [cycle[LOADS * n % len(cycle)] for n in range(2, 20)]
    assert walked(chase, 18) == after, "around the cycle, and past its end"


def test_another_seed_is_another_cycle() -> None:
    assert not np.array_equal(HostChase(MIB, 1)._cycle_N, HostChase(MIB, 2)._cycle_N)
    assert np.array_equal(HostChase(MIB, 1)._cycle_N, HostChase(MIB, 1)._cycle_N)


# ---------------------------------------------------------------- checks and mutations


def test_a_chase_passes_its_own_check(chase: Any) -> None:
    assert chase.check().ok
    walked(chase, 3)
    assert chase.check().ok
    chase.close()


@pytest.mark.parametrize("position", [1, LOADS // 2, LOADS + 5, -1])
def test_one_wrong_link_fails(position: int, chase: Any) -> None:
    cycle = chase._cycle_N
    chase._links_W[int(cycle[position])] = int(cycle[position])
    assert not chase.check().ok


def test_a_launch_that_does_nothing_fails(chase: Any) -> None:
    assert chase.check().ok
    chase.launch = lambda: None
    assert not chase.check().ok


def test_a_load_left_out_fails(chase: Any) -> None:
    assert chase.check().ok

    def one_load_short() -> None:
        if isinstance(chase, HostChase):
            places = chase._places_L
            places[0] = places[-1]
            np.take(chase._links_W, places[:-2], out=places[1:-1], mode="wrap")
        else:
            cuda_on_cpu.enqueue("chase", chase._at_1.data_ptr(), chase._links_W.data_ptr(), LOADS - 1, one_thread=True)

    chase.launch = one_load_short
    assert not chase.check().ok


def test_indices_read_before_the_results_are_written_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads that did not wait for each other would be bandwidth, not latency."""
    chase = HostChase(MIB, SEED)
    take: Any = np.take

    def at_once(links: Any, places: Any, *, out: Any = None, mode: str) -> Any:
        return take(links, places.copy(), out=out, mode=mode)

    assert chase.check().ok
    monkeypatch.setattr(np, "take", at_once)
    assert not chase.check().ok


# ---------------------------------------------------------------- where it runs


def test_the_host_is_chased_without_cupy_on_a_gpu_s_machine(small: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_CUDA_FLOOR_BYTES", 2 * MIB)
    small.info = dataclasses.replace(small.info, kind="cuda")
    case = prepare(KERNEL, "memory/latency@where=host", small)
    assert isinstance(case, HostChase)
    assert case.check().ok


def test_a_gpu_without_cupy_is_unsupported(small: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_CUDA_FLOOR_BYTES", 2 * MIB)
    monkeypatch.setitem(sys.modules, "cupy", None)
    _cuda_kernels._module.cache_clear()
    _cuda_kernels._kernel.cache_clear()
    small.info = dataclasses.replace(small.info, kind="cuda")
    with pytest.raises(Unsupported, match="cupy"):
        prepare(KERNEL, "memory/latency", small)


def test_an_array_that_does_not_fit_is_unsupported(small: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "free_bytes", lambda: MIB)
    with pytest.raises(Unsupported, match=r"2 arrays of 1\.00 MiB do not fit in the 1\.00 MiB free"):
        prepare(KERNEL, "memory/latency", small)


def test_importing_the_kernel_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, kernels.memory_latency; print({'torch', 'numpy', 'cupy'} & set(sys.modules) or 'none')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


@pytest.mark.gpu
def test_a_gpu_is_chased_and_a_wrong_link_fails(cuda_device: Device) -> None:
    pytest.importorskip("cupy")
    case: Any = prepare(KERNEL, "memory/latency", cuda_device)
    assert case._links_W.is_cuda
    assert case.check().ok
    walked(case, 2)
    assert case.check().ok
    at = int(case._cycle_N[5])
    case._links_W[at] = at
    torch.cuda.synchronize()
    assert not case.check().ok

"""``roof/memory``: sizes and bytes as STREAM has them, and checks that miss no byte."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported, UsageError
from bench.spec import parse_params, workload_name
from bench.types import Measurement
from kernels import _cuda_kernels, _memory, roof_memory
from kernels._team import MOST_THREADS, Team
from kernels.roof_memory import KERNEL
from tests.conftest import prepare
from tests.kernels import cuda_on_cpu

MIB = 1 << 20
PATTERNS = ("read", "copy", "triad")


@pytest.fixture
def small(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> CpuDevice:
    """A CPU whose cache is so small that 1 MiB is an array."""
    monkeypatch.setattr(_memory, "_CPU_FLOOR_BYTES", MIB)
    monkeypatch.setattr(roof_memory, "_COLUMNS", 4096)  # 64 rows
    monkeypatch.setattr(roof_memory, "_CHUNK", MIB // 16)  # so that a check takes several
    cpu_device.cache_bytes = cpu_device.host_cache_bytes = 64 << 10
    return cpu_device


def opened(pattern: str, device: Device) -> Any:
    return prepare(KERNEL, f"roof/memory/{pattern}", device)


def tampered(case: Any, tamper: Any) -> Any:
    """The case, with ``tamper()`` after every launch."""
    launch = case.launch

    def launch_and_tamper() -> None:
        launch()
        tamper()

    case.launch = launch_and_tamper
    return case


# ---------------------------------------------------------------- names, sizes, bytes


def test_catalogued_names_are_canonical() -> None:
    for workload in KERNEL.catalogue:
        assert workload_name(KERNEL.name, parse_params(KERNEL.name, KERNEL.params_type, workload)) == workload


@pytest.mark.parametrize(("pattern", "arrays"), [("read", 1), ("copy", 2), ("triad", 3)])
def test_bytes_are_counted_as_stream_counts_them(pattern: str, arrays: int, small: CpuDevice) -> None:
    work = opened(pattern, small).work
    assert (work.unit, work.bytes_moved) == ("B/s", arrays * MIB)
    assert work.rate(1e9) == arrays * MIB


@pytest.mark.parametrize(
    ("kind", "cache_bytes", "array_bytes"),
    [
        ("cpu", 0, 128 * MIB),
        ("cpu", 32 * MIB, 128 * MIB),
        ("cpu", 480 * MIB, 1920 * MIB),
        ("cpu", 33 * MIB + 1, 132 * MIB + MIB // 2),
        ("cuda", 50 * MIB, 1024 * MIB),
        ("cuda", 300 * MIB, 1200 * MIB),
    ],
)
def test_an_array_is_four_caches_or_the_floor(
    kind: Any, cache_bytes: int, array_bytes: int, cpu_device: CpuDevice
) -> None:
    cpu_device.info = dataclasses.replace(cpu_device.info, kind=kind)
    cpu_device.cache_bytes, cpu_device.host_cache_bytes = cache_bytes, 0
    assert _memory.array_bytes(cpu_device, on_host=False) == array_bytes
    cpu_device.cache_bytes, cpu_device.host_cache_bytes = 0, cache_bytes
    assert _memory.array_bytes(cpu_device, on_host=True) == array_bytes


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_array_size_is_reported(pattern: str, small: CpuDevice) -> None:
    measurement = Measurement((1,), (), (0,), (), 1, steady=True, cut_short=False)
    (metric,) = opened(pattern, small).metrics(measurement)
    assert (metric.name, metric.value, metric.unit) == ("array_bytes", MIB, "B")


def test_arrays_that_do_not_fit_are_unsupported(small: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "free_bytes", lambda: 2 * MIB)
    assert opened("copy", small).check().ok
    with pytest.raises(Unsupported, match=r"3 arrays of 1\.00 MiB do not fit in the 2\.00 MiB free"):
        opened("triad", small)


def test_host_memory_of_a_gpu_s_machine_is_on_the_cpu(small: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_CUDA_FLOOR_BYTES", 2 * MIB)
    monkeypatch.setattr(small, "free_bytes", lambda: 0)  # of the GPU, so it does not matter
    small.info = dataclasses.replace(small.info, kind="cuda")
    small.torch_device = "no such device"
    small.host_cache_bytes = 0
    case = opened("copy@where=host", small)
    assert case.check().ok
    assert case.work.bytes_moved == 2 * 2 * MIB


# ---------------------------------------------------------------- checks and mutations


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_passes_its_own_check(pattern: str, small: CpuDevice) -> None:
    case = opened(pattern, small)
    assert case.check().ok
    assert case.check().ok
    case.close()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_inputs_are_random(pattern: str, small: CpuDevice) -> None:
    case = opened(pattern, small)
    inputs = [case._x_RC] if pattern == "read" else [case._b_RC] if pattern == "copy" else [case._b_RC, case._c_RC]
    for values in inputs:
        assert values.unique().numel() > 0.9 * values.numel()
    if pattern == "triad":
        assert not torch.equal(*inputs)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_launch_that_does_nothing_fails(pattern: str, small: CpuDevice) -> None:
    case = opened(pattern, small)
    assert case.check().ok
    case.launch = lambda: None
    assert not case.check().ok


@pytest.mark.parametrize("position", [0, 77_777, -1])
def test_one_byte_read_wrongly_fails(position: int, small: CpuDevice) -> None:
    case = opened("read", small)
    assert case.check().ok
    case._x_RC.view(torch.uint8).view(-1)[position] ^= 1
    assert not case.check().ok


def test_a_row_read_twice_in_place_of_another_fails(small: CpuDevice) -> None:
    case = opened("read", small)
    assert not tampered(case, lambda: case._sum_R[3].copy_(case._sum_R[2])).check().ok


@pytest.mark.parametrize("pattern", ["copy", "triad"])
@pytest.mark.parametrize("part", [(0, slice(0, 1)), (5, slice(1000, 1016)), (-1, slice(-1, None))])
def test_a_wrong_head_block_or_tail_fails(pattern: str, part: tuple[int, slice], small: CpuDevice) -> None:
    case = opened(pattern, small)
    assert not tampered(case, lambda: case._a_RC[part].add_(0.001)).check().ok


@pytest.mark.parametrize("pattern", ["copy", "triad"])
def test_a_tail_not_written_fails(pattern: str, small: CpuDevice) -> None:
    case = opened(pattern, small)
    assert not tampered(case, lambda: case._a_RC[-1, -1:].fill_(math.nan)).check().ok


def test_a_triad_computed_in_bf16_fails(small: CpuDevice) -> None:
    case = opened("triad", small)
    assert not tampered(case, lambda: case._a_RC.copy_(case._b_RC.bfloat16() + 3 * case._c_RC.bfloat16())).check().ok


def test_importing_the_kernel_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, kernels.roof_memory; print({'torch', 'numpy', 'scipy'} & set(sys.modules) or 'none')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


# ---------------------------------------------------------------- the host's team


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("threads", [1, 3, 7, MOST_THREADS + 1])
def test_any_number_of_threads_does_the_whole_work(pattern: str, threads: int, small: CpuDevice) -> None:
    small.threads = threads
    case = opened(pattern, small)
    assert (case._team is None) == (threads > MOST_THREADS)
    assert case.check().ok
    case.close()


def test_what_is_between_the_rows_is_not_written(small: CpuDevice) -> None:
    case = opened("copy", small)
    rows, columns = case._a_RC.shape
    with_gaps_RC = torch.as_strided(case._a_RC, (rows, columns + roof_memory._GAP), case._a_RC.stride())
    assert case.check().ok
    assert case._a_RC.stride(0) == columns + roof_memory._GAP
    assert not with_gaps_RC[:, columns:].any()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_share_left_out_fails(pattern: str, small: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    small.threads = 3
    launch = Team.launch
    assert opened(pattern, small).check().ok
    monkeypatch.setattr(Team, "launch", lambda team, rows, job: launch(team, rows - 1, job))
    assert not opened(pattern, small).check().ok


def test_an_error_in_a_thread_is_raised() -> None:
    def fail() -> None:
        raise MemoryError("of the second thread")

    with pytest.raises(MemoryError, match="of the second thread"):
        Team(2).launch(64, lambda rows: fail if rows.start else list)()


def test_a_share_is_always_done_by_the_same_thread() -> None:
    team, by_share = Team(3), defaultdict[int, set[int]](set)

    def job(rows: slice) -> Callable[[], None]:
        return lambda: by_share[rows.start].add(threading.get_ident())

    for _ in range(200):
        team.launch(3, job)()
    assert [len(threads) for threads in by_share.values()] == [1, 1, 1]
    assert len(set[int]().union(*by_share.values())) == 3
    team.close()


@pytest.fixture
def four_threads() -> Iterator[None]:
    """Torch has four, however many this machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_torch_has_one_thread_in_each_of_a_team_and_as_many_as_before_outside() -> None:
    inside: list[int] = []
    Team(3).launch(3, lambda rows: lambda: inside.append(torch.get_num_threads()))()
    assert inside == [1, 1, 1]
    assert torch.get_num_threads() == 4
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 4


# ---------------------------------------------------------------- CUDA kernels of ours


@pytest.fixture
def gpu(small: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> CpuDevice:
    """A device that says it is a GPU; its memory is the host's, and our kernels run on its cores."""
    cuda_on_cpu.install(monkeypatch)
    monkeypatch.setattr(_memory, "_CUDA_FLOOR_BYTES", MIB)
    small.info = dataclasses.replace(small.info, kind="cuda")
    return small


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_cuda_kernel_does_the_same_work(pattern: str, gpu: CpuDevice) -> None:
    case, in_torch = opened(f"{pattern}@backend=cupy", gpu), opened(pattern, gpu)
    assert case.work == in_torch.work
    assert case.check().ok
    in_torch.launch()
    out = "_sum_R" if pattern == "read" else "_a_RC"
    torch.testing.assert_close(getattr(case, out), getattr(in_torch, out))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("position", [0, -1])
def test_a_wrong_result_of_a_cuda_kernel_fails(pattern: str, position: int, gpu: CpuDevice) -> None:
    case = opened(f"{pattern}@backend=cupy", gpu)
    out = case._sum_R if pattern == "read" else case._a_RC.view(-1)
    assert not tampered(case, lambda: out[position].add_(1)).check().ok


@pytest.mark.parametrize("words", [1, 5, 127, 1000, 1537])
def test_a_cuda_kernel_stops_at_the_end_of_its_arrays(words: int, gpu: CpuDevice) -> None:
    a_N, b_N, c_N = torch.zeros(4 * words + 4), torch.randn(4 * words + 4), torch.randn(4 * words + 4)
    cuda_on_cpu.enqueue("triad", a_N.data_ptr(), b_N.data_ptr(), c_N.data_ptr(), words)
    torch.testing.assert_close(a_N[: 4 * words], (b_N + 3 * c_N)[: 4 * words])
    assert not a_N[4 * words :].any()


@pytest.mark.parametrize("rows", [1, 2, 11, 12, 13, 30])
def test_a_cuda_kernel_adds_up_every_row_once(rows: int, gpu: CpuDevice) -> None:
    x_RC = torch.randint(-(1 << 50), 1 << 50, (rows, 4096))
    sum_R = torch.full((rows + 1,), -1)
    cuda_on_cpu.enqueue("row_sums", sum_R.data_ptr(), x_RC.data_ptr(), rows)
    assert torch.equal(sum_R[:-1], x_RC.sum(dim=1))
    assert sum_R[-1] == -1


def test_a_cuda_kernel_has_as_many_blocks_as_the_driver_says_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[tuple[tuple[int], tuple[int]]] = []

    class Kernel:
        kernel = SimpleNamespace(ptr=77)

        def __call__(self, grid: tuple[int], block: tuple[int], arguments: tuple[int, ...]) -> None:
            launched.append((grid, block))

    def blocks_per_sm(pointer: int, threads: int, shared_bytes: int) -> int:
        return {(77, 512, 0): 3}[pointer, threads, shared_bytes]

    driver = SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=blocks_per_sm)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(driver=driver)))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(multi_processor_count=132))
    monkeypatch.setattr(_cuda_kernels, "_kernel", lambda name: Kernel())
    monkeypatch.setattr(_cuda_kernels, "torchs_stream", contextlib.nullcontext)
    _cuda_kernels._blocks.cache_clear()
    _cuda_kernels.enqueue("copy", 0, 0, 1)
    _cuda_kernels.enqueue("chase", 0, 0, 1, one_thread=True)
    _cuda_kernels._blocks.cache_clear()
    assert launched == [((3 * 132,), (512,)), ((1,), (1,))]


def test_a_cuda_kernel_needs_a_gpu_and_its_memory(small: CpuDevice) -> None:
    with pytest.raises(Unsupported, match="a CUDA kernel needs an NVIDIA GPU, and this device is cpu"):
        opened("copy@backend=cupy", small)
    with pytest.raises(UsageError, match="on its own memory"):
        opened("copy@where=host,backend=cupy", small)


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_passes_on_a_gpu_and_a_wrong_block_fails(pattern: str, cuda_device: Device) -> None:
    case = opened(pattern, cuda_device)
    assert case.work.bytes_moved == case.arrays << 30
    assert case.check().ok
    out = case._sum_R if pattern == "read" else case._a_RC
    assert out.is_cuda
    assert not tampered(case, out[-16:].zero_).check().ok
    case.close()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["copy", "exchange", "triad", "row_sums"])
def test_the_registers_of_all_threads_of_a_cuda_kernel_fit(name: str, cuda_device: Device) -> None:
    pytest.importorskip("cupy")
    gpu = torch.cuda.get_device_properties(0)
    threads_per_sm = _cuda_kernels._blocks(name, 0) * _cuda_kernels._THREADS / gpu.multi_processor_count
    assert 512 <= threads_per_sm <= gpu.max_threads_per_multi_processor
    assert threads_per_sm * _cuda_kernels._kernel(name).num_regs <= gpu.regs_per_multiprocessor


@pytest.mark.gpu
def test_host_memory_is_read_where_the_device_is_a_gpu(cuda_device: Device) -> None:
    case = opened("read@where=host", cuda_device)
    assert not case._x_RC.is_cuda
    assert case.check().ok
    case.close()


@pytest.mark.gpu
@pytest.mark.parametrize("pattern", PATTERNS)
def test_our_kernels_pass_on_a_gpu_and_a_wrong_block_fails(pattern: str, cuda_device: Device) -> None:
    pytest.importorskip("cupy")
    case = opened(f"{pattern}@backend=cupy", cuda_device)
    assert case.check().ok
    out = case._sum_R if pattern == "read" else case._a_RC
    assert not tampered(case, out[-16:].zero_).check().ok
    case.close()

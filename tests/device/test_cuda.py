"""``bench.device.cuda`` on a real GPU: ratios of work, never wall-clock times."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest

from bench.device import cuda
from bench.device.cuda import CudaDevice

pytestmark = pytest.mark.gpu


@pytest.fixture
def multiply(cuda_device: CudaDevice) -> Callable[[], None]:
    """About a millisecond of work that does not depend on what it did before."""
    import torch

    a_NN = torch.randn(2048, 2048, device=cuda_device.torch_device)
    out_NN = torch.empty_like(a_NN)
    return lambda: torch.matmul(a_NN, a_NN, out=out_NN)


def median_ns(device: CudaDevice, block: Callable[[], None]) -> float:
    times = []
    for _ in range(10):
        device.start()
        block()
        times.append(device.stop())
    return statistics.median(times[3:])


def test_event_time_is_proportional_to_the_work(cuda_device: CudaDevice, multiply: Callable[[], None]) -> None:
    few, many = cuda_device.repeat(multiply, 8), cuda_device.repeat(multiply, 32)
    assert 3.0 < median_ns(cuda_device, many) / median_ns(cuda_device, few) < 5.0


def test_work_queued_before_start_is_not_timed(cuda_device: CudaDevice, multiply: Callable[[], None]) -> None:
    alone_ns = median_ns(cuda_device, multiply)
    for _ in range(40):
        multiply()
    cuda_device.start()
    multiply()
    assert cuda_device.stop() < 10 * alone_ns


def test_marks_lie_in_order_inside_the_sample(cuda_device: CudaDevice, multiply: Callable[[], None]) -> None:
    cuda_device.mark("of no sample")
    cuda_device.start()
    for name in ("first", "second", "third"):
        multiply()
        cuda_device.mark(name)
    multiply()
    elapsed_ns = cuda_device.stop()
    marks = cuda_device.take_marks()
    assert [mark.name for mark in marks] == ["first", "second", "third"]
    moments = [0, *(mark.ns for mark in marks), elapsed_ns]
    assert moments == sorted(moments)
    assert len(set(moments)) == len(moments)
    assert cuda_device.take_marks() == []


def test_flush_writes_as_much_as_the_cache_holds(cuda_device: CudaDevice) -> None:
    import torch

    cuda_device.flush_cache()
    flushed: Any = cuda_device._flush
    assert flushed.nbytes >= cuda_device.cache_bytes == torch.cuda.get_device_properties(0).L2_cache_size > 0
    flushed.fill_(1)
    cuda_device.flush_cache()
    assert not flushed.any()


def test_flush_makes_a_read_of_cached_data_slower(cuda_device: CudaDevice) -> None:
    import torch

    cached = torch.ones(cuda_device.cache_bytes // 16, dtype=torch.float32, device=cuda_device.torch_device)
    total = torch.empty((), device=cuda_device.torch_device)

    def read_ns(flush: bool) -> float:
        times = []
        for _ in range(30):
            torch.sum(cached, dim=0, out=total)
            if flush:
                cuda_device.flush_cache()
            cuda_device.start()
            torch.sum(cached, dim=0, out=total)
            times.append(cuda_device.stop())
        return statistics.median(times)

    assert read_ns(flush=True) > read_ns(flush=False)


@pytest.fixture
def counter(cuda_device: CudaDevice) -> tuple[Any, Callable[[], None]]:
    import torch

    count = torch.zeros((), dtype=torch.int64, device=cuda_device.torch_device)
    return count, lambda: count.add_(1)


def test_many_launches_are_captured_into_one_graph(
    cuda_device: CudaDevice, counter: tuple[Any, Callable[[], None]]
) -> None:
    count, launch = counter
    calls = 0

    def counted() -> None:
        nonlocal calls
        calls += 1
        launch()

    launches = cuda._GRAPH_FROM_LAUNCHES
    block = cuda_device.repeat(counted, launches)
    cuda_device.synchronize()
    captured_calls = calls
    count.zero_()
    block()
    block()
    cuda_device.synchronize()
    assert calls == captured_calls  # a replay does not come back to Python
    assert count.item() == 2 * launches


def test_few_launches_are_a_plain_loop(cuda_device: CudaDevice, counter: tuple[Any, Callable[[], None]]) -> None:
    count, launch = counter
    block = cuda_device.repeat(launch, cuda._GRAPH_FROM_LAUNCHES - 1)
    assert count.item() == 0
    block()
    assert count.item() == cuda._GRAPH_FROM_LAUNCHES - 1


def test_a_launch_that_cannot_be_captured_is_looped(
    cuda_device: CudaDevice, counter: tuple[Any, Callable[[], None]]
) -> None:
    import torch

    count, launch = counter

    def reads_back() -> None:
        launch()
        count.item()  # a copy to the host: no graph can hold it

    launches = cuda._GRAPH_FROM_LAUNCHES
    stream = torch.cuda.current_stream()
    block = cuda_device.repeat(reads_back, launches)
    assert torch.cuda.current_stream() == stream
    count.zero_()
    block()
    assert count.item() == launches
    # A failed capture does not spoil the next one.
    cuda_device.repeat(launch, launches)()
    cuda_device.synchronize()
    assert count.item() >= 2 * launches


def test_graphs_of_several_runs_are_played_in_their_order(cuda_device: CudaDevice) -> None:
    import torch

    value = torch.ones((), dtype=torch.int64, device=cuda_device.torch_device)
    runs = [lambda: value.add_(1), lambda: value.mul_(10)]
    first, second = cuda_device.captured(runs)
    value.fill_(1)
    first()
    second()
    first()
    assert value.item() == 21


def test_marks_inside_a_graph_are_left_out(cuda_device: CudaDevice, multiply: Callable[[], None]) -> None:
    def marked() -> None:
        multiply()
        cuda_device.mark("inside")

    block = cuda_device.repeat(marked, cuda._GRAPH_FROM_LAUNCHES)
    cuda_device.start()
    block()
    cuda_device.stop()
    assert cuda_device.take_marks() == []


def test_free_bytes_shrink_with_what_is_allocated(cuda_device: CudaDevice) -> None:
    import torch

    torch.cuda.empty_cache()
    before = cuda_device.free_bytes()
    held = torch.empty(64 << 20, dtype=torch.int8, device=cuda_device.torch_device)
    after = cuda_device.free_bytes()
    assert before is not None
    assert after is not None
    assert before - after >= held.nbytes


def test_peak_memory_is_the_most_since_it_was_forgotten(cuda_device: CudaDevice) -> None:
    import torch

    cuda_device.forget_peak_memory()
    before = cuda_device.peak_memory_bytes()
    block = torch.empty(64 << 20, dtype=torch.int8, device=cuda_device.torch_device)
    size = block.nbytes
    del block
    after = cuda_device.peak_memory_bytes()
    cuda_device.forget_peak_memory()
    again = cuda_device.peak_memory_bytes()
    assert before is not None and after is not None and again is not None
    assert after - before >= size
    assert again <= after - size

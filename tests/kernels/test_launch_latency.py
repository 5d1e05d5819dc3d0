"""Launch: every kernel of a burst is counted, one too few fails, and the harness times Python and not its own graph."""

from __future__ import annotations

import statistics
import sys
from typing import Any

import pytest

from bench.device.cpu import CpuDevice
from bench.device.fake import FakeDevice
from bench.errors import Unsupported, UsageError
from bench.measure import measure
from bench.spec import parse_params, workload_name
from bench.types import Measurement, Policy
from kernels.launch_latency import BURSTS, KERNEL, LaunchCase, LaunchParams
from tests.conftest import prepare


def case_of(workload: str, device: Any) -> LaunchCase:
    case = prepare(KERNEL, workload, device)
    assert isinstance(case, LaunchCase)
    return case


def test_check_passes_before_and_after_launches(cpu_device: CpuDevice) -> None:
    case = case_of("launch/empty", cpu_device)
    assert case.check().ok
    case.launch()
    assert case.check().ok
    case.close()


@pytest.mark.parametrize("surplus", [-1, 1])
def test_one_kernel_too_few_or_too_many_fails(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch, surplus: int
) -> None:
    case = case_of("launch/empty", cpu_device)
    enqueue = case._enqueue

    def spoiled() -> None:
        enqueue()
        case._count_1.add_(surplus)

    monkeypatch.setattr(case, "_enqueue", spoiled)
    check = case.check()
    assert not check.ok
    assert check.detail.startswith(f"{1000 + surplus} of 1000")


def test_a_burst_that_does_nothing_fails(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of("launch/empty", cpu_device)
    assert case.check().ok
    monkeypatch.setattr(case, "_enqueue", lambda: None)
    assert not case.check().ok


def test_on_a_cpu_operators_are_counted_and_not_launches(cpu_device: CpuDevice) -> None:
    case = case_of("launch/empty", cpu_device)
    assert (case.work.unit, case.work.items, case.work.item_unit) == ("operator/s", 1000, "operator")
    (metric,) = case.metrics(Measurement((2_000_000, 9_000_000, 4_000_000), (), (0, 0, 0), (), 1, True, False))
    assert (metric.name, metric.unit, metric.better) == ("operator_s", "s", "lower")
    assert metric.value == pytest.approx(4e-6)


def test_the_burst_is_what_the_harness_times(fake_device: FakeDevice) -> None:
    case = case_of("launch/empty", fake_device)
    measurement = measure(case, fake_device, Policy(warmup_max_samples=5, min_samples=3, max_samples=3))
    assert measurement.launches_per_sample == 1
    assert case.work.rate(measurement.elapsed_ns[0]) == pytest.approx(1000 / 1e-3, rel=0.01)


@pytest.mark.parametrize("workload", ["launch/round-trip", "launch/graph", "launch/empty@backend=cupy"])
def test_what_a_cpu_does_not_have_is_unsupported(cpu_device: CpuDevice, workload: str) -> None:
    with pytest.raises(Unsupported):
        case_of(workload, cpu_device)


def test_names_and_catalogue() -> None:
    assert workload_name("launch", LaunchParams("graph", "cupy")) == "launch/graph@backend=cupy"
    for workload in KERNEL.catalogue:
        assert workload_name("launch", parse_params("launch", LaunchParams, workload)) == workload
    with pytest.raises(UsageError):
        parse_params("launch", LaunchParams, "launch/eager")


# ---------------------------------------------------------------- on a GPU

_QUICK = Policy(warmup_max_samples=5, warmup_min_s=0.0, min_samples=5, max_samples=5, max_s=0.1)


@pytest.fixture(params=["torch", "cupy"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "cupy":
        pytest.importorskip("cupy")
    return str(request.param)


@pytest.mark.gpu
@pytest.mark.parametrize("what", BURSTS)
def test_every_kernel_is_counted_on_a_gpu(cuda_device: Any, what: str, backend: str) -> None:
    case = case_of(f"launch/{what}@backend={backend}", cuda_device)
    assert case.check().ok
    assert case.work.item_unit == "launch"
    case.launch()
    check = case.check()
    assert check.ok, check


@pytest.mark.gpu
@pytest.mark.parametrize("what", ["empty", "round-trip"])
def test_what_python_is_to_enqueue_is_not_captured(
    cuda_device: Any, monkeypatch: pytest.MonkeyPatch, what: str, backend: str
) -> None:
    case = case_of(f"launch/{what}@backend={backend}", cuda_device)
    calls = []
    enqueue = case._enqueue

    def counted() -> None:
        calls.append(what)
        enqueue()

    monkeypatch.setattr(case, "_enqueue", counted)
    measurement = measure(case, cuda_device, _QUICK)
    assert len(calls) > len(measurement.elapsed_ns) * measurement.launches_per_sample


@pytest.mark.gpu
def test_waiting_costs_more_than_enqueueing_and_a_graph_less(cuda_device: Any, backend: str) -> None:
    one_ns = {}
    for what, times in BURSTS.items():
        case = case_of(f"launch/{what}@backend={backend}", cuda_device)
        one_ns[what] = statistics.median(measure(case, cuda_device, _QUICK).elapsed_ns) / times
    assert one_ns["graph"] < one_ns["empty"] < one_ns["round-trip"]


def test_cupy_that_is_missing_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from kernels.launch_latency import _cupy_kernel

    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(Unsupported, match="cupy"):
        _cupy_kernel(torch.zeros(1, dtype=torch.int64))

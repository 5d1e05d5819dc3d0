"""Overlap: product and copy are each checked whole, and the share of the ideal is taken launch by launch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.spec import parse_params, workload_name
from bench.types import Mark, Measurement
from kernels._gemm import tolerance
from kernels.overlap import KERNEL, Copy, OverlapCase, OverlapParams, Product, turns_metrics
from tests.conftest import prepare

N = 320  # a block of 256 columns and a rest


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(0)


def case_of(workload: str, device: Any) -> OverlapCase:
    case = prepare(KERNEL, workload, device)
    assert isinstance(case, OverlapCase)
    return case


# ---------------------------------------------------------------- the product, the copy


def test_a_product_is_within_its_tolerance(generator: torch.Generator) -> None:
    product = Product(N, generator)
    product.poison()
    product.launch()
    assert 0 < product.error() < tolerance("bf16", N)


@pytest.mark.parametrize("place", [(slice(0, 1), slice(0, 1)), (slice(16, 32), slice(64, 80)), (-1, -1)])
def test_a_wrong_element_or_tile_of_a_product_fails(generator: torch.Generator, place: Any) -> None:
    product = Product(N, generator)
    product.launch()
    wrong = product.out_MN[place]
    product.out_MN[place] += torch.linspace(20, 40, wrong.numel()).view(wrong.shape)  # beside a root mean square of 18
    assert product.error() > tolerance("bf16", N)


def test_a_product_that_is_not_written_fails(generator: torch.Generator) -> None:
    product = Product(N, generator)
    product.launch()
    product.poison()
    assert not product.error() <= tolerance("bf16", N)


@pytest.mark.parametrize("to_device", [True, False])
def test_a_copy_arrives_and_one_wrong_word_is_found(generator: torch.Generator, to_device: bool) -> None:
    copy = Copy(to_device, 1 << 16, generator)
    assert copy.source_W.unique().numel() == copy.source_W.numel() == 1 << 13
    copy.poison()
    assert copy.wrong() == 1 << 13
    copy.launch()
    assert copy.wrong() == 0
    copy.target_W[77] ^= 1
    assert copy.wrong() == 1


# ---------------------------------------------------------------- metrics, names


def test_the_share_is_the_longer_one_alone_over_both(cpu_device: CpuDevice) -> None:
    # Two samples of two launches: product, copy, both; each sample's marks count from its own start.
    taken_ns = [(100, 80, 125), (100, 90, 200), (100, 110, 110), (200, 80, 250)]
    marks = []
    for sample in (taken_ns[:2], taken_ns[2:]):
        now_ns = 0
        for launch in sample:
            for name, ns in zip(("product", "copy", "both"), launch, strict=True):
                now_ns += ns
                marks.append(Mark(name, now_ns))
    metrics = turns_metrics(Measurement((348, 425), (), (0, 0), tuple(marks), 2, True, False))
    values = {metric.name: metric.value for metric in metrics}
    assert values["share"] == pytest.approx(0.8)  # the median of 0.8, 0.5, 1 and 0.8
    assert values["product_s"] == pytest.approx(100e-9)
    assert values["copy_s"] == pytest.approx(85e-9)
    assert values["both_s"] == pytest.approx(162.5e-9)


def test_a_cpu_has_nothing_that_only_copies(cpu_device: CpuDevice) -> None:
    for workload in KERNEL.catalogue:
        with pytest.raises(Unsupported, match="copy engine"):
            case_of(workload, cpu_device)


def test_names_catalogue_and_memory() -> None:
    assert workload_name("overlap", OverlapParams("d2h", 4096, 32, "turns")) == "overlap/d2h/4096/mib32@part=turns"
    for workload in KERNEL.catalogue:
        params = parse_params("overlap", OverlapParams, workload)
        assert workload_name("overlap", params) == workload
        assert KERNEL.memory_bytes(params) > 3 * 2 * 8192**2 + (64 << 20)
        assert KERNEL.work(params).flops == 2 * 8192**3 * (2 if params.part == "turns" else 1)
        assert bool(KERNEL.roofs(params, "cuda")) == (params.part == "both")


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("part", ["both", "turns"])
@pytest.mark.parametrize("copy", ["h2d", "d2h"])
def test_check_passes_on_a_gpu_and_what_is_wrong_or_left_out_fails(
    cuda_device: Any, monkeypatch: pytest.MonkeyPatch, copy: str, part: str
) -> None:
    case = case_of(f"overlap/{copy}/1024/mib4@part={part}", cuda_device)
    times = 2 if part == "turns" else 1
    assert (case.work.flops, case.work.bytes_moved) == (times * 2 * 1024**3, times * (4 << 20))
    assert case.copy.source_W.is_cuda != case.copy.target_W.is_cuda
    for _ in range(3):
        check = case.check()
        assert check.ok, check
        case.launch()
    with monkeypatch.context() as without:
        without.setattr(case.copy, "launch", lambda: None)
        assert not case.check().ok
    with monkeypatch.context() as without:
        without.setattr(case.product, "launch", lambda: None)
        assert not case.check().ok
    assert case.check().ok


@pytest.mark.gpu
def test_what_is_queued_after_both_waits_for_both(cuda_device: Any) -> None:
    """A launch is over when its copy is: the harness's end must not come before."""
    case = case_of("overlap/h2d/256/mib256", cuda_device)
    case.check()

    def elapsed_ns(launch: Any) -> int:
        cuda_device.start()
        launch()
        return int(cuda_device.stop())

    alone_ns = min(elapsed_ns(case.copy.launch) for _ in range(3))
    assert min(elapsed_ns(case.launch) for _ in range(3)) > 0.8 * alone_ns

"""``matmul-grouped``: how rows are dealt out to experts, and that each gets its own weight."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.spec import SEED, parse_params, workload_name
from bench.types import Measurement
from kernels import matmul_grouped
from kernels._gemm import Shapes, Stack, tolerance, work
from kernels._gemm_backends import tried
from kernels._gemm_product import Product
from kernels.matmul_grouped import KERNEL, MatmulGroupedParams, routed
from tests.conftest import prepare

MEASUREMENT = Measurement((1,), (), (0,), (), 1, steady=True, cut_short=False)
COUNTS, ROWS = st.integers(1, 300), st.integers(1, 5000)


def params(workload: str) -> MatmulGroupedParams:
    return parse_params(KERNEL.name, KERNEL.params_type, workload)


def opened(text: str, device: Device) -> Any:
    return prepare(KERNEL, f"matmul-grouped/{text}", device)


# ---------------------------------------------------------------- rows and work


@given(COUNTS, ROWS, st.integers(0, 100))
def test_all_rows_are_dealt_out_unevenly_within_bounds(count: int, m: int, seed: int) -> None:
    stack = routed(Shapes(count, m, 8, 8), seed)
    assert len(stack.rows) == count
    assert stack.m == count * m
    assert stack == routed(Shapes(count, m, 8, 8), seed)
    assert all(m / 3 - 1 <= rows <= 3 * m + 1 for rows in stack.rows)  # half of the mean, were all others 1.5 of it


def test_the_seed_deals_and_the_rows_are_known() -> None:
    """A figure of another version is comparable only if the same rows meet the same experts."""
    assert routed(Shapes(4, 100, 8, 8), SEED).rows == (126, 117, 86, 71)
    assert routed(Shapes(4, 100, 8, 8), SEED + 1).rows != routed(Shapes(4, 100, 8, 8), SEED).rows


def test_every_catalogued_workload_is_named_canonically() -> None:
    for workload in KERNEL.catalogue:
        assert workload_name(KERNEL.name, params(workload)) == workload


def test_work_counts_the_rows_that_are_there(cpu_device: CpuDevice) -> None:
    case = opened("fp32/5x6x8x16", cpu_device)
    with FlopCounterMode(display=False) as counter:
        case.launch()
    assert case.work.flops == 2 * 5 * 6 * 8 * 16 == counter.get_total_flops()


def test_the_weight_of_an_expert_without_rows_is_not_read() -> None:
    found = work("bf16", Stack((3, 0, 2), k=8, n=16))
    assert found.flops == 2 * 5 * 8 * 16
    assert found.bytes_moved == 2 * (5 * 8 + 2 * 8 * 16 + 5 * 16)


def test_metrics_say_how_uneven_it_is_and_in_how_many_calls(cpu_device: CpuDevice) -> None:
    case = opened("fp32/4x100x8x8", cpu_device)
    metrics = {metric.name: metric.value for metric in case.metrics(MEASUREMENT)}
    assert metrics == {"library_calls": 4, "rows_least": 71, "rows_most": 126}


# ---------------------------------------------------------------- the check


@pytest.mark.parametrize("text", ["fp32/5x33x20x17", "bf16/8x12x64x300", "fp32/64x1x16x16", "bf16/1x8x8x8"])
def test_groups_pass_their_own_check(text: str, cpu_device: CpuDevice) -> None:
    check = opened(text, cpu_device).check()
    assert check.ok, check


@pytest.mark.parametrize("group", range(4))
def test_an_expert_that_used_its_neighbour_s_weight_fails(group: int, cpu_device: CpuDevice) -> None:
    case = opened("bf16/4x10x64x48", cpu_device)
    product = case._product
    parts = list(zip(product.a_MK.split(product.stack.rows), product.out_MN.split(product.stack.rows), strict=True))
    a_RK, out_RN = parts[group]
    torch.mm(a_RK, product.b_GKN[(group + 1) % 4], out=out_RN)
    assert product.error() > case._tolerance


@pytest.mark.parametrize("row", [0, 17, 39])
def test_one_row_given_to_the_wrong_expert_fails(row: int, cpu_device: CpuDevice) -> None:
    case = opened("fp32/4x10x64x48", cpu_device)
    case._product.out_MN[row] = case._product.out_MN[(row + 20) % 40]
    assert case._product.error() > case._tolerance


def test_rows_that_were_left_out_fail(cpu_device: CpuDevice) -> None:
    case = opened("fp32/4x10x64x48", cpu_device)
    case._product.poison()
    case.launch()
    case._product.out_MN[-1] = float("nan")
    assert not case._product.error() <= case._tolerance


# ---------------------------------------------------------------- the fused kernel


def test_the_fused_kernel_does_the_same_work(cpu_device: CpuDevice) -> None:
    """torch has a stand-in for it on the CPU since 2.9."""
    product = Product("bf16", routed(Shapes(4, 24, 64, 48), SEED), cpu_device, SEED)
    with contextlib.suppress(Unsupported):
        launch = tried(matmul_grouped._fused, "bf16", product)
        product.poison()
        launch()
        assert product.error() <= tolerance("bf16", 64)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("shape", ["16x64x128x256", "64x1x256x128"])
def test_groups_pass_on_a_gpu(dtype: str, shape: str, cuda_device: Device) -> None:
    try:
        case = opened(f"{dtype}/{shape}", cuda_device)
    except Unsupported:
        assert torch.cuda.get_device_capability() < (8, 0)
        return
    assert case.check().ok
    fused = dtype == "bf16" and torch.cuda.get_device_capability()[0] in (9, 10)
    calls = next(metric.value for metric in case.metrics(MEASUREMENT) if metric.name == "library_calls")
    assert (calls == 1) == fused

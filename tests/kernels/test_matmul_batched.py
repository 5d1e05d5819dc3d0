"""``matmul-batched``: every product of the batch is checked, and counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported, UsageError
from bench.spec import parse_params, spec_of, workload_name
from kernels._gemm import Shapes
from kernels.matmul_batched import KERNEL, MatmulBatchedParams
from tests.conftest import prepare


def params(workload: str) -> MatmulBatchedParams:
    return parse_params(KERNEL.name, KERNEL.params_type, workload)


def opened(text: str, device: Device) -> Any:
    return prepare(KERNEL, f"matmul-batched/{text}", device)


@given(st.tuples(*[st.integers(1, 10**6)] * 4))
def test_names_and_shapes_are_one_to_one(sizes: tuple[int, int, int, int]) -> None:
    shapes = Shapes(*sizes)
    assert Shapes.parse(str(shapes)) == shapes


@pytest.mark.parametrize("text", ["8", "8x8x8", "8x8x8x8x8", "08x8x8x8", "0x8x8x8", "8x8x8x", "x8x8x8", "8x8x8x-8"])
def test_a_shape_has_one_spelling(text: str) -> None:
    with pytest.raises(UsageError):
        params(f"matmul-batched/fp32/{text}")


def test_the_shape_is_a_parameter_of_the_spec() -> None:
    spec = spec_of(KERNEL.name, KERNEL.version, params("matmul-batched/bf16/2x3x4x5"))
    assert (spec.dtype, spec.params) == ("bf16", {"shape": {"count": 2, "m": 3, "k": 4, "n": 5}})


def test_every_catalogued_workload_is_named_canonically() -> None:
    for workload in KERNEL.catalogue:
        assert workload_name(KERNEL.name, params(workload)) == workload


def test_work_is_what_torch_counts_and_each_matrix_moved_once(cpu_device: CpuDevice) -> None:
    work = opened("bf16/3x4x6x8", cpu_device).work
    with FlopCounterMode(display=False) as counter:
        torch.bmm(torch.empty(3, 4, 6, device="meta"), torch.empty(3, 6, 8, device="meta"))
    assert work.flops == counter.get_total_flops()
    assert work.bytes_moved == 2 * 3 * (4 * 6 + 6 * 8 + 4 * 8)


def test_a_probe_is_small_in_every_size() -> None:
    large = params("matmul-batched/bf16/768x197x64x4096")
    probe = KERNEL.probe(large)
    assert probe is not None
    assert str(probe.shape) == "4x197x64x256"
    assert KERNEL.probe(probe) is None
    assert KERNEL.memory_bytes(probe) < KERNEL.memory_bytes(large)


@pytest.mark.parametrize(
    "text", ["fp64/5x33x20x17", "fp32/4x64x32x300", "bf16/7x4x32x64", "fp32/1x8x8x8", "bf16/9x1x5x3"]
)
def test_a_batch_passes_its_own_check(text: str, cpu_device: CpuDevice) -> None:
    check = opened(text, cpu_device).check()
    assert check.ok, check


def test_the_launch_writes_to_one_preallocated_place(cpu_device: CpuDevice) -> None:
    case = opened("fp32/4x16x16x16", cpu_device)
    out_MN = case._product.out_MN
    expected = torch.cat([a @ b for a, b in zip(case._product.a_MK.split(16), case._product.b_GKN, strict=True)])
    out_MN.zero_()
    case.launch()
    assert torch.allclose(out_MN, expected)
    assert case._product.out_MN is out_MN


@pytest.mark.parametrize("product", range(5))
@pytest.mark.parametrize("element", [(0, 0), (13, 299), (31, 256)])
def test_one_wrong_element_of_any_product_fails(product: int, element: tuple[int, int], cpu_device: CpuDevice) -> None:
    case = opened("bf16/5x32x64x300", cpu_device)
    case._product.out_MN[32 * product + element[0], element[1]] += 16  # two root mean squares
    assert case._product.error() > case._tolerance


def test_two_products_that_are_confused_fail(cpu_device: CpuDevice) -> None:
    case = opened("fp32/5x8x64x40", cpu_device)
    out_GMN = case._product.out_MN.unflatten(0, (5, 8))
    out_GMN[[2, 3]] = out_GMN[[3, 2]]
    assert case._product.error() > case._tolerance


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["fp64", "fp32", "tf32", "bf16", "fp16"])
def test_every_dtype_passes_on_a_gpu_that_has_it(dtype: str, cuda_device: Device) -> None:
    try:
        assert opened(f"{dtype}/16x128x64x256", cuda_device).check().ok
    except Unsupported:
        assert torch.cuda.get_device_capability() < (8, 0)

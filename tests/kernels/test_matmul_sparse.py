"""``matmul-sparse``: what is pruned and counted; a stand-in for cuSPARSELt multiplies where there is no GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.spec import SEED, parse_params, workload_name
from bench.types import Measurement
from kernels._gemm import Shape
from kernels.matmul_sparse import KERNEL, MatmulSparseParams, keep_two_of_four, sparse_work
from tests.conftest import prepare

DTYPES = ("bf16", "fp16", "fp8-e4m3", "int8")


def params(workload: str) -> MatmulSparseParams:
    return parse_params(KERNEL.name, KERNEL.params_type, workload)


def opened(text: str, device: Device) -> Any:
    return prepare(KERNEL, f"matmul-sparse/{text}", device)


# ---------------------------------------------------------------- what is pruned, and counted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8])
def test_two_of_every_four_stay_as_they_were(dtype: torch.dtype) -> None:
    before = torch.randint(1, 100, (60, 80), generator=torch.Generator().manual_seed(1)).to(dtype)
    after = before.clone()
    keep_two_of_four(after, SEED)
    kept = after.float() != 0
    assert (kept.unflatten(1, (-1, 4)).sum(2) == 2).all()
    assert torch.equal(after.float()[kept], before.float()[kept])
    assert kept.unflatten(1, (-1, 4)).flatten(0, 1).unique(dim=0).shape == (6, 4)  # all pairs occur
    again = before.clone()
    keep_two_of_four(again, SEED)
    assert torch.equal(again.float(), after.float())


def test_work_is_what_is_not_skipped() -> None:
    b_NK = torch.randint(1, 100, (64, 32)).to(torch.int8)
    keep_two_of_four(b_NK, SEED)
    kept = int((b_NK != 0).sum())
    found = sparse_work("int8", Shape(16, 32, 64))
    assert found.flops == 2 * 16 * kept
    assert found.bytes_moved == 16 * 32 + kept + kept * 2 // 8 + 4 * 16 * 64
    assert sparse_work("bf16", Shape(16, 32, 64)).bytes_moved == 2 * 16 * 32 + 2 * kept + kept // 4 + 2 * 16 * 64


def test_every_catalogued_workload_is_named_canonically() -> None:
    for workload in KERNEL.catalogue:
        assert workload_name(KERNEL.name, params(workload)) == workload


def test_a_cpu_has_no_such_product_and_torch_says_so(cpu_device: CpuDevice) -> None:
    with pytest.raises(Unsupported, match="_cslt_compress"):
        opened("bf16/64", cpu_device)


# ---------------------------------------------------------------- the workload, with a stand-in for the library


@pytest.fixture
def cusparselt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that take and give what torch's do; the compressed matrix is the dense one."""

    def sparse_mm(packed: Any, dense: Any, *, out_dtype: Any, transpose_result: bool, alg_id: int) -> torch.Tensor:
        assert ((packed.unflatten(1, (-1, 4)).double() != 0).sum(2) <= 2).all()
        assert (out_dtype is None) == (packed.dtype in (torch.bfloat16, torch.float16))
        assert transpose_result and alg_id == 7
        return (packed.double() @ dense.double()).t().contiguous().to(out_dtype or packed.dtype)

    monkeypatch.setattr(torch, "_cslt_compress", lambda dense: dense.clone())
    monkeypatch.setattr(torch, "_cslt_sparse_mm", sparse_mm)
    monkeypatch.setattr(torch, "_cslt_sparse_mm_search", lambda *_, **__: 7)


@pytest.mark.usefixtures("cusparselt")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["64", "32x64x300"])
def test_a_right_product_passes_the_check(dtype: str, shape: str, cpu_device: CpuDevice) -> None:
    check = opened(f"{dtype}/{shape}", cpu_device).check()
    assert check.ok, check


@pytest.mark.usefixtures("cusparselt")
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_wrong_tile_fails(dtype: str, cpu_device: CpuDevice) -> None:
    case = opened(f"{dtype}/64", cpu_device)
    tile = case._product.out_MN[16:32, 32:48]
    tile.copy_(tile.roll(1, 0))
    assert not case._product.error() <= case._tolerance


@pytest.mark.usefixtures("cusparselt")
def test_a_product_that_forgot_to_prune_fails(cpu_device: CpuDevice) -> None:
    case = opened("bf16/64", cpu_device)
    product = case._product
    product.b_GKN[0, 5, 7] += 3
    product.out_MN.copy_(product.a_MK @ product.b_KN)
    product.b_GKN[0, 5, 7] -= 3
    assert product.error() > case._tolerance


@pytest.mark.usefixtures("cusparselt")
def test_the_datasheet_s_figure_is_twice_the_headline(cpu_device: CpuDevice) -> None:
    case = opened("int8/64", cpu_device)
    measurement = Measurement((1000, 2000, 3000), (), (0,) * 3, (), 1, steady=True, cut_short=False)
    (metric,) = case.metrics(measurement)
    assert (metric.name, metric.unit) == ("dense_equivalent", "OP/s")
    assert metric.value == pytest.approx(2 * case.work.rate(2000)) == pytest.approx(2 * 64**3 / 2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_passes_on_a_gpu_that_has_it(dtype: str, cuda_device: Device) -> None:
    try:
        for shape in ("512", "256x1024x768"):
            assert opened(f"{dtype}/{shape}", cuda_device).check().ok
    except Unsupported:
        assert torch.cuda.get_device_capability() < ((8, 9) if dtype == "fp8-e4m3" else (8, 0))

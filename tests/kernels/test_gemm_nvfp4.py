"""``_gemm_nvfp4``: values on the format's grid, packed as cuBLAS reads them, which a stand-in for it does here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.device.cpu import CpuDevice
from kernels import _gemm_nvfp4
from kernels.matmul import KERNEL
from tests.conftest import prepare

MAGNITUDES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
VALUES = torch.tensor(MAGNITUDES + [-magnitude for magnitude in MAGNITUDES], dtype=torch.float64)


def offset(row: int, column: int, columns: int) -> int:
    """Where cuBLAS looks for the scale of that row and block: its documentation's formula, element by element."""
    tiles = -(-columns // 4)
    tile = row // 128 * tiles + column // 4
    return tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4


def unpacked(packed_RH: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The values in float64, code by code."""
    codes = packed_RH.view(torch.uint8)
    rows, half = codes.shape
    values = torch.stack([VALUES[codes.int() & 15], VALUES[codes.int() >> 4]], dim=2).flatten(1)
    blocks = 2 * half // 16
    flat = scales.double()
    scale_RS = torch.tensor(
        [[float(flat[offset(row, block, blocks)]) for block in range(blocks)] for row in range(rows)]
    )
    return values * scale_RS.double().repeat_interleave(16, dim=1)


def normals(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([0.1, 1.0, 300.0]))
def test_each_value_is_the_nearest_that_its_block_s_scale_allows(
    rows: int, blocks: int, seed: int, size: float
) -> None:
    x = size * normals(rows, 16 * blocks, seed)
    for block, found in zip(x.split(16, dim=1), _gemm_nvfp4.nearest(x).split(16, dim=1), strict=True):
        for x_16, found_16 in zip(block, found, strict=True):
            scale = (x_16.abs().max() / 6).to(torch.float8_e4m3fn).double()
            distances = (x_16.double()[:, None] - scale * VALUES).abs()
            assert torch.allclose((x_16.double() - found_16.double()).abs(), distances.min(dim=1).values, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 140), st.integers(1, 5), st.integers(0, 1000))
def test_packing_loses_nothing(rows: int, blocks: int, seed: int) -> None:
    values = _gemm_nvfp4.nearest(normals(rows, 16 * blocks, seed))
    packed, scales = _gemm_nvfp4.pack(values)
    assert packed.shape == (rows, 8 * blocks)
    assert scales.numel() == 512 * -(-rows // 128) * -(-blocks // 4)
    assert torch.equal(unpacked(packed, scales), values.double())


def test_missing_scales_of_a_tile_are_zero() -> None:
    scales = _gemm_nvfp4.in_tiles(torch.ones(130, 5).to(torch.float8_e4m3fn))
    assert float(scales.float().sum()) == 130 * 5
    assert scales.numel() == 2 * 2 * 512


# ---------------------------------------------------------------- the workload, with a stand-in for the library


@pytest.fixture
def blackwell(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A torch._scaled_mm that reads its operands as cuBLAS does."""
    seen: dict[str, Any] = {"flip": 0}

    def scaled_mm(a: Any, b: Any, scale_a: Any, scale_b: Any, *, out_dtype: torch.dtype, out: torch.Tensor) -> Any:
        assert (b.stride(0), out_dtype) == (1, torch.bfloat16)
        scale_a.view(torch.uint8)[: seen["flip"]] ^= 8  # of the first scales, the lowest bit of the exponent
        return out.copy_(unpacked(a, scale_a) @ unpacked(b.t(), scale_b).t())

    monkeypatch.setattr(torch, "_scaled_mm", scaled_mm)
    return seen


@pytest.mark.usefixtures("blackwell")
@pytest.mark.parametrize("shape", ["64", "1x96x160"])
def test_a_library_that_reads_the_format_passes_the_check(shape: str, cpu_device: CpuDevice) -> None:
    case = prepare(KERNEL, f"matmul/nvfp4/{shape}", cpu_device)
    assert case.check().ok


def test_one_wrong_scale_fails(blackwell: dict[str, Any], cpu_device: CpuDevice) -> None:
    case = prepare(KERNEL, "matmul/nvfp4/64", cpu_device)
    blackwell["flip"] = 1
    assert not case.check().ok

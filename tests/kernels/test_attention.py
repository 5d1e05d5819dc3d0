"""Attention in blocks of queries: the same as torch's in float64, and where it is taken."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.device.cpu import CpuDevice
from kernels import _attention, encode, prefill
from kernels._attention import attention_of, by_blocks, fused
from tests.conftest import prepare

SIZES = st.integers(1, 3)


@settings(max_examples=60, deadline=None)
@given(batch=SIZES, kv_heads=SIZES, share=SIZES, tokens=st.integers(1, 300), is_causal=st.booleans())
def test_blocks_attend_as_torch_does(batch: int, kv_heads: int, share: int, tokens: int, is_causal: bool) -> None:
    generator = torch.Generator().manual_seed(tokens)
    q_BTHE, k_BTGE, v_BTGE = (
        torch.randn(batch, tokens, heads, 8, dtype=torch.float64, generator=generator)
        for heads in (kv_heads * share, kv_heads, kv_heads)
    )
    q_BHTE, k_BGTE, v_BGTE = (x.transpose(1, 2) for x in (q_BTHE, k_BTGE, v_BTGE))
    exact_BHTE = fused(q_BHTE, k_BGTE, v_BGTE, is_causal=is_causal)
    assert by_blocks(q_BHTE, k_BGTE, v_BGTE, is_causal=is_causal).allclose(exact_BHTE, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("bf16_products", "amx", "taken"), [(True, False, by_blocks), (True, True, fused), (False, False, fused)]
)
def test_blocks_are_for_bf16_on_a_cpu_with_its_products_but_without_amx(
    monkeypatch: pytest.MonkeyPatch, bf16_products: bool, amx: bool, taken: object
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16_products)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert attention_of("cpu", torch.bfloat16) is taken
    assert attention_of("cpu", torch.float32) is fused
    assert attention_of("cuda:0", torch.bfloat16) is fused


@pytest.mark.parametrize("attend", [by_blocks, fused])
@pytest.mark.parametrize("workload", ["prefill/tiny/b2/p80", "encode/tiny-text/b2", "encode/tiny-image/b1"])
def test_both_pass_the_check(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch, attend: _attention.Attend, workload: str
) -> None:
    monkeypatch.setattr(_attention, "_MOST_QUERIES", 16)
    kernel = prefill.KERNEL if workload.startswith("prefill") else encode.KERNEL
    case = prepare(kernel, workload, cpu_device)
    monkeypatch.setattr(case.model, "_attend", attend)  # type: ignore[attr-defined]
    check = case.check()
    assert check.ok, check


def test_a_block_that_sees_one_key_too_many_fails_the_check(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_attention, "_MOST_QUERIES", 16)
    case = prepare(prefill.KERNEL, "prefill/tiny/b1/p80", cpu_device)
    monkeypatch.setattr(case.model, "_attend", by_blocks)  # type: ignore[attr-defined]
    assert case.check().ok
    triu = torch.Tensor.triu_
    monkeypatch.setattr(torch.Tensor, "triu_", lambda mask_TT, diagonal: triu(mask_TT, diagonal + 1))
    assert not case.check().ok

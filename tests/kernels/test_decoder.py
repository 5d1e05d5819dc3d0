"""The decoder itself: shapes, work, and a forward pass that agrees with float64 and with itself."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from bench.errors import UsageError
from kernels._decoder import (
    SHAPES,
    KvCache,
    Linear,
    Decoder,
    Shape,
    forward_work,
    require_positions,
    rope_frequencies,
)
from kernels._decoder_reference import Reference, memory_bytes

TINY = SHAPES["tiny"]


def build(shape: Shape = TINY, dtype: str = "fp32", seed: int = 0) -> Decoder:
    return Decoder(shape, dtype, "cpu", seed, positions=128)


def float64_logits(model: Decoder, tokens_T: torch.Tensor) -> torch.Tensor:
    """Logits after the last token, all in float64, from the tokens on."""
    reference = Reference(model)
    positions_T = torch.arange(len(tokens_T))
    angles_TP = torch.outer(positions_T.double(), torch.tensor(rope_frequencies(model.shape), dtype=torch.float64))
    x_TD = model.embedding_VD[tokens_T].double()
    for layer in model.layers:
        normed_TD = reference._normed(x_TD, layer.attention_norm)
        k_GTE, v_GTE = reference._keys_values(layer, normed_TD, angles_TP)
        x_TD = x_TD + reference._attention(layer, normed_TD, angles_TP, positions_T, k_GTE, v_GTE)
        x_TD = x_TD + reference._mlp(layer, x_TD)
    logits_V: torch.Tensor = reference._normed(x_TD[-1], model.norm_D) @ model.head.dense().double().T
    return logits_V


def relative(actual: torch.Tensor, exact: torch.Tensor) -> float:
    error: float = ((actual.double() - exact.double()).norm() / exact.double().norm()).item()
    return error


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("smollm2-135m", 134_515_008), ("llama-3.2-1b", 1_235_814_400), ("llama-3.1-8b", 8_030_261_248)],
)
def test_shapes_have_the_published_number_of_parameters(model: str, parameters: int) -> None:
    assert SHAPES[model].parameters == parameters


@pytest.mark.parametrize("tied", [False, True])
def test_streamed_parameters_are_those_of_the_tensors_that_a_forward_reads(tied: bool) -> None:
    model = build(dataclasses.replace(TINY, tied=tied))
    read = [model.norm_D, model.head.dense()]
    for layer in model.layers:
        read += [layer.attention_norm, layer.mlp_norm]
        read += [linear.dense() for linear in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    assert sum(tensor.numel() for tensor in read) == model.shape.streamed_parameters


@pytest.mark.parametrize(("starts", "tokens"), [(range(1), 5), (range(7, 10), 1)])
def test_work_equals_a_count_by_loops(starts: range, tokens: int) -> None:
    flops = read = 0
    for start in starts:
        for _sequence in range(3):
            for token in range(tokens):
                position = start + token
                for _layer in range(TINY.layers):
                    for rows, columns in ((128, 64), (64, 64), (320, 64), (64, 160)):
                        flops += 2 * rows * columns
                    flops += TINY.heads * (position + 1) * 2 * (TINY.head_width + TINY.head_width)
            flops += 2 * TINY.vocabulary * TINY.width
            read += 2 * 2 * (start + tokens) * TINY.layers * TINY.kv_heads * TINY.head_width  # k and v, 2 bytes
        read += 2 * TINY.streamed_parameters
    work = forward_work(TINY, 3, starts, tokens, item_bytes=2)
    assert (work.flops, work.bytes_moved) == (flops, read)
    assert work.items == 3 * tokens * len(starts)


def test_a_step_of_the_8b_model_reads_its_15_gigabytes() -> None:
    work = forward_work(SHAPES["llama-3.1-8b"], 1, range(512, 513), 1, item_bytes=2)
    assert work.bytes_moved == pytest.approx(15.0e9 + 67e6, rel=2e-3)


def test_rope_without_scaling_starts_at_one_radian_and_ends_near_theta() -> None:
    frequencies = rope_frequencies(SHAPES["smollm2-135m"])
    assert frequencies[0] == 1.0
    assert frequencies[-1] == pytest.approx(100_000 ** (-62 / 64))


def test_rope_scaling_is_that_of_metas_reference() -> None:
    """The same rule in terms of wavelengths, as ``apply_scaling`` has it."""
    shape = SHAPES["llama-3.2-1b"]
    for pair, scaled in enumerate(rope_frequencies(shape)):
        frequency = 500_000.0 ** (-2 * pair / 64)
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4:
            expected = frequency
        elif wavelength > 8192 / 1:
            expected = frequency / 32
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            expected = (1 - smooth) * frequency / 32 + smooth * frequency
        assert scaled == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [TINY, dataclasses.replace(TINY, tied=True, rope_scaling=None, layers=5)])
def test_logits_agree_with_float64_from_the_tokens_on(shape: Shape) -> None:
    model = build(shape)
    tokens_BT = model.random_tokens(2, 40)
    logits_BV = model.forward(tokens_BT, 0, model.new_cache(2, 40))
    for tokens_T, logits_V in zip(tokens_BT, logits_BV, strict=True):
        assert relative(logits_V, float64_logits(model, tokens_T)) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.08)])
def test_steps_with_the_cache_agree_with_recomputing_the_prefix(dtype: str, tolerance: float) -> None:
    model = build(dtype=dtype)
    cache = model.new_cache(2, 24)
    tokens_BT = model.random_tokens(2, 16)
    logits_BV = model.forward(tokens_BT, 0, cache)
    for position in range(16, 24):
        token_B1 = logits_BV.argmax(dim=-1, keepdim=True)
        tokens_BT = torch.cat([tokens_BT, token_B1], dim=1)
        logits_BV = model.forward(token_B1, position, cache)
        recomputed_BV = model.forward(tokens_BT, 0, model.new_cache(2, position + 1))
        assert relative(logits_BV, recomputed_BV) < tolerance


def test_several_tokens_in_the_middle_are_refused() -> None:
    model = build()
    with pytest.raises(ValueError, match="only one at a time"):
        model.forward(model.random_tokens(1, 2), 3, model.new_cache(1, 8))


def test_activations_keep_their_size_at_any_depth() -> None:
    model = build(dataclasses.replace(TINY, layers=40))
    trace: dict[int, list[torch.Tensor]] = {80: []}
    logits_BV = model.forward(model.random_tokens(1, 32), 0, model.new_cache(1, 32), trace)
    assert 0.1 < trace[80][0].square().mean().sqrt() < 30
    assert 0.3 < logits_BV.std() < 5


def test_the_same_seed_gives_the_same_model_and_another_another() -> None:
    tables = [build(seed=seed).embedding_VD for seed in (1, 1, 2)]
    assert tables[0].equal(tables[1])
    assert not tables[0].equal(tables[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_packed_weight_multiplies_like_a_plain_one_and_can_be_read_back(dtype: torch.dtype) -> None:
    weight_NK = torch.randn(48, 32).to(dtype)
    x_BTK = torch.randn(2, 3, 32).to(dtype)
    linear = Linear(weight_NK)
    assert linear.dense().equal(weight_NK)
    exact = x_BTK.double() @ weight_NK.double().T
    assert relative(linear(x_BTK), exact) < 4 * torch.finfo(dtype).eps


def test_too_long_a_context_is_a_usage_error() -> None:
    require_positions("tiny", 4096)
    with pytest.raises(UsageError, match="4096 positions"):
        require_positions("tiny", 4097)


def test_memory_covers_weights_and_cache_and_grows_with_the_batch() -> None:
    shape = SHAPES["llama-3.1-8b"]
    one, eight = (memory_bytes(shape, batch, 2048, 2048, item_bytes=2) for batch in (1, 8))
    cache = 2 * 32 * 8 * 128 * 2048 * 2
    assert one > 2 * shape.parameters + cache
    assert eight > one + 7 * cache
    assert one < 30e9


def test_importing_the_kernels_imports_no_torch() -> None:
    code = "import sys, kernels.prefill, kernels.decode; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def on_device(model: Decoder, device: str) -> Decoder:
    """The same weights there."""
    twin: Any = Decoder(model.shape, "fp32" if model.dtype == torch.float32 else "bf16", device, 0, positions=128)
    twin.embedding_VD.copy_(model.embedding_VD)
    twin.norm_D.copy_(model.norm_D)
    twin.head.dense().copy_(model.head.dense())
    for theirs, ours in zip(twin.layers, model.layers, strict=True):
        theirs.attention_norm.copy_(ours.attention_norm)
        theirs.mlp_norm.copy_(ours.mlp_norm)
        for name in ("qkv", "out", "gate_up", "down"):
            getattr(theirs, name).dense().copy_(getattr(ours, name).dense())
    moved: Decoder = twin
    return moved


def to_device(cache: KvCache, device: str) -> KvCache:
    return [(k_BGSE.to(device, copy=True), v_BGSE.to(device, copy=True)) for k_BGSE, v_BGSE in cache]


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.08)])
def test_gpu_and_cpu_agree(cuda_device: Any, dtype: str, tolerance: float) -> None:
    cpu = build(dtype=dtype)
    gpu = on_device(cpu, cuda_device.torch_device)
    cache = cpu.new_cache(2, 24)
    gpu_cache = to_device(cache, cuda_device.torch_device)
    prompt_BT, token_B1 = cpu.random_tokens(2, 16), cpu.random_tokens(2, 1)
    for tokens_BT, start in ((prompt_BT, 0), (token_B1, 16), (token_B1, 17)):
        on_cpu = cpu.forward(tokens_BT, start, cache)
        on_gpu = gpu.forward(tokens_BT.to(cuda_device.torch_device), start, gpu_cache)
        assert relative(on_gpu.cpu(), on_cpu) < tolerance

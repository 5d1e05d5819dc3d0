"""The decoder itself: shapes, work, and a forward pass that agrees with float64 and with itself."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from kernels._biased import Biased
from kernels._decoder import Decoder, KvCache, alibi_mask
from kernels._decoder_float64 import Float64
from kernels._decoder_reference import memory_bytes
from kernels._decoder_shape import (
    SHAPES,
    Shape,
    alibi_slopes,
    forward_work,
    require_positions,
    rope_frequencies,
    tiny,
)
from kernels._linear import Linear
from kernels._mlp import Mlp

TINY = SHAPES["tiny"]
TINIES = ["tiny", "tiny-alibi", "tiny-moe"]


def build(shape: Shape = TINY, dtype: str = "fp32", seed: int = 0) -> Decoder:
    return Decoder(shape, dtype, "cpu", seed, positions=128)


def float64_logits(model: Decoder, tokens_T: torch.Tensor) -> torch.Tensor:
    """Logits after the last token, all in float64, from the tokens on."""
    exact = Float64(model.shape, model.dtype)
    positions_T = torch.arange(len(tokens_T))
    x_TD = model.embedding_VD[tokens_T].double()
    for layer in model.layers:
        normed_TD = exact.normed(x_TD, layer.attention_norm)
        k_GTE, v_GTE = exact.keys_values(layer, normed_TD, positions_T)
        x_TD = x_TD + exact.attention(layer, normed_TD, positions_T, k_GTE, v_GTE)
        normed_TD = exact.normed(x_TD, layer.mlp_norm)
        chosen_Tk = None
        if not isinstance(layer.mlp, Mlp):
            chosen_Tk = exact.router_logits(layer, normed_TD).topk(model.shape.experts_per_token).indices
        x_TD = x_TD + exact.mlp(layer, normed_TD, chosen_Tk)
    logits_V: torch.Tensor = exact.normed(x_TD[-1], model.norm) @ model.head.dense().double().T
    return logits_V


def weights(model: Decoder) -> list[torch.Tensor]:
    """All tensors of the model but an untied embedding table."""
    found: list[torch.Tensor | None] = [model.head.dense()]
    matrices: list[Linear | Biased] = []
    for norm in [model.norm, *(norm for layer in model.layers for norm in (layer.attention_norm, layer.mlp_norm))]:
        found += [norm.weight, norm.bias]
    for layer in model.layers:
        matrices += [layer.qkv, layer.out]
        if not isinstance(layer.mlp, Mlp):
            found.append(layer.mlp.router_XD)
        for mlp in [layer.mlp] if isinstance(layer.mlp, Mlp) else layer.mlp.mlps:
            matrices += [mlp.up, mlp.down]
    found += [matrix.dense() for matrix in matrices]
    found += [matrix.bias_N for matrix in matrices if isinstance(matrix, Biased)]
    return [tensor for tensor in found if tensor is not None]


def relative(actual: torch.Tensor, exact: torch.Tensor) -> float:
    error: float = ((actual.double() - exact.double()).norm() / exact.double().norm()).item()
    return error


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("smollm2-135m", 134_515_008),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("mixtral-8x7b", 46_702_792_704),
        ("phogpt-4b", pytest.approx(3.7e9, rel=0.005)),  # "exactly 3.7B" (arXiv 2311.02945, abstract)
        ("vistral-7b", pytest.approx(7.29e9, rel=0.001)),  # "7.29B params" (its page on huggingface.co)
    ],
)
def test_shapes_have_the_published_number_of_parameters(model: str, parameters: int) -> None:
    assert SHAPES[model].parameters == parameters


def test_a_token_of_the_mixture_takes_its_published_share_of_the_parameters() -> None:
    """12.9 B of them (mistral.ai/news/mixtral-of-experts), the embedding table included."""
    shape = SHAPES["mixtral-8x7b"]
    assert shape.read_parameters(1) + shape.vocabulary * shape.width == pytest.approx(12.9e9, rel=0.005)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("model", TINIES)
def test_parameters_are_those_of_the_tensors(model: str, tied: bool) -> None:
    built = build(dataclasses.replace(SHAPES[model], tied=tied))
    count = sum(tensor.numel() for tensor in weights(built))
    assert built.shape.parameters == count + (0 if tied else built.embedding_VD.numel())
    assert built.shape.read_parameters(10_000) == pytest.approx(count)  # so many that every expert is chosen


def test_one_token_reads_its_own_experts_only() -> None:
    shape = SHAPES["tiny-moe"]
    left_out = shape.layers * 6 * 3 * shape.width * shape.mlp_width
    assert shape.read_parameters(1) == sum(tensor.numel() for tensor in weights(build(shape))) - left_out


@given(st.integers(2, 64), st.data())
def test_the_experts_of_many_tokens_are_between_those_of_one_and_all(experts: int, data: st.DataObject) -> None:
    chosen = data.draw(st.integers(1, experts))
    shape = dataclasses.replace(TINY, experts=experts, experts_per_token=chosen)
    reads = [shape.read_parameters(tokens) for tokens in (1, 2, 7, 100)]
    assert reads == sorted(reads)
    assert reads[-1] <= shape.parameters


def test_random_routers_choose_about_as_many_experts_as_the_work_says() -> None:
    """The mean over layers and draws of the experts that eight tokens share, of the dtype that is measured."""
    shape = dataclasses.replace(SHAPES["tiny-moe"], layers=12)
    chosen, trials = 0, 6
    for seed in range(trials):
        model = build(shape, "bf16", seed)
        trace: dict[int, list[torch.Tensor]] = {-1 - layer: [] for layer in range(shape.layers)}
        model.forward(model.random_tokens(8, 1), 5, model.new_cache(8, 6), trace)
        chosen += sum(len(parts[0].unique()) for parts in trace.values())
    assert chosen / (trials * shape.layers) == pytest.approx(8 * (1 - 0.75**8), rel=0.06)


@pytest.mark.parametrize(("starts", "tokens"), [(range(1), 5), (range(7, 10), 1)])
def test_work_equals_a_count_by_loops(starts: range, tokens: int) -> None:
    flops = read = 0
    streamed = sum(tensor.numel() for tensor in weights(build()))
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
        read += 2 * streamed
    work = forward_work(TINY, 3, starts, tokens, item_bytes=2)
    assert (work.flops, work.bytes_moved) == (flops, read)
    assert work.items == 3 * tokens * len(starts)


@pytest.mark.parametrize("model", TINIES)
def test_flops_are_those_that_torch_counts(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """Of one step, whose attention torch counts in full as well. Without oneDNN's operators, which it does not know."""
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    built = build(SHAPES[model])
    with FlopCounterMode(display=False) as counter:
        built.forward(built.random_tokens(1, 1), 9, built.new_cache(1, 10))
    attention = 4 * built.shape.layers * built.shape.heads * built.shape.head_width * 10
    work = forward_work(built.shape, 1, range(9, 10), 1, item_bytes=4)
    assert work.flops is not None
    counted = counter.get_total_flops()
    assert counted in (work.flops, work.flops - attention)  # some versions do not know the attention of a CPU


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


def test_alibi_slopes_are_those_of_the_paper_for_eight_heads() -> None:
    assert alibi_slopes(8) == [1 / 2**head for head in range(1, 9)]


@given(st.integers(1, 200))
def test_alibi_slopes_are_different_and_no_steeper_than_one(heads: int) -> None:
    slopes = alibi_slopes(heads)
    assert len(set(slopes)) == len(slopes) == heads
    assert all(2**-8 <= slope < 1 for slope in slopes)


def test_alibi_takes_off_its_slope_for_every_position_of_distance_and_hides_the_future() -> None:
    model = build(SHAPES["tiny-alibi"])
    assert model.alibi_HS is not None
    mask_HTS = alibi_mask(model.alibi_HS)
    for head, slope in enumerate(alibi_slopes(6)):
        for query, key in ((0, 0), (5, 5), (100, 97), (127, 0), (3, 4), (0, 127)):
            expected = -slope * (query - key) if key <= query else -math.inf
            assert mask_HTS[head, query, key].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "shape",
    [
        *(SHAPES[model] for model in TINIES),
        dataclasses.replace(TINY, tied=True, rope_scaling=None, layers=5),
        dataclasses.replace(SHAPES["tiny-alibi"], kv_heads=2, biases=False, gated=True),  # all is there by itself
    ],
)
def test_logits_agree_with_float64_from_the_tokens_on(shape: Shape) -> None:
    model = build(shape)
    tokens_BT = model.random_tokens(2, 40)
    logits_BV = model.forward(tokens_BT, 0, model.new_cache(2, 40))
    for tokens_T, logits_V in zip(tokens_BT, logits_BV, strict=True):
        assert relative(logits_V, float64_logits(model, tokens_T)) < 1e-5


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    # In bf16 rounding may choose another expert, which no tolerance covers.
    [*((name, "fp32", 1e-5) for name in TINIES), ("tiny", "bf16", 0.08), ("tiny-alibi", "bf16", 0.08)],
)
def test_steps_with_the_cache_agree_with_recomputing_the_prefix(name: str, dtype: str, tolerance: float) -> None:
    model = build(SHAPES[name], dtype=dtype)
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


@pytest.mark.parametrize("name", TINIES)
def test_activations_keep_their_size_at_any_depth(name: str) -> None:
    model = build(dataclasses.replace(SHAPES[name], layers=40))
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


@pytest.mark.parametrize("model", sorted(SHAPES))
def test_every_shape_has_a_small_one_of_its_family(model: str) -> None:
    ours, small = SHAPES[model], SHAPES[tiny(model)]
    assert small.parameters < 1e6
    for trait in ("centred", "gated", "biases"):
        assert getattr(ours, trait) == getattr(small, trait)
    assert (ours.experts > 1) == (small.experts > 1)
    assert (ours.rope_theta is None) == (small.rope_theta is None)


def test_importing_the_kernels_imports_no_torch() -> None:
    code = "import sys, kernels.prefill, kernels.decode; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def on_device(model: Decoder, device: str) -> Decoder:
    """The same weights there."""
    twin = Decoder(model.shape, "fp32" if model.dtype == torch.float32 else "bf16", device, 0, positions=128)
    twin.embedding_VD.copy_(model.embedding_VD)
    for theirs, ours in zip(weights(twin), weights(model), strict=True):
        theirs.copy_(ours)
    return twin


def to_device(cache: KvCache, device: str) -> KvCache:
    return [(k_BGSE.to(device, copy=True), v_BGSE.to(device, copy=True)) for k_BGSE, v_BGSE in cache]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tiny", "tiny-alibi"])  # a grouped product has no fp32 everywhere
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.08)])
def test_gpu_and_cpu_agree(cuda_device: Any, name: str, dtype: str, tolerance: float) -> None:
    cpu = build(SHAPES[name], dtype)
    gpu = on_device(cpu, cuda_device.torch_device)
    cache = cpu.new_cache(2, 24)
    gpu_cache = to_device(cache, cuda_device.torch_device)
    prompt_BT, token_B1 = cpu.random_tokens(2, 16), cpu.random_tokens(2, 1)
    for tokens_BT, start in ((prompt_BT, 0), (token_B1, 16), (token_B1, 17)):
        on_cpu = cpu.forward(tokens_BT, start, cache)
        on_gpu = gpu.forward(tokens_BT.to(cuda_device.torch_device), start, gpu_cache)
        assert relative(on_gpu.cpu(), on_cpu) < tolerance

"""The encoder itself: shapes, work, and a forward pass that agrees with float64 and with transformers."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kernels._biased import Biased
from kernels._encoder import SHAPES, TINY, Encoder, Shape, forward_work
from kernels._encoder_parts import Trace
from kernels._encoder_reference import Reference, memory_bytes
from kernels._encoder_stems import HIDDEN, RobertaStem, VitStem, WhisperStem
from kernels._linear import Linear

MODELS = tuple(TINY.values())


def build(model: str, dtype: str = "fp32", seed: int = 0, device: str = "cpu") -> Encoder:
    return Encoder(SHAPES[model], dtype, device, seed)


def relative(actual: torch.Tensor, exact: torch.Tensor) -> float:
    error: float = ((actual.double() - exact.double()).norm() / exact.double().norm()).item()
    return error


# ---------------------------------------------------------------- shapes and work


def test_vit_has_the_published_number_of_parameters() -> None:
    """That of torchvision's vit_b_16, whose head has 1000 classes."""
    assert SHAPES["vit-b-16"].parameters == 86_567_656 - (768 + 1) * 1000


def test_phobert_has_the_published_number_of_parameters() -> None:
    """135 M, with what its hidden states do without: a pooler, a row for the segment, the positions of padding."""
    pooler, segment, unused = (768 + 1) * 768, 768, 2 * 768
    assert round(SHAPES["phobert-base"].parameters + pooler + segment + unused, -6) == 135_000_000


@pytest.mark.parametrize("model", MODELS)
def test_streamed_parameters_are_those_of_the_tensors_that_a_forward_reads(model: str) -> None:
    encoder = build(model)
    read = [tensor for tensor in vars(encoder.stem).values() if isinstance(tensor, torch.Tensor)]
    parts: list[Any] = [part for part in vars(encoder.stem).values() if isinstance(part, Biased)]
    norms = [encoder.norm] if encoder.norm else [getattr(encoder.stem, "norm", None)]
    for layer in encoder.layers:
        parts += [layer.qkv, layer.out, layer.up, layer.down]
        norms += [layer.attention_norm, layer.mlp_norm]
    read += [tensor for part in parts for tensor in (part.dense(), part.bias_N)]
    read += [tensor for norm in norms if norm for tensor in (norm.weight, norm.bias)]
    unused = 0 if encoder.shape.stem.key_bias else encoder.shape.layers * encoder.shape.width
    assert sum(tensor.numel() for tensor in read) - unused == encoder.shape.parameters
    table = encoder.shape.stem.table_parameters(encoder.shape.width)
    assert encoder.shape.parameters - encoder.shape.streamed_parameters == table


@pytest.mark.parametrize("model", MODELS)
def test_flops_are_those_that_torch_counts(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # its products are not counted
    encoder = build(model)
    inputs = encoder.stem.random_inputs(3)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.forward(inputs, Trace())
    assert counter.get_total_flops() == forward_work(encoder.shape, 3, 4).flops


def test_vit_takes_the_published_multiply_adds() -> None:
    """17.56 G of torchvision's vit_b_16, counted by its authors, less its head."""
    flops = forward_work(SHAPES["vit-b-16"], 1, 2).flops
    assert flops is not None
    assert round((flops / 2 + 768 * 1000) / 1e9, 2) == 17.56


@pytest.mark.parametrize(("model", "items"), [("phobert-base", 5 * 256), ("vit-b-16", 5), ("whisper-base", 5)])
def test_items_and_bytes_grow_with_the_batch_and_weights_are_read_once(model: str, items: int) -> None:
    shape = SHAPES[model]
    one, five = (forward_work(shape, batch, 2) for batch in (1, 5))
    assert five.items == items
    assert one.bytes_moved is not None
    assert five.bytes_moved is not None
    weights = one.bytes_moved - (five.bytes_moved - one.bytes_moved) // 4
    assert weights == 2 * shape.streamed_parameters


def test_memory_covers_weights_and_activations_and_grows_with_the_batch() -> None:
    shape = SHAPES["whisper-large-v3"]
    one, eight = (memory_bytes(shape, batch, 2) for batch in (1, 8))
    hidden = 1500 * 5120 * 2
    assert one > 2 * shape.parameters + hidden
    assert eight > one + 7 * hidden
    assert eight < 20e9


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_packed_weight_multiplies_like_a_plain_one_and_can_be_read_back(dtype: torch.dtype, gelu: bool) -> None:
    weight_NK, bias_N, x_BTK = (torch.randn(*sizes).to(dtype) for sizes in ((48, 32), (48,), (2, 3, 32)))
    linear = Biased(Linear(weight_NK), bias_N, gelu)
    assert linear.dense().equal(weight_NK)
    exact = x_BTK.double() @ weight_NK.double().T + bias_N.double()
    if gelu:
        exact = torch.nn.functional.gelu(exact)
    assert relative(linear(x_BTK), exact) < 4 * torch.finfo(dtype).eps


def test_patches_are_a_convolution_of_their_own_stride() -> None:
    stem = build("tiny-image").stem
    assert isinstance(stem, VitStem)
    images_BCHW = stem.random_inputs(2)
    weight_DCHW = stem.patches.dense().unflatten(1, (3, 8, 8))
    exact = torch.nn.functional.conv2d(images_BCHW, weight_DCHW, stem.patches.bias_N, stride=8)
    x_BTD = stem(images_BCHW, Trace()) - stem.positions_TD
    assert relative(x_BTD[:, 1:], exact.flatten(2).transpose(1, 2)) < 1e-6
    assert torch.allclose(x_BTD[:, 0], stem.class_D.expand(2, -1), atol=1e-6)


def test_windows_are_a_padded_convolution() -> None:
    stem = build("tiny-speech").stem
    assert isinstance(stem, WhisperStem)
    mel_BMF, trace = stem.random_inputs(2), Trace(frozenset({HIDDEN}))
    x_BTD = stem(mel_BMF, trace) - stem.positions_TD
    hidden_BDF = mel_BMF
    for convolution, stride in ((stem.convolution_1, 1), (stem.convolution_2, 2)):
        weight_DNK = convolution.dense().unflatten(1, (3, -1)).transpose(1, 2)
        y = torch.nn.functional.conv1d(hidden_BDF, weight_DNK, convolution.bias_N, stride, padding=1)
        hidden_BDF = torch.nn.functional.gelu(y)
        if stride == 1:
            assert relative(trace.kept[HIDDEN], hidden_BDF.transpose(1, 2)) < 1e-6
    assert relative(x_BTD, hidden_BDF.transpose(1, 2)) < 1e-6


@pytest.mark.parametrize("model", MODELS)
def test_activations_keep_their_size_at_any_depth(model: str) -> None:
    shape = dataclasses.replace(SHAPES[model], layers=24)
    encoder = Encoder(shape, "fp32", "cpu", 0)
    trace = Trace(frozenset({48}))
    out_BTD = encoder.forward(encoder.stem.random_inputs(1), trace)
    assert 0.1 < trace.kept[48].square().mean().sqrt() < 30
    assert 0.3 < out_BTD.std() < 3


@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_model_and_inputs_and_another_others(model: str) -> None:
    encoders = [build(model, seed=seed) for seed in (1, 1, 2)]
    outputs = [encoder.forward(encoder.stem.random_inputs(1), Trace()) for encoder in encoders]
    assert outputs[0].equal(outputs[1])
    assert not outputs[0].allclose(outputs[2], atol=0.1)


def test_importing_the_kernel_imports_no_torch() -> None:
    code = "import sys, kernels.encode; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- transformers


def roberta(shape: Shape) -> Any:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        **sizes(shape),
        vocab_size=shape.stem.vocabulary,  # type: ignore[union-attr]
        max_position_embeddings=shape.positions + 2,  # those of padding come first
        type_vocab_size=1,
        pad_token_id=1,
    )
    return RobertaModel(config, add_pooling_layer=False)


def vit(shape: Shape) -> Any:
    from transformers import ViTConfig, ViTModel

    facts: Any = shape.stem
    config = ViTConfig(**sizes(shape), image_size=facts.side, patch_size=facts.patch)
    return ViTModel(config, add_pooling_layer=False)


def whisper(shape: Shape) -> Any:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        num_mel_bins=shape.stem.mel_bins,  # type: ignore[union-attr]
        d_model=shape.width,
        encoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.mlp_width,
        max_source_positions=shape.positions,
    )
    return WhisperEncoder(config)


def sizes(shape: Shape) -> dict[str, Any]:
    return {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.mlp_width,
        "layer_norm_eps": shape.norm_eps,
        "hidden_act": "gelu",
    }


THEIRS = {"tiny-text": roberta, "tiny-image": vit, "tiny-speech": whisper}


def as_named_by(model: str, encoder: Encoder) -> dict[str, torch.Tensor]:
    """Our weights under the names that transformers 5.23 has for them."""
    named = {"tiny-text": roberta_weights, "tiny-image": vit_weights, "tiny-speech": whisper_weights}
    return named[model](encoder)


def affine(name: str, part: Any) -> dict[str, torch.Tensor]:
    weight, bias = (part.dense(), part.bias_N) if isinstance(part, Biased) else (part.weight, part.bias)
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def split(names: list[str], qkv: Biased) -> dict[str, torch.Tensor]:
    weights = {f"{name}.weight": weight for name, weight in zip(names, qkv.dense().chunk(3), strict=True)}
    return weights | {f"{name}.bias": bias for name, bias in zip(names, qkv.bias_N.chunk(3), strict=True)}


def roberta_weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    stem = encoder.stem
    assert isinstance(stem, RobertaStem)
    width = encoder.shape.width
    named = {
        "embeddings.word_embeddings.weight": stem.embedding_VD,
        "embeddings.position_embeddings.weight": torch.cat([torch.zeros(2, width), stem.positions_TD]),
        "embeddings.token_type_embeddings.weight": torch.zeros(1, width),
        **affine("embeddings.LayerNorm", stem.norm),
    }
    for index, layer in enumerate(encoder.layers):
        prefix = f"encoder.layer.{index}"
        named |= split([f"{prefix}.attention.self.{name}" for name in ("query", "key", "value")], layer.qkv)
        named |= affine(f"{prefix}.attention.output.dense", layer.out)
        named |= affine(f"{prefix}.attention.output.LayerNorm", layer.attention_norm)
        named |= affine(f"{prefix}.intermediate.dense", layer.up)
        named |= affine(f"{prefix}.output.dense", layer.down)
        named |= affine(f"{prefix}.output.LayerNorm", layer.mlp_norm)
    return named


def vit_weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    stem = encoder.stem
    assert isinstance(stem, VitStem)
    assert encoder.norm is not None
    named = {
        "embeddings.cls_token": stem.class_D[None, None],
        "embeddings.position_embeddings": stem.positions_TD[None],
        "embeddings.patch_embeddings.projection.weight": stem.patches.dense().unflatten(1, (3, 8, 8)),
        "embeddings.patch_embeddings.projection.bias": stem.patches.bias_N,
        **affine("layernorm", encoder.norm),
    }
    for index, layer in enumerate(encoder.layers):
        prefix = f"layers.{index}"
        named |= split([f"{prefix}.attention.{name}_proj" for name in "qkv"], layer.qkv)
        named |= affine(f"{prefix}.attention.o_proj", layer.out)
        named |= affine(f"{prefix}.layernorm_before", layer.attention_norm)
        named |= affine(f"{prefix}.mlp.fc1", layer.up)
        named |= affine(f"{prefix}.mlp.fc2", layer.down)
        named |= affine(f"{prefix}.layernorm_after", layer.mlp_norm)
    return named


def whisper_weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    stem = encoder.stem
    assert isinstance(stem, WhisperStem)
    assert encoder.norm is not None
    named = {"embed_positions.weight": stem.positions_TD, **affine("layer_norm", encoder.norm)}
    for name, convolution in (("conv1", stem.convolution_1), ("conv2", stem.convolution_2)):
        named[f"{name}.weight"] = convolution.dense().unflatten(1, (3, -1)).transpose(1, 2)
        named[f"{name}.bias"] = convolution.bias_N
    for index, layer in enumerate(encoder.layers):
        prefix = f"layers.{index}"
        named |= split([f"{prefix}.self_attn.{name}_proj" for name in "qkv"], layer.qkv)
        assert not named.pop(f"{prefix}.self_attn.k_proj.bias").any()  # Whisper's keys have none
        named |= affine(f"{prefix}.self_attn.out_proj", layer.out)
        named |= affine(f"{prefix}.self_attn_layer_norm", layer.attention_norm)
        named |= affine(f"{prefix}.fc1", layer.up)
        named |= affine(f"{prefix}.fc2", layer.down)
        named |= affine(f"{prefix}.final_layer_norm", layer.mlp_norm)
    return named


@pytest.mark.parametrize("model", MODELS)
def test_hidden_states_agree_with_transformers(model: str) -> None:
    pytest.importorskip("transformers", minversion="5.23", reason="transformers is not installed")
    encoder = build(model)
    theirs = THEIRS[model](encoder.shape).eval()
    theirs.load_state_dict(as_named_by(model, encoder), strict=True)
    inputs = encoder.stem.random_inputs(3)
    # Given, because transformers takes a token of padding's number for padding.
    extra = {"position_ids": torch.arange(2, 50).expand(3, -1)} if model == "tiny-text" else {}
    with torch.inference_mode():
        expected = theirs(inputs, **extra).last_hidden_state
        assert relative(encoder.forward(inputs, Trace()), expected) < 1e-5


@pytest.mark.parametrize("model", ["phobert-base", "vit-b-16", "whisper-base", "whisper-large-v3"])
def test_parameters_are_as_many_as_in_transformers(model: str) -> None:
    pytest.importorskip("transformers", minversion="5.23", reason="transformers is not installed")
    shape = SHAPES[model]
    with torch.device("meta"):
        theirs = THEIRS[TINY[type(shape.stem)]](shape)
    unused = 3 * 768 if model == "phobert-base" else 0  # a row for the segment, two positions of padding
    assert sum(parameter.numel() for parameter in theirs.parameters()) == shape.parameters + unused


# ---------------------------------------------------------------- on a GPU


def moved(part: Any, device: str) -> Any:
    """A copy of stem, layer or part there, with the same numbers."""
    if isinstance(part, torch.Tensor):
        return part.to(device)
    if isinstance(part, Biased):
        return Biased(Linear(part.dense().to(device)), part.bias_N.to(device), part.gelu)
    twin = copy.copy(part)
    for name, value in vars(part).items():
        if isinstance(value, torch.Tensor | Biased) or name.endswith("norm"):
            object.__setattr__(twin, name, moved(value, device))
    return twin


@pytest.mark.gpu
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.08)])
def test_gpu_and_cpu_agree(cuda_device: Any, model: str, dtype: str, tolerance: float) -> None:
    cpu = build(model, dtype)
    gpu = copy.copy(cpu)
    gpu.stem = moved(cpu.stem, cuda_device.torch_device)
    gpu.layers = [moved(layer, cuda_device.torch_device) for layer in cpu.layers]
    gpu.norm = cpu.norm and moved(cpu.norm, cuda_device.torch_device)
    inputs = cpu.stem.random_inputs(2)
    on_gpu = gpu.forward(inputs.to(cuda_device.torch_device), Trace())
    assert relative(on_gpu.cpu(), cpu.forward(inputs, Trace())) < tolerance


# ---------------------------------------------------------------- the reference


@pytest.mark.parametrize("model", MODELS)
def test_a_small_models_reference_looks_at_every_link(model: str) -> None:
    encoder = build(model)
    reference = Reference(encoder)
    trace, inputs = reference.new_trace(), encoder.stem.random_inputs(2)
    check = reference.check(trace, inputs, encoder.forward(inputs, trace))
    assert check.ok, check
    assert set(trace.kept) - {HIDDEN} == set(range(2 * encoder.shape.layers + 1))

"""Encode: right hidden states pass their check; one wrong head, patch, tap, position, layer or norm does not."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.spec import parse_params, spec_of, workload_name
from bench.types import Measurement
from kernels import _encoder
from kernels._biased import Biased
from kernels._encoder import TINY
from kernels._linear import Linear
from kernels._opaque import hidden
from kernels.encode import KERNEL, EncodeCase, EncodeParams
from tests.conftest import prepare
from tests.kernels.mutations import alter_calls, heads_mixed

MODELS = tuple(TINY.values())


def deep(model: str) -> _encoder.Shape:
    """Deep and with many heads, so that one head of one layer is a small part of the whole."""
    return dataclasses.replace(_encoder.SHAPES[model], layers=6, width=128, heads=8, mlp_width=352)


def case_of(workload: str, device: Any) -> EncodeCase:
    case = prepare(KERNEL, workload, device)
    assert isinstance(case, EncodeCase)
    return case


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp16"])
@pytest.mark.parametrize("batch", [1, 3])
def test_check_passes_before_and_after_launches(cpu_device: CpuDevice, model: str, dtype: str, batch: int) -> None:
    case = case_of(f"encode/{model}/b{batch}@dtype={dtype}", cpu_device)
    before = case.check()
    case.launch()
    after = case.check()
    assert before.ok and after.ok, (before, after)
    assert before.output_sha256 == after.output_sha256


@pytest.mark.parametrize("model", MODELS)
def test_check_is_not_vacuous(cpu_device: CpuDevice, model: str) -> None:
    check = case_of(f"encode/{model}/b1", cpu_device).check()
    assert check.tolerance / 20 < check.error < check.tolerance < 0.02


# ---------------------------------------------------------------- mutations

Mutation = Callable[[Any, pytest.MonkeyPatch], None]


def altered(linear: Biased, alter: Callable[[torch.Tensor, torch.Tensor], None]) -> Biased:
    """Another with an altered weight and bias."""
    weight_NK, bias_N = linear.dense().clone(), linear.bias_N.clone()
    alter(weight_NK, bias_N)
    return Biased(Linear(weight_NK), bias_N, linear.gelu)


def wrong_head(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one layer of all, one head gets another's output."""
    alter_calls(monkeypatch, (model, "_attend"), lambda call: call % len(model.layers) == 4, heads_mixed)


def causal(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer attends to earlier positions only, as a decoder would."""

    def masked(attend: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
        return attend(*args, is_causal=True)

    alter_calls(monkeypatch, (model, "_attend"), lambda call: call % len(model.layers) == 2, masked)


def missing_key(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention does not see the first position: the class token, or the start of a sentence."""
    attend = model._attend
    monkeypatch.setattr(model, "_attend", lambda q, k, v: attend(q, k[:, :, 1:], v[:, :, 1:]))


def swapped_positions(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two neighbours get each other's position."""
    order = list(range(model.shape.positions))
    order[7], order[8] = order[8], order[7]
    model.stem.positions_TD = model.stem.positions_TD[order]


def wrong_layer(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model.layers[3], model.layers[4] = model.layers[4], model.layers[3]


def forgotten_bias(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = model.layers[5]
    model.layers[5] = dataclasses.replace(layer, down=altered(layer.down, lambda weight, bias: bias.zero_()))


def forgotten_gelu(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = model.layers[1]
    model.layers[1] = dataclasses.replace(layer, up=Biased(Linear(layer.up.dense()), layer.up.bias_N))


def forgotten_norm(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One norm is that of the other half of its layer."""
    layer = model.layers[4]
    model.layers[4] = dataclasses.replace(layer, mlp_norm=layer.attention_norm)


def wrong_tile(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last layer, sixteen outputs of the MLP stand sixteen places off."""

    def shift(weight_NK: torch.Tensor, bias_N: torch.Tensor) -> None:
        weight_NK[64:80] = weight_NK[80:96].clone()
        bias_N[64:80] = bias_N[80:96].clone()

    layer = model.layers[-1]
    model.layers[-1] = dataclasses.replace(layer, down=altered(layer.down, shift))


COMMON: tuple[Mutation, ...] = (
    wrong_head,
    causal,
    missing_key,
    swapped_positions,
    wrong_layer,
    forgotten_bias,
    forgotten_gelu,
    forgotten_norm,
    wrong_tile,
)


def wrong_token(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One position gets the row of the next token of the vocabulary."""
    look_up = torch.nn.functional.embedding

    def shifted(tokens_BT: torch.Tensor, table_VD: torch.Tensor) -> torch.Tensor:
        tokens_BT = tokens_BT.clone()
        tokens_BT[:, 11] = (tokens_BT[:, 11] + 1) % len(table_VD)
        return look_up(tokens_BT, table_VD)

    monkeypatch.setattr(torch.nn.functional, "embedding", shifted)


def wrong_patch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One patch stands in the place of its neighbour, too."""
    cut = model.stem._patches

    def copied(images_BCHW: torch.Tensor) -> torch.Tensor:
        patches_BPK: torch.Tensor = cut(images_BCHW).clone()
        patches_BPK[:, 9] = patches_BPK[:, 10]
        return patches_BPK

    monkeypatch.setattr(model.stem, "_patches", copied)


def transposed_patches(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every patch lies on its side: rows and columns are exchanged."""
    cut = model.stem._patches
    monkeypatch.setattr(
        model.stem, "_patches", lambda images: cut(images).unflatten(2, (3, 8, 8)).transpose(3, 4).flatten(2)
    )


def wrong_class(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model.stem.class_D = model.stem.class_D.roll(1)


def wrong_tap(name: str) -> Mutation:
    def mutate(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """One channel sees the frame after in the place of the one before."""

        def shift(weight_NK: torch.Tensor, bias_N: torch.Tensor) -> None:
            taps_DTN = weight_NK.unflatten(1, (3, -1))
            taps_DTN[17, 0] = taps_DTN[17, 2]

        setattr(model.stem, name, altered(getattr(model.stem, name), shift))

    mutate.__name__ = f"wrong_tap_of_{name}"
    return mutate


def late_windows(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The padding stands at one end only: every window is a frame late."""
    pad = torch.nn.functional.pad
    monkeypatch.setattr(torch.nn.functional, "pad", lambda x, sizes: pad(x, (0, 0, 2, 0)))


OWN: dict[str, tuple[Mutation, ...]] = {
    "tiny-text": (wrong_token,),
    "tiny-image": (wrong_patch, transposed_patches, wrong_class),
    "tiny-speech": (wrong_tap("convolution_1"), wrong_tap("convolution_2"), late_windows),
}
MUTATIONS = [(model, mutate) for model in MODELS for mutate in (*COMMON, *OWN[model])]


@pytest.mark.parametrize(("model", "mutate"), MUTATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_one_wrong_part_fails_the_check(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch, model: str, mutate: Mutation
) -> None:
    """In the coarsest dtype: a finer one's tolerance is finer, too."""
    monkeypatch.setitem(_encoder.SHAPES, model, deep(model))
    case = case_of(f"encode/{model}/b1", cpu_device)
    right = case.check()
    assert right.ok, right
    mutate(case.model, monkeypatch)
    wrong = case.check()
    assert not wrong.ok
    assert "launch" not in wrong.detail  # it is float64 that found it


def test_a_launch_that_differs_from_the_traced_run_fails_the_check(cpu_device: CpuDevice) -> None:
    case = case_of("encode/tiny-text/b1", cpu_device)
    perform = case._perform

    def slipping() -> None:
        perform()
        case._out_BTD[0, 3, 5] += 0.5

    case._perform = slipping
    check = case.check()
    assert not check.ok
    assert check.detail == "a launch differs from the traced run"


def test_a_large_model_is_checked_by_one_layer(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels._encoder_reference._SMALL_PARAMETERS", 0)
    monkeypatch.setitem(_encoder.SHAPES, "tiny-speech", deep("tiny-speech"))
    case = case_of("encode/tiny-speech/b3", cpu_device)
    wanted = [case._reference.new_trace().wanted for _ in range(8)]
    assert all(len(points) <= 6 for points in wanted)
    assert len(set(wanted)) > 1  # another layer at another check
    assert case.check().ok
    monkeypatch.setattr(case.model, "_mlp", lambda layer, x: torch.zeros_like(x))
    assert not case.check().ok


# ---------------------------------------------------------------- names, metrics, modes


def test_metrics_name_the_time_of_a_batch(cpu_device: CpuDevice) -> None:
    case = case_of("encode/tiny-image/b2", cpu_device)
    (metric,) = case.metrics(Measurement((2_000, 9_000, 4_000), (), (0, 0, 0), (), 1, True, False))
    assert (metric.name, metric.unit, metric.better) == ("batch_s", "s", "lower")
    assert metric.value == pytest.approx(4e-6)


def test_metrics_of_speech_say_how_many_seconds_of_it_a_second_encodes(cpu_device: CpuDevice) -> None:
    case = case_of("encode/tiny-speech/b5", cpu_device)
    metrics = case.metrics(Measurement((100_000_000,), (), (0,), (), 1, True, False))
    assert {metric.name: metric.value for metric in metrics}["rtfx"] == pytest.approx(5 * 0.96 / 0.1)
    stem: Any = _encoder.SHAPES["whisper-large-v3"].stem
    assert stem.window_s == pytest.approx(30.0)


def test_names_and_catalogue() -> None:
    params = EncodeParams("vit-b-16", 2, "fp32", "graph")
    assert workload_name("encode", params) == "encode/vit-b-16/b2@dtype=fp32,mode=graph"
    assert spec_of("encode", 1, params).dtype == "fp32"
    for workload in KERNEL.catalogue:
        listed = parse_params("encode", EncodeParams, workload)
        assert workload_name("encode", listed) == workload
        small = KERNEL.probe(listed)
        assert small.model in MODELS
        assert type(_encoder.SHAPES[small.model].stem) is type(_encoder.SHAPES[listed.model].stem)
        assert (small.dtype, small.mode) == (listed.dtype, listed.mode)
        assert KERNEL.memory_bytes(listed) > 0
        assert KERNEL.roofs(listed, "cuda") == ("roof/compute/bf16", "roof/memory/read")


def test_every_parameter_is_explained() -> None:
    assert KERNEL.about is not None
    assert set(KERNEL.about.parameters) == {field.name for field in dataclasses.fields(EncodeParams)}


def test_graphs_are_not_for_the_cpu(cpu_device: CpuDevice) -> None:
    with pytest.raises(Unsupported, match="a CPU has none"):
        case_of("encode/tiny-text/b1@mode=graph", cpu_device)


@pytest.mark.slow
def test_compiled_half_layers_pass_the_check(cpu_device: CpuDevice) -> None:
    case = case_of("encode/tiny-text/b2@mode=compiled", cpu_device)
    check = case.check()
    assert check.ok, check
    layer = case.model.layers[1]
    wrong = hidden(altered(layer.down, lambda weight, bias: bias.zero_()))
    case.model.layers[1] = dataclasses.replace(layer, down=wrong)
    assert not case.check().ok


def test_a_closed_case_leaves_no_model_behind(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without oneDNN's layout, as on a GPU, where two large models at once would not fit."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    case = case_of("encode/tiny-text/b1", cpu_device)
    case.check()
    linear = weakref.ref(case.model.layers[0].qkv)
    gc.disable()
    try:
        case.close()
        assert linear() is None
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp16"])
@pytest.mark.parametrize("mode", ["eager", "graph", "compiled"])
def test_check_passes_on_a_gpu(cuda_device: Any, model: str, dtype: str, mode: str) -> None:
    case = case_of(f"encode/{model}/b3@dtype={dtype},mode={mode}", cuda_device)
    for _ in range(2):
        check = case.check()
        assert check.ok, check
        case.launch()


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["eager", "graph", "compiled"])
def test_one_wrong_part_fails_the_check_on_a_gpu(cuda_device: Any, mode: str) -> None:
    case = case_of(f"encode/tiny-text/b1@mode={mode}", cuda_device)
    layer = case.model.layers[1]
    case.model.layers[1] = dataclasses.replace(layer, down=altered(layer.down, lambda weight, bias: bias.zero_()))
    assert not case.check().ok

"""Weights in each format: what is stored, what is multiplied, what that counts, and that one wrong part is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.spec import parse_params, spec_of
from kernels import _decoder_shape, _linear, decode, prefill
from kernels._linear import Fp8Linear, Int4Linear, Int8Linear, Linear, Linears, WideBuffer, group_size, stored_bytes
from kernels._mlp import Mlp
from kernels.decode import DecodeCase, DecodeParams
from kernels.prefill import PrefillParams
from tests.conftest import prepare

FORMATS = ("int8", "int4", "fp8")
# Rows of several groups, and layers enough that one is a small part.
DEEP = dataclasses.replace(
    _decoder_shape.SHAPES["tiny"], layers=6, width=160, heads=10, kv_heads=5, head_width=16, mlp_width=352
)


def weight_of(rows: int = 96, columns: int = 160, device: str = "cpu") -> torch.Tensor:
    generator = torch.Generator(device).manual_seed(0)
    return torch.randn(rows, columns, dtype=torch.bfloat16, device=device, generator=generator) * columns**-0.5


def activations(rows: int, columns: int = 160, device: str = "cpu") -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)).to(device, torch.bfloat16)


def case_of(workload: str, device: Any) -> DecodeCase:
    case = prepare(decode.KERNEL, workload, device)
    assert isinstance(case, DecodeCase)
    return case


def relative(actual: torch.Tensor, exact: torch.Tensor) -> float:
    error: float = ((actual.double() - exact).norm() / exact.norm()).item()
    return error


# ---------------------------------------------------------------- what is stored


@settings(max_examples=20, deadline=None)
@given(rows=st.sampled_from([16, 96, 4096 + 64]), columns=st.sampled_from([32, 64, 128, 160, 576]))
def test_stored_bytes_are_those_of_the_tensors(rows: int, columns: int) -> None:
    weight_NK, buffer = weight_of(rows, columns), WideBuffer()
    int8, int4, fp8 = Int8Linear(weight_NK, buffer), Int4Linear(weight_NK, buffer), Fp8Linear(weight_NK)
    assert stored_bytes("dense", rows, columns, 2) == weight_NK.nbytes
    assert stored_bytes("int8", rows, columns, 2) == int8.weight_NK.nbytes + int8.scale_N.nbytes
    assert stored_bytes("int4", rows, columns, 2) == int4.packed.nbytes + int4.scale_NG.nbytes
    assert stored_bytes("fp8", rows, columns, 2) == fp8.weight_NK.nbytes + fp8.scale.nbytes


@pytest.mark.parametrize(("columns", "size"), [(4096, 128), (1536, 128), (576, 64), (160, 32)])
def test_groups_are_the_largest_that_divide_a_row(columns: int, size: int) -> None:
    assert group_size(columns) == size


def test_int8_is_within_half_a_step_of_the_weight() -> None:
    weight_NK = weight_of()
    linear = Int8Linear(weight_NK, WideBuffer())
    # The scale is a bf16, so that the largest weight may lie beyond 127 of them by as much as that rounds.
    steps_NK = (linear.dense() - weight_NK.float()) / linear.scale_N.float()[:, None]
    assert steps_NK.abs().max() <= 0.5 + 127 * 2**-8
    assert linear.weight_NK.abs().amax(dim=1).min() >= 126


def test_int4_is_within_half_a_step_of_the_weight_and_uses_its_range() -> None:
    weight_NK = weight_of()
    linear = Int4Linear(weight_NK, WideBuffer())
    steps_NGK = (linear.dense() - weight_NK.float()).unflatten(1, (-1, 32)) / linear.scale_NG.float()[..., None]
    assert steps_NGK.abs().max() <= 0.5 + 1e-5
    assert (linear.pairs & 15).min() <= 2 and (linear.pairs & 15).max() >= 14


def test_int4_weights_are_exact_in_bf16() -> None:
    dense_NK = Int4Linear(weight_of(4096 + 16, 64), WideBuffer()).dense()
    assert dense_NK.bfloat16().float().equal(dense_NK)


def test_fp8_is_within_its_unit_roundoff_of_the_weight() -> None:
    weight_NK = weight_of().float()
    linear = Fp8Linear(weight_NK.bfloat16())
    smallest_normal = 2.0**-6 * linear.scale
    assert ((linear.dense() - weight_NK).abs() / weight_NK.abs().clamp(min=smallest_normal)).max() <= 2**-4 * 1.01


# ---------------------------------------------------------------- what is multiplied


@pytest.mark.parametrize("rows", [1, 3, 300])
@pytest.mark.parametrize("weights", ("dense", *FORMATS))
def test_a_product_is_that_with_the_stored_weight(weights: str, rows: int) -> None:
    linear = Linears(weights)(weight_of())
    x_BTK = activations(2 * rows).unflatten(0, (2, rows))
    exact = linear.seen(x_BTK).double() @ linear.dense().double().T
    y = linear(x_BTK)
    assert y.dtype == torch.bfloat16
    assert relative(y, exact) < 2**-8


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_few_rows_go_through_the_integer_product_and_many_do_not(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linear = Linears(weights)(weight_of())
    few, many = activations(_linear._MANY_ROWS[weights, "cpu"] - 1), activations(_linear._MANY_ROWS[weights, "cpu"])
    if isinstance(linear, Int8Linear):
        linear.weight_NK = torch.zeros_like(linear.weight_NK)
        assert linear(few).count_nonzero() == linear(many).count_nonzero() == 0
        monkeypatch.setattr(torch, "_weight_int8pack_mm", None)
    else:
        assert isinstance(linear, Int4Linear)
        linear._few = None
    linear(many)
    with pytest.raises(TypeError):
        linear(few)


def test_layers_share_the_room_for_a_widened_weight() -> None:
    linears = Linears("int8")
    small, large = linears(weight_of(32, 64)), linears(weight_of(64, 64))
    assert isinstance(small, Int8Linear) and isinstance(large, Int8Linear)
    first = small(activations(40, 64))
    large(activations(40, 64))
    assert small._buffer is large._buffer
    assert small(activations(40, 64)).equal(first)


def test_what_the_library_refuses_is_unsupported_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*operands: object) -> None:
        raise NotImplementedError("Could not run this with arguments from that backend.\nMore lines")

    monkeypatch.setattr(torch, "_weight_int8pack_mm", refuse)
    with pytest.raises(Unsupported, match=r"^Could not run this with arguments from that backend\.$"):
        Linears("int8")(weight_of())


def test_a_lack_of_memory_is_not_called_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*operands: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch, "_weight_int8pack_mm", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        Linears("int8")(weight_of())


# ---------------------------------------------------------------- what it counts


@pytest.mark.parametrize("weights", FORMATS)
def test_decode_counts_the_bytes_of_the_stored_weights(cpu_device: CpuDevice, weights: str) -> None:
    case = case_of(f"decode/tiny/b2/ctx8@steps=3,weights={weights}", cpu_device)
    shape = case.model.shape
    per_step = 2 * shape.width * (2 * shape.layers + 1)  # norms
    linears: list[Any] = [case.model.head]
    for layer in case.model.layers:
        assert isinstance(layer.mlp, Mlp)
        linears += [layer.qkv, layer.out, layer.mlp.up, layer.mlp.down]
    for linear in linears:
        if isinstance(linear, Int4Linear):
            per_step += linear.packed.nbytes + linear.scale_NG.nbytes
        elif isinstance(linear, Int8Linear):
            per_step += linear.weight_NK.nbytes + linear.scale_N.nbytes
        else:
            assert isinstance(linear, Fp8Linear)
            per_step += linear.weight_NK.nbytes + linear.scale.nbytes
    cached = sum(2 * shape.layers * 2 * (9 + step) * shape.kv_heads * shape.head_width * 2 for step in range(3))
    assert case.work.bytes_moved == 3 * per_step + cached
    assert case.work.flops == case_of("decode/tiny/b2/ctx8@steps=3", cpu_device).work.flops


def test_a_prefill_reads_the_stored_weights_once(cpu_device: CpuDevice) -> None:
    dense, int8 = (
        prepare(prefill.KERNEL, f"prefill/tiny/b1/p8@weights={name}", cpu_device).work for name in ("dense", "int8")
    )
    saved = sum(
        rows * columns - 2 * rows for rows, columns in [*2 * [(128, 64), (64, 64), (320, 64), (64, 160)], (512, 64)]
    )
    assert dense.bytes_moved is not None
    assert int8 == dataclasses.replace(dense, bytes_moved=dense.bytes_moved - saved)


def test_the_option_leaves_the_specs_before_it_alone() -> None:
    for name, params_type, text in (
        ("decode", DecodeParams, "decode/tiny/b1/ctx32"),
        ("prefill", PrefillParams, "prefill/tiny/b1/p32"),
    ):
        plain, int4 = (parse_params(name, params_type, text + option) for option in ("", "@weights=int4"))
        assert "weights" not in spec_of(name, 1, plain).params
        assert spec_of(name, 1, int4).params["weights"] == "int4"


def test_fp8_is_held_against_the_roof_of_fp8_and_the_integers_against_that_of_the_activations() -> None:
    roofs = {
        weights: decode.KERNEL.roofs(DecodeParams("tiny", 1, 8, weights=weights), "cuda")[0] for weights in FORMATS
    }
    assert roofs == {"int8": "roof/compute/bf16", "int4": "roof/compute/bf16", "fp8": "roof/compute/fp8-e4m3"}


# ---------------------------------------------------------------- the check of a whole model


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("batch", [1, 20])
def test_a_burst_passes_its_check(cpu_device: CpuDevice, weights: str, batch: int) -> None:
    check = case_of(f"decode/tiny/b{batch}/ctx24@steps=4,weights={weights}", cpu_device).check()
    assert check.ok, check


@pytest.mark.parametrize("weights", FORMATS)
def test_a_prompt_passes_its_check(cpu_device: CpuDevice, weights: str) -> None:
    check = prepare(prefill.KERNEL, f"prefill/tiny/b2/p80@weights={weights}", cpu_device).check()
    assert check.ok, check


def flipped_nibble(linear: Linear) -> None:
    """What is multiplied has another bit in one weight of all: one of 8 steps."""
    assert isinstance(linear, Int4Linear)
    linear.packed.view(-1)[len(linear.packed) // 2] ^= 8


def wrong_group_scale(linear: Linear) -> None:
    assert isinstance(linear, Int4Linear)
    linear.scales_and_zeros_GN2[1, 7, 0] *= 2


def shifted_group_scales(linear: Linear) -> None:
    """Each row has its neighbour's."""
    assert isinstance(linear, Int4Linear)
    linear.scales_and_zeros_GN2 = linear.scales_and_zeros_GN2.roll(1, dims=1)


def wrong_row_scale(linear: Linear) -> None:
    assert isinstance(linear, Int8Linear)
    stored_N = linear.scale_N
    linear.scale_N = stored_N.clone()
    linear.scale_N[7] *= 1.25
    linear.dense = lambda: linear.weight_NK.float() * stored_N.float()[:, None]  # type: ignore[method-assign]


def wrong_integer(linear: Linear) -> None:
    """The sign bit of one weight."""
    assert isinstance(linear, Int8Linear)
    exact_NK = linear.dense()
    linear.weight_NK[7, 9] ^= -128
    linear.dense = lambda: exact_NK  # type: ignore[method-assign]


def wrong_tensor_scale(linear: Linear) -> None:
    assert isinstance(linear, Fp8Linear)
    exact_NK = linear.dense()
    linear.scale = linear.scale * 2
    linear.dense = lambda: exact_NK  # type: ignore[method-assign]


def wrong_row(linear: Linear) -> None:
    assert isinstance(linear, Fp8Linear)
    exact_NK = linear.dense()
    linear.weight_NK[7] = linear.weight_NK[8]
    linear.dense = lambda: exact_NK  # type: ignore[method-assign]


MUTATIONS: list[tuple[str, Callable[[Linear], None]]] = [
    ("int4", flipped_nibble),
    ("int4", wrong_group_scale),
    ("int4", shifted_group_scales),
    ("int8", wrong_row_scale),
    ("int8", wrong_integer),
    ("fp8", wrong_tensor_scale),
    ("fp8", wrong_row),
]


def attention_output(case: DecodeCase) -> Any:
    return case.model.layers[3].out


def mlp_output(case: DecodeCase) -> Any:
    mlp = case.model.layers[3].mlp
    assert isinstance(mlp, Mlp)
    return mlp.down


PLACES = [attention_output, mlp_output]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("weights", "mutate"), MUTATIONS)
def test_one_wrong_part_of_a_weight_fails_the_check(
    cpu_device: CpuDevice,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    mutate: Callable[[Linear], None],
    place: Callable[[DecodeCase], Any],
) -> None:
    monkeypatch.setitem(_decoder_shape.SHAPES, "tiny", DEEP)
    case = case_of(f"decode/tiny/b1/ctx24@steps=8,weights={weights}", cpu_device)
    assert case.check().ok
    mutate(place(case))
    assert not case.check().ok


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 20, 300])
@pytest.mark.parametrize("weights", FORMATS)
def test_a_gpus_product_is_that_with_the_stored_weight(cuda_device: Any, weights: str, rows: int) -> None:
    device = cuda_device.torch_device
    try:
        linear = Linears(weights)(weight_of(device=device))
    except Unsupported as refusal:
        pytest.skip(str(refusal))
    x_MK = activations(rows, device=device)
    exact = linear.seen(x_MK).double() @ linear.dense().double().T
    assert relative(linear(x_MK), exact) < 2**-8


@pytest.mark.gpu
@pytest.mark.parametrize("weights", FORMATS)
def test_a_burst_passes_its_check_on_a_gpu(cuda_device: Any, weights: str) -> None:
    try:
        case = case_of(f"decode/tiny/b3/ctx40@steps=6,weights={weights}", cuda_device)
    except Unsupported as refusal:
        pytest.skip(str(refusal))
    check = case.check()
    assert check.ok, check

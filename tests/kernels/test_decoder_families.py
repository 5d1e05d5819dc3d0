"""What MPT and mixtures of experts have that Llama has not: right, it passes the checks; one part of it wrong, not."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.device.cpu import CpuDevice
from kernels import decode, prefill
from kernels._biased import Biased
from kernels._decoder import Decoder
from kernels._decoder_shape import SHAPES
from kernels._mlp import Experts, grouped
from tests.conftest import prepare

# Deep and with many heads, so that one part of one layer is a small part of the whole.
DEEP = {
    "tiny-alibi": dataclasses.replace(SHAPES["tiny-alibi"], layers=12, heads=12, kv_heads=12, width=192),
    "tiny-moe": dataclasses.replace(SHAPES["tiny-moe"], layers=12, heads=8, kv_heads=4, width=128),
}


def cases(model: str, dtype: str, device: Any) -> list[Any]:
    return [
        prepare(prefill.KERNEL, f"prefill/{model}/b1/p48@dtype={dtype}", device),
        prepare(decode.KERNEL, f"decode/{model}/b1/ctx40@steps=4,dtype={dtype}", device),
    ]


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp16"])
@pytest.mark.parametrize("model", ["tiny-alibi", "tiny-moe"])
def test_both_pass_their_checks_and_not_by_far(cpu_device: CpuDevice, model: str, dtype: str) -> None:
    for case in cases(model, dtype, cpu_device):
        before, after = case.check(), case.check()
        assert before.ok and after.ok, (before, after)
        assert before.output_sha256 == after.output_sha256
        assert before.error > before.tolerance / 100


Mutation = Callable[[Decoder, pytest.MonkeyPatch], None]


def wrong_slope(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One head has its neighbour's slope."""
    assert model.alibi_HS is not None
    model.alibi_HS[3] = model.alibi_HS[2]
    model._mask_HTS = None  # to be made anew


def late_position(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has biases takes its own position for one away; without the query's own that would change nothing."""
    assert model.alibi_HS is not None
    model.alibi_HS[:, -1] = model.alibi_HS[:, -2]
    model._mask_HTS = None


def forgotten_bias(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one layer, behind attention's output."""
    layer = model.layers[5]
    assert isinstance(layer.out, Biased)
    model.layers[5] = dataclasses.replace(layer, out=layer.out.linear)


def uncentred_norm(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def uncentred(x: torch.Tensor, sizes: Any, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x, sizes, weight, eps) + bias

    monkeypatch.setattr(torch.nn.functional, "layer_norm", uncentred)


def other_activation(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one layer of all, once."""
    gelu, calls = torch.nn.functional.gelu, iter(range(10_000))

    def mixed(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.silu(x) if next(calls) == 7 else gelu(x)

    monkeypatch.setattr(torch.nn.functional, "gelu", mixed)


def wrong_choice(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one layer the last token goes through the expert that it likes least instead of its second."""
    experts = model.layers[7].mlp
    assert isinstance(experts, Experts)

    def altered(x_BTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x_ND = x_BTD.flatten(0, 1)
        logits_NX = x_ND @ experts.router_XD.T
        chosen_Nk = logits_NX.topk(2).indices
        chosen_Nk[-1, 1] = logits_NX[-1].argmin()
        share_Nk = logits_NX.gather(1, chosen_Nk).float().softmax(-1).to(x_ND.dtype)
        added_ND = experts._one_by_one(x_ND, chosen_Nk, share_Nk)
        return added_ND.view_as(x_BTD), chosen_Nk.view(*x_BTD.shape[:2], 2)

    model.layers[7] = dataclasses.replace(model.layers[7], mlp=altered)  # type: ignore[arg-type]


def wrong_expert(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one layer the tokens of one expert go through another one's weights."""
    experts = copy.copy(model.layers[7].mlp)
    assert isinstance(experts, Experts)
    experts.mlps = [*experts.mlps[:3], experts.mlps[4], *experts.mlps[4:]]
    model.layers[7] = dataclasses.replace(model.layers[7], mlp=experts)


def equal_shares(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one layer both of a token's experts weigh the same."""
    experts = copy.copy(model.layers[7].mlp)
    assert isinstance(experts, Experts)
    one_by_one = experts._one_by_one
    monkeypatch.setattr(experts, "_one_by_one", lambda x, chosen, share: one_by_one(x, chosen, share * 0 + 0.5))
    model.layers[7] = dataclasses.replace(model.layers[7], mlp=experts)


ALIBI = [wrong_slope, late_position, forgotten_bias, uncentred_norm, other_activation]
MIXTURE = [wrong_choice, wrong_expert, equal_shares]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("kind", [0, 1], ids=["prefill", "decode"])
@pytest.mark.parametrize(
    ("model", "mutate"),
    [*(("tiny-alibi", mutate) for mutate in ALIBI), *(("tiny-moe", mutate) for mutate in MIXTURE)],
)
def test_one_wrong_part_fails_the_check(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch, model: str, mutate: Mutation, kind: int, dtype: str
) -> None:
    monkeypatch.setitem(SHAPES, model, DEEP[model])
    case = cases(model, dtype, cpu_device)[kind]
    assert case.check().ok
    mutate(case.model, monkeypatch)
    assert not case.check().ok


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_experts_in_groups_add_what_they_add_one_by_one(dtype: torch.dtype) -> None:
    """The way of a GPU, performed by a CPU."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"router_XD": (8, 32), "up_XRD": (8, 96, 32), "down_XDF": (8, 32, 48)}
    drawn = {name: torch.randn(size, generator=generator).div(6).to(dtype) for name, size in sizes.items()}
    experts = Experts(**drawn, per_token=2, gated=True)
    x_BTD = torch.randn(2, 20, 32, generator=generator).to(dtype)
    added_BTD, chosen_BTk = experts(x_BTD)
    x_ND, chosen_Nk = x_BTD.flatten(0, 1), chosen_BTk.flatten(0, 1)
    logits_NX = torch.nn.functional.linear(x_ND, experts.router_XD)
    share_Nk = logits_NX.gather(1, chosen_Nk).softmax(-1, dtype=torch.float32).to(dtype)
    stacked = (drawn["up_XRD"], drawn["down_XDF"])
    try:
        in_groups_ND = grouped(x_ND, chosen_Nk, share_Nk, torch.arange(8), stacked, gated=True)
    except (NotImplementedError, RuntimeError) as error:  # torch 2.8 has no grouped product on a CPU
        assert torch.__version__ < "2.9", error
        return
    difference = (in_groups_ND - added_BTD.flatten(0, 1)).double().norm() / added_BTD.double().norm()
    assert difference < 4 * torch.finfo(dtype).eps


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["tiny-alibi", "tiny-moe"])
def test_both_pass_their_checks_on_a_gpu(cuda_device: Any, model: str) -> None:
    for case in cases(model, "bf16", cuda_device):
        check = case.check()
        assert check.ok, check

"""Decode: a burst passes its check; a wrong head, position, layer, token or stale cache slot does not."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.device.cpu import CpuDevice
from bench.device.fake import FakeDevice
from bench.errors import UsageError
from bench.measure import measure
from bench.spec import parse_params, workload_name
from bench.types import Mark, Measurement, Policy
from kernels._decoder import rope_turns
from kernels._decoder_shape import SHAPES, tiny
from kernels.decode import KERNEL, DecodeCase, DecodeParams
from tests.conftest import prepare
from tests.kernels.mutations import SDPA, alter_calls

DEEP = dataclasses.replace(SHAPES["tiny"], layers=16, width=128, heads=8, kv_heads=4, mlp_width=352)


def case_of(workload: str, device: Any) -> DecodeCase:
    case = prepare(KERNEL, workload, device)
    assert isinstance(case, DecodeCase)
    return case


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp16"])
@pytest.mark.parametrize("batch", [1, 3])
def test_check_passes_before_and_after_launches(cpu_device: CpuDevice, dtype: str, batch: int) -> None:
    case = case_of(f"decode/tiny/b{batch}/ctx40@steps=6,dtype={dtype}", cpu_device)
    before = case.check()
    case.launch()
    after = case.check()
    assert before.ok and after.ok, (before, after)
    assert before.output_sha256 == after.output_sha256  # a launch starts where the one before it started


def test_every_step_leaves_a_mark(fake_device: FakeDevice) -> None:
    case = case_of("decode/tiny/b1/ctx8@steps=5", fake_device)
    measurement = measure(case, fake_device, Policy(warmup_max_samples=5, min_samples=3, max_samples=3))
    assert measurement.marks_per_sample == 5 * measurement.launches_per_sample
    assert {mark.name for mark in measurement.marks} == {"step"}


def test_metrics_are_tpot_of_bursts_and_itl_of_steps(cpu_device: CpuDevice) -> None:
    case = case_of("decode/tiny/b1/ctx8@steps=3", cpu_device)
    ends_ns = (100, 300, 600, 100, 200, 1_200)  # two bursts: steps of 100, 200, 300 and 100, 100, 1000
    marks = tuple(Mark("step", ns) for ns in ends_ns)
    metrics = case.metrics(Measurement((600, 1_200), (), (0, 0), marks, 1, True, False))
    values = {metric.name: metric.value * 1e9 for metric in metrics}
    assert values["tpot_s"] == pytest.approx(300)
    assert values["itl_p50_s"] == pytest.approx(150)
    assert values["itl_p99_s"] == pytest.approx(965)  # linear between 300 and 1000
    assert {metric.name: metric.value for metric in metrics}["user_rate"] == pytest.approx(1e9 / 300)  # of each user


def test_metrics_without_marks_have_no_itl(cpu_device: CpuDevice) -> None:
    case = case_of("decode/tiny/b1/ctx8@steps=3", cpu_device)
    metrics = case.metrics(Measurement((600,), (), (0,), (), 1, True, False))
    assert [metric.name for metric in metrics] == ["tpot_s", "user_rate"]


Mutation = Callable[[DecodeCase, pytest.MonkeyPatch], None]


def altered_attention(
    monkeypatch: pytest.MonkeyPatch, call: int, alter: Callable[[Any, Any, Any], tuple[Any, Any, Any]]
) -> None:
    """In one call of all, attention gets other operands."""

    def altered(attend: Callable[..., Any], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **kwargs: Any) -> Any:
        return attend(*alter(q, k, v), **kwargs)

    alter_calls(monkeypatch, SDPA, lambda number: number == call, altered)


def wrong_head(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one layer of one step, two heads that share keys are exchanged."""
    altered_attention(
        monkeypatch, 2 * DEEP.layers - 1, lambda q, k, v: (torch.cat([q[:, :1].flip(2), q[:, 1:]], 1), k, v)
    )


def stale_slot(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of one step finds the keys of the step before in its newest slot."""

    def stale(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        k = k.clone()
        k[:, :, -1] = k[:, :, -2]
        return q, k, v

    altered_attention(monkeypatch, 2 * DEEP.layers + 3, stale)


def missing_slot(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention does not see the oldest position."""
    altered_attention(monkeypatch, DEEP.layers + 1, lambda q, k, v: (q, k[:, :, 1:], v[:, :, 1:]))


def unwritten_slot(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step's keys and values go to a copy of the cache."""
    attention = case.model._attention

    def elsewhere(layer: Any, x: Any, start: int, cache: Any) -> torch.Tensor:
        if start == 25:
            cache = tuple(kv.clone() for kv in cache)
        return attention(layer, x, start, cache)

    monkeypatch.setattr(case.model, "_attention", elsewhere)


def wrong_position(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotations are one position late."""
    case.model.turns_SP2 = rope_turns(case.model.shape, 100, "cpu")[1:]


def wrong_layer(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    case.model.layers[7], case.model.layers[8] = case.model.layers[8], case.model.layers[7]


def wrong_tile(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    head = case.model.head

    def shifted(x: torch.Tensor) -> torch.Tensor:
        logits_BV = head(x)
        logits_BV[:, 64:80] = logits_BV[:, 80:96]
        return logits_BV

    monkeypatch.setattr(case.model, "head", shifted)


def wrong_token(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step chooses the logit in 33rd place, and goes on from there. (The second may lie within rounding.)"""
    forward = case.model.forward

    def lowered(token: Any, position: int, cache: Any, trace: Any = None) -> torch.Tensor:
        logits_BV = forward(token, position, cache, trace)
        if position == 26:
            logits_BV.scatter_(1, logits_BV.topk(32).indices, -100.0)
        return logits_BV

    monkeypatch.setattr(case.model, "forward", lowered)


def token_not_fed_back(case: DecodeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step gets the first token again."""
    forward = case.model.forward
    monkeypatch.setattr(case.model, "forward", lambda token, *rest: forward(case._first_B1, *rest))


MUTATIONS: list[Mutation] = [
    wrong_head,
    stale_slot,
    missing_slot,
    unwritten_slot,
    wrong_position,
    wrong_layer,
    wrong_tile,
    wrong_token,
    token_not_fed_back,
]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("mutate", MUTATIONS)
def test_one_wrong_part_fails_the_check(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch, mutate: Mutation, dtype: str
) -> None:
    monkeypatch.setitem(SHAPES, "tiny", DEEP)
    case = case_of(f"decode/tiny/b1/ctx24@steps=4,dtype={dtype}", cpu_device)
    assert case.check().ok
    mutate(case, monkeypatch)
    assert not case.check().ok


def test_a_large_model_is_checked_by_one_layer_and_sampled_logits(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels._decoder_reference._SMALL_PARAMETERS", 0)
    monkeypatch.setattr("kernels._decoder_reference._LOGITS", 64)
    monkeypatch.setitem(SHAPES, "tiny", DEEP)
    case = case_of("decode/tiny/b4/ctx24@steps=4", cpu_device)
    assert case.check().ok
    monkeypatch.setattr(case.model, "_mlp", lambda layer, x: (x, None))
    assert not case.check().ok


def test_names_and_catalogue() -> None:
    params = DecodeParams("tiny", 2, 128, steps=8)
    assert workload_name("decode", params) == "decode/tiny/b2/ctx128@steps=8"
    for workload in KERNEL.catalogue:
        listed = parse_params("decode", DecodeParams, workload)
        assert workload_name("decode", listed) == workload
        assert KERNEL.probe(listed).model == tiny(listed.model)
        assert KERNEL.probe(listed).dtype == listed.dtype
        assert KERNEL.memory_bytes(listed) > 0
        arithmetic = "fp8-e4m3" if listed.weights == "fp8" else "bf16"
        assert KERNEL.roofs(listed, "cpu") == (f"roof/compute/{arithmetic}", "roof/memory/read")


@pytest.mark.parametrize("workload", ["decode/tiny/b1/ctx4090", "decode/tiny/b1/ctx8@steps=0"])
def test_impossible_bursts_are_usage_errors(workload: str) -> None:
    with pytest.raises(UsageError):
        parse_params("decode", DecodeParams, workload)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp16"])
def test_check_passes_on_a_gpu(cuda_device: Any, dtype: str) -> None:
    case = case_of(f"decode/tiny/b3/ctx40@steps=6,dtype={dtype}", cuda_device)
    check = case.check()
    assert check.ok, check


def test_a_closed_case_leaves_no_model_behind(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without oneDNN's layout, as on a GPU, where two large models at once would not fit."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    case = case_of("decode/tiny/b1/ctx8@steps=2", cpu_device)
    linear = weakref.ref(case.model.layers[0].qkv)
    gc.disable()
    try:
        case.close()
        assert linear() is None
    finally:
        gc.enable()

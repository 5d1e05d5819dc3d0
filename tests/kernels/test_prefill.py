"""Prefill: the right answer passes its check, one wrong head, position, layer or tile does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.device.cpu import CpuDevice
from bench.errors import UsageError
from bench.spec import parse_params, spec_of, workload_name
from bench.types import Measurement
from kernels._decoder import rope_turns
from kernels._decoder_shape import SHAPES, tiny
from kernels.prefill import KERNEL, PrefillCase, PrefillParams
from tests.conftest import prepare
from tests.kernels.mutations import alter_calls, heads_mixed

# Deep and with many heads, so that one head of one layer is a small part of the whole.
DEEP = dataclasses.replace(SHAPES["tiny"], layers=16, width=128, heads=8, kv_heads=4, mlp_width=352)


def case_of(workload: str, device: Any) -> PrefillCase:
    case = prepare(KERNEL, workload, device)
    assert isinstance(case, PrefillCase)
    return case


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp16"])
@pytest.mark.parametrize("batch", [1, 3])
def test_check_passes_before_and_after_launches(cpu_device: CpuDevice, dtype: str, batch: int) -> None:
    case = case_of(f"prefill/tiny/b{batch}/p80@dtype={dtype}", cpu_device)
    before = case.check()
    case.launch()
    after = case.check()
    assert before.ok and after.ok, (before, after)
    assert before.output_sha256 == after.output_sha256


def test_check_is_not_vacuous(cpu_device: CpuDevice) -> None:
    check = case_of("prefill/tiny/b1/p80", cpu_device).check()
    assert 0 < check.error < check.tolerance < 0.02


def wrong_head(case: PrefillCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one layer of all, one head gets another's output."""
    alter_calls(monkeypatch, (case.model, "_attend"), lambda call: call == DEEP.layers - 1, heads_mixed)


def wrong_group(case: PrefillCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Query heads are dealt out to the key-value heads in turn instead of in blocks."""
    attend = case.model._attend

    def dealt(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return attend(q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1), **kwargs)

    monkeypatch.setattr(case.model, "_attend", dealt)


def wrong_position(case: PrefillCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rotations are one position late: invisible to attention among themselves, wrong for all that follow."""
    case.model.turns_SP2 = rope_turns(case.model.shape, 100, "cpu")[1:]


def no_mask(case: PrefillCase, monkeypatch: pytest.MonkeyPatch) -> None:
    attend = case.model._attend
    monkeypatch.setattr(case.model, "_attend", lambda q, k, v, is_causal: attend(q, k, v))


def wrong_layer(case: PrefillCase, monkeypatch: pytest.MonkeyPatch) -> None:
    case.model.layers[7], case.model.layers[8] = case.model.layers[8], case.model.layers[7]


def forgotten_norm(case: PrefillCase, monkeypatch: pytest.MonkeyPatch) -> None:
    model = case.model
    ones_D = torch.ones_like(model.norm.weight)
    monkeypatch.setattr(model, "norm", dataclasses.replace(model.norm, weight=ones_D))


def wrong_tile(case: PrefillCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen logits stand sixteen places off."""
    head = case.model.head

    def shifted(x: torch.Tensor) -> torch.Tensor:
        logits_BV = head(x)
        logits_BV[:, 64:80] = logits_BV[:, 80:96]
        return logits_BV

    monkeypatch.setattr(case.model, "head", shifted)


def unwritten_cache(case: PrefillCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys and values of a layer go to a copy; attention sees them, the next token would not."""
    model, attention = case.model, case.model._attention

    def elsewhere(layer: Any, x: Any, start: int, cache: Any) -> torch.Tensor:
        if layer is model.layers[5]:
            cache = tuple(kv.clone() for kv in cache)
        return attention(layer, x, start, cache)

    monkeypatch.setattr(model, "_attention", elsewhere)


MUTATIONS = [
    wrong_head,
    wrong_group,
    wrong_position,
    no_mask,
    wrong_layer,
    forgotten_norm,
    wrong_tile,
    unwritten_cache,
]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("mutate", MUTATIONS)
def test_one_wrong_part_fails_the_check(
    cpu_device: CpuDevice,
    monkeypatch: pytest.MonkeyPatch,
    mutate: Callable[[PrefillCase, pytest.MonkeyPatch], None],
    dtype: str,
) -> None:
    monkeypatch.setitem(SHAPES, "tiny", DEEP)
    case = case_of(f"prefill/tiny/b1/p64@dtype={dtype}", cpu_device)
    assert case.check().ok
    mutate(case, monkeypatch)
    assert not case.check().ok


def test_a_large_model_is_checked_by_one_layer_and_sampled_logits(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels._decoder_reference._SMALL_PARAMETERS", 0)
    monkeypatch.setattr("kernels._decoder_reference._LOGITS", 64)
    monkeypatch.setitem(SHAPES, "tiny", DEEP)
    case = case_of("prefill/tiny/b1/p64", cpu_device)
    traces = [tuple(case._reference.new_trace()) for _ in range(8)]
    assert all(len(points) <= 5 for points in traces)
    assert len(set(traces)) > 1  # another layer at another check
    assert case.check().ok
    monkeypatch.setattr(case.model, "_mlp", lambda layer, x: (x, None))
    assert not case.check().ok


def test_metrics_name_the_median_prefill_time(cpu_device: CpuDevice) -> None:
    case = case_of("prefill/tiny/b1/p8", cpu_device)
    (metric,) = case.metrics(Measurement((2_000, 9_000, 4_000), (), (0, 0, 0), (), 1, True, False))
    assert (metric.name, metric.unit, metric.better) == ("prefill_s", "s", "lower")
    assert metric.value == pytest.approx(4e-6)


def test_names_and_catalogue() -> None:
    params = PrefillParams("smollm2-135m", 2, 128, "fp32")
    assert workload_name("prefill", params) == "prefill/smollm2-135m/b2/p128@dtype=fp32"
    assert spec_of("prefill", 1, params).dtype == "fp32"
    for workload in KERNEL.catalogue:
        listed = parse_params("prefill", PrefillParams, workload)
        assert workload_name("prefill", listed) == workload
        assert KERNEL.probe(listed).model == tiny(listed.model)
        assert KERNEL.probe(listed).dtype == listed.dtype
        assert KERNEL.memory_bytes(listed) > 0
        arithmetic = "fp8-e4m3" if listed.weights == "fp8" else "bf16"
        assert KERNEL.roofs(listed, "cuda") == (f"roof/compute/{arithmetic}", "roof/memory/read")


def test_a_prompt_beyond_the_models_positions_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        parse_params("prefill", PrefillParams, "prefill/smollm2-135m/b1/p8193")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp16"])
def test_check_passes_on_a_gpu(cuda_device: Any, dtype: str) -> None:
    case = case_of(f"prefill/tiny/b3/p80@dtype={dtype}", cuda_device)
    check = case.check()
    assert check.ok, check

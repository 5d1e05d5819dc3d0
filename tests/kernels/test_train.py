"""Train: a step passes its check; a wrong or missing gradient, a wrong loss and a wrong update do not."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.device.cpu import CpuDevice
from bench.device.fake import FakeDevice
from bench.errors import UsageError
from bench.measure import measure
from bench.spec import parse_params, spec_of, workload_name
from bench.types import Mark, Measurement, Policy
from kernels import _train_adamw
from kernels._decoder_shape import SHAPES, Shape
from kernels._train_model import Layer, Model, activation_bytes, state_bytes, step_work
from kernels.train import KERNEL, TrainCase, TrainParams
from tests.conftest import prepare
from tests.kernels.mutations import SDPA, alter_calls

TINY = SHAPES["tiny"]
# With many heads and more layers, so that one head of one layer is a small part of the whole. WRONG is that layer.
DEEP = dataclasses.replace(TINY, layers=4, width=96, heads=6, kv_heads=3, mlp_width=160, vocabulary=384)
WRONG = 2


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that wait for each other by spinning gain nothing at these sizes, and lose all of it on a busy machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def case_of(workload: str, device: Any) -> TrainCase:
    case = prepare(KERNEL, workload, device)
    assert isinstance(case, TrainCase)
    return case


def random_tokens(shape: Shape, batch: int, tokens: int) -> torch.Tensor:
    return torch.randint(shape.vocabulary, (batch, tokens + 1))


# ---------------------------------------------------------------- the check


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("tied", [False, True])
def test_check_passes_before_and_after_launches(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch, dtype: str, tied: bool
) -> None:
    monkeypatch.setitem(SHAPES, "tiny", dataclasses.replace(DEEP, tied=tied))
    case = case_of(f"train/tiny/b2/s16@dtype={dtype}", cpu_device)
    before = case.check()
    for _ in range(5):
        case.launch()
    after = case.check()
    assert before.ok and after.ok, (before, after)
    assert before.error > 0.05, "a check that allows anything"


def hooked(parameter: torch.Tensor, spoil: Callable[[torch.Tensor], Any]) -> None:
    """Spoil a parameter's gradient as soon as it is there."""

    def spoiled(parameter: torch.Tensor) -> None:
        spoil(parameter.grad)

    parameter.register_post_accumulate_grad_hook(spoiled)


def altered_attention(monkeypatch: pytest.MonkeyPatch, alter: Callable[..., torch.Tensor]) -> None:
    """In the third layer, attention is another."""
    alter_calls(monkeypatch, SDPA, lambda call: call % DEEP.layers == WRONG, alter)


def altered_layer(case: TrainCase, monkeypatch: pytest.MonkeyPatch, half: str, alter: Callable[..., Any]) -> None:
    """One half of the third layer computes with another weight or input."""
    model, compute = case.model, getattr(case.model, half)

    def altered(layer: Layer, x_BTD: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = compute(*alter(layer, x_BTD)) if layer is model.layers[WRONG] else compute(layer, x_BTD)
        return y

    monkeypatch.setattr(model, half, altered)


def missing_gradient(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    altered_layer(case, monkeypatch, "_mlp", lambda layer, x: (dataclasses.replace(layer, down=layer.down.detach()), x))


def gradient_of_zeros(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked(case.model.layers[WRONG].out, torch.Tensor.zero_)


def branch_without_gradient(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The MLP learns, but hands nothing on to what is before it."""
    altered_layer(case, monkeypatch, "_mlp", lambda layer, x: (layer, x.detach()))


def head_without_gradient(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(attend: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **kwargs: Any) -> Any:
        q.register_hook(lambda gradient: torch.cat([gradient[:, :2], 0 * gradient[:, 2:3], gradient[:, 3:]], dim=1))
        return attend(q, k, v, **kwargs)

    altered_attention(monkeypatch, spoiled)


def heads_exchanged(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two heads that share their keys."""
    order = [1, 0, 2, 3, 4, 5]
    altered_attention(monkeypatch, lambda attend, q, k, v, **kwargs: attend(q[:, order], k, v, **kwargs))


def no_mask(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    altered_attention(monkeypatch, lambda attend, q, k, v, is_causal, **kwargs: attend(q, k, v, **kwargs))


def wrong_positions(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rotation goes backwards."""
    monkeypatch.setattr(case.model, "turns_TP", case.model.turns_TP.conj())


def wrong_tile(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked(case.model.layers[WRONG].gate_up, lambda gradient_ND: gradient_ND[16:20, 32:36].zero_())


def gradient_added_to_another(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked(case.model.layers[WRONG].mlp_norm, lambda gradient_D: gradient_D.mul_(2))


def wrong_table_row(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked(case.model.head_VD, lambda gradient_VD: gradient_VD[200].zero_())


def gradient_of_another_token(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked(case.model.embedding_VD, lambda gradient_VD: gradient_VD[17].add_(1))


def forgotten_norm(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = case.model._norm
    monkeypatch.setattr(case.model, "_norm", lambda x, w: x * w.to(x) if w is case.model.norm_D else norm(x, w))


def wrong_targets(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token is to predict the one before."""
    entropy = torch.nn.functional.cross_entropy

    def shifted(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = entropy(logits_NV, targets_N.roll(1))
        return loss

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", shifted)


def unwritten_loss(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> None:
    differentiate = case._differentiate

    def unwritten(trace: Any = None) -> None:
        differentiate(trace)
        case._loss.fill_(math.nan)

    monkeypatch.setattr(case, "_differentiate", unwritten)


GRADIENT_MUTATIONS = [
    missing_gradient,
    gradient_of_zeros,
    branch_without_gradient,
    head_without_gradient,
    heads_exchanged,
    no_mask,
    wrong_positions,
    wrong_tile,
    gradient_added_to_another,
    wrong_table_row,
    gradient_of_another_token,
    forgotten_norm,
    wrong_targets,
    unwritten_loss,
]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("mutate", GRADIENT_MUTATIONS)
def test_a_wrong_gradient_fails_the_check(
    cpu_device: CpuDevice,
    monkeypatch: pytest.MonkeyPatch,
    mutate: Callable[[TrainCase, pytest.MonkeyPatch], None],
    dtype: str,
) -> None:
    monkeypatch.setitem(SHAPES, "tiny", DEEP)
    case = case_of(f"train/tiny/b2/s16@dtype={dtype}", cpu_device)
    mutate(case, monkeypatch)
    assert not case.check().ok


def test_a_large_model_is_checked_by_one_layer_and_no_gradient_may_be_missing(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels._train_reference._SMALL_PARAMETERS", 0)
    monkeypatch.setattr("kernels._train_reference._CHUNK", 7)
    monkeypatch.setattr("kernels._train_reference._TABLE_CHUNK", 100)
    monkeypatch.setattr("kernels._train_adamw._SAMPLED", 50)
    monkeypatch.setitem(SHAPES, "tiny", DEEP)
    case = case_of("train/tiny/b2/s16", cpu_device)
    traces = [case._reference.new_trace().points for _ in range(12)]
    assert all(len(points) <= 4 for points in traces)
    assert len(set(traces)) > 1  # another layer at another check
    assert case.check().ok
    missing_gradient(case, monkeypatch)
    assert not case.check().ok


# ---------------------------------------------------------------- the update


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 1.01 * _train_adamw.RATE},
        {"beta1": 0.95},
        {"beta2": 0.999},
        {"eps": 1e-4},
        {"weight_decay": 0.0},
        {"maximize": True},
    ],
)
def test_an_update_with_another_constant_fails_the_check(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    module = sys.modules["torch.optim.adamw"]
    adamw = module.adamw
    case = case_of("train/tiny/b2/s16", cpu_device)
    assert case.check().ok
    monkeypatch.setattr(module, "adamw", lambda *args, **kwargs: adamw(*args, **{**kwargs, **wrong}))
    assert not case.check().ok


def test_a_wrong_bias_correction_fails_the_check(cpu_device: CpuDevice) -> None:
    case = case_of("train/tiny/b2/s16", cpu_device)
    assert case.check().ok
    for step in case.optimiser._steps:
        step.add_(1)  # as if an update had been counted twice
    assert not case.check().ok


def test_a_tile_that_is_not_updated_fails_the_check(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of("train/tiny/b2/s16", cpu_device)
    down, update = case.model.layers[1].down.detach(), case.optimiser.update

    def all_but_a_tile() -> None:
        kept = down[:4, :4].clone()
        update()
        down[:4, :4] = kept

    monkeypatch.setattr(case.optimiser, "update", all_but_a_tile)
    assert not case.check().ok


def test_an_update_that_never_happens_fails_the_check(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of("train/tiny/b2/s16", cpu_device)
    monkeypatch.setattr(sys.modules["torch.optim.adamw"], "adamw", lambda *args, **kwargs: None)
    assert not case.check().ok


# ---------------------------------------------------------------- many steps


def losses_and_gradients(case: TrainCase, steps: int, *, new_tokens: bool) -> tuple[list[float], list[float]]:
    losses, gradients = [], []
    for _ in range(steps):
        if not new_tokens:
            case._generator.manual_seed(1)
        case.launch()
        losses.append(case._loss.item())
        gradients.append(case.model.layers[0].down.grad.norm().item())
    return losses, gradients


def test_many_steps_lead_nowhere_but_to_the_entropy_of_random_tokens(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss stays finite and near ln(vocabulary), and gradients do not fade: later samples do the same work."""
    monkeypatch.setattr(_train_adamw, "RATE", 15 * _train_adamw.RATE)  # 80 steps go as far as 1200
    uniform = math.log(TINY.vocabulary)
    losses, gradients = losses_and_gradients(case_of("train/tiny/b2/s16", cpu_device), 80, new_tokens=True)
    assert losses[0] > uniform
    assert abs(statistics.mean(losses[-20:]) - uniform) < 0.1 * uniform
    assert statistics.mean(gradients[-20:]) > 0.5 * statistics.mean(gradients[:20])
    losses, gradients = losses_and_gradients(case_of("train/tiny/b2/s16", cpu_device), 80, new_tokens=False)
    assert losses[-1] < 0.1 * uniform, "what would come of a batch that stays the same"
    assert gradients[-1] < 0.5 * gradients[0]


def test_every_step_has_new_tokens_and_a_case_starts_like_another(cpu_device: CpuDevice) -> None:
    seen = []
    for _ in range(2):
        case = case_of("train/tiny/b2/s16", cpu_device)
        for _ in range(2):
            case.launch()
            seen.append((case._tokens_BS.clone(), case._loss.item()))
    assert not seen[0][0].equal(seen[1][0])
    for (tokens_BS, loss), (others_BS, other_loss) in zip(seen[:2], seen[2:], strict=True):
        assert tokens_BS.equal(others_BS)
        assert loss == other_loss


# ---------------------------------------------------------------- work, memory, names, metrics


@pytest.mark.parametrize("shape", [TINY, dataclasses.replace(TINY, tied=True, layers=3)])
def test_flops_are_those_that_torch_counts_less_the_masked_half(shape: Shape) -> None:
    batch, tokens = 2, 12
    model = Model(shape, "fp32", "cpu", 0, tokens)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.loss(random_tokens(shape, batch, tokens)).backward()
    masked_pairs = batch * tokens * (tokens - 1) // 2
    masked = 12 * shape.layers * shape.heads * shape.head_width * masked_pairs
    assert step_work(shape, batch, tokens).flops == counter.get_total_flops() - masked


def test_a_step_of_the_1b_model_is_six_flops_a_published_parameter_and_token() -> None:
    work = step_work(SHAPES["llama-3.2-1b"], 1, 2048)
    attention = 6 * 16 * 2048 * 2048 * 2049  # PaLM's 12 L H Q T a token, halved by the mask
    assert work.flops == pytest.approx(6 * 1_235_814_400 * 2048 + attention, rel=1e-4)
    assert (work.items, work.unit) == (2048, "token/s")


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_activations_are_no_more_than_said_and_not_much_less(dtype: str) -> None:
    batch, tokens = 4, 64
    model = Model(DEEP, dtype, "cpu", 0, tokens)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters.values()}
    saved: dict[int, int] = {}

    def kept(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        loss = model.loss(random_tokens(DEEP, batch, tokens))
    measured = sum(size for pointer, size in saved.items() if pointer not in parameters)
    rounded = 2 * DEEP.parameters if dtype == "bf16" else 0
    said = activation_bytes(DEEP, batch, tokens, dtype)
    assert 0.5 * said < measured - rounded < said
    assert loss.isfinite()


def test_memory_holds_the_state_of_every_parameter_and_a_step_or_a_check() -> None:
    shape = SHAPES["llama-3.2-1b"]
    small, large = (KERNEL.memory_bytes(TrainParams("llama-3.2-1b", batch, 2048)) for batch in (1, 4))
    assert state_bytes(shape) + 2 * shape.parameters < small < 40e9  # a GPU of 40 GB
    assert large - small > 3 * activation_bytes(shape, 1, 2048, "bf16") > 0


@pytest.mark.parametrize("batch", [1, 24], ids=["a check is the most", "a step is the most"])
def test_a_case_takes_no_more_memory_than_said_and_not_much_less(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """As torch's profiler counts what is allocated and given back."""
    monkeypatch.setitem(SHAPES, "tiny", dataclasses.replace(DEEP, layers=12, vocabulary=2048))
    monkeypatch.setattr("kernels._train_reference._SMALL_PARAMETERS", 0)
    monkeypatch.setattr("kernels._train_reference._CHUNK", 64)
    monkeypatch.setattr("kernels._train_reference._TABLE_CHUNK", 256)
    monkeypatch.setattr("kernels._train_adamw._SAMPLED", 64)
    with torch.profiler.profile(profile_memory=True) as profile:
        case = case_of(f"train/tiny/b{batch}/s64", cpu_device)
        case.launch()
        case.check()
    events = profile.profiler.kineto_results.events()
    measured = max(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]"))
    said = KERNEL.memory_bytes(TrainParams("tiny", batch, 64))
    assert 0.5 * said < measured < said


def test_all_parameters_of_the_shape_are_trained() -> None:
    for shape in (TINY, dataclasses.replace(TINY, tied=True)):
        model = Model(shape, "bf16", "cpu", 0, 8)
        assert sum(parameter.numel() for parameter in model.parameters.values()) == shape.parameters


def test_metrics_are_the_medians_of_the_phases(cpu_device: CpuDevice) -> None:
    case = case_of("train/tiny/b1/s8", cpu_device)
    case.launch()
    names = ("forward", "backward", "update")
    # Two samples of two steps; each sample's marks count from its own start.
    ends_ns = (10, 30, 35, 45, 65, 75, 20, 50, 55, 65, 85, 90)
    marks = tuple(Mark(names[index % 3], ns) for index, ns in enumerate(ends_ns))
    measurement = Measurement((37, 45), (), (0, 0), marks, 2, True, False)
    values = {metric.name: metric.value for metric in case.metrics(measurement)}
    in_ns = {name: value * 1e9 for name, value in values.items() if name.endswith("_s")}
    assert in_ns == pytest.approx({"step_s": 41, "forward_s": 10, "backward_s": 20, "update_s": 5})
    assert values["loss"] > 0


def test_every_step_leaves_its_three_marks(fake_device: FakeDevice) -> None:
    case = case_of("train/tiny/b1/s8", fake_device)
    measurement = measure(case, fake_device, Policy(warmup_max_samples=5, min_samples=3, max_samples=3))
    assert [mark.name for mark in measurement.marks] == ["forward", "backward", "update"] * 3


def test_names_and_catalogue() -> None:
    params = TrainParams("smollm2-135m", 2, 128, "fp32")
    assert workload_name("train", params) == "train/smollm2-135m/b2/s128@dtype=fp32"
    assert spec_of("train", 1, params).dtype == "fp32"
    for workload in KERNEL.catalogue:
        listed = parse_params("train", TrainParams, workload)
        assert workload_name("train", listed) == workload
        assert KERNEL.probe(listed).model == "tiny"
        assert KERNEL.probe(listed).dtype == listed.dtype
        assert KERNEL.work(listed).items == listed.batch * listed.tokens
        assert KERNEL.memory_bytes(listed) > 16 * SHAPES[listed.model].parameters
        assert KERNEL.roofs(listed, "cuda") == (f"roof/compute/{listed.dtype}",)


def test_a_sequence_beyond_the_models_positions_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        parse_params("train", TrainParams, "train/smollm2-135m/b1/s8193")


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("model", ["tiny", "smollm2-135m"])
def test_check_passes_on_a_gpu_within_the_memory_said(cuda_device: Any, model: str, dtype: str) -> None:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    params = parse_params("train", TrainParams, f"train/{model}/b2/s256@dtype={dtype}")
    case = KERNEL.prepare(params, cuda_device, 0)
    for check in (case.check(), case.check()):
        assert check.ok, check
    if model != "tiny":  # whose few bytes are lost in the libraries' workspaces
        assert torch.cuda.max_memory_allocated() - before < KERNEL.memory_bytes(params)


@pytest.mark.gpu
@pytest.mark.parametrize("mutate", [head_without_gradient, wrong_tile, missing_gradient])
def test_a_wrong_gradient_fails_the_check_on_a_gpu(
    cuda_device: Any, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[TrainCase, pytest.MonkeyPatch], None]
) -> None:
    monkeypatch.setitem(SHAPES, "tiny", DEEP)
    case = case_of("train/tiny/b2/s64", cuda_device)
    assert case.check().ok
    mutate(case, monkeypatch)
    assert not case.check().ok

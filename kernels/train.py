"""``train``: one step of training a decoder: forward, backward, and an AdamW update of every parameter.

A launch draws ``batch`` new sequences of ``tokens`` + 1 random tokens, computes the mean cross-entropy of the last
``tokens`` of each, the gradients of all parameters by torch's autograd, and the update. Random tokens teach nothing but
their own uniform distribution: the loss goes to ln(vocabulary) and stays there, with gradients that never fade, however
many steps a run takes. On a batch that stayed the same the model would learn it by heart, and later samples would
multiply numbers near zero.

Marks end the forward, the backward and the update of each step.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.device.base import Device
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Measurement, Metric, Work
from kernels import _train_reference
from kernels._decoder_shape import SHAPES, require_positions
from kernels._train_adamw import AdamW
from kernels._train_model import DTYPES, MODELS, Model, Trace, gradient_bytes, state_bytes, step_bytes, step_work

_PHASES = ("forward", "backward", "update")
_TOLERANCE = 4.0  # Higham and Mary's lambda, see About.check


@dataclass(frozen=True)
class TrainParams:
    model: str = axis(choices=MODELS)
    batch: int = axis(prefix="b")
    tokens: int = axis(prefix="s")
    dtype: str = option("bf16", choices=DTYPES)

    def __post_init__(self) -> None:
        require_positions(self.model, self.tokens)

    @property
    def work(self) -> Work:
        return step_work(SHAPES[self.model], self.batch, self.tokens)


class TrainCase(Case):
    def __init__(self, params: TrainParams, device: Device, seed: int) -> None:
        import torch

        shape = SHAPES[params.model]
        self.work = params.work
        self.model = Model(shape, params.dtype, device.torch_device, seed, params.tokens)
        self.optimiser = AdamW(self.model.parameters)
        self._device = device
        self._reference = _train_reference.Reference(self.model)
        self._generator = torch.Generator(device.torch_device).manual_seed(seed + 1)
        sizes = (params.batch, params.tokens + 1)
        self._tokens_BS = torch.empty(sizes, dtype=torch.int64, device=device.torch_device)
        self._loss = torch.empty((), device=device.torch_device)

    def launch(self) -> None:
        self._differentiate()
        self.optimiser.update()
        self._device.mark("update")

    def _differentiate(self, trace: Trace | None = None) -> None:
        """The loss of new tokens, and its gradient in every parameter in the place of the one before."""
        self._tokens_BS.random_(self.model.shape.vocabulary, generator=self._generator)
        for parameter in self.model.parameters.values():
            parameter.grad = None  # as torch's optimisers do it: writing a gradient is cheaper than adding to zeros
        loss = self.model.loss(self._tokens_BS, trace)
        self._loss.copy_(loss.detach())
        self._device.mark("forward")
        loss.backward()
        self._device.mark("backward")

    def check(self) -> Check:
        """One step more of the training, held against float64: its loss and gradients, and then its update."""
        self._loss.fill_(float("nan"))
        trace = self._reference.new_trace()
        self._differentiate(trace)
        errors = self._reference.errors(trace, self._tokens_BS, self._loss)
        if max(errors)[0] <= _TOLERANCE:  # without its gradients there is no update
            before = self.optimiser.look()
            self.optimiser.update()
            errors += self.optimiser.errors(before)
        error, place = max(errors)
        return Check(error, _TOLERANCE, detail=f"in roundings, largest in {place}")

    def metrics(self, measurement: Measurement) -> list[Metric]:
        figures = [Metric("step_s", statistics.median(measurement.elapsed_ns) * 1e-9, "s", "lower")]
        figures += [Metric(f"{phase}_s", ns * 1e-9, "s", "lower") for phase, ns in _phase_ns(measurement).items()]
        return [*figures, Metric("loss", self._loss.item(), "nat")]

    def close(self) -> None:
        del self.model, self.optimiser, self._reference


def _phase_ns(measurement: Measurement) -> dict[str, float]:
    """The median time of each phase of a step; none without marks."""
    taken: dict[str, list[int]] = {}
    for index, mark in enumerate(measurement.marks):
        is_first = index % measurement.marks_per_sample == 0
        taken.setdefault(mark.name, []).append(mark.ns - (0 if is_first else measurement.marks[index - 1].ns))
    return {name: statistics.median(taken[name]) for name in _PHASES if name in taken}


class TrainKernel(Kernel[TrainParams]):
    name = "train"
    version = 1
    summary = "a training step: forward, backward and AdamW of a Llama-architecture decoder, random weights"
    about = About(
        stands_for="Training or fine-tuning all parameters of a language model on one device: products of three kinds "
        "(forward, and two for each in the backward), attention with its gradient, a loss over the whole vocabulary, "
        "and an optimiser that streams its state through memory.",
        parameters={
            "model": "the published shape that the random weights have; tiny is nobody's and for tests",
            "batch": "sequences of a step; none is longer or shorter than the others",
            "tokens": "predicted tokens of each sequence; it holds one more, for the first is only read",
            "dtype": "bf16: mixed precision, products in bf16 on parameters, gradients and moments in fp32 "
            "(Micikevicius et al. 2018, arXiv 1710.03740); fp32: all of it in fp32, tf32 is not allowed",
        },
        work="6 FLOPs for each weight of a matrix product and token (Kaplan et al. 2020, arXiv 2001.08361, section "
        "2.1), the head included and the look-up of the embedding not; attention 12·H·E a layer for each pair of "
        "tokens that the causal mask leaves (Chowdhery et al. 2022, arXiv 2204.02311, appendix B, counts the masked "
        "half as well). Norms, loss, optimiser and anything computed twice count nothing, so mfu is the model's FLOPs "
        "utilisation. Items are the predicted tokens.",
        check="Gradients link by link: each layer of a small model, one drawn by lot of a large one, is recomputed "
        "from the input and the gradient that it got and differentiated by autograd in float64; norm, head and loss "
        "from the derivative as it is written down; the embedding's from the gradient of its output. Every parameter "
        "must have a finite gradient that is not zero. The AdamW update is recomputed in float64 for up to 65,536 "
        "elements of each parameter, from the gradients found. The error is in units of u·sqrt(R), R the roundings "
        "that lie behind a figure, and must not be above 4 (Higham and Mary 2019, 'A new approach to probabilistic "
        "rounding error analysis', theorem 2.4, where 4 is lambda).",
        pitfalls="No data is loaded, nothing is logged, gradients are neither clipped nor exchanged with other "
        "devices, and no activation is recomputed to save memory: a training run does all of that. Nothing is "
        "compiled. The head of a small model with a large vocabulary is a large part of its work. The update reads and "
        "writes 28 bytes a parameter whatever the batch is, so a small batch is limited by memory (update_s).",
    )
    params_type = TrainParams
    catalogue = (
        "train/tiny/b2/s64",
        "train/smollm2-135m/b1/s512",
        "train/smollm2-135m/b1/s512@dtype=fp32",
        "train/llama-3.2-1b/b1/s2048",
        "train/llama-3.2-1b/b4/s2048",
    )

    def prepare(self, params: TrainParams, device: Device, seed: int) -> Case:
        return TrainCase(params, device, seed)

    def roofs(self, params: TrainParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{params.dtype}",)

    def work(self, params: TrainParams) -> Work:
        return params.work

    def probe(self, params: TrainParams) -> TrainParams:
        return dataclasses.replace(params, model="tiny", batch=1, tokens=min(params.tokens, 32))

    def memory_bytes(self, params: TrainParams) -> int:
        """A step is at its largest between forward and backward, when there are no gradients yet: each layer then gives
        back more than its gradients take. What is its own is gone before the check, which needs all gradients.
        """
        shape = SHAPES[params.model]
        step = step_bytes(shape, params.batch, params.tokens, params.dtype)
        check = _train_reference.check_bytes(shape, params.tokens, params.batch * params.tokens)
        return max(state_bytes(shape) - gradient_bytes(shape) + step, state_bytes(shape) + check)


KERNEL = TrainKernel()

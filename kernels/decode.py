"""``decode``: tokens one after the other, each from the one before: the part of inference that memory limits.

A launch is a burst of ``steps`` greedy steps, the first at position ``context``. Every launch starts there again, so
all do the same work. Each step leaves a mark. The chosen token stays on the device, and nothing waits for it there.

The keys and values of the ``context`` positions before the burst are random, of the size that the model makes itself.
A real prefill would make preparing a long context slow, and its values would not change the time of a step. Given
as inputs, they let the check hold a whole burst against float64 without repeating the prompt.

Names as vLLM defines them: ITL, inter-token latency, is the time between one token and the next, one figure for each
step; TPOT, time per output token, is the mean of a burst. There is no first token here to leave out of either.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.device.base import Device
from bench.errors import UsageError
from bench.kernel import Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Measurement, Metric, Work
from kernels._decoder import DTYPES, ITEM_BYTES, SHAPES, Decoder, Trace, forward_work, require_positions
from kernels._decoder_reference import Reference, memory_bytes


@dataclass(frozen=True)
class DecodeParams:
    model: str = axis(choices=tuple(SHAPES))
    batch: int = axis(prefix="b")
    context: int = axis(prefix="ctx")
    steps: int = option(32)
    dtype: str = option("bf16", choices=DTYPES)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError("a burst of no steps", "Ask for steps=1 or more")
        require_positions(self.model, self.context + self.steps)

    @property
    def positions(self) -> range:
        """Of the burst's steps."""
        return range(self.context, self.context + self.steps)


class DecodeCase(Case):
    def __init__(self, params: DecodeParams, device: Device, seed: int) -> None:
        import torch

        shape = SHAPES[params.model]
        slots = params.positions.stop
        self.work: Work = forward_work(shape, params.batch, params.positions, 1, ITEM_BYTES[params.dtype])
        self._device = device
        self._positions = params.positions
        self.model = Decoder(shape, params.dtype, device.torch_device, seed, positions=slots)
        self._reference = Reference(self.model)
        self._cache = self.model.new_cache(params.batch, slots)
        self._first_B1 = self.model.random_tokens(params.batch, 1)
        self._chosen_BT = torch.empty(params.batch, params.steps, dtype=torch.int64, device=device.torch_device)
        self._logits_BV = torch.empty(
            params.batch, shape.vocabulary, dtype=self.model.dtype, device=device.torch_device
        )

    def launch(self) -> None:
        self._burst()

    def _burst(self, trace: Trace | None = None) -> None:
        import torch

        with torch.inference_mode():
            token_B1 = self._first_B1
            for step, position in enumerate(self._positions):
                logits_BV = self.model.forward(token_B1, position, self._cache, trace)
                token_B1 = self._chosen_BT[:, step : step + 1]
                # max, for argmax alone takes six times as long over a row of bf16 on a CPU.
                token_B1.copy_(logits_BV.max(dim=-1, keepdim=True).indices)
                self._device.mark("step")
            self._logits_BV.copy_(logits_BV)

    def check(self) -> Check:
        import torch

        context = self._positions.start
        for keys_BGSE, values_BGSE in self._cache:
            keys_BGSE[:, :, context:] = float("nan")
            values_BGSE[:, :, context:] = float("nan")
        self._logits_BV.fill_(float("nan"))
        self._chosen_BT.fill_(-1)  # no token
        trace = self._reference.new_trace()
        self._burst(trace)
        self._device.synchronize()
        tokens_BT = torch.cat([self._first_B1, self._chosen_BT[:, :-1]], dim=1)
        return self._reference.check(trace, tokens_BT, context, self._cache, self._logits_BV, self._chosen_BT)

    def metrics(self, measurement: Measurement) -> list[Metric]:
        tpot_s = statistics.median(measurement.elapsed_ns) * 1e-9 / len(self._positions)
        figures = [("tpot_s", tpot_s)]
        if itl_ns := _step_ns(measurement):
            p99_ns = statistics.quantiles(itl_ns, n=100, method="inclusive")[98] if len(itl_ns) > 1 else itl_ns[0]
            figures += [("itl_p50_s", statistics.median(itl_ns) * 1e-9), ("itl_p99_s", p99_ns * 1e-9)]
        return [Metric(name, value, "s", "lower") for name, value in figures]

    def close(self) -> None:
        del self.model, self._reference, self._cache


def _step_ns(measurement: Measurement) -> list[int]:
    """How long each step of each sample took. A sample's first step runs from its start, where its first token was."""
    ends_ns = [mark.ns for mark in measurement.marks]
    per_sample = measurement.marks_per_sample
    return [end_ns - (ends_ns[index - 1] if index % per_sample else 0) for index, end_ns in enumerate(ends_ns)]


class DecodeKernel(Kernel[DecodeParams]):
    name = "decode"
    version = 1
    summary = "greedy token generation with a KV cache: a Llama-architecture decoder, random weights"
    params_type = DecodeParams
    catalogue = (
        "decode/tiny/b1/ctx32",
        "decode/smollm2-135m/b1/ctx512",
        "decode/llama-3.2-1b/b1/ctx512",
        "decode/llama-3.2-1b/b16/ctx512",
        "decode/llama-3.1-8b/b1/ctx512",
        "decode/llama-3.1-8b/b32/ctx1024",
    )

    def prepare(self, params: DecodeParams, device: Device, seed: int) -> Case:
        return DecodeCase(params, device, seed)

    def roofs(self, params: DecodeParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{params.dtype}", "roof/memory/read")

    def probe(self, params: DecodeParams) -> DecodeParams:
        return dataclasses.replace(params, model="tiny", batch=1, context=min(params.context, 32), steps=1)

    def memory_bytes(self, params: DecodeParams) -> int:
        return memory_bytes(SHAPES[params.model], params.batch, 1, params.positions.stop, ITEM_BYTES[params.dtype])


KERNEL = DecodeKernel()

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
import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from bench.device.base import Device
from bench.errors import UsageError
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Measurement, Metric, Work
from kernels._decoder import Decoder, Trace
from kernels._decoder_reference import Reference
from kernels._decoder_shape import DTYPES, ITEM_BYTES, SHAPES, forward_work, require_format, require_positions, tiny
from kernels._decoder_sharded import ShardedDecoder, ShardedReference, require_shards, shard, shard_memory_bytes
from kernels._decoder_steps import MODES, made_ready
from kernels._linear import WEIGHTS, arithmetic
from kernels._rank import RankDevice
from kernels._ranks import RankedCase


@dataclass(frozen=True)
class DecodeParams:
    model: str = axis(choices=tuple(SHAPES))
    batch: int = axis(prefix="b")
    context: int = axis(prefix="ctx")
    steps: int = option(32)
    dtype: str = option("bf16", choices=DTYPES)
    mode: str = option("eager", choices=MODES, added_later=True)
    weights: str = option("dense", choices=WEIGHTS, added_later=True)
    tp: int = option(1, added_later=True)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError("a burst of no steps", "Ask for steps=1 or more")
        require_positions(self.model, self.context + self.steps)
        require_format(self.model, self.weights)
        require_shards(self.model, self.tp)
        if self.tp > 1 and self.mode == "compiled":
            raise UsageError("several devices are not compiled for", "Take mode=eager or mode=graph")

    @property
    def positions(self) -> range:
        """Of the burst's steps."""
        return range(self.context, self.context + self.steps)

    @property
    def work(self) -> Work:
        """Of one device, but for the tokens."""
        shape = shard(SHAPES[self.model], self.tp)
        return forward_work(shape, self.batch, self.positions, 1, ITEM_BYTES[self.dtype], self.weights)


class DecodeCase(Case):
    def __init__(self, params: DecodeParams, device: Device, seed: int) -> None:
        import torch

        shape = SHAPES[params.model]
        slots = params.positions.stop
        self.work = params.work
        self.device = device
        self._positions = params.positions
        arguments = shape, params.dtype, device.torch_device, seed, slots, params.weights
        self.model = Decoder(*arguments) if params.tp == 1 else ShardedDecoder(*arguments)
        self._reference = (
            ShardedReference(self.model) if isinstance(self.model, ShardedDecoder) else Reference(self.model)
        )
        self._cache = self.model.new_cache(params.batch, slots)
        self._first_B1 = self.model.random_tokens(params.batch, 1)
        self._chosen_BT = torch.empty(params.batch, params.steps, dtype=torch.int64, device=device.torch_device)
        self._logits_BV = torch.empty(
            params.batch, shape.vocabulary, dtype=self.model.dtype, device=device.torch_device
        )
        forwards = [functools.partial(self._step, step) for step in range(params.steps)]
        self._steps = made_ready(params.mode, self.model, forwards, device)

    def launch(self) -> None:
        for step in self._steps.calls:
            step()
            self.device.mark("step")

    def _step(self, step: int, trace: Trace | None = None) -> None:
        import torch

        with torch.inference_mode():
            token_B1 = self._chosen_BT[:, step - 1 : step] if step else self._first_B1
            logits_BV = self.model.forward(token_B1, self._positions[step], self._cache, trace)
            # max, for argmax alone takes six times as long over a row of bf16 on a CPU.
            self._chosen_BT[:, step : step + 1].copy_(logits_BV.max(dim=-1, keepdim=True).indices)
            if step == len(self._positions) - 1:
                self._logits_BV.copy_(logits_BV)

    def check(self) -> Check:
        """Trace a burst; where a launch replays what was captured, it has to leave behind what the burst did."""
        import torch

        self._poison()
        trace = self._reference.new_trace()
        for step in range(len(self._positions)):
            self._step(step, trace)
        tokens_BT = torch.cat([self._first_B1, self._chosen_BT[:, :-1]], dim=1)
        if self._steps.replayed:
            self._poison()
            self.launch()
        self.device.synchronize()
        context = self._positions.start
        check = self._reference.check(trace, tokens_BT, context, self._cache, self._logits_BV, self._chosen_BT)
        return dataclasses.replace(check, output=None) if self._steps.tuned else check

    def _poison(self) -> None:
        for keys_BGSE, values_BGSE in self._cache:
            keys_BGSE[:, :, self._positions.start :] = float("nan")
            values_BGSE[:, :, self._positions.start :] = float("nan")
        self._logits_BV.fill_(float("nan"))
        self._chosen_BT.fill_(-1)  # no token

    def metrics(self, measurement: Measurement) -> list[Metric]:
        tpot_s = statistics.median(measurement.elapsed_ns) * 1e-9 / len(self._positions)
        found = [Metric("tpot_s", tpot_s, "s", "lower"), Metric("user_rate", 1 / tpot_s, "token/s", "higher")]
        if itl_ns := _step_ns(measurement):
            p99_ns = statistics.quantiles(itl_ns, n=100, method="inclusive")[98] if len(itl_ns) > 1 else itl_ns[0]
            for name, value_ns in (("itl_p50_s", statistics.median(itl_ns)), ("itl_p99_s", p99_ns)):
                found.append(Metric(name, value_ns * 1e-9, "s", "lower"))
        return found

    def close(self) -> None:
        del self.model, self._reference, self._cache, self._steps


class RankedDecodeCase(RankedCase):
    """The same by several ranks, each with a shard of the model; marks are rank 0's."""

    def __init__(self, params: DecodeParams, device: Device, seed: int) -> None:
        super().__init__(decode_part, params, params.tp, device, seed, queued=1)
        assert isinstance(self.part, DecodeCase)
        self.part.device = device
        self.work = params.work

    def metrics(self, measurement: Measurement) -> list[Metric]:
        assert isinstance(self.part, DecodeCase)
        return self.part.metrics(measurement)


def decode_part(params: DecodeParams, torch_device: str, seed: int) -> DecodeCase:
    return DecodeCase(params, cast(Device, RankDevice(torch_device)), seed)


def _step_ns(measurement: Measurement) -> list[int]:
    """How long each step of each sample took. A sample's first step runs from its start, where its first token was."""
    ends_ns = [mark.ns for mark in measurement.marks]
    per_sample = measurement.marks_per_sample
    return [end_ns - (ends_ns[index - 1] if index % per_sample else 0) for index, end_ns in enumerate(ends_ns)]


class DecodeKernel(Kernel[DecodeParams]):
    name = "decode"
    version = 1
    summary = "greedy token generation with a KV cache: decoders of published shapes, random weights"
    about = About(
        stands_for="A language model answering: each token takes one pass over all weights and over what is cached of "
        "the conversation. With few users at once memory bandwidth decides, with many arithmetic does.",
        parameters={
            "model": "the shape of a published decoder, with random weights; tiny ones are for tests",
            "batch": "sequences that are generated together, each by its own user",
            "context": "positions that are cached before the first step",
            "steps": "tokens of a burst, which is a launch",
            "dtype": "weights, cache and activations; sums are kept in fp32",
            "mode": "eager: Python enqueues the operations; graph: each step is a CUDA graph; compiled: torch compiles "
            "the half-layers, and on a GPU each step is then a CUDA graph as well",
            "weights": "how matrices are stored: dense, in dtype; int8, with a scale for each row; int4, with a scale "
            "for each 128 elements of a row (64 or 32 where 128 does not divide it); fp8, in e4m3 with a scale for "
            "each matrix, and then activations are rounded to e4m3 as well. Embeddings, norms and biases stay dense",
            "tp": "tensor parallelism: devices that compute each token together, each with its share of the heads, of "
            "the MLP and of the vocabulary, as in Megatron-LM (Shoeybi et al. 2019, arXiv 1909.08053, section 3)",
        },
        work="FLOPs: 2 for each matrix weight and token (Kaplan et al. 2020, arXiv 2001.08361, table 1), of the "
        "experts only a token's own, and 4·H·E for each query and position it sees (Dao 2023, arXiv 2307.08691, "
        "section 4.1). Bytes: in every step the weights of layers, norms and head once, and not an untied embedding "
        "table; of the experts as many as a batch chooses on average when all are equally likely (sparse MBU, arXiv "
        "2412.07067, section 4); and the cached keys and values (Pope et al. 2022, arXiv 2211.05102, section 2). "
        "Matrices count as they are stored, scales included. With tp they are one "
        "device's. Items: tokens of all sequences.",
        check="Each half-layer's input is kept, and what it adds recomputed in float64, as are cached keys and values, "
        "the logits, and that no token and no expert that was left out lies above those that were chosen. Tolerance: "
        "4·u·√R of the size of what was added, R the roundings on the way (Higham and Mary 2019, theorem 2.4). Large "
        "models by one layer, drawn anew, and sampled positions and logits. A launch from CUDA graphs has to leave "
        "the same keys, values and tokens as the burst that was traced. The reference multiplies by the "
        "weights as they are stored. With fp8 it rounds activations as the model does; those that fall to the other "
        "side of such a rounding count among R, and the factor is 8. With tp every rank checks the whole model, whose "
        "matrices, keys and values it gathers.",
        pitfalls="Random weights route tokens about evenly to experts; trained ones may not, and then read fewer. "
        "A graph has its position in it: a server's, made for any position, can at best be as fast. Graphs and "
        "compilation take memory and time of their own before the first token: see prepare_s and peak_memory_bytes. "
        "Rates are tokens of all users together; user_rate is one user's. Experts on a GPU need torch's grouped "
        "product, native in bf16 from Hopper on; elsewhere it waits for the host, and no graph can be captured. "
        "Weights of int8 and int4 go through torch's own products. On a CPU those are vectorised for bf16 alone; that "
        "of int8 on a GPU came with torch 2.9, reads the weight once for each sequence and leaves the tensor cores "
        "idle. For many sequences weights are first widened to the dtype, which takes time that no count contains. "
        "With tp each token waits for two all-reduces a layer, and rates, power, energy and price are of all the "
        "devices together.",
    )
    params_type = DecodeParams
    catalogue = (
        "decode/tiny/b1/ctx32",
        "decode/tiny/b1/ctx32@tp=2",
        "decode/smollm2-135m/b1/ctx512",
        "decode/smollm2-135m/b8/ctx512",
        "decode/llama-3.2-1b/b1/ctx512",
        "decode/llama-3.2-1b/b1/ctx512@mode=graph",
        "decode/llama-3.2-1b/b1/ctx512@mode=compiled",
        "decode/llama-3.2-1b/b1/ctx512@steps=128",
        "decode/llama-3.2-1b/b1/ctx8192",
        "decode/llama-3.2-1b/b16/ctx512",
        "decode/llama-3.1-8b/b1/ctx512",
        "decode/llama-3.1-8b/b1/ctx512@mode=graph",
        "decode/llama-3.1-8b/b1/ctx512@mode=compiled",
        "decode/llama-3.1-8b/b1/ctx512@steps=128",
        "decode/llama-3.1-8b/b1/ctx2048",
        "decode/llama-3.1-8b/b1/ctx8192",
        "decode/llama-3.1-8b/b8/ctx512",
        "decode/llama-3.1-8b/b32/ctx512",
        "decode/llama-3.1-8b/b32/ctx512@mode=graph",
        "decode/llama-3.1-8b/b32/ctx1024",
        "decode/llama-3.1-8b/b32/ctx2048",
        "decode/llama-3.1-8b/b128/ctx512",
        "decode/llama-3.1-70b/b1/ctx512",
        "decode/llama-3.1-70b/b1/ctx512@tp=8",
        "decode/llama-3.1-70b/b1/ctx512@mode=graph,tp=8",
        "decode/mixtral-8x7b/b1/ctx512",
        "decode/mixtral-8x7b/b32/ctx512",
        "decode/phogpt-4b/b1/ctx512",
        "decode/phogpt-4b/b32/ctx2048",
        "decode/vistral-7b/b1/ctx512",
        "decode/vistral-7b/b32/ctx2048",
        *(f"decode/smollm2-135m/b1/ctx512@weights={weights}" for weights in ("int8", "int4")),
        *(f"decode/llama-3.1-8b/b1/ctx512@weights={weights}" for weights in ("int8", "int4", "fp8")),
        "decode/llama-3.1-8b/b32/ctx512@weights=fp8",
    )

    def prepare(self, params: DecodeParams, device: Device, seed: int) -> Case:
        """Raises:
        Unsupported: there are not so many GPUs.
        """
        return DecodeCase(params, device, seed) if params.tp == 1 else RankedDecodeCase(params, device, seed)

    def devices(self, params: DecodeParams) -> int:
        return params.tp

    def roofs(self, params: DecodeParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{arithmetic(params.weights, params.dtype)}", "roof/memory/read")

    def work(self, params: DecodeParams) -> Work:
        return params.work

    def probe(self, params: DecodeParams) -> DecodeParams:
        small = dataclasses.replace(params, batch=1, context=min(params.context, 32), steps=1, tp=min(params.tp, 2))
        return dataclasses.replace(small, model=tiny(params.model))

    def memory_bytes(self, params: DecodeParams) -> int:
        slots, item_bytes = params.positions.stop, ITEM_BYTES[params.dtype]
        return shard_memory_bytes(params.model, params.tp, params.batch, slots, item_bytes)


KERNEL = DecodeKernel()

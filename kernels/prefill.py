"""``prefill``: a prompt's way through a decoder, from tokens to a filled cache and the next token's logits.

A launch takes ``batch`` prompts of ``prompt`` random tokens, writes every layer's keys and values into the cache and
computes logits for the last position only, as a server does: the others would be thrown away. Roofs: the FLOP/s of
a long prompt, the bytes of a short one.
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
from kernels._decoder import Decoder, Trace
from kernels._decoder_reference import Reference, memory_bytes
from kernels._decoder_shape import DTYPES, ITEM_BYTES, SHAPES, forward_work, require_format, require_positions, tiny
from kernels._decoder_steps import MODES, made_ready
from kernels._linear import WEIGHTS, arithmetic


@dataclass(frozen=True)
class PrefillParams:
    model: str = axis(choices=tuple(SHAPES))
    batch: int = axis(prefix="b")
    prompt: int = axis(prefix="p")
    dtype: str = option("bf16", choices=DTYPES)
    mode: str = option("eager", choices=MODES, added_later=True)
    weights: str = option("dense", choices=WEIGHTS, added_later=True)

    def __post_init__(self) -> None:
        require_positions(self.model, self.prompt)
        require_format(self.model, self.weights)

    @property
    def work(self) -> Work:
        item_bytes = ITEM_BYTES[self.dtype]
        return forward_work(SHAPES[self.model], self.batch, range(1), self.prompt, item_bytes, self.weights)


class PrefillCase(Case):
    def __init__(self, params: PrefillParams, device: Device, seed: int) -> None:
        import torch

        shape = SHAPES[params.model]
        self.work = params.work
        self._device = device
        self.model = Decoder(
            shape, params.dtype, device.torch_device, seed, positions=params.prompt, weights=params.weights
        )
        self._reference = Reference(self.model)
        self._tokens_BT = self.model.random_tokens(params.batch, params.prompt)
        self._cache = self.model.new_cache(params.batch, params.prompt)
        self._logits_BV = torch.empty(
            params.batch, shape.vocabulary, dtype=self.model.dtype, device=device.torch_device
        )
        self._steps = made_ready(params.mode, self.model, [self._prefill], device)

    def launch(self) -> None:
        (launch,) = self._steps.calls
        launch()

    def _prefill(self, trace: Trace | None = None) -> None:
        import torch

        with torch.inference_mode():
            self._logits_BV.copy_(self.model.forward(self._tokens_BT, 0, self._cache, trace))

    def check(self) -> Check:
        """Trace a prefill; where a launch replays what was captured, it has to leave behind what that did."""
        self._poison()
        trace = self._reference.new_trace()
        self._prefill(trace)
        if self._steps.replayed:
            self._poison()
            self.launch()
        self._device.synchronize()
        check = self._reference.check(trace, self._tokens_BT, 0, self._cache, self._logits_BV)
        return dataclasses.replace(check, output=None) if self._steps.tuned else check

    def _poison(self) -> None:
        for keys_BGSE, values_BGSE in self._cache:
            keys_BGSE.fill_(float("nan"))
            values_BGSE.fill_(float("nan"))
        self._logits_BV.fill_(float("nan"))

    def metrics(self, measurement: Measurement) -> list[Metric]:
        """The median time to the logits of the first token: TTFT without queue, tokenizer and sampling."""
        return [Metric("prefill_s", statistics.median(measurement.elapsed_ns) * 1e-9, "s", "lower")]

    def close(self) -> None:
        del self.model, self._reference, self._cache, self._steps


class PrefillKernel(Kernel[PrefillParams]):
    name = "prefill"
    version = 1
    summary = "prompt processing: decoders of published shapes, random weights"
    about = About(
        stands_for="A language model reading: a prompt or a document goes through all layers at once, before the first "
        "token of the answer. Long ones are limited by arithmetic, short ones by reading the weights.",
        parameters={
            "model": "the shape of a published decoder, with random weights; tiny ones are for tests",
            "batch": "prompts that are read together",
            "prompt": "tokens of each",
            "dtype": "weights, cache and activations; sums are kept in fp32",
            "mode": "eager: Python enqueues the operations; graph: the pass is a CUDA graph; compiled: torch compiles "
            "the half-layers, and on a GPU the pass is then a CUDA graph as well",
            "weights": "how matrices are stored: dense, in dtype; int8, with a scale for each row; int4, with a scale "
            "for each 128 elements of a row (64 or 32 where 128 does not divide it); fp8, in e4m3 with a scale for "
            "each matrix, and then activations are rounded to e4m3 as well. Embeddings, norms and biases stay dense",
        },
        work="FLOPs: 2 for each matrix weight and token (Kaplan et al. 2020, arXiv 2001.08361, table 1), of the "
        "experts only a token's own, the head at the last position only, and 4·H·E for each query and position it "
        "sees: half of a square (Dao 2023, arXiv 2307.08691, section 4.1). Bytes: the weights of layers, norms and "
        "head once, not an untied embedding table, and the keys and values once (Pope et al. 2022, arXiv 2211.05102, "
        "section 2). Matrices count as they are stored, scales included. Items: tokens of all prompts.",
        check="Each half-layer's input is kept, and what it adds recomputed in float64, as are cached keys and values, "
        "the last position's logits, and that no expert that was left out lies above those that were chosen. "
        "Tolerance: 4·u·√R of the size of what was added, R the roundings on the way (Higham and Mary 2019, theorem "
        "2.4). Large models by one layer, drawn anew, and sampled positions and logits. A launch from a CUDA graph "
        "has to leave the same keys and values as the pass that was traced. The reference multiplies by the "
        "weights as they are stored. With fp8 it rounds activations as the model does; those that fall to the other "
        "side of such a rounding count among R, and the factor is 8.",
        pitfalls="prefill_s is TTFT without queue, tokenizer and sampling. ALiBi's biases are handed to torch's "
        "attention as a matrix for each head, which it reads and no count contains; a kernel that makes them on the "
        "way would be faster. Random weights route tokens about evenly to experts; trained ones may not. "
        "Weights of int8 and int4 are widened to the dtype before they are multiplied with many tokens: here they save "
        "memory and cost time. In bf16 on a CPU without AMX attention is two products and a softmax for each block of "
        "queries; elsewhere it is torch's fused operator.",
    )
    params_type = PrefillParams
    catalogue = (
        "prefill/tiny/b1/p32",
        "prefill/smollm2-135m/b1/p512",
        "prefill/smollm2-135m/b8/p512",
        "prefill/llama-3.2-1b/b1/p512",
        "prefill/llama-3.2-1b/b1/p512@mode=graph",
        "prefill/llama-3.2-1b/b1/p512@mode=compiled",
        "prefill/llama-3.2-1b/b1/p2048",
        "prefill/llama-3.1-8b/b1/p512",
        "prefill/llama-3.1-8b/b1/p2048",
        "prefill/llama-3.1-8b/b1/p2048@mode=compiled",
        "prefill/llama-3.1-8b/b1/p8192",
        "prefill/llama-3.1-8b/b8/p1024",
        "prefill/llama-3.1-8b/b8/p2048",
        "prefill/llama-3.1-8b/b32/p512",
        "prefill/llama-3.1-70b/b1/p2048",
        "prefill/mixtral-8x7b/b1/p2048",
        "prefill/phogpt-4b/b1/p2048",
        "prefill/vistral-7b/b1/p2048",
        "prefill/llama-3.1-8b/b1/p2048@weights=fp8",
    )

    def prepare(self, params: PrefillParams, device: Device, seed: int) -> Case:
        return PrefillCase(params, device, seed)

    def roofs(self, params: PrefillParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{arithmetic(params.weights, params.dtype)}", "roof/memory/read")

    def work(self, params: PrefillParams) -> Work:
        return params.work

    def probe(self, params: PrefillParams) -> PrefillParams:
        return dataclasses.replace(params, model=tiny(params.model), batch=1, prompt=min(params.prompt, 32))

    def memory_bytes(self, params: PrefillParams) -> int:
        return memory_bytes(SHAPES[params.model], params.batch, params.prompt, params.prompt, ITEM_BYTES[params.dtype])


KERNEL = PrefillKernel()

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
from bench.kernel import Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Measurement, Metric, Work
from kernels._decoder import DTYPES, ITEM_BYTES, SHAPES, Decoder, Trace, forward_work, require_positions
from kernels._decoder_reference import Reference, memory_bytes


@dataclass(frozen=True)
class PrefillParams:
    model: str = axis(choices=tuple(SHAPES))
    batch: int = axis(prefix="b")
    prompt: int = axis(prefix="p")
    dtype: str = option("bf16", choices=DTYPES)

    def __post_init__(self) -> None:
        require_positions(self.model, self.prompt)


class PrefillCase(Case):
    def __init__(self, params: PrefillParams, device: Device, seed: int) -> None:
        import torch

        shape = SHAPES[params.model]
        self.work: Work = forward_work(shape, params.batch, range(1), params.prompt, ITEM_BYTES[params.dtype])
        self._device = device
        self.model = Decoder(shape, params.dtype, device.torch_device, seed, positions=params.prompt)
        self._reference = Reference(self.model)
        self._tokens_BT = self.model.random_tokens(params.batch, params.prompt)
        self._cache = self.model.new_cache(params.batch, params.prompt)
        self._logits_BV = torch.empty(
            params.batch, shape.vocabulary, dtype=self.model.dtype, device=device.torch_device
        )

    def launch(self) -> None:
        self._prefill()

    def _prefill(self, trace: Trace | None = None) -> None:
        import torch

        with torch.inference_mode():
            self._logits_BV.copy_(self.model.forward(self._tokens_BT, 0, self._cache, trace))

    def check(self) -> Check:
        for keys_BGSE, values_BGSE in self._cache:
            keys_BGSE.fill_(float("nan"))
            values_BGSE.fill_(float("nan"))
        self._logits_BV.fill_(float("nan"))
        trace = self._reference.new_trace()
        self._prefill(trace)
        self._device.synchronize()
        return self._reference.check(trace, self._tokens_BT, 0, self._cache, self._logits_BV)

    def metrics(self, measurement: Measurement) -> list[Metric]:
        """The median time to the logits of the first token: TTFT without queue, tokenizer and sampling."""
        return [Metric("prefill_s", statistics.median(measurement.elapsed_ns) * 1e-9, "s", "lower")]

    def close(self) -> None:
        del self.model, self._reference, self._cache


class PrefillKernel(Kernel[PrefillParams]):
    name = "prefill"
    version = 1
    summary = "prompt processing: a Llama-architecture decoder, random weights"
    params_type = PrefillParams
    catalogue = (
        "prefill/tiny/b1/p32",
        "prefill/smollm2-135m/b1/p512",
        "prefill/llama-3.2-1b/b1/p512",
        "prefill/llama-3.1-8b/b1/p2048",
        "prefill/llama-3.1-8b/b8/p1024",
    )

    def prepare(self, params: PrefillParams, device: Device, seed: int) -> Case:
        return PrefillCase(params, device, seed)

    def roofs(self, params: PrefillParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{params.dtype}", "roof/memory/read")

    def probe(self, params: PrefillParams) -> PrefillParams:
        return dataclasses.replace(params, model="tiny", batch=1, prompt=min(params.prompt, 32))

    def memory_bytes(self, params: PrefillParams) -> int:
        return memory_bytes(SHAPES[params.model], params.batch, params.prompt, params.prompt, ITEM_BYTES[params.dtype])


KERNEL = PrefillKernel()

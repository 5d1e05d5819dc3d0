"""``soak``: everything at once, for hours: products, memory, copies between host and device both ways, and decoding.

A launch is one round of the mix. On a GPU each part is enqueued on a stream of its own and all begin together, so that
the units that compute, those that copy and the memory are loaded at the same time. On a CPU one part follows the
other: each of them takes all of its cores, and two at a time would only wait for each other.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.errors import UsageError
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, Measurement, Metric, Output, Work
from kernels import _gemm_product, _soak_tokens
from kernels._decoder_shape import SHAPES, require_positions
from kernels._gemm import Shape, tolerance
from kernels._gemm_backends import BACKENDS, tried
from kernels._gemm_product import Product
from kernels._output import taken
from kernels._soak_tokens import Tokens
from kernels._transfer_pair import CHECK_BYTES, Pair

if TYPE_CHECKING:
    import torch

_DTYPE = "bf16"
_BUFFERS = 6  # both ends of three kinds of copies
PARTS = ("product", "memory", "h2d", "d2h", "decode")


@dataclass(frozen=True)
class SoakParams:
    n: int = axis()
    mib: int = axis(prefix="mib")
    model: str = axis(choices=tuple(SHAPES))
    products: int = option(64)
    moves: int = option(256)
    copies: int = option(16)
    steps: int = option(16)

    def __post_init__(self) -> None:
        for name in ("n", "mib", "products", "moves", "copies", "steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"a round without {name}", f"Ask for {name}=1 or more: a soak loads everything")
        require_positions(self.model, _soak_tokens.CONTEXT + self.steps)

    @property
    def copied_bytes(self) -> int:
        return self.mib << 20

    @property
    def work(self) -> Work:
        decoding = _soak_tokens.work(self.model, self.steps)
        streamed = (2 * self.moves + 2 * self.copies) * self.copied_bytes
        return Work(
            "FLOP/s",
            flops=self.products * Shape.square(self.n).flops + (decoding.flops or 0),
            bytes_moved=streamed + (decoding.bytes_moved or 0),
            items=self.steps,
            item_unit="token",
        )


class SoakCase(Case):
    def __init__(self, params: SoakParams, device: Device, seed: int) -> None:
        import torch

        self.work = params.work
        self._device = device
        self._n = params.n
        self.product = Product(_DTYPE, Shape.square(params.n).stack, device, seed)
        multiply = tried(BACKENDS["torch"], _DTYPE, self.product)
        generator = torch.Generator(device.torch_device).manual_seed(seed)
        self.pairs = {name: _pair(name, params.copied_bytes // 8, generator) for name in ("memory", "h2d", "d2h")}
        self.tokens = Tokens(params.model, params.steps, device.torch_device, seed)
        self.parts: Mapping[str, Callable[[], object]] = {
            "product": functools.partial(_repeat, multiply, params.products),
            "memory": functools.partial(_repeat, _copy(self.pairs["memory"]), params.moves),
            "h2d": functools.partial(_repeat, _copy(self.pairs["h2d"]), params.copies),
            "d2h": functools.partial(_repeat, _copy(self.pairs["d2h"]), params.copies),
            "decode": self.tokens.launch,
        }
        self._is_overlapped = device.info.kind == "cuda"
        if self._is_overlapped:
            self._streams = {name: torch.cuda.Stream() for name in PARTS}
            self._begun = torch.cuda.Event()
            self._done = {name: torch.cuda.Event() for name in PARTS}

    def launch(self) -> None:
        if self._is_overlapped:
            self._together()
            return
        for name in PARTS:
            self.parts[name]()
            self._device.mark(name)

    def _together(self) -> None:
        """No part begins before what was queued earlier is done, and what is queued later waits for all of them.

        The parts that Python enqueues in one go come first, so that the device is busy while it enqueues the steps.
        """
        import torch

        outer = torch.cuda.current_stream()
        self._begun.record(outer)
        for name in PARTS:
            stream = self._streams[name]
            stream.wait_event(self._begun)
            with torch.cuda.stream(stream):
                self.parts[name]()
                self._device.mark(name)
                self._done[name].record(stream)
        for done in self._done.values():
            outer.wait_event(done)

    def check(self) -> Check:
        """One round, of which the last product, copy and token of each part are checked whole."""
        trace, tokens_BT = self.tokens.traced()
        self.product.poison()
        for pair in self.pairs.values():
            pair.poison()
        self.tokens.poison()
        self._device.synchronize()
        self.launch()
        self._device.synchronize()
        decoded = self.tokens.check(trace, tokens_BT)
        errors = {
            "product": self.product.error() / tolerance(_DTYPE, self._n),
            "decode": decoded.error / decoded.tolerance,
            **{name: math.inf if pair.wrong() else 0.0 for name, pair in self.pairs.items()},
        }
        # A NaN is no number to be found by max.
        error, part = max((math.inf if math.isnan(error) else error, name) for name, error in errors.items())
        detail = f"of the part's tolerance, largest in {part} {decoded.detail if part == 'decode' else ''}".rstrip()
        return Check(error, 1.0, self._output(decoded), detail)

    def _output(self, decoded: Check) -> Output:
        """The bytes of the product, and after them those of the logits."""
        import torch

        logits = torch.frombuffer(bytearray(decoded.output.data), dtype=torch.uint8) if decoded.output else None
        product = self.product.out_MN.detach().cpu().contiguous().view(-1).view(torch.uint8)
        return taken(product if logits is None else torch.cat([product, logits]))

    def metrics(self, measurement: Measurement) -> list[Metric]:
        """The median time of each part: on a GPU from the round's beginning, with the others beside it; else alone."""
        rounds = [_first_round(sample) for sample in _samples(measurement)]
        taken_ns = {name: [ends[name] for ends in rounds] for name in PARTS}
        if not self._is_overlapped:
            for before, name in zip(PARTS[-2::-1], PARTS[:0:-1], strict=True):
                taken_ns[name] = [end - begin for end, begin in zip(taken_ns[name], taken_ns[before], strict=True)]
        return [Metric(f"{name}_s", statistics.median(ns) * 1e-9, "s", "lower") for name, ns in taken_ns.items()]

    def close(self) -> None:
        del self.parts, self.product, self.pairs, self.tokens


def _repeat(launch: Callable[[], object], times: int) -> None:
    for _ in range(times):
        launch()


def _pair(name: str, words: int, generator: torch.Generator) -> Pair:
    """Both ends of a copy within the device's memory, into it from page-locked memory of the host, or back."""
    import torch

    on_gpu = generator.device.type == "cuda"
    device_W = torch.empty(words, dtype=torch.int64, device=generator.device)
    device_W.random_(generator=generator)  # 63 bits
    if name == "memory":
        return Pair(device_W, torch.empty_like(device_W))
    host_W = torch.empty(words, dtype=torch.int64, pin_memory=on_gpu)
    host_W.copy_(device_W)
    return Pair(host_W, device_W) if name == "h2d" else Pair(device_W, host_W)


def _copy(pair: Pair) -> Callable[[], object]:
    return functools.partial(pair.target.copy_, pair.source, non_blocking=True)


def _samples(measurement: Measurement) -> list[list[tuple[str, int]]]:
    marks, per_sample = measurement.marks, measurement.marks_per_sample
    return [
        [(mark.name, mark.ns) for mark in marks[start : start + per_sample]]
        for start in range(0, len(marks), per_sample)
    ]


def _first_round(marks: list[tuple[str, int]]) -> dict[str, int]:
    """When each part of a sample's first round ended; of a short round a sample has several."""
    return dict(marks[: len(PARTS)])


class SoakKernel(Kernel[SoakParams]):
    name = "soak"
    version = 1
    summary = "products, memory, copies both ways and decoding at the same time: a load for hours"
    about = About(
        stands_for="A node at work for days: a server that computes, streams its memory, and moves batches in and out, "
        "all at the same time and near its power limit. What only fails hot, or only when several units draw current "
        "together, shows here and in no single one of them.",
        parameters={
            "n": "the products are n x n by n x n in bf16",
            "mib": "MiB that each copy moves",
            "model": "the shape of the decoder, one sequence in bf16, 512 positions cached; tiny ones are for tests",
            "products": "products in a round",
            "moves": "copies within the device's memory in a round",
            "copies": "copies from the host to the device in a round, and as many back",
            "steps": "tokens that are decoded in a round",
        },
        work="FLOPs of the products, 2 n^3 each (Golub & Van Loan, Matrix Computations, 1.1), and of the decoding, as "
        "decode counts them. Bytes: those within the device's memory read and written, those between host and device "
        "once, and those that decoding cannot avoid. Items: tokens. A metric for each part, product_s, memory_s, "
        "h2d_s, d2h_s and decode_s, is the time until it was done: on a GPU from the beginning of the round, beside "
        "the others; on a CPU its own.",
        check="Each part as its own kernel's: the last product's rows against float64 by Freivalds' random signs, "
        "with the tolerance of matmul; every word of the last copies must have arrived; tokens, keys, values, logits "
        "that the round left behind against a traced burst, half-layer by half-layer in float64. The error is the "
        "largest of them, in tolerances of its part. Everything is poisoned before the round that is checked.",
        pitfalls="The headline counts arithmetic, of which nearly all is the products', over the time until all parts "
        "are done: it is a rate of this mix, to be compared with nothing but itself. By arithmetic, with 800 TFLOP/s, "
        "3 TB/s and 55 GB/s, the default round takes an H100 about 90 ms of products, 46 ms of memory and 78 ms of "
        "copies; another GPU, or a slower host, may want other numbers, so that no part is long done before the rest. "
        "A CPU has no units that copy on their own: there the parts follow each other. Memory is loaded by copies, "
        "and nowhere near all of it is touched: this is no memory test.",
    )
    params_type = SoakParams
    catalogue = (
        "soak/8192/mib256/llama-3.2-1b",
        "soak/1024/mib64/smollm2-135m@products=16,moves=4,copies=2,steps=2",
        "soak/64/mib1/tiny@products=1,moves=1,copies=1,steps=1",
    )

    def prepare(self, params: SoakParams, device: Device, seed: int) -> SoakCase:
        """Raises:
        Unsupported: the library has no product in bf16, in its own words.
        """
        return SoakCase(params, device, seed)

    def work(self, params: SoakParams) -> Work:
        return params.work

    def memory_bytes(self, params: SoakParams) -> int:
        product = _gemm_product.memory_bytes(_DTYPE, Shape.square(params.n).stack)
        decoding = _soak_tokens.memory_bytes(params.model, params.steps)
        return product + decoding + _BUFFERS * params.copied_bytes + CHECK_BYTES


KERNEL = SoakKernel()

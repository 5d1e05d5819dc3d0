"""``collective/<op>/<world>/<size>``: a collective operation between the devices of one node.

Sizes and bandwidths are those of nccl-tests (github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md). Through
``torch.distributed``: NCCL between GPUs, gloo between processes on the CPU.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.errors import Unsupported
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, Measurement, Metric, Work
from kernels._ranks import RankedCase

if TYPE_CHECKING:
    import torch

OPS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
_ITEM_BYTES = {"fp32": 4, "bf16": 2}
_SIGNIFICANT_BITS = {"fp32": 24, "bf16": 8}  # integers up to 2^bits are exact
_UNITS = {"gib": 1 << 30, "mib": 1 << 20, "kib": 1 << 10}
_CHUNK = 1 << 20  # elements that are made or checked at a time, as int64
# Sums in place grow by log2(world) bits a launch. Integers below 2^24 times 2^-100 have 200 to grow within 2^127.
_SCALE = 2.0**-100
_ROOM_BITS = 200
_GOLDEN = -0x61C8864680B583EB  # 2^64 over the golden ratio, as signed 64 bits


def _parse_size(text: str) -> int:
    """The bytes of ``kib1``, ``mib64``, ``gib1``. Raises ValueError for other text, or a unit that is too small."""
    size = int(text[3:]) * _UNITS.get(text[:3], 0)
    if size < 1 or _show_size(size) != text:
        raise ValueError(text)
    return size


def _show_size(size: int) -> str:
    name, unit = next((name, unit) for name, unit in _UNITS.items() if size % unit == 0)
    return f"{name}{size // unit}"


@dataclass(frozen=True)
class CollectiveParams:
    op: str = axis(choices=OPS)
    world: int = axis(prefix="w")
    size: int = axis(parse=_parse_size, show=_show_size, hint="kib<number> | mib<number> | gib<number>")
    dtype: str = option("fp32", choices=tuple(_DTYPES))

    @property
    def piece(self) -> int:
        """Elements of a rank's share; what does not divide is left out, as in nccl-tests."""
        return self.size // (self.world * _ITEM_BYTES[self.dtype])

    @property
    def whole_bytes(self) -> int:
        """nccl-tests' size: of the whole vector, which an all-gather receives and the others send."""
        return self.world * self.piece * _ITEM_BYTES[self.dtype]

    @property
    def bus_bytes(self) -> int:
        """What each rank has to send at least: the size times 2 (n-1)/n for an all-reduce, else (n-1)/n."""
        return (2 if self.op == "all-reduce" else 1) * (self.world - 1) * self.whole_bytes // self.world

    @property
    def work(self) -> Work:
        return Work("B/s", bytes_moved=self.bus_bytes)


class Collective:
    """One rank's buffers, and the operation between them and those of the other ranks.

    What rank s sends at place i is an odd integer that a counter-based generator makes from seed, s and i, times a
    power of two. Any rank can so work out what any other sends, on whatever device; and as no sum has more bits than
    the format, what is received has to be exact.
    """

    def __init__(self, params: CollectiveParams, torch_device: str, seed: int) -> None:
        import torch
        import torch.distributed as dist

        self._params = params
        self._rank, self._seed = dist.get_rank(), seed
        whole, piece = params.world * params.piece, params.piece
        sends = piece if params.op == "all-gather" else whole
        receives = piece if params.op == "reduce-scatter" else whole
        make = functools.partial(torch.empty, dtype=getattr(torch, _DTYPES[params.dtype]), device=torch_device)
        self.sent, self.received = make(sends), make(receives)
        for part, places in self._pieces(sends):
            self.sent[part] = self._stored(self._value(self._rank, places))
        self._operation = self._bound()
        is_in_place = params.op == "all-reduce"
        self._growths = _ROOM_BITS // math.ceil(math.log2(params.world)) if is_in_place else math.inf
        self._left: float = 0 if is_in_place else math.inf  # launches until sums in place have to begin anew

    def _bound(self) -> Callable[[], object]:
        import torch.distributed as dist

        # Newer versions of torch call them so, and warn of the older names.
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        match self._params.op:
            case "all-reduce":
                return functools.partial(dist.all_reduce, self.received)
            case "all-gather":
                return functools.partial(gather, self.received, self.sent)
            case "reduce-scatter":
                return functools.partial(scatter, self.received, self.sent)
            case _:
                return functools.partial(dist.all_to_all_single, self.received, self.sent)

    def launch(self) -> None:
        if self._left == 0:
            self.received.copy_(self.sent)
            self._left = self._growths
        self._left -= 1
        self._operation()

    def check(self) -> Check:
        self.received.fill_(math.nan)
        if self._params.op == "all-reduce":
            self._left = 0
        self.launch()
        wrong = self.wrong()
        return Check(wrong, 0, detail=f"of {len(self.received)} elements on rank {self._rank}")

    def wrong(self) -> int:
        """The received elements that are not what they should be."""
        pieces = self._pieces(len(self.received))
        return sum(int((self.received[part] != self._stored(self._expected(places))).sum()) for part, places in pieces)

    def _pieces(self, count: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """A slice at a time, and the places in it."""
        import torch

        for start in range(0, count, _CHUNK):
            part = slice(start, min(start + _CHUNK, count))
            yield part, torch.arange(part.start, part.stop, device=self.received.device)

    def _expected(self, places: torch.Tensor) -> torch.Tensor:
        """The integers that should be received there."""
        piece, world = self._params.piece, self._params.world
        match self._params.op:
            case "all-reduce":
                return functools.reduce(operator.add, (self._value(rank, places) for rank in range(world)))
            case "reduce-scatter":
                mine = self._rank * piece + places
                return functools.reduce(operator.add, (self._value(rank, mine) for rank in range(world)))
            case "all-gather":
                return self._value(places // piece, places % piece)
            case _:
                return self._value(places // piece, self._rank * piece + places % piece)

    def _value(self, rank: int | torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """The integers that a rank sends at these places: odd, and so small that the sum of all ranks' is exact."""
        half = 2 ** _SIGNIFICANT_BITS[self._params.dtype] // (2 * self._params.world)
        return (mixed(places + (rank << 40) + (self._seed << 52)) % (2 * half) - half) * 2 + 1

    def _stored(self, integers: torch.Tensor) -> torch.Tensor:
        return integers.to(self.received.dtype) * _SCALE


def mixed(counters: torch.Tensor) -> torch.Tensor:
    """Random 64-bit integers from counters, alike on every device: the output function of SplitMix64 (Steele, Lea and
    Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014)."""
    bits = counters * _GOLDEN
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        bits = (bits ^ ((bits >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return bits


class CollectiveCase(RankedCase):
    def __init__(self, params: CollectiveParams, device: Device, seed: int) -> None:
        queued = max(1, min(16, (64 << 20) // params.size))
        super().__init__(Collective, params, params.world, device, seed, queued)
        self.work = params.work
        self._whole_bytes = params.whole_bytes

    def metrics(self, measurement: Measurement) -> list[Metric]:
        median_s = statistics.median(measurement.elapsed_ns) * 1e-9
        return [
            Metric("algbw", self._whole_bytes / median_s, "B/s", "higher"),
            Metric("latency_s", median_s, "s", "lower"),
        ]


class CollectiveKernel(Kernel[CollectiveParams]):
    name = "collective"
    version = 1
    summary = "collective operations between the devices of one node, as nccl-tests counts them"
    about = About(
        stands_for="What a model on several GPUs does between its layers: the all-reduce of tensor and data "
        "parallelism, the all-gather and reduce-scatter of sharded weights and gradients, the all-to-all of mixtures "
        "of experts.",
        parameters={
            "op": "all-reduce adds up a vector of every rank, in place; all-gather puts the ranks' pieces together on "
            "each; reduce-scatter adds up and leaves each rank a piece; all-to-all sends a piece from each to each",
            "world": "ranks: a GPU each, the first of the run's; on the CPU a process each, with its "
            "share of the threads",
            "size": "of the whole vector on a rank, as nccl-tests has it: what an all-gather receives and the others "
            "send; what does not divide into a piece for each rank is left out",
            "dtype": "the number format",
        },
        work="The headline is the bus bandwidth of nccl-tests (doc/PERFORMANCE.md there): size over time, times "
        "2 (n-1)/n for an all-reduce among n ranks and (n-1)/n for the others. So many bytes each rank has to send at "
        "least, whatever the algorithm, unless a switch adds up on the way. The metric algbw is size over time, "
        "latency_s the time. Rank 0 is timed; it cannot be done before all have begun.",
        check="Each rank holds every element that it received against the exact value: what a rank sends follows from "
        "seed, rank and place, and is an odd integer, times 2^-100, of so few bits that sums are exact. Tolerance 0. "
        "What is received is poisoned before.",
        pitfalls="Small sizes measure latency: look at latency_s. No roof is named: the processes of gloo send through "
        "sockets of the loopback device, which no roof of memory bounds, and no roof of the links between GPUs is "
        "measured. gloo performs a reduce-scatter as an all-reduce (github.com/pytorch/pytorch/pull/118911), and more "
        "ranks than cores take turns. Launches are not captured in a CUDA graph, for NCCL wants all ranks to capture "
        "or none, so that small sizes include the time of Python. An all-reduce in place grows its sums from launch to "
        "launch; after each 200 / log2(n) of them the vector is copied anew, within the time of one. Between launches "
        "the other ranks wait in the next one, on GPUs in a kernel that spins. An A/B test has one GPU: there "
        "collectives are compared between processes on the CPU only.",
    )
    params_type = CollectiveParams
    catalogue = (
        *(f"collective/{op}/w2/{size}" for op in OPS for size in ("kib1", "mib1", "mib64")),
        "collective/all-reduce/w2/mib1@dtype=bf16",
        "collective/all-reduce/w4/mib1",
        *(f"collective/all-reduce/w8/{size}" for size in ("kib1", "mib1", "mib64", "gib1", "gib8")),
        *(f"collective/{op}/w8/{size}" for op in OPS[1:] for size in ("mib64", "gib1")),
    )

    def prepare(self, params: CollectiveParams, device: Device, seed: int) -> Case:
        """Raises:
        Unsupported: there are not so many GPUs, or fewer elements than ranks.
        """
        if params.world < 2 or not params.piece:
            raise Unsupported("a collective is between two ranks at least, with an element for each")
        return CollectiveCase(params, device, seed)

    def devices(self, params: CollectiveParams) -> int:
        return params.world

    def probe(self, params: CollectiveParams) -> CollectiveParams:
        return dataclasses.replace(params, size=max(1 << 10, params.world << 3))

    def work(self, params: CollectiveParams) -> Work:
        return params.work

    def memory_bytes(self, params: CollectiveParams) -> int:
        """Of one rank: what it sends and what it receives, and a chunk of integers."""
        both = 2 if params.op in ("all-reduce", "all-to-all") else 1 + 1 / params.world
        return math.ceil(both * params.whole_bytes) + 8 * 8 * _CHUNK


KERNEL = CollectiveKernel()

"""``transfer/<test case>``: bytes per second between the host and a GPU, from GPU to GPU, and within one.

Test cases are named as NVIDIA's nvbandwidth names them, their buffers are of its size, and their bytes are counted as
it counts them (github.com/NVIDIA/nvbandwidth: README.md, testcases_ce.cpp, testcases_sm.cpp, memcpy.cpp): what arrives
in the measured direction, once. Those in ``ce``, and the local copy, are cudaMemcpyAsync's, which leaves the choice of
a copy engine to the driver; those in ``sm`` are a kernel's. None falls back to the other way.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.errors import Unsupported, UsageError
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, Work
from kernels import _cuda_kernels
from kernels._transfer_pair import CHECK_BYTES, Pair

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Route:
    """From where to where, by what, and whether copies run both ways at the same time."""

    source: str
    target: str
    by_kernel: bool = False
    both_ways: bool = False

    @property
    def between_gpus(self) -> bool:
        return "peer" in (self.source, self.target)


ROUTES = {
    "host_to_device_memcpy_ce": Route("host", "device"),
    "device_to_host_memcpy_ce": Route("device", "host"),
    "host_to_device_bidirectional_memcpy_ce": Route("host", "device", both_ways=True),
    "device_to_host_bidirectional_memcpy_ce": Route("device", "host", both_ways=True),
    "device_to_device_memcpy_read_ce": Route("peer", "device"),
    "device_to_device_memcpy_write_ce": Route("device", "peer"),
    "device_local_copy": Route("device", "device"),
    "host_to_device_memcpy_sm": Route("host", "device", by_kernel=True),
    "device_to_host_memcpy_sm": Route("device", "host", by_kernel=True),
    "host_to_device_bidirectional_memcpy_sm": Route("host", "device", by_kernel=True, both_ways=True),
    "device_to_host_bidirectional_memcpy_sm": Route("device", "host", by_kernel=True, both_ways=True),
    "device_to_device_memcpy_read_sm": Route("peer", "device", by_kernel=True),
    "device_to_device_memcpy_write_sm": Route("device", "peer", by_kernel=True),
}


def _at_least_one(text: str) -> int:
    number = int(text)
    if str(number) != text or number < 1:
        raise ValueError(text)
    return number


@dataclass(frozen=True)
class TransferParams:
    test_case: str = axis(choices=tuple(ROUTES))
    mib: int = option(512, parse=_at_least_one, hint="<number of MiB>")
    memory: str = option("pinned", choices=("pinned", "pageable"))
    hop: int = option(1, parse=_at_least_one, hint="<number of GPUs>")

    def __post_init__(self) -> None:
        route = self.route
        if self.memory == "pageable" and "host" not in (route.source, route.target):
            raise UsageError(f"{self.test_case} uses no memory of the host", "Leave memory=pageable out")
        if self.memory == "pageable" and (route.by_kernel or route.both_ways):
            raise UsageError(
                f"{self.test_case} needs pinned memory: a kernel reaches no other, and a copy of pageable memory keeps "
                "the host from starting the one that is to run beside it",
                "Leave memory=pageable out",
            )
        if self.hop != 1 and not route.between_gpus:
            raise UsageError(f"{self.test_case} has no second GPU to hop to", f"Leave hop={self.hop} out")

    @property
    def route(self) -> Route:
        return ROUTES[self.test_case]

    @property
    def buffer_bytes(self) -> int:
        return self.mib << 20

    @property
    def work(self) -> Work:
        shared = self.route.by_kernel and self.route.both_ways  # one half of the buffer goes each way
        return Work("B/s", bytes_moved=self.buffer_bytes // 2 if shared else self.buffer_bytes)


class _Transfer(Case):
    """Pairs that a launch copies, the measured one first, and a check of every bit."""

    pairs: list[Pair]

    def __init__(self, params: TransferParams, device: Device) -> None:
        self.work = params.work
        self._device = device

    def check(self) -> Check:
        self._settle()
        for pair in self.pairs:
            pair.poison()
        self._settle()
        self.launch()
        self._device.synchronize()
        words = sum(pair.target.numel() for pair in self.pairs)
        return Check(sum(pair.wrong() for pair in self.pairs), 0, detail=f"wrong words of {words}")

    def _settle(self) -> None:
        """Wait for every GPU that has a buffer: a launch, and a poisoning, waits only for what is on its own stream."""
        import torch

        for place in {buffer.device for pair in self.pairs for buffer in (pair.source, pair.target) if buffer.is_cuda}:
            torch.cuda.synchronize(place)

    def close(self) -> None:
        self.pairs.clear()


class OneWay(_Transfer):
    def __init__(self, params: TransferParams, device: Device, seed: int) -> None:
        super().__init__(params, device)
        self._route = params.route
        self.pairs = [_pair(params, params.route, device, seed)]

    def launch(self) -> None:
        (pair,) = self.pairs
        if self._route.by_kernel:
            words = pair.source.nbytes // 16
            _cuda_kernels.enqueue("copy", pair.target.data_ptr(), pair.source.data_ptr(), words)
        elif self._route.between_gpus:
            _memcpy(pair.target, pair.source)
        else:
            pair.target.copy_(pair.source, non_blocking=True)


class Opposed(_Transfer):
    """Two copies in opposite directions. The first is measured; the other has twice its size, as nvbandwidth's has, so
    that the first is not alone at its end."""

    resets = True

    def __init__(self, params: TransferParams, device: Device, seed: int) -> None:
        import torch

        super().__init__(params, device)
        there = params.route
        back = dataclasses.replace(there, source=there.target, target=there.source)
        self.pairs = [_pair(params, there, device, seed), _pair(params, back, device, seed + 1, times=2)]
        self._beside = torch.cuda.Stream()

    def launch(self) -> None:
        import torch

        measured, other = self.pairs
        with torch.cuda.stream(self._beside):
            other.target.copy_(other.source, non_blocking=True)
        measured.target.copy_(measured.source, non_blocking=True)

    def reset(self) -> None:
        """Wait for the other copy, which outlasts the sample."""
        self._beside.synchronize()


class Exchange(_Transfer):
    """One kernel, whose warps copy in opposite directions by turns: half of the words go the measured way."""

    def __init__(self, params: TransferParams, device: Device, seed: int) -> None:
        super().__init__(params, device)
        ends = _pair(params, params.route, device, seed)
        ends.target.copy_(ends.source)
        self._addresses = ends.target.data_ptr(), ends.source.data_ptr()
        self._words = ends.source.nbytes // 16
        even_and_odd = (-1, 2, _cuda_kernels.WARP_BYTES // 8)
        source, target = ends.source.view(even_and_odd), ends.target.view(even_and_odd)
        self.pairs = [Pair(source[:, 1], target[:, 1]), Pair(target[:, 0], source[:, 0])]

    def launch(self) -> None:
        _cuda_kernels.enqueue("exchange", *self._addresses, self._words)


def _pair(params: TransferParams, route: Route, device: Device, seed: int, times: int = 1) -> Pair:
    """Random words at the route's source, and room for as many at its target."""
    import torch

    count = times * params.buffer_bytes // 8
    source, target = (_words(count, place, params, device) for place in (route.source, route.target))
    generator = torch.Generator(source.device).manual_seed(seed)
    source.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    return Pair(source, target)


def _words(count: int, place: str, params: TransferParams, device: Device) -> torch.Tensor:
    import torch

    if place == "host":
        return torch.empty(count, dtype=torch.int64, pin_memory=params.memory == "pinned")
    where = device.torch_device if place == "device" else f"cuda:{_peer(params, device)}"
    return torch.empty(count, dtype=torch.int64, device=where)


def _peer(params: TransferParams, device: Device) -> int:
    """The GPU that is ``hop`` further on, counted in a circle.

    Raises:
        Unsupported: that is this one again, or this one has no access to its memory.
    """
    import torch

    gpus, index = torch.cuda.device_count(), device.info.index
    peer: int = (index + params.hop) % gpus
    if peer == index:
        raise Unsupported(f"{params.hop} on from GPU {index} there is no second GPU: this process sees {gpus}")
    if not torch.cuda.can_device_access_peer(index, peer):
        raise Unsupported(f"GPU {index} has no access to the memory of GPU {peer}")
    return peer


def _reach(peer: int, device: Device) -> None:
    """Let this GPU access the other's memory, which torch does before the first copy that goes there from here."""
    import torch

    torch.ones(1, device=device.torch_device).to(f"cuda:{peer}")


def _memcpy(target: torch.Tensor, source: torch.Tensor) -> None:
    """cudaMemcpyAsync on this GPU's stream. Torch would take the source's, whichever GPU that is."""
    import cupy
    import torch

    runtime, stream = cupy.cuda.runtime, torch.cuda.current_stream().cuda_stream
    runtime.memcpyAsync(target.data_ptr(), source.data_ptr(), source.nbytes, runtime.memcpyDefault, stream)


class Transfer(Kernel[TransferParams]):
    name = "transfer"
    version = 1
    summary = "bytes per second from host to GPU, back, and between GPUs, by the test cases of nvbandwidth"
    params_type = TransferParams
    catalogue = (
        *(f"transfer/{name}" for name in ROUTES),
        "transfer/host_to_device_memcpy_ce@memory=pageable",
        "transfer/device_to_host_memcpy_ce@memory=pageable",
    )
    about = About(
        stands_for=(
            "Feeding a GPU and reading it out: weights loaded, batches brought in, keys and values moved out to the "
            "host or on to another GPU. It finds the slot of half width, the cable and the switch that are not what "
            "was paid for."
        ),
        parameters={
            "test_case": "the name of nvbandwidth's test case: in `ce` the driver's copy engines do it, in `sm` a "
            "kernel; `read` brings data from the other GPU and `write` takes it there, both started by the GPU that is "
            "measured",
            "mib": "the size of the buffer in MiB; 512 is nvbandwidth's own",
            "memory": "the host's: `pinned`, which a copy engine reads by itself, or `pageable`, which the driver "
            "first copies to a pinned buffer of its own",
            "hop": "how many further on, in a circle of all GPUs, the other one is: 1 to 7 are all pairs of eight",
        },
        work=(
            "The bytes of the buffer, once, in the measured direction, as nvbandwidth counts them "
            "(github.com/NVIDIA/nvbandwidth). In the bidirectional cases of `ce` a copy of twice the size runs the "
            "other way and is not counted; in those of `sm` half of the buffer goes each way, and one half is counted "
            "(its memcpy.cpp, getAdjustedBandwidth)."
        ),
        check=(
            "Exact: before the launch the target holds the complement of what is to come; afterwards every word of it "
            "is held against the source, the copy that is not counted included."
        ),
        pitfalls=(
            "A run has a worker for each GPU, and all begin a workload together: on several GPUs the figures are those "
            "of all at once, the host's memory and shared switches included, and between GPUs each link is used both "
            "ways. `--device cuda:0` has one alone, as nvbandwidth's cases of these names do. Pinned memory lies on "
            "the NUMA node of the process, which nothing here moves nearer to the GPU. A local copy reads and writes, "
            "and `roof/memory/copy` counts its bytes twice. What does a local copy of `ce` is the driver's choice. "
            "Nvbandwidth's `sm` cases leave out the end of a buffer that their grid does not divide; ours copy it."
        ),
    )

    def prepare(self, params: TransferParams, device: Device, seed: int) -> Case:
        """Raises:
        Unsupported: there is no GPU, no second one, or no CuPy where it is needed.
        """
        import torch

        if device.info.kind != "cuda":
            raise Unsupported(
                f"one end of every transfer is an NVIDIA GPU; this device is {device.info.label}, "
                f"and torch.cuda.device_count() is {torch.cuda.device_count()}"
            )
        route = params.route
        if route.between_gpus:
            _reach(_peer(params, device), device)
        if route.between_gpus or route.by_kernel:
            _cuda_kernels.require(device)
        if not route.both_ways:
            return OneWay(params, device, seed)
        return Exchange(params, device, seed) if route.by_kernel else Opposed(params, device, seed)

    def probe(self, params: TransferParams) -> TransferParams:
        return dataclasses.replace(params, mib=1)

    def work(self, params: TransferParams) -> Work:
        return params.work

    def memory_bytes(self, params: TransferParams) -> int:
        """On this GPU: its buffers, what a check adds, and what torch takes to poison an exchange."""
        route = params.route
        buffers = 1 + (route.source == route.target) + 2 * route.both_ways
        return buffers * params.buffer_bytes + CHECK_BYTES


KERNEL = Transfer()

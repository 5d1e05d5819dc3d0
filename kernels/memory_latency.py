"""``memory/latency``: how long a load from memory takes when nothing can be fetched ahead.

A chase along a ring of links: all lines of an array in one random cycle, each holding the place of the next. A load
cannot begin before the one ahead of it has come back, so the time of a launch over its loads is the latency of one.

The array is sized as those of ``roof/memory`` are, and a launch goes on where the last one ended: a line is seen again
only after all the others, when no cache has it any more.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.kernel import About, Case, Kernel
from bench.spec import option
from bench.types import Check, Measurement, Metric, Work
from kernels import _cuda_kernels
from kernels._memory import array_bytes, host_words, is_on_host, require_room

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Places = npt.NDArray[np.int64]

_LOADS = 1 << 15  # of a launch: some milliseconds on a CPU, some ten on a GPU
_HOST_LINE, _GPU_LINE = 8, 16  # words of int64 in a line of 64 bytes, and in one of an NVIDIA GPU's L2


@dataclass(frozen=True)
class LatencyParams:
    where: str = option("device", choices=("device", "host"))
    mib: int = option(0)


def _work() -> Work:
    return Work("load/s", items=_LOADS, item_unit="load")


class _Chase(Case):
    """The cycle, as places in the array: a word's number, a whole number of lines."""

    def __init__(self, size: int, line: int, seed: int) -> None:
        import torch

        self.work = _work()
        generator = torch.Generator().manual_seed(seed)
        # A permutation, read as the order of a cycle, is one cycle through all lines, and any is as likely as another.
        order_N = torch.randperm(size // (8 * line), generator=generator)
        self._cycle_N: Places = order_N.mul_(line).numpy()
        self._size = size

    def _successors(self) -> Places:
        import numpy as np

        return np.roll(self._cycle_N, -1)

    def _path(self) -> Places:
        """What the loads of a launch find that begins with the cycle."""
        import numpy as np

        return np.take(self._cycle_N, np.arange(1, _LOADS + 1), mode="wrap")

    def metrics(self, measurement: Measurement) -> list[Metric]:
        latency_ns = statistics.median(measurement.elapsed_ns) / _LOADS
        return [Metric("latency_ns", latency_ns, "ns", "lower"), Metric("array_bytes", self._size, "B")]


class HostChase(_Chase):
    """On the host: numpy's ``take``, whose indices are its own results.

    ``take`` gathers in order, and where it need not report a wrong index it writes each result at once. With the
    results one word behind the indices in one array, the index of every load but the first is what the load before it
    brought. A numpy that went about it otherwise would leave a path that is not the cycle's.
    """

    def __init__(self, size: int, seed: int) -> None:
        import numpy as np

        super().__init__(size, _HOST_LINE, seed)
        self._links_W = host_words(size)
        self._links_W.fill(0)  # between the links, too: numpy takes ages to wrap a place that is far outside
        self._links_W[self._cycle_N] = self._successors()
        self._places_L = np.full(_LOADS + 1, self._cycle_N[0])

    def launch(self) -> None:
        import numpy as np

        places_L = self._places_L
        places_L[0] = places_L[-1]
        np.take(self._links_W, places_L[:-1], out=places_L[1:], mode="wrap")

    def check(self) -> Check:
        """All links, and every place of a launch's path."""
        self._places_L[:-1] = -1
        self._places_L[-1] = self._cycle_N[0]
        self.launch()
        wrong_links = int((self._links_W[self._cycle_N] != self._successors()).sum())
        wrong_places = int((self._places_L[1:] != self._path()).sum())
        return Check(wrong_links + wrong_places, 0, detail=f"wrong: {wrong_links} links, {wrong_places} places")

    def close(self) -> None:
        del self._links_W


class GpuChase(_Chase):
    """On a GPU: a kernel of one thread, which keeps no more than where it is."""

    def __init__(self, size: int, device: Device, seed: int) -> None:
        import torch

        super().__init__(size, _GPU_LINE, seed)
        self._device = device
        self._cycle_on_gpu_N = torch.from_numpy(self._cycle_N).to(device.torch_device)
        generator = torch.Generator(device.torch_device).manual_seed(seed)
        self._links_W = torch.empty(size // 8, dtype=torch.int64, device=device.torch_device)
        self._links_W.random_(generator=generator)
        self._links_W[self._cycle_on_gpu_N] = self._cycle_on_gpu_N.roll(-1)
        self._at_1 = self._cycle_on_gpu_N[:1].clone()

    def launch(self) -> None:
        _cuda_kernels.enqueue("chase", self._at_1.data_ptr(), self._links_W.data_ptr(), _LOADS, one_thread=True)

    def check(self) -> Check:
        """All links, and where a launch ends: a load left out, or one too many, ends elsewhere."""
        self._at_1.copy_(self._cycle_on_gpu_N[:1])
        self.launch()
        self._device.synchronize()
        wrong_links = int((self._links_W[self._cycle_on_gpu_N] != self._cycle_on_gpu_N.roll(-1)).sum())
        wrong_end = int(self._at_1.item() != self._path()[-1])
        return Check(wrong_links + wrong_end, 0, detail=f"wrong: {wrong_links} links, {wrong_end} ends")

    def close(self) -> None:
        del self._links_W, self._cycle_on_gpu_N


class Latency(Kernel[LatencyParams]):
    name = "memory/latency"
    version = 1
    summary = "loads per second, each of which has to wait for the one before it"
    params_type = LatencyParams
    catalogue: Sequence[str] = ("memory/latency", "memory/latency@where=host")
    about = About(
        stands_for=(
            "Programs that follow pointers: look-ups in hash tables, trees, graphs and databases, whose next address "
            "is in the data that they wait for. More bandwidth does not help them."
        ),
        parameters={
            "where": "`device` is the memory of the device that is measured, `host` that of the CPUs, chased by one "
            "of their cores",
            "mib": "the size of the array in MiB, to chase in a cache; at 0 it is four times the last-level cache at "
            "least",
        },
        work=(
            "32768 loads a launch, each of a line of its own: 64 bytes on the host, 128 on a GPU. Time over loads is "
            "the latency, in the metric `latency_ns`, as of a chase in lmbench's lat_mem_rd (McVoy and Staelin, "
            "lmbench: Portable Tools for Performance Analysis, USENIX 1996)."
        ),
        check=(
            "Exact: every link is the cycle's, and a launch from the cycle's beginning finds every place of its path "
            "(on a GPU: ends at its last one)."
        ),
        pitfalls=(
            "The cycle is random over the whole array, so a load often misses the translation of its address (TLB) as "
            "well as all caches; huge pages make that rarer, and the host's array asks for them. In a virtual machine "
            "each such miss costs more. The cache whose size the machine reports may be a share of a larger one: then "
            "some loads hit. On the CPU the chase is numpy's take, whose own loop adds some cycles to each load."
        ),
    )

    def prepare(self, params: LatencyParams, device: Device, seed: int) -> Case:
        """Raises:
        Unsupported: the array does not fit in the memory that is free; on a GPU, there is no CuPy.
        """
        on_host = is_on_host(params.where, device)
        size = array_bytes(device, on_host, params.mib)
        require_room(2, size, device, on_host)  # the second is the cycle, and what the check needs
        if on_host:
            return HostChase(size, seed)
        _cuda_kernels.require(device)
        return GpuChase(size, device, seed)

    def work(self, params: LatencyParams) -> Work:
        return _work()


KERNEL = Latency()

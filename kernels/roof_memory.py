"""``roof/memory``: bytes per second to and from memory, by three of STREAM's patterns.

Bytes are counted, and arrays sized, as STREAM does (McCalpin, "Memory Bandwidth and Machine Balance in Current High
Performance Computers", IEEE TCCA Newsletter, December 1995; www.cs.virginia.edu/stream/ref.html): what the program
reads and writes, without the lines that a cache fetches in order to overwrite them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.errors import Unsupported
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, Measurement, Metric, Work
from bench.units import show_bytes

if TYPE_CHECKING:
    import numpy as np
    import torch

_CACHES = 4  # STREAM: each array at least four times the last-level cache
_CPU_FLOOR_BYTES = 128 << 20
_CUDA_FLOOR_BYTES = 1 << 30  # four times an L2 is soon read; this drowns what a launch costs
_ROW = 4096  # elements of int64 that a read adds up into one result
_GRAIN_BYTES = 8 * _ROW
_CHUNK = 1 << 22  # elements that a check holds in float64 at a time
_SCALAR = 3.0  # STREAM's own


@dataclass(frozen=True)
class RoofMemoryParams:
    pattern: str = axis(choices=("read", "copy", "triad"))
    where: str = option("device", choices=("device", "host"))


class _Stream(Case):
    """Arrays of one size in one memory."""

    arrays: int  # that a launch reads or writes, and STREAM counts

    def __init__(self, device: Device, torch_device: str, array_bytes: int, seed: int) -> None:
        import torch

        self.work = Work(unit="B/s", bytes_moved=self.arrays * array_bytes)
        self._device = device
        self._array_bytes = array_bytes
        self._generator = torch.Generator(torch_device).manual_seed(seed)

    def _normals(self) -> torch.Tensor:
        # Filled once by all threads before the one that draws: pages lie near the cores that will stream them.
        values: torch.Tensor = self._empty().fill_(0).normal_(generator=self._generator)
        return values

    def _empty(self) -> torch.Tensor:
        import torch

        return torch.empty(self._array_bytes // 4, dtype=torch.float32, device=self._generator.device)

    def metrics(self, measurement: Measurement) -> list[Metric]:
        return [Metric("array_bytes", self._array_bytes, "B")]


class Read(_Stream):
    """sum_R = rows of x_RC added up, in int64: exact, so that a byte left out or read twice shows.

    The sums are one part in 4096 of what is read, and not counted.
    """

    arrays = 1

    def __init__(self, device: Device, torch_device: str, array_bytes: int, seed: int) -> None:
        import torch

        super().__init__(device, torch_device, array_bytes, seed)
        self._x_RC = torch.empty(array_bytes // _GRAIN_BYTES, _ROW, dtype=torch.int64, device=torch_device)
        # 51 random bits: a row's sum cannot overflow.
        self._x_RC.fill_(0).random_(-(1 << 50), 1 << 50, generator=self._generator)
        self._sum_R = torch.zeros(self._x_RC.shape[0], dtype=torch.int64, device=torch_device)

    def launch(self) -> None:
        import torch

        torch.sum(self._x_RC, dim=1, out=self._sum_R)

    def check(self) -> Check:
        import torch

        self._sum_R.fill_(torch.iinfo(torch.int64).min)
        self.launch()
        self._device.synchronize()
        wrong = int((self._sum_R.cpu().numpy() != self._exact).sum())
        return Check(wrong, 0, detail=f"wrong sums of {len(self._exact)}")

    @functools.cached_property
    def _exact(self) -> np.ndarray:
        """The same sums by numpy, on the host."""
        import numpy as np

        chunks = self._x_RC.split(_CHUNK // _ROW)
        return np.concatenate([np.add.reduce(x_RC.cpu().numpy(), axis=1) for x_RC in chunks])

    def close(self) -> None:
        del self._x_RC, self._sum_R


class Copy(_Stream):
    """a = b."""

    arrays = 2

    def __init__(self, device: Device, torch_device: str, array_bytes: int, seed: int) -> None:
        super().__init__(device, torch_device, array_bytes, seed)
        self._b_N = self._normals()
        self._a_N = self._empty().fill_(0)

    def launch(self) -> None:
        self._a_N.copy_(self._b_N)

    def check(self) -> Check:
        self._a_N.fill_(math.nan)
        self.launch()
        self._device.synchronize()
        chunks = zip(self._a_N.split(_CHUNK), self._b_N.split(_CHUNK), strict=True)
        wrong = sum(int((a_N != b_N).sum()) for a_N, b_N in chunks)
        return Check(wrong, 0, detail=f"wrong elements of {len(self._a_N)}")

    def close(self) -> None:
        del self._a_N, self._b_N


class Triad(_Stream):
    """a = b + 3 c."""

    arrays = 3

    def __init__(self, device: Device, torch_device: str, array_bytes: int, seed: int) -> None:
        super().__init__(device, torch_device, array_bytes, seed)
        self._b_N = self._normals()
        self._c_N = self._normals()
        self._a_N = self._empty().fill_(0)

    def launch(self) -> None:
        import torch

        torch.add(self._b_N, self._c_N, alpha=_SCALAR, out=self._a_N)

    def check(self) -> Check:
        """All elements against float64, relative to the largest |b| + |3 c|.

        A product and a sum are rounded: (|b| + |3 c|)(2 u + u^2) at most (Higham, Accuracy and Stability of
        Numerical Algorithms, 2002, 3.1), u = 2^-24; 3 u covers it.
        """
        import torch

        self._a_N.fill_(math.nan)
        self.launch()
        self._device.synchronize()
        errors, sizes = [], []
        for a_N, b_N, c_N in zip(*(x_N.split(_CHUNK) for x_N in (self._a_N, self._b_N, self._c_N)), strict=True):
            scaled_N = _SCALAR * c_N.double()
            errors.append((a_N - (b_N + scaled_N)).abs().max())
            sizes.append((b_N.abs() + scaled_N.abs()).max())
        error = torch.stack(errors).max() / torch.stack(sizes).max()  # torch's max keeps a NaN
        return Check(float(error), 3 * 2**-24)

    def close(self) -> None:
        del self._a_N, self._b_N, self._c_N


_PATTERNS: dict[str, type[_Stream]] = {"read": Read, "copy": Copy, "triad": Triad}


class RoofMemory(Kernel[RoofMemoryParams]):
    name = "roof/memory"
    version = 1
    summary = "bytes per second to and from memory, as STREAM counts them"
    about = About(
        stands_for=(
            "The rate at which memory can be read and written in long streams: the limit of whatever touches more data "
            "than it computes, such as generating text for a single user."
        ),
        parameters={
            "pattern": "read adds up one array, copy is a = b, triad is a = b + 3 c",
            "where": "device is the memory of the device that is measured, host that of the CPUs",
        },
        work=(
            "The bytes that the program reads and writes, as STREAM counts them (McCalpin, IEEE TCCA Newsletter, "
            "December 1995): 1, 2 and 3 arrays, without the lines that a cache fetches in order to overwrite them. "
            "Arrays are four times the last-level cache at least, so the size depends on the device."
        ),
        check=(
            "`read` adds random int64 and `copy` moves float32: every sum and every element must be equal. Every "
            "element of `triad` is held against float64, with a tolerance of 3 u of the largest |b| + |3 c|, u = 2⁻²⁴ "
            "(Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1)."
        ),
        pitfalls=(
            "Where a CPU fetches a line in order to overwrite it, the memory moves more than is counted: copy and "
            "triad are rates of the program, not of the memory's pins. On a virtual machine the size of the cache may "
            "be another's, and the arrays very large."
        ),
    )
    params_type = RoofMemoryParams
    catalogue: Sequence[str] = (
        "roof/memory/read",
        "roof/memory/copy",
        "roof/memory/triad",
        "roof/memory/read@where=host",
        "roof/memory/copy@where=host",
        "roof/memory/triad@where=host",
    )

    def prepare(self, params: RoofMemoryParams, device: Device, seed: int) -> Case:
        """Arrays of at least four times the last-level cache, their pages touched.

        Raises:
            Unsupported: they do not fit in the memory that is free.
        """
        pattern = _PATTERNS[params.pattern]
        on_host = params.where == "host"
        array_bytes = _array_bytes(device, on_host)
        free_bytes = None if on_host and device.info.kind == "cuda" else device.free_bytes()
        if free_bytes is not None and pattern.arrays * array_bytes > free_bytes:
            raise Unsupported(
                f"{pattern.arrays} arrays of {show_bytes(array_bytes)} do not fit in the {show_bytes(free_bytes)} free"
            )
        return pattern(device, "cpu" if on_host else device.torch_device, array_bytes, seed)


def _array_bytes(device: Device, on_host: bool) -> int:
    """The size of each array, a whole number of rows."""
    cache_bytes = device.host_cache_bytes if on_host else device.cache_bytes
    floor = _CUDA_FLOOR_BYTES if device.info.kind == "cuda" else _CPU_FLOOR_BYTES
    return -(-max(_CACHES * cache_bytes, floor) // _GRAIN_BYTES) * _GRAIN_BYTES


KERNEL = RoofMemory()

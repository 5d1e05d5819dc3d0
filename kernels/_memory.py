"""Arrays that no cache holds: how large they are, whether they fit, and how the host allocates them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.errors import Unsupported
from bench.units import show_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CACHES = 4  # STREAM: each array at least four times the last-level cache
_CPU_FLOOR_BYTES = 128 << 20
_CUDA_FLOOR_BYTES = 1 << 30  # four times an L2 is soon read; this drowns what a launch costs
_GRAIN_BYTES = 512 << 10
_LINE_BYTES = 64


def is_on_host(where: str, device: Device) -> bool:
    """Whether an array lies in the host's memory: it was asked for, or the device has no other."""
    return where == "host" or device.info.kind != "cuda"


def array_bytes(device: Device, on_host: bool, mib: int = 0) -> int:
    """The size of an array: so many MiB, or else what STREAM asks for (www.cs.virginia.edu/stream/ref.html).

    A multiple of 512 KiB, a row of ``roof/memory``.
    """
    if mib:
        return mib << 20
    cache_bytes = device.host_cache_bytes if on_host else device.cache_bytes
    floor = _CUDA_FLOOR_BYTES if device.info.kind == "cuda" else _CPU_FLOOR_BYTES
    return -(-max(_CACHES * cache_bytes, floor) // _GRAIN_BYTES) * _GRAIN_BYTES


def require_room(arrays: int, size: int, device: Device, on_host: bool) -> None:
    """See that so many arrays of ``size`` bytes fit.

    Raises:
        Unsupported: the memory that is free is less.
    """
    free_bytes = None if on_host and device.info.kind == "cuda" else device.free_bytes()
    if free_bytes is not None and arrays * size > free_bytes:
        raise Unsupported(f"{arrays} arrays of {show_bytes(size)} do not fit in the {show_bytes(free_bytes)} free")


def host_words(size: int) -> npt.NDArray[np.int64]:
    """``size`` bytes of the host's memory from the beginning of a line on; no page has been touched.

    From numpy, which asks the kernel for huge pages (its documentation, "Global state"): with the small ones that
    torch gets, what is streamed or chased is in part the page table.
    """
    import numpy as np

    words = np.empty((size + _LINE_BYTES) // 8, dtype=np.int64)
    skipped = -words.ctypes.data % _LINE_BYTES // 8
    return words[skipped : skipped + size // 8]

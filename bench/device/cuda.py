"""One NVIDIA GPU as a device: CUDA events around a block of launches, synchronised once per sample.

An event resolves about half a microsecond (CUDA Runtime API, ``cudaEventElapsedTime``); a sample of some ms
drowns that. Launches too short to keep the GPU busy from Python are captured into a CUDA graph.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.device.base import graphs, loop
from bench.device.cpu import last_level_cache_bytes, usable_cores
from bench.types import DeviceInfo, Mark

# Python enqueues a torch operation in some 5 to 10 us: launches shorter than 5 ms / 250 = 20 us would time Python.
_GRAPH_FROM_LAUNCHES = 250


class CudaDevice:
    # The gap between the begin event and the first launch, some 10 us of Python, is 0.2 % of this.
    min_sample_ns = 5_000_000

    def __init__(self, info: DeviceInfo, scratch: Path, indices: Sequence[int] = ()) -> None:
        import torch

        self.info = info
        self.indices: Sequence[int] = indices or (info.index,)
        self.scratch = scratch
        self.torch_device = f"cuda:{info.index}"
        self.threads = usable_cores()
        torch.set_num_threads(self.threads)
        torch.cuda.set_device(info.index)
        self.cache_bytes: int = torch.cuda.get_device_properties(info.index).L2_cache_size
        self.host_cache_bytes = last_level_cache_bytes()
        self._torch = torch
        self._begin = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        self._pending: list[tuple[str, Any]] = []
        self._spare: list[Any] = []  # events to use again: making one costs more than recording it
        self._marks: list[Mark] = []
        self._flush: torch.Tensor | None = None

    now_ns = staticmethod(time.monotonic_ns)

    def start(self) -> None:
        self._forget_pending()  # marks left by an untimed launch (a check) belong to no sample
        self._begin.record()

    def stop(self) -> int:
        self._end.record()
        self._end.synchronize()
        self._marks = [Mark(name, _elapsed_ns(self._begin, event)) for name, event in self._pending]
        self._forget_pending()
        return _elapsed_ns(self._begin, self._end)

    def mark(self, name: str) -> None:
        if self._torch.cuda.is_current_stream_capturing():
            return  # an event inside a graph cannot be read; the graph's launches have no marks
        event = self._spare.pop() if self._spare else self._torch.cuda.Event(enable_timing=True)
        event.record()
        self._pending.append((name, event))

    def _forget_pending(self) -> None:
        self._spare += [event for _, event in self._pending]
        self._pending.clear()

    def take_marks(self) -> list[Mark]:
        marks, self._marks = self._marks, []
        return marks

    def repeat(self, launch: Callable[[], None], launches: int) -> Callable[[], None]:
        if launches < _GRAPH_FROM_LAUNCHES:
            return loop(launch, launches)
        block = loop(launch, launches)
        try:
            (replay,) = self.captured([block])
        except RuntimeError:  # not every launch can be captured: then Python enqueues it
            self.synchronize()
            return block
        return replay

    def captured(self, runs: Sequence[Callable[[], object]]) -> list[Callable[[], None]]:
        return graphs(runs)

    def synchronize(self) -> None:
        self._torch.cuda.synchronize()

    def flush_cache(self) -> None:
        # As NVBench does it: a memset of the L2's size, queued before the sample begins.
        if self._flush is None:
            self._flush = self._torch.empty(
                max(self.cache_bytes, 1 << 20), dtype=self._torch.int8, device=self.torch_device
            )
        self._flush.zero_()

    def free_bytes(self) -> int | None:
        gc.collect()  # a case that was closed may still be held by a cycle, and torch keeps what it frees
        self._torch.cuda.empty_cache()
        free: int = self._torch.cuda.mem_get_info(self.info.index)[0]
        return free

    def forget_peak_memory(self) -> None:
        self._torch.cuda.empty_cache()  # what a check took is no part of it
        self._torch.cuda.reset_peak_memory_stats(self.info.index)

    def peak_memory_bytes(self) -> int | None:
        # Reserved, not allocated: what a captured graph works in counts as free, though nothing else can have it.
        peak: int = self._torch.cuda.max_memory_reserved(self.info.index)
        return peak


def _elapsed_ns(begin: Any, end: Any) -> int:
    elapsed_ms: float = begin.elapsed_time(end)
    return round(elapsed_ms * 1e6)

"""The CPU as a device: ``perf_counter_ns`` around each launch, threads stated."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.device.base import loop
from bench.errors import Unsupported
from bench.types import DeviceInfo, Mark

if TYPE_CHECKING:
    import torch

_FLUSH_FLOOR_BYTES = 64 << 20  # where the last-level cache cannot be read


class CpuDevice:
    min_sample_ns = 0  # perf_counter_ns resolves single launches

    def __init__(self, info: DeviceInfo, scratch: Path) -> None:
        self.info = info
        self.indices: Sequence[int] = (info.index,)
        self.scratch = scratch
        self.threads = usable_cores()
        if "torch" in sys.modules:
            self._ready_torch()
        self.cache_bytes = self.host_cache_bytes = last_level_cache_bytes()
        self._started_ns = 0
        self._marks: list[tuple[str, int]] = []  # on the clock's own time: a mark is to cost next to nothing
        self._flush: torch.Tensor | None = None
        self._peak_is_fresh = False

    now_ns = staticmethod(time.monotonic_ns)

    @functools.cached_property
    def torch_device(self) -> str:
        """Who works with torch asks for this; who does not need not wait for it, or even have it."""
        self._ready_torch()
        return "cpu"

    def _ready_torch(self) -> None:
        # Torch is told rather than left to guess: its default and OpenMP's may differ inside a container.
        import torch

        torch.set_num_threads(self.threads)

    def start(self) -> None:
        if self._marks:  # left by an untimed launch: they belong to no sample
            self._marks.clear()
        self._started_ns = time.perf_counter_ns()

    def stop(self) -> int:
        return time.perf_counter_ns() - self._started_ns

    def mark(self, name: str) -> None:
        self._marks.append((name, time.perf_counter_ns()))

    def take_marks(self) -> list[Mark]:
        if not self._marks:
            return []
        marks = [Mark(name, ns - self._started_ns) for name, ns in self._marks]
        self._marks.clear()
        return marks

    def repeat(self, launch: Callable[[], None], launches: int) -> Callable[[], None]:
        return loop(launch, launches)

    def captured(self, runs: Sequence[Callable[[], object]]) -> list[Callable[[], None]]:
        raise Unsupported("CUDA graphs are a GPU's: a CPU has none")

    def synchronize(self) -> None:
        pass

    def flush_cache(self) -> None:
        import torch

        if self._flush is None:
            size = max(2 * self.cache_bytes, _FLUSH_FLOOR_BYTES)
            self._flush = torch.zeros(size // 8, dtype=torch.int64)
        self._flush.add_(1)

    def free_bytes(self) -> int | None:
        import psutil

        available: int = psutil.virtual_memory().available
        limit = _cgroup_free_bytes()
        return available if limit is None else min(available, limit)

    def forget_peak_memory(self) -> None:
        self._peak_is_fresh = False
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak of what is resident
            self._peak_is_fresh = True

    def peak_memory_bytes(self) -> int | None:
        status = Path("/proc/self/status").read_text() if self._peak_is_fresh else ""
        peak = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
        return int(peak[1]) << 10 if peak else None


def usable_cores() -> int:
    """Physical cores that this process may use: its affinity, its container's quota, or OMP_NUM_THREADS if set."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    import psutil

    allowed = len(os.sched_getaffinity(0))
    physical = psutil.cpu_count(logical=False) or allowed
    quota = _cgroup_cpu_quota()
    return max(1, min(allowed, physical, quota or allowed))


def last_level_cache_bytes(cpus: Path = Path("/sys/devices/system/cpu")) -> int:
    """All last-level caches together, as STREAM's rule wants them; zero where the kernel reports none."""
    sizes: dict[tuple[int, str], int] = {}  # by level and the CPUs that share it, so that each is counted once
    for index in cpus.glob("cpu[0-9]*/cache/index*"):
        with contextlib.suppress(OSError, ValueError):
            level, sharers = (int((index / "level").read_text()), (index / "shared_cpu_list").read_text())
            sizes[level, sharers] = int((index / "size").read_text().strip().removesuffix("K")) << 10
    last = max((level for level, _ in sizes), default=0)
    return sum(size for (level, _), size in sizes.items() if level == last)


def _cgroup_cpu_quota() -> int | None:
    """Whole CPUs of a cgroup v2 quota, rounded up; None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))


def _cgroup_free_bytes() -> int | None:
    """What a cgroup v2 memory limit leaves; None without one."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        statistics = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
        used -= int(statistics["inactive_file"])  # page cache, given back when it is asked for
    except (OSError, ValueError, KeyError):
        return None
    return None if limit == "max" else max(0, int(limit) - used)

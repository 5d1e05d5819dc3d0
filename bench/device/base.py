"""``Device``: the seam between the timing loop and the hardware.

The timing loop calls ``start``, the launches, ``stop``; a kernel may call ``mark`` inside a launch. A device owns
two clocks: the one that times samples (``start``/``stop``) and the one that limits are kept by (``now_ns``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bench.types import DeviceInfo, Mark


class Device(Protocol):
    """One device, opened in this process."""

    info: DeviceInfo
    indices: Sequence[int]  # of the devices of its kind that a launch may take together, its own first
    scratch: Path  # a folder for files that a workload needs, on the disk under test
    threads: int  # threads that a launch may use on the host
    cache_bytes: int  # the last-level cache; 0 where unknown
    host_cache_bytes: int  # the CPUs' last-level caches together; 0 where unknown
    min_sample_ns: int  # a shorter sample would be lost in the timer's own resolution

    @property
    def torch_device(self) -> str:
        """What torch calls it: "cpu" or "cuda:0". To be asked for before torch is used on it."""

    def now_ns(self) -> int:
        """The host's monotonic clock."""

    def start(self) -> None:
        """Begin a sample. Work queued earlier is not part of it."""

    def mark(self, name: str) -> None:
        """Note a moment inside the sample, in the order of the device's work."""

    def stop(self) -> int:
        """End the sample; wait for its work; the time since ``start`` in ns."""

    def take_marks(self) -> list[Mark]:
        """The marks of the sample that ``stop`` ended, and forget them."""

    def repeat(self, launch: Callable[[], None], launches: int) -> Callable[[], None]:
        """A callable that performs ``launch`` so many times with the least overhead this device knows."""

    def captured(self, runs: Sequence[Callable[[], object]]) -> list[Callable[[], None]]:
        """Each as a graph, which the device performs without coming back to Python: for calling in this order only,
        since they share their memory.

        Raises:
            Unsupported: this device has no graphs.
            RuntimeError: what a run does cannot be captured (copies to the host, a library's own stream).
        """

    def synchronize(self) -> None:
        """Wait until all queued work is done. Errors of asynchronous work are raised here."""

    def flush_cache(self) -> None:
        """Drive earlier data out of the last-level cache."""

    def free_bytes(self) -> int | None:
        """Memory that a workload can still take; None where unknown."""

    def forget_peak_memory(self) -> None:
        """Let ``peak_memory_bytes`` count from here."""

    def peak_memory_bytes(self) -> int | None:
        """The most memory that this process has held since; None where unknown."""


def graphs(runs: Sequence[Callable[[], object]]) -> list[Callable[[], None]]:
    """``Device.captured`` by torch, on the current GPU."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries allocate their workspaces before a capture
        for run in runs:
            run()
    torch.cuda.current_stream().wait_stream(side)
    pool = torch.cuda.graph_pool_handle()
    replays: list[Callable[[], None]] = []
    for run in runs:
        graph = torch.cuda.CUDAGraph()
        # torch leaves the capture's stream current where the capture fails; the outer context puts ours back.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, pool=pool, stream=side):
            run()
        replays.append(graph.replay)
    return replays


def loop(launch: Callable[[], None], launches: int) -> Callable[[], None]:
    """The plain form of ``Device.repeat``: no wrapper at all for a single launch."""
    if launches == 1:
        return launch

    def run() -> None:
        for _ in range(launches):
            launch()

    return run

"""The host's state over a window: steal, other processes' CPU share, pressure, swapping, the CPU quota, load."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from bench.telemetry import cgroup, files

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class CpuTimes:
    """Since the start of the system, in seconds, summed over all CPUs."""

    total_s: float
    busy_s: float
    steal_s: float


@dataclass(frozen=True)
class HostReading:
    """Counters at one moment; CPU times in seconds, summed over all CPUs. None is what this system does not count."""

    total_s: float
    busy_s: float
    steal_s: float
    own_s: float
    involuntary_switches: int
    at_ns: int = 0  # on the monotonic clock
    cpu_pressure_us: int | None = None
    memory_pressure_us: int | None = None
    io_pressure_us: int | None = None
    swapped_bytes: int | None = None
    cpu_quota_s: float | None = None


@dataclass(frozen=True)
class HostWindow:
    """What happened between two readings. None where nothing was counted.

    Steal and foreign load are fractions of all CPUs' time. Pressure is the fraction of the time in which some task
    waited for a CPU, for memory or for a disk, of any process and averaged over the busy CPUs
    (Documentation/accounting/psi.rst).
    """

    steal_fraction: float | None
    foreign_cpu_fraction: float | None
    involuntary_switches: int
    load_1m: float
    cpu_pressure_fraction: float | None
    memory_pressure_fraction: float | None
    io_pressure_fraction: float | None
    swapped_bytes: int | None  # in and out, of all processes
    cpu_quota_s: float | None  # that a quota held this process's control group back, summed over CPUs
    host_cpu_s: float  # all CPUs' time together: how fine the fractions can be

    @property
    def columns(self) -> dict[str, float | None]:
        """What a row keeps of it."""
        return dataclasses.asdict(self)


def read(run_pid: int | None = None, root: Path = Path("/")) -> HostReading:
    """Counters now. ``/proc/stat`` counts in ticks of usually 10 ms, so windows should be long against that.

    Args:
        run_pid: the process whose work, with that of all below it, is the run's own; this one by default. A worker
            names its parent: the workers beside it are no foreign load.
        root: where ``proc`` and ``sys`` are.

    Raises:
        OSError, ValueError: there is no ``/proc/stat`` of Linux.
    """
    with (root / "proc/stat").open() as stat:
        times = cpu_times(stat.readline())
    return HostReading(
        total_s=times.total_s,
        busy_s=times.busy_s,
        steal_s=times.steal_s,
        own_s=_own_cpu_s(run_pid or os.getpid()),
        involuntary_switches=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        at_ns=time.monotonic_ns(),
        cpu_pressure_us=_pressure_us(root, "cpu"),
        memory_pressure_us=_pressure_us(root, "memory"),
        io_pressure_us=_pressure_us(root, "io"),
        swapped_bytes=_swapped_bytes(root),
        cpu_quota_s=_cpu_quota_s(root),
    )


def window(before: HostReading, after: HostReading) -> HostWindow:
    """The difference of two readings."""
    cpu_s = after.total_s - before.total_s
    elapsed_us = (after.at_ns - before.at_ns) / 1000
    foreign_s = after.busy_s - before.busy_s - (after.own_s - before.own_s)
    return HostWindow(
        steal_fraction=fraction(after.steal_s - before.steal_s, cpu_s),
        foreign_cpu_fraction=fraction(foreign_s, cpu_s),
        involuntary_switches=after.involuntary_switches - before.involuntary_switches,
        load_1m=os.getloadavg()[0],
        cpu_pressure_fraction=fraction(grown(before.cpu_pressure_us, after.cpu_pressure_us), elapsed_us),
        memory_pressure_fraction=fraction(grown(before.memory_pressure_us, after.memory_pressure_us), elapsed_us),
        io_pressure_fraction=fraction(grown(before.io_pressure_us, after.io_pressure_us), elapsed_us),
        swapped_bytes=grown(before.swapped_bytes, after.swapped_bytes),
        cpu_quota_s=grown(before.cpu_quota_s, after.cpu_quota_s),
        host_cpu_s=cpu_s,
    )


def cpu_times(stat: str) -> CpuTimes:
    """The times in the first line of ``/proc/stat`` (proc_stat(5)); older systems count fewer kinds.

    Raises:
        ValueError: this is no such line.
    """
    name, *ticks = stat.partition("\n")[0].split()
    counted = [int(each) / _TICKS_PER_S for each in ticks]
    if name != "cpu":
        raise ValueError(f"no CPU times: {stat[:80]!r}")
    # A guest's time, behind steal, is contained in user and nice time, so it is counted once.
    user, nice, system, idle, iowait, irq, softirq, steal = (counted + [0.0] * 4)[:8]
    busy = user + nice + system + irq + softirq
    return CpuTimes(busy + idle + iowait + steal, busy, steal)


def fraction(part: float | None, whole: float) -> float | None:
    """The part of a whole that two clocks counted, so held to what is possible; None where nothing was counted."""
    return None if part is None or whole <= 0 else min(1.0, max(0.0, part / whole))


def grown(before: _Number | None, after: _Number | None) -> _Number | None:
    """By how much a counter grew; None where one of the readings does not tell."""
    return None if before is None or after is None else after - before


def _own_cpu_s(run_pid: int) -> float:
    """CPU time of the run's processes, and of this one's children that have ended."""
    times = os.times()
    own = times.children_user + times.children_system
    with contextlib.suppress(psutil.Error):
        run = psutil.Process(run_pid)
        for process in [run, *run.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                used = process.cpu_times()
                own += used.user + used.system
    return own


def _pressure_us(root: Path, resource: str) -> int | None:
    """How long some task has waited; None where the kernel does not count it (``CONFIG_PSI``, ``psi=0``)."""
    for line in (files.text(root / "proc/pressure" / resource) or "").splitlines():
        if line.startswith("some "):
            return _value(line.replace("=", " "), "total")
    return None


def _swapped_bytes(root: Path) -> int | None:
    counters = files.text(root / "proc/vmstat") or ""
    pages_in, pages_out = _value(counters, "pswpin"), _value(counters, "pswpout")
    return None if pages_in is None or pages_out is None else (pages_in + pages_out) * _PAGE_BYTES


def _cpu_quota_s(root: Path) -> float | None:
    """For how long quotas of this control group, and of those around it, have held its threads back."""
    held_s = []
    for folder in _folders_with_quota(root):
        counters = files.text(folder / "cpu.stat") or ""
        held_us, held_ns = _value(counters, "throttled_usec"), _value(counters, "throttled_time")  # versions 2 and 1
        if held_us is not None:
            held_s.append(held_us * 1e-6)
        elif held_ns is not None:
            held_s.append(held_ns * 1e-9)
    return sum(held_s) if held_s else None


@functools.cache
def _folders_with_quota(root: Path) -> tuple[Path, ...]:
    # Once per process: reading the mounts takes longer than all else here.
    return tuple(folder for folder in cgroup.folders("cpu", root) if cgroup.quota_cores(folder) is not None)


def _value(words: str, name: str) -> int | None:
    """The whole number behind a name in white-space separated text."""
    _, _, behind = f" {words}".replace("\n", " ").partition(f" {name} ")
    with contextlib.suppress(ValueError):
        return int(behind.split(maxsplit=1)[0]) if behind else None
    return None

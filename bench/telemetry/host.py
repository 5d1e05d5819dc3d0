"""The host's state over a window: steal, other processes' CPU share, involuntary switches, load."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class HostReading:
    """Counters at one moment; CPU times in seconds, summed over all CPUs."""

    total_s: float
    busy_s: float
    steal_s: float
    own_s: float
    involuntary_switches: int


@dataclass(frozen=True)
class HostWindow:
    """What happened between two readings. The fractions are of all CPUs' time; None where nothing was counted."""

    steal_fraction: float | None
    foreign_cpu_fraction: float | None
    involuntary_switches: int
    load_1m: float
    cpu_s: float  # all CPUs' time together: how fine the fractions can be

    @property
    def columns(self) -> dict[str, float | None]:
        """What a row keeps of it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "cpu_s"}


def read(run_pid: int | None = None) -> HostReading:
    """Counters now. ``/proc/stat`` counts in ticks of usually 10 ms, so windows should be long against that.

    Args:
        run_pid: the process whose work, with that of all below it, is the run's own; this one by default. A worker
            names its parent: the workers beside it are no foreign load.
    """
    times = psutil.cpu_times()
    steal = getattr(times, "steal", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    # guest time is contained in user time (proc(5)), so the four are counted once
    busy = times.user + getattr(times, "nice", 0.0) + times.system
    busy += getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0)
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return HostReading(busy + idle + steal, busy, steal, _own_cpu_s(run_pid or os.getpid()), switches)


def window(before: HostReading, after: HostReading) -> HostWindow:
    """The difference of two readings."""
    total = after.total_s - before.total_s
    own = after.own_s - before.own_s
    foreign = after.busy_s - before.busy_s - own
    return HostWindow(
        steal_fraction=(after.steal_s - before.steal_s) / total if total > 0 else None,
        foreign_cpu_fraction=min(1.0, max(0.0, foreign / total)) if total > 0 else None,
        involuntary_switches=after.involuntary_switches - before.involuntary_switches,
        load_1m=os.getloadavg()[0],
        cpu_s=total,
    )


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

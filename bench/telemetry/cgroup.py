"""The control groups that this process is in: where they are mounted, and what limits they set."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath

from bench.telemetry import files

# Version 1 says "no limit" as the largest multiple of a page below 2^63.
_NO_LIMIT_BYTES = 1 << 62


def version(root: Path = Path("/")) -> int | None:
    """1 or 2, that of the hierarchy with the CPU controller; None where there are no control groups."""
    found = _place("cpu", root)
    return None if found is None else found[0]


def folders(controller: str, root: Path = Path("/")) -> tuple[Path, ...]:
    """This process's group of a controller, then those around it, as far out as they are mounted here.

    A limit of any of them holds. Empty where the controller is not mounted. See cgroups(7) and proc(5).
    """
    place = _place(controller, root)
    mount = None if place is None else _mount(controller, place[0], root)
    if place is None or mount is None:
        return ()
    mounted, point = mount
    top = root / point.relative_to("/")
    own = top
    # Else the process is outside of what is mounted, as in a container that shows its own group only.
    if place[1].is_relative_to(mounted) and ".." not in place[1].parts:
        own = top / place[1].relative_to(mounted)
    return (own, *(folder for folder in own.parents if folder.is_relative_to(top)))


def cpu_limit_cores(root: Path = Path("/")) -> float | None:
    """The tightest quota in CPUs, of this group and of those around it; None where there is none to be seen."""
    quotas = map(quota_cores, folders("cpu", root))
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The tightest limit of memory, of this group and of those around it; None where there is none to be seen."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = files.numbers(folder / name for folder in folders("memory", root) for name in names)
    return min((limit for limit in limits if limit < _NO_LIMIT_BYTES), default=None)


def cpuset(root: Path = Path("/")) -> str | None:
    """The CPUs that this group may use, as ``0-3,8``; None where it does not say."""
    for folder in folders("cpuset", root):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus"):
            found = files.text(folder / name)
            if found:
                return found
    return None


def quota_cores(folder: Path) -> float | None:
    """The CPU time that one group may use, per time; None where it has no quota.

    Version 2 writes ``cpu.max`` as quota and period or ``max`` (Documentation/admin-guide/cgroup-v2.rst), version 1
    two files, -1 for no quota (Documentation/scheduler/sched-bwc.rst).
    """
    both = files.text(folder / "cpu.max")
    if both is None:
        both = f"{files.text(folder / 'cpu.cfs_quota_us')} {files.text(folder / 'cpu.cfs_period_us')}"
    with contextlib.suppress(ValueError, ZeroDivisionError):
        quota_us, period_us = map(int, both.split())
        return quota_us / period_us if quota_us > 0 else None
    return None


def _place(controller: str, root: Path) -> tuple[int, PurePosixPath] | None:
    """The version and the path of this process's group."""
    second = None
    for line in (files.text(root / "proc/self/cgroup") or "").splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return 1, PurePosixPath(path)
        if hierarchy == "0":
            second = 2, PurePosixPath(path)
    return second


def _mount(controller: str, version: int, root: Path) -> tuple[PurePosixPath, PurePosixPath] | None:
    """Which part of the hierarchy is mounted, and where."""
    for line in (files.text(root / "proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        wanted = (
            kind == "cgroup2" if version == 2 else kind == "cgroup" and controller in options.split()[-1].split(",")
        )
        if wanted:
            mounted, point = before.split()[3:5]
            return PurePosixPath(mounted), PurePosixPath(point)
    return None

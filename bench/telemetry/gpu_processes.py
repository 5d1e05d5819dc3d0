"""Whose the processes on a GPU are: this run's, or somebody else's."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import psutil

_PID_NAMESPACE = Path("/proc/self/ns/pid")
# The first PID namespace has the same number on every kernel: PROC_PID_INIT_INO of include/linux/proc_ns.h.
_HOST_NAMESPACE = Path("pid:[4026531836]")


def foreign(pids: Collection[int], run_pid: int | None = None) -> int | None:
    """How many of a GPU's processes are neither ``run_pid`` nor below it; None where that cannot be known.

    In a PID namespace of its own, as in most containers, a process sees only part of this. Older drivers name
    processes by the host's pids, which mean nothing here (NVIDIA/nvidia-docker issue 1483, of 2021); newer ones name
    them by the namespace's and leave out those that are not in it (``_gpuConvertPid`` in NVIDIA's open kernel
    modules). So:

    - pids of this run that are recognised are its own, and the others are foreign;
    - where none is recognised, the pids are taken for the host's, and one of them for that of the run's worker;
    - none left is no evidence that there is none, hence None and not 0.

    Args:
        run_pid: the run's first process. Without one (nothing is being measured) it is this process, which is taken
            to have no work on the GPU that it would not recognise.
    """
    shown = set(pids)
    others = {pid for pid in shown if not _is_below(pid, run_pid or os.getpid())}
    if not _is_namespaced():
        return sum(bool(psutil.pid_exists(pid)) for pid in others)  # one that has just ended is nobody's
    unrecognised = run_pid is not None and others == shown
    return max(0, len(others) - unrecognised) or None


def _is_below(pid: int, root: int) -> bool:
    try:
        return pid == root or root in (parent.pid for parent in psutil.Process(pid).parents())
    except (psutil.Error, ValueError):  # gone, hidden, or no pid at all
        return False


def _is_namespaced() -> bool:
    try:
        return _PID_NAMESPACE.readlink() != _HOST_NAMESPACE
    except OSError:
        return True

"""A workload made ready: it fits, it works at a small size, its answers are right; and what a failure stands for."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.device.base import Device
from bench.errors import Unsupported, is_device_lost, is_out_of_memory
from bench.kernel import Case, Kernel
from bench.measure import measure
from bench.registry import Workload
from bench.spec import SEED
from bench.types import Check, Policy, Status
from bench.units import show_bytes, show_duration

PROBE_POLICY = Policy(
    warmup_rule="count", warmup_min_samples=1, warmup_min_s=0.0, min_samples=5, max_samples=5, max_s=0.001
)


class WrongAnswer(Exception):
    """An output is further from its reference than the arithmetic allows."""

    def __init__(self, check: Check) -> None:
        super().__init__(
            f"error {check.error:.3g} is above the tolerance {check.tolerance:.3g} {check.detail}".rstrip()
        )
        self.check = check


@dataclass(frozen=True)
class Prepared:
    case: Case
    prepare_s: float  # inputs drawn, kernels compiled, whatever comes before a first launch but the probe


@contextlib.contextmanager
def prepared(workload: Workload, device: Device, timeout_s: float) -> Iterator[Prepared]:
    """The case of a workload that fits into memory and that a small probe has shown to work."""
    kernel, params = workload.kernel, workload.params
    fits(workload, device)
    ns_per_unit = probe(kernel, params, device)
    began_ns = time.monotonic_ns()
    with contextlib.closing(kernel.prepare(params, device, SEED)) as case:
        device.synchronize()
        prepare_s = (time.monotonic_ns() - began_ns) * 1e-9
        if ns_per_unit is not None and case.work.flops:
            launch_s = case.work.flops * ns_per_unit * 1e-9
            if launch_s > timeout_s:
                raise Unsupported(f"a small probe predicts {show_duration(launch_s)} for one launch")
        yield Prepared(case, prepare_s)


def fits(workload: Workload, device: Device) -> None:
    """Raises Unsupported where the device has not enough memory left: one of several GPUs, or the CPU for them all."""
    shares = 1 if device.info.kind == "cuda" else workload.kernel.devices(workload.params)
    needed = shares * workload.kernel.memory_bytes(workload.params)
    free = device.free_bytes() if needed else None
    if free is not None and needed > free:
        raise Unsupported(f"needs {show_bytes(needed)}, {show_bytes(free)} are free")


def probe(kernel: Kernel[Any], params: Any, device: Device) -> float | None:
    """Try the work at a small size.

    Returns:
        Its ns per operation; None where the kernel has no probe, or where arithmetic is not what it is measured by: a
        small model spends its time on calls, which says nothing about a large one.

    Raises:
        Unsupported: the library refuses, in its own words.
    """
    small = kernel.probe(params)
    if small is None:
        return None
    try:
        with contextlib.closing(kernel.prepare(small, device, SEED)) as case:
            checked(case)
            if not case.work.flops or case.work.unit not in ("FLOP/s", "OP/s"):
                return None
            return min(measure(case, device, PROBE_POLICY).elapsed_ns) / case.work.flops
    except (RuntimeError, NotImplementedError, ImportError) as error:
        if is_out_of_memory(error) or is_device_lost(error):
            raise
        raise Unsupported(first_line(error)) from error


def checked(case: Case) -> Check:
    """The case's check; raises WrongAnswer where it fails."""
    check = case.check()
    if not check.ok:
        raise WrongAnswer(check)
    return check


def outcome(error: Exception) -> tuple[Status, str]:
    """The status and the reason that an exception stands for."""
    if isinstance(error, Unsupported):
        return "unsupported", str(error)
    if is_out_of_memory(error):
        return "oom", first_line(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "failed", f"{type(error).__name__}: {first_line(error)} ({Path(frame.filename).name}:{frame.lineno})"


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

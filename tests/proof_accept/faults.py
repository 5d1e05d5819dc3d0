"""What can be wrong with a machine: each fault is made by one function, on a sound acceptance or in a kernel's code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from bench.acceptance.judge import judge
from bench.acceptance.model import Finding, Verdict
from bench.criteria.model import Criteria
from bench.schema import Row
from tests.proof_accept.recordings import Acceptance

Fault = Callable[[Acceptance], Acceptance]


def failed(verdict: Verdict) -> dict[str, str]:
    """The criteria that FAIL, each with the device that is named."""
    return {one.criterion.id: one.worst.device for one in verdict.criteria if one.outcome == "FAIL"}


# ---------------------------------------------------------------- how slow a kernel has to be


def needed_slowdown(measured: Sequence[Acceptance], criteria: Criteria, name: str) -> float:
    """The factor that takes a criterion's figure to its floor, and by two half-widths of its interval below.

    Of several acceptances the largest margin counts, and the largest half-width; both are ratios.

    Raises:
        ValueError: none of them has an interval.
    """
    found = [one for one in (finding_of(each, criteria, name) for each in measured) if one.interval is not None]
    (limit,) = next(one for one in criteria.criteria if one.id == name).limit.stated.values()
    margin: float = max(float(one.observed) / limit for one in found)  # type: ignore[arg-type]
    return margin * max(one.interval.high / one.interval.low for one in found if one.interval is not None)


def finding_of(one: Acceptance, criteria: Criteria, name: str) -> Finding:
    """What is found of the criterion of that name, on the worst device."""
    (found,) = (each for each in judge(one.plan, one.rows, criteria).criteria if each.criterion.id == name)
    return found.worst


# ---------------------------------------------------------------- on a sound acceptance


def slowed(workload: str, factor: float) -> Fault:
    """Every launch of the workload took that much longer; the roofs stay what they were."""

    def slow(row: Row) -> dict[str, Any]:
        roofs = [roof | {"fraction": roof["fraction"] and roof["fraction"] / factor} for roof in row["roofs"] or ()]
        return {"value": row["value"] / factor, "roofs": roofs}

    return lambda one: _with(one, lambda row: slow(row) if row["workload"] == workload and row["value"] else {})


def wrong_once(one: Acceptance) -> Acceptance:
    """The answer of one replicate, the last, is off by twice what is tolerated."""
    last = one.rows[-1]
    return _with(one, lambda row: {"check_error": 2 * row["check_tolerance"] + 1e-9} if row is last else {})


def less_memory(one: Acceptance) -> Acceptance:
    """One module of sixteen is not there."""
    return _with(one, lambda row: {"memory_bytes": row["memory_bytes"] * 15 // 16})


def fewer_cores(one: Acceptance) -> Acceptance:
    return _with(one, lambda row: {"cpu_cores": row["cpu_cores"] - 1})


def swapping(one: Acceptance) -> Acceptance:
    """In one measurement, 64 MB."""
    first = one.rows[0]
    return _with(one, lambda row: {"swapped_bytes": 64_000_000} if row is first else {})


def missing_device(one: Acceptance) -> Acceptance:
    """The last device was not found, so nothing was measured on it."""
    *devices, lost = one.plan.devices
    rows = [row for row in one.rows if row["device_index"] != lost.index]
    return Acceptance(dataclasses.replace(one.plan, devices=tuple(devices)), rows)


def _with(one: Acceptance, changes: Callable[[Row], dict[str, Any]]) -> Acceptance:
    return dataclasses.replace(one, rows=[row | changes(row) for row in one.rows])


# ---------------------------------------------------------------- in a kernel's code, as (file, old, new)

Edit = tuple[str, str, str]

_CLASS = """from kernels import _gemm_case


class Gemm(_gemm_case.Gemm):
"""
_SLOWER = """
    def launch(self) -> None:
        import time

        began_ns = time.perf_counter_ns()
        self._enqueue()
        until_ns = began_ns + {factor} * (time.perf_counter_ns() - began_ns)
        while time.perf_counter_ns() < until_ns:
            pass
"""
_FLIPPED = """
    def __init__(self, *arguments, **options):
        import torch

        super().__init__(*arguments, **options)
        enqueue = self._enqueue

        def flipped() -> None:
            enqueue()
            self._product.out_MN.view(torch.int32).view(-1)[1234] ^= 1 << 22

        self._enqueue = flipped
"""
_FILE, _IMPORT = "kernels/roof_compute.py", "from kernels._gemm_case import Gemm\n"


def slower_kernel(factor: float) -> Edit:
    """Each launch of ``roof/compute``, and of nothing else, takes that many times as long."""
    return _FILE, _IMPORT, _CLASS + _SLOWER.format(factor=factor)


def flipped_bit() -> Edit:
    """The highest bit of the mantissa of one element of 32 bits, in each product of ``roof/compute``."""
    return _FILE, _IMPORT, _CLASS + _FLIPPED

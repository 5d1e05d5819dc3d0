"""Readings for tests of pictures: GPUs that get hot when they are told to, and a host that tells next to nothing."""

from __future__ import annotations

from typing import Any

from bench.telemetry.reading import Reading
from bench.types import DeviceInfo, Plan
from tests.results import make_plan

START_NS = 1_795_324_500_000_000_000
HOT, CAP = "hw_thermal_slowdown", "sw_power_cap"


def at_ns(second: float) -> int:
    return START_NS + round(second * 1e9)


def gpu(index: int = 0, *, kind: str = "cuda", hot: tuple[float, float] = (0, 0), **fields: Any) -> list[Reading]:
    """Eight seconds at 10 Hz, throttled from one second until another."""
    readings = []
    for tenth in range(81):
        is_hot = hot[0] <= tenth / 10 < hot[1]
        state = {
            "power_w": 300.0 if is_hot else 650.0,
            "sm_clock_mhz": 900.0 if is_hot else 1980.0,
            "temperature_c": 89.0 if is_hot else 60.0 + index,
            "throttle_reasons": (HOT,) if is_hot else (),
        }
        readings.append(Reading(at_ns=at_ns(tenth / 10), device=kind, device_index=index, **state | fields))
    return readings


def cpu(**fields: Any) -> list[Reading]:
    """A host that tells nothing but how its time was spent: a quarter of it working."""
    return [
        Reading(
            at_ns=at_ns(tenth / 10),
            device="cpu",
            device_index=0,
            cpu_time_s_total=tenth * 0.2,
            cpu_busy_s_total=tenth * 0.05,
            **fields,
        )
        for tenth in range(81)
    ]


def plan_of(count: int = 1, kind: Any = "cuda") -> Plan:
    return make_plan(devices=tuple(DeviceInfo(kind, index, "NVIDIA H100 80GB HBM3") for index in range(count)))

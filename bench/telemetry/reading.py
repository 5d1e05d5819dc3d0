"""``Reading``: what one device showed at one moment. The time series of a run is a list of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

# What the driver may name as holding the clocks below what was asked for, apart from an idle GPU.
THROTTLE_REASONS = (
    "hw_slowdown",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "cpu_thermal",
)
POWER_CAP_REASON = "sw_power_cap"


@dataclass(frozen=True, slots=True)
class Reading:
    """One device at one moment; None is what it, its driver or this user's rights do not tell.

    Names that end in ``_total`` and ``energy_j`` are counters: only their differences mean anything.
    """

    at_ns: int  # UTC of the run's clock
    device: str  # cpu, cuda or fake
    device_index: int
    took_ns: int = 0  # how long it took to read this device
    cpu_ns: int = 0  # and how much of one core
    error: str | None = None  # why the device did not answer any more
    obstacle: str | None = None  # why its state cannot be read here, and what to do about it
    # electricity
    power_w: float | None = None
    energy_j: float | None = None
    # clocks
    sm_clock_mhz: float | None = None
    mem_clock_mhz: float | None = None
    cpu_clock_mhz: float | None = None  # mean over the CPUs
    clocks_locked: bool | None = None  # by someone, below what the device would choose
    # heat
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    temperature_margin_c: float | None = None  # left until it slows down
    # held back
    throttle_reasons: tuple[str, ...] | None = None  # all that the driver names at this moment
    throttled_s_total: float | None = None  # by heat or a hardware brake
    power_capped_s_total: float | None = None
    # errors
    ecc_corrected_total: int | None = None
    ecc_uncorrected_total: int | None = None
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    xids: tuple[int, ...] | None = None  # since the reading before
    # links
    pcie_generation: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_replays_total: int | None = None
    nvlinks_down: int | None = None
    nvlink_errors_total: int | None = None
    # sharing
    foreign_processes: int | None = None  # on this GPU, not of this run
    # the host's CPUs, all together
    cpu_time_s_total: float | None = None
    cpu_busy_s_total: float | None = None
    cpu_steal_s_total: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What is known of it, as JSON types."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in values if value is not None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Reading:
        """A reading of this or a later version: what is not known here is passed over."""
        known = {name: each for name, each in value.items() if name in _FIELDS}
        for name in ("throttle_reasons", "xids"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        return cls(**known)


_FIELDS = frozenset(field.name for field in dataclasses.fields(Reading))


class Source(Protocol):
    """Where the readings of some devices come from, opened in the process that reads."""

    def read(self) -> list[Reading]:
        """Each device now; a device that does not answer gives a reading with its ``error``. Never raises."""

    def close(self) -> None:
        """Give back what reading took."""

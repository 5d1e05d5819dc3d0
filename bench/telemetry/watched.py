"""Devices as they are now, for those who look on: the newest reading, and what speaks against measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.fitness import findings
from bench.telemetry import rates
from bench.telemetry.reading import Reading


@dataclass(frozen=True)
class Now:
    """One device at its newest reading."""

    device: str
    reading: Reading
    power_w: float | None
    power_limit_w: float | None
    busy_fraction: float | None
    troubles: tuple[str, ...]  # what ``fitness`` finds in it, heat and power caps at this moment apart


class Watched:
    """Keeps what has to be remembered of each device from one reading to the next."""

    def __init__(self, facts: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """
        Args:
            facts: what does not change, by device: ``power_limit_w`` and ``power_limit_default_w``.
        """
        self._facts = facts or {}
        self._first: dict[str, Reading] = {}
        self._before: dict[str, Reading] = {}
        self._xids: dict[str, dict[int, None]] = {}

    def take(self, readings: Sequence[Reading]) -> list[Now]:
        """The devices at these readings, one of each; GPUs before the CPU."""
        return [self._now(rates.label(one), one) for one in sorted(readings, key=lambda one: one.device == "cpu")]

    def _now(self, device: str, reading: Reading) -> Now:
        before = self._before.get(device)
        facts = self._facts.get(device, {})
        xids = self._xids.setdefault(device, {})
        xids.update(dict.fromkeys(reading.xids or ()))
        first = self._first.setdefault(device, reading) if reading.error is None else None
        self._before[device] = reading
        return Now(
            device=device,
            reading=reading,
            power_w=rates.power_w(before, reading),
            power_limit_w=facts.get("power_limit_w"),
            busy_fraction=rates.busy_fraction(before, reading),
            troubles=_troubles(first, before, reading, {**facts, "xids": [*xids]}),
        )


def _troubles(first: Reading | None, before: Reading | None, now: Reading, known: Mapping[str, Any]) -> tuple[str, ...]:
    """The driver's own words where the device does not answer, and what the rules find.

    Errors are counted since the first reading; all else is of this one.
    """
    state = {
        **known,
        "ecc_uncorrected_delta": rates.growth(first, now, lambda one: one.ecc_uncorrected_total),
        "ecc_corrected_delta": rates.growth(first, now, lambda one: one.ecc_corrected_total),
        "row_remap_failed": now.row_remap_failed,
        "row_remap_pending": now.row_remap_pending,
        "temperature_margin_c_min": now.temperature_margin_c,
        "nvlinks_down": now.nvlinks_down,
        "pcie_width": now.pcie_width,
        "pcie_width_max": now.pcie_width_max,
        "clocks_locked": now.clocks_locked,
        "foreign_gpu_processes": now.foreign_processes,
        "steal_fraction": rates.steal_fraction(before, now),
        "host_cpu_s": rates.growth(before, now, lambda one: one.cpu_time_s_total),
    }
    found = (f"{one.flag.removeprefix('unfit:')}: {one.measured}" for one in findings(state))
    return (*([now.error] if now.error else []), *found)

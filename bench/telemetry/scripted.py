"""The state of fake devices: what their scenario says, as a function of the time since the source was opened."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bench.device import fake
from bench.telemetry.reading import Reading
from bench.types import DeviceInfo

_PERIOD_S = 10.0  # after which a scenario begins anew


class ScriptedSource:
    """A ``Source`` for fake devices."""

    def __init__(self, devices: Sequence[DeviceInfo], clock: Callable[[], int] = time.time_ns) -> None:
        self._devices = devices
        self._clock = clock
        self._opened_ns = clock()

    def read(self) -> list[Reading]:
        return [self._reading(device) for device in self._devices]

    def _reading(self, device: DeviceInfo) -> Reading:
        now_ns = self._clock()
        passed_s = (now_ns - self._opened_ns) * 1e-9
        begin_s, end_s = fake.scenario(device.scenario).hot
        phase_s = passed_s % _PERIOD_S
        is_hot = begin_s <= phase_s < end_s
        return Reading(
            at_ns=now_ns,
            device=device.kind,
            device_index=device.index,
            power_w=180.0 if is_hot else 300.0,
            sm_clock_mhz=900.0 if is_hot else 1500.0,
            mem_clock_mhz=2000.0,
            temperature_c=90.0 if is_hot else 60.0 + phase_s,
            temperature_margin_c=0.0 if is_hot else 30.0 - phase_s,
            throttle_reasons=("hw_thermal_slowdown",) if is_hot else (),
        )

    def close(self) -> None:
        pass

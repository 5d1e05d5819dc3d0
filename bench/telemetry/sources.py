"""Which sources tell the state of which devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bench.telemetry.host_source import HostSource
from bench.telemetry.nvml import NvmlSource
from bench.telemetry.reading import Reading, Source
from bench.telemetry.scripted import ScriptedSource
from bench.types import DeviceInfo


class Sources:
    """The host's source, and one for each kind of device that is there; a ``Source`` itself."""

    def __init__(
        self, devices: Sequence[DeviceInfo], run_pid: int | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        gpus = [device for device in devices if device.kind == "cuda"]
        fakes = [device for device in devices if device.kind == "fake"]
        self._sources: list[Source] = [HostSource(clock)]
        if gpus:
            self._sources.append(NvmlSource(gpus, run_pid, clock))
        if fakes:
            self._sources.append(ScriptedSource(fakes, clock))

    def read(self) -> list[Reading]:
        return [reading for source in self._sources for reading in source.read()]

    def close(self) -> None:
        for source in self._sources:
            source.close()

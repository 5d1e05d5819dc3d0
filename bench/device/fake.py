"""A device with a scripted clock, for tests and demonstrations.

Launches run on the CPU, their times come from a script, nothing sleeps.
Whatever is measured on it is marked ``simulated`` wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.device.base import loop
from bench.errors import ImpossibleDevice, Unsupported
from bench.types import DeviceInfo, Mark


@dataclass(frozen=True)
class Scenario:
    """What the clock shows, the time of the n-th launch on each of some devices, and when their state is throttled."""

    devices: int = 1
    launch_ns: int = 1_000_000
    first: tuple[float, ...] = ()  # factors of the first launches
    ripple: tuple[float, ...] = (1.0,)  # factors that repeat ever after
    drift: float = 0.0  # added to the factor at every launch
    slow: Mapping[int, float] = field(default_factory=dict)  # factor of a device
    hot: tuple[float, float] = (0.0, 0.0)  # from when until when its state is throttled, in seconds of each ten

    def factor(self, device: int, launch: int) -> float:
        base = self.first[launch] if launch < len(self.first) else self.ripple[launch % len(self.ripple)]
        return (base + self.drift * launch) * self.slow.get(device, 1.0)


SCENARIOS: dict[str, Scenario] = {
    "steady": Scenario(ripple=(1.0, 1.002, 0.998)),
    "warm-up": Scenario(first=(8.0, 4.0, 2.0, 1.5), ripple=(1.0, 1.001)),
    "ramp": Scenario(drift=0.05),
    "hot": Scenario(ripple=(1.0, 1.002, 0.998), hot=(3.0, 5.0)),
    "straggler": Scenario(devices=4, ripple=(1.0, 1.002, 0.998), slow={2: 1.25}),
}


def scenario(name: str) -> Scenario:
    """The script of that name.

    Raises:
        ImpossibleDevice: there is none.
    """
    if name not in SCENARIOS:
        raise ImpossibleDevice(f"no fake scenario {name!r}", f"There are: {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


class FakeDevice:
    torch_device = "cpu"
    threads = 1
    cache_bytes = 0
    host_cache_bytes = 0
    min_sample_ns = 0

    def __init__(self, info: DeviceInfo, scratch: Path, script: Scenario | None = None) -> None:
        self.info = info
        self.indices: Sequence[int] = (info.index,)
        self.scratch = scratch
        self.script = script or scenario(info.scenario)
        self.events: list[str] = []  # what was called, in order
        self._clock_ns = 0
        self._started_ns = 0
        self._launches = 0
        self._marks: list[Mark] = []

    def now_ns(self) -> int:
        return self._clock_ns

    def advance(self, elapsed_ns: int) -> None:
        self._clock_ns += elapsed_ns

    def start(self) -> None:
        self.events.append("start")
        self._marks.clear()
        self._started_ns = self._clock_ns

    def stop(self) -> int:
        self.events.append("stop")
        return self._clock_ns - self._started_ns

    def mark(self, name: str) -> None:
        self._marks.append(Mark(name, self._clock_ns - self._started_ns))

    def take_marks(self) -> list[Mark]:
        marks, self._marks = self._marks, []
        return marks

    def repeat(self, launch: Callable[[], None], launches: int) -> Callable[[], None]:
        def scripted() -> None:
            self.events.append("launch")
            launch()
            self.advance(round(self.script.launch_ns * self.script.factor(self.info.index, self._launches)))
            self._launches += 1

        return loop(scripted, launches)

    def captured(self, runs: Sequence[Callable[[], object]]) -> list[Callable[[], None]]:
        raise Unsupported("a simulated device has no graphs")

    def synchronize(self) -> None:
        self.events.append("synchronize")

    def flush_cache(self) -> None:
        self.events.append("flush")

    def free_bytes(self) -> int | None:
        return None

    def forget_peak_memory(self) -> None:
        pass

    def peak_memory_bytes(self) -> int | None:
        return None

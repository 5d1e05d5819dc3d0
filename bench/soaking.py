"""The soak of a run: a worker on each device that stays, seen through to the last stretch; and the cool-down after it.

Where a worker dies, its stretch has a row that says so, and a fresh one goes on beside the others, who are not stopped.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.launch import local, process
from bench.observer import Observer
from bench.schema import Row
from bench.store import RunFolder
from bench.types import SOAK_ARM, DeviceInfo, Item, Job, Soak, Status
from bench.units import show, show_duration

# A device on which so many stretches fail one after the other is left alone.
_FAILURES_IN_A_ROW = 3
# Cool is what has lost no more than a degree in half a minute. Where no temperature is read, a minute has to do.
_SETTLED_C, _SETTLED_S, _BLIND_S = 1.0, 30.0, 60.0
_POLL_S = 0.5
_TAIL_BYTES = 1 << 20  # of the readings: more than half a minute of ten a second on sixteen devices

WriteDeath = Callable[[Job, int, Status, str, int], None]


class Soaking:
    """The state of a soak in progress."""

    def __init__(
        self,
        folder: RunFolder,
        soak: Soak,
        kept: Sequence[Row],
        clock_offset_ns: int,
        observer: Observer,
        write_death: WriteDeath,
        on_poll: Callable[[], None],
    ) -> None:
        self.folder = folder
        self.soak = soak
        self.clock_offset_ns = clock_offset_ns
        self.observer = observer
        self.write_death = write_death
        self.on_poll = on_poll
        devices = folder.plan.devices
        stretches = [row for row in kept if row["arm"] == SOAK_ARM]
        self.begun = {device: _next(stretches, device, "session") for device in devices}  # the next stretch of each
        self.processes = {device: _next(stretches, device, "replicate") for device in devices}
        self.failures = dict.fromkeys(devices, 0)
        self.rates: dict[str, str] = {}  # of the last stretch, by the device's label
        self.heard_s = time.monotonic()  # when the last stretch ended

    def run(self) -> bool:
        """Put the load on until every device has had its stretches; whether there was any left to do."""
        devices = [device for device, begun in self.begun.items() if begun < self.soak.stretches]
        jobs = [self._job(device, rank, len(devices)) for rank, device in enumerate(devices)]
        if jobs:
            self._tell()
            local.run_group(jobs, self.folder.lock_fd, self._on_event, self._poll, self._again)
        return bool(jobs)

    def _job(self, device: DeviceInfo, rank: int, world_size: int) -> Job:
        plan, first = self.folder.plan, self.begun[device]
        timeout_s = plan.timeout_s + self.soak.stretch_s
        return Job(
            plan=dataclasses.replace(plan, policy=self.soak.policy, timeout_s=timeout_s),
            device=device,
            items=(Item(self.soak.workload),) * (self.soak.stretches - first),
            replicate=self.processes[device],
            folder=str(self.folder.path.resolve()),
            scratch=str(self.folder.scratch.resolve()),
            clock_offset_ns=self.clock_offset_ns,
            task="soak",
            sequence=first,
            world_size=world_size,
            rank=rank,
        )

    def _poll(self) -> None:
        self.on_poll()
        self._tell()

    def _on_event(self, job: Job, event: process.Event) -> None:
        if event["event"] == "done":
            device = job.device
            self.begun[device] = job.sequence + event["item"] + 1
            is_sound = event["status"] in ("ok", "wrong", "unsupported")
            self.failures[device] = 0 if is_sound else self.failures[device] + 1
            if event["status"] == "ok":
                self.rates[device.label] = show(event["value"], event["unit"])
            else:
                self.rates[device.label] = event["status"]
                self.observer.note(f"{device.label}, stretch {job.sequence + event['item']}: {event['status']}")
            self.heard_s = time.monotonic()
            self._tell()

    def _again(self, outcome: process.Outcome) -> Job | None:
        """What a fresh worker is to do in the place of one that died, if anything."""
        outcome.raise_fatal()
        job, device = outcome.job, outcome.job.device
        if outcome.death is None:
            return None
        if outcome.finished < max(outcome.begun, 1):  # with a stretch in hand, or before it had begun any
            self.write_death(job, outcome.finished, *outcome.death, outcome.begun_ns)
            self.begun[device] = job.sequence + outcome.finished + 1
            self.failures[device] += 1
        if self.failures[device] >= _FAILURES_IN_A_ROW:
            self.observer.note(f"{device.label} is left alone: {_FAILURES_IN_A_ROW} stretches failed in a row")
            return None
        self.processes[device] += 1
        return self._job(device, job.rank, job.world_size) if self.begun[device] < self.soak.stretches else None

    def _tell(self) -> None:
        total = self.soak.stretches * len(self.begun)
        going_on = [begun for device, begun in self.begun.items() if self.failures[device] < _FAILURES_IN_A_ROW]
        least = min(going_on or self.begun.values())
        since_s = min(time.monotonic() - self.heard_s, self.soak.stretch_s)
        left_s = max(0.0, (self.soak.stretches - least) * self.soak.stretch_s - since_s)
        soaked = f"{show_duration(least * self.soak.stretch_s)} of {show_duration(self.soak.seconds)}"
        rates = ", ".join(f"{label} {rate}" for label, rate in sorted(self.rates.items()))
        self.observer.advance(sum(self.begun.values()), total, left_s, f"soak {soaked}  {rates}".rstrip())


def cool_down(folder: RunFolder, soak: Soak, observer: Observer, on_poll: Callable[[], None]) -> None:
    """Wait until the devices have cooled, for as long as the soak's plan allows at most; a script has no heat."""
    if not soak.cool_down_s or all(device.kind == "fake" for device in folder.plan.devices):
        return
    began_s = time.monotonic()
    wanted: set[tuple[str, int]] = {(device.kind, device.index) for device in folder.plan.devices}
    spent_s, is_cool = 0.0, False
    while not is_cool and spent_s < soak.cool_down_s:
        observer.advance(0, 1, soak.cool_down_s - spent_s, "cooling down")
        on_poll()
        time.sleep(_POLL_S)
        spent_s = time.monotonic() - began_s
        temperatures = _temperatures(folder.telemetry, wanted)
        waited_enough_s = _SETTLED_S if temperatures else _BLIND_S
        is_cool = spent_s >= waited_enough_s and all(map(_is_settled, temperatures.values()))
    observer.note(f"let the devices cool for {show_duration(spent_s)}")


def _next(stretches: Sequence[Row], device: DeviceInfo, column: str) -> int:
    mine = (row[column] for row in stretches if (row["device"], row["device_index"]) == (device.kind, device.index))
    return max(mine, default=-1) + 1


def _temperatures(readings: Path, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """When and how warm each device was lately; none where that is not read. Only the file's end is looked at."""
    found: dict[tuple[str, int], list[tuple[int, float]]] = {}
    if not readings.exists():
        return found
    with readings.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
        lines = file.read().split(b"\n")
    for line in lines[1:]:
        try:
            one = json.loads(line)
        except ValueError:  # the last line, half written
            continue
        key = one["device"], one["device_index"]
        if key in wanted and one.get("temperature_c") is not None:
            found.setdefault(key, []).append((one["at_ns"], one["temperature_c"]))
    return found


def _is_settled(series: Sequence[tuple[int, float]]) -> bool:
    """Whether a device has lost no more than a degree in the last half minute."""
    until_ns, now_c = series[-1]
    earlier = [c for at_ns, c in series if at_ns >= until_ns - _SETTLED_S * 1e9]
    return max(earlier) - now_c <= _SETTLED_C

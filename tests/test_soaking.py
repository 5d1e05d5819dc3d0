"""The cool-down after a soak, on a scripted clock with scripted temperatures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import soaking, store
from bench.errors import Interrupted
from bench.run import Silent
from bench.store import RunFolder
from bench.types import DeviceInfo, Soak
from tests.results import make_plan

SOAK = Soak("soak/x", 4, 60.0, 1.0, cool_down_s=300.0)
GPUS = (DeviceInfo("cuda", 0, "GPU"), DeviceInfo("cuda", 1, "GPU"))


class Thermometer(Silent):
    """Time goes by in sleeps alone; with each of them the devices are read, as far as they tell."""

    def __init__(self, folder: RunFolder, temperature_c: Callable[[int, float], float | None]) -> None:
        self.folder = folder
        self.temperature_c = temperature_c
        self.now_s = 1000.0
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        with self.folder.telemetry.open("a") as file:
            for device in self.folder.plan.devices:
                one = {"at_ns": round(self.now_s * 1e9), "device": device.kind, "device_index": device.index}
                celsius = self.temperature_c(device.index, self.now_s - 1000.0)
                file.write(json.dumps(one | ({} if celsius is None else {"temperature_c": celsius})) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    folder = store.begin(tmp_path, make_plan(devices=GPUS, soak=SOAK))
    yield folder
    folder.release()


def cooled_s(
    monkeypatch: pytest.MonkeyPatch, folder: RunFolder, temperature_c: Callable[[int, float], float | None]
) -> float:
    """How long it took."""
    device = Thermometer(folder, temperature_c)
    monkeypatch.setattr(soaking.time, "sleep", device.sleep)
    monkeypatch.setattr(soaking.time, "monotonic", lambda: device.now_s)
    soaking.cool_down(folder, SOAK, device, lambda: None)
    assert len(device.notes) == 1
    return device.now_s - 1000.0


def test_it_lasts_until_the_last_device_cools_no_more(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    """One is cool at once, the other loses a degree in ten seconds for a hundred and twenty seconds."""
    spent_s = cooled_s(monkeypatch, folder, lambda device, s: 40.0 if device == 0 else 80.0 - min(s, 120.0) / 10)
    assert 120 + 30 - 10 <= spent_s <= 120 + 30


def test_cool_devices_are_watched_for_half_a_minute(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    assert cooled_s(monkeypatch, folder, lambda device, s: 40.0) == soaking._SETTLED_S


def test_it_ends_though_they_are_still_cooling(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    assert cooled_s(monkeypatch, folder, lambda device, s: 200.0 - s / 10) == SOAK.cool_down_s


def test_where_no_temperature_is_read_a_minute_has_to_do(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    assert cooled_s(monkeypatch, folder, lambda device, s: None) == soaking._BLIND_S


def test_without_a_series_it_is_as_blind(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    assert soaking._temperatures(folder.telemetry, {("cuda", 0)}) == {}


def test_half_a_line_is_no_reading(folder: RunFolder) -> None:
    line = json.dumps({"at_ns": 1, "device": "cuda", "device_index": 0, "temperature_c": 50.0})
    folder.telemetry.write_text(f"{line}\n{line}\n{line[:20]}")
    assert soaking._temperatures(folder.telemetry, {("cuda", 0)}) == {("cuda", 0): [(1, 50.0)]}


def test_a_script_has_no_heat_and_a_signal_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def told() -> None:
        raise Interrupted(2, "interrupted")

    fake = make_plan(run_id="fa", devices=(DeviceInfo("fake", 0, "fake", scenario="steady"),), soak=SOAK)
    for plan, is_ended in ((fake, False), (make_plan(run_id="ca", devices=GPUS, soak=SOAK), True)):
        folder = store.begin(tmp_path, plan)
        try:
            if is_ended:
                with pytest.raises(Interrupted):
                    soaking.cool_down(folder, SOAK, Silent(), told)
            else:
                soaking.cool_down(folder, SOAK, Silent(), told)
        finally:
            folder.release()

"""The soak of a run without its processes: who goes on after a death, what is told, and the cool-down after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bench import soaking, store
from bench.errors import Interrupted
from bench.launch.process import Outcome
from bench.observer import Silent
from bench.schema import Row
from bench.store import RunFolder
from bench.types import SOAK_ARM, DeviceInfo, Job, Soak, Status
from tests.results import make_plan, make_row

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


class Told(Silent):
    """What was last told."""

    left_s: float | None = None
    doing = ""

    def advance(self, done: int, total: int, left_s: float | None, doing: str) -> None:
        self.done, self.total, self.left_s, self.doing = done, total, left_s, doing


class Stage:
    """A soak whose workers are played."""

    def __init__(self, folder: RunFolder, kept: Sequence[Row] = ()) -> None:
        self.observer = Told()
        self.buried: list[tuple[int, int]] = []
        self.soaking = soaking.Soaking(folder, SOAK, kept, 0, self.observer, self._bury, lambda: None)

    def _bury(self, job: Job, index: int, status: Status, reason: str, begun_ns: int) -> None:
        self.buried.append((job.device.index, job.sequence + index))

    def job(self, device: int) -> Job:
        return self.soaking._job(GPUS[device], device, len(GPUS))

    def done(self, job: Job, item: int, status: str = "ok") -> None:
        event = {"event": "done", "item": item, "status": status, "value": 8e14, "unit": "FLOP/s"}
        self.soaking._on_event(job, event)

    def died(self, job: Job, begun: int, finished: int) -> Job | None:
        return self.soaking._again(Outcome(job, begun, finished, death=("crashed", "killed")))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    folder = store.begin(tmp_path, make_plan(devices=GPUS, soak=SOAK))
    yield folder
    folder.release()


# ---------------------------------------------------------------- workers


def test_a_death_costs_the_stretch_in_hand_and_the_next_process_has_a_number_of_its_own(folder: RunFolder) -> None:
    stage = Stage(folder)
    job = stage.job(1)
    assert (job.replicate, job.sequence, len(job.items)) == (0, 0, 4)
    stage.done(job, 0)
    following = stage.died(job, begun=2, finished=1)
    assert following is not None
    assert stage.buried == [(1, 1)]
    assert (following.replicate, following.sequence, len(following.items)) == (1, 2, 2)
    assert stage.job(0).replicate == 0, "the other device notices nothing"


def test_a_process_that_wrote_its_failure_itself_is_not_buried_twice(folder: RunFolder) -> None:
    stage = Stage(folder)
    job = stage.job(0)
    stage.done(job, 0, "failed")
    following = stage.died(job, begun=1, finished=1)
    assert following is not None and following.sequence == 1
    assert stage.buried == []


def test_three_failures_in_a_row_are_enough_and_a_stretch_between_them_starts_the_count_anew(
    folder: RunFolder,
) -> None:
    stage = Stage(folder)
    first = stage.died(stage.job(0), begun=0, finished=0)
    assert first is not None
    stage.done(first, 0)
    second = stage.died(first, begun=2, finished=1)
    assert second is not None and second.sequence == 3
    stage.soaking.failures[GPUS[0]] = 2
    assert stage.died(second, begun=0, finished=0) is None
    assert stage.buried == [(0, 0), (0, 2), (0, 3)]
    stage.done(stage.job(1), 3)
    assert stage.observer.left_s == 0, "nobody waits for the one that is left alone"


def test_the_last_stretch_has_no_successor(folder: RunFolder) -> None:
    stage = Stage(folder)
    job = stage.job(0)
    for item in range(4):
        stage.done(job, item)
    assert stage.died(job, begun=4, finished=4) is None
    assert stage.soaking._again(Outcome(job, 4, 4)) is None


def test_what_was_kept_is_not_done_again(folder: RunFolder) -> None:
    rows = [
        make_row(folder.plan, device=device, session=number, arm=SOAK_ARM, replicate=2)
        for device, count in enumerate((4, 3))
        for number in range(count)
    ]
    stage = Stage(folder, rows)
    assert stage.soaking.begun == dict(zip(GPUS, (4, 3), strict=True))
    assert (stage.job(1).sequence, stage.job(1).replicate, len(stage.job(1).items)) == (3, 3, 1)


def test_progress_tells_the_time_left_and_the_rate_of_each_device(
    monkeypatch: pytest.MonkeyPatch, folder: RunFolder
) -> None:
    now_s = 1000.0
    monkeypatch.setattr("bench.soaking.time.monotonic", lambda: now_s)
    stage = Stage(folder)
    stage.done(stage.job(0), 1)
    stage.done(stage.job(1), 0, "wrong")
    told = stage.observer
    assert (told.done, told.total, told.left_s) == (3, 8, 180.0)
    assert told.doing == "soak 1:00 of 4:00  cuda:0 800.0 TFLOP/s, cuda:1 wrong"
    now_s += 20
    stage.soaking._poll()
    assert told.left_s == 160.0
    now_s += 1000
    stage.soaking._poll()
    assert told.left_s == 120.0, "a stretch that is late does not make what follows it shorter"


# ---------------------------------------------------------------- cooling down


def cooled_s(
    monkeypatch: pytest.MonkeyPatch, folder: RunFolder, temperature_c: Callable[[int, float], float | None]
) -> float:
    """How long it took."""
    device = Thermometer(folder, temperature_c)
    monkeypatch.setattr("bench.soaking.time.sleep", device.sleep)
    monkeypatch.setattr("bench.soaking.time.monotonic", lambda: device.now_s)
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

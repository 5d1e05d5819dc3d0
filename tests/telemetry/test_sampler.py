"""``bench.telemetry.sampler`` and ``bench.launch.sampler``: a process that reads beside a run, and ends with it."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.device import fake
from bench.launch.sampler import Sampler
from bench.telemetry import sampler
from bench.telemetry.reading import Reading
from bench.telemetry.scripted import ScriptedSource
from bench.types import DeviceInfo
from tests.checkout import ROOT, wait_until
from tests.results import CPU, make_plan

FAKE = DeviceInfo("fake", 0, "simulated", scenario="hot")


def started(folder: Path, target: Path | None = None, hz: float = 50.0) -> Sampler:
    plan = make_plan("matmul/fp32/64", devices=(CPU, FAKE), telemetry_hz=hz)
    return Sampler(plan, target or folder / "t.jsonl", folder / "t.log", os.getpid(), 10**18 - time.monotonic_ns())


def readings(folder: Path) -> list[Reading]:
    path = folder / "t.jsonl"
    return sampler.read_back(path) if path.exists() else []


def test_it_reads_host_and_devices_on_the_run_s_clock_until_it_is_left(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        wait_until(lambda: len(readings(tmp_path)) > 10, "some readings")
        assert running.obstacle() is None
        left_ns = 10**18 + 10**12  # the run's clock began at 10**18, less than a thousand seconds ago
    found = readings(tmp_path)
    assert {(one.device, one.device_index) for one in found} == {("cpu", 0), ("fake", 0)}
    assert all(10**18 <= one.at_ns < left_ns for one in found)
    assert [one.at_ns for one in found] == sorted(one.at_ns for one in found)
    assert sum(one.cpu_ns for one in found) > 0


def test_its_last_reading_comes_after_it_was_told_to_end(tmp_path: Path) -> None:
    offset_ns = 0
    plan = make_plan("matmul/fp32/64", devices=(CPU,), telemetry_hz=0.1)  # no other falls due meanwhile
    with Sampler(plan, tmp_path / "t.jsonl", tmp_path / "t.log", os.getpid(), offset_ns):
        wait_until(lambda: readings(tmp_path), "the first reading")
        told_ns = time.monotonic_ns()
    assert [one.at_ns > told_ns for one in readings(tmp_path)] == [False, True]


def test_no_readings_are_taken_where_none_are_wanted(tmp_path: Path) -> None:
    with started(tmp_path, hz=0) as running:
        assert running.obstacle() is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_it_with_one_line(tmp_path: Path) -> None:
    with started(tmp_path, Path("/dev/full")) as running:
        wait_until(running.obstacle, "its end")
        assert running.obstacle() == "/dev/full: No space left on device"


def test_a_signal_to_the_whole_job_does_not_end_it_and_the_death_of_the_run_does(tmp_path: Path) -> None:
    """A run of its own, which is killed."""
    script = (
        "import os, time\nfrom pathlib import Path\nfrom tests.telemetry import test_sampler as t\n"
        f"running = t.started(Path({str(tmp_path)!r}))\nprint(running._process.pid, flush=True)\ntime.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pid = int(run.stdout.readline())
    wait_until(lambda: readings(tmp_path), "the first reading")
    os.kill(pid, signal.SIGTERM)
    many = len(readings(tmp_path)) + 20
    wait_until(lambda: len(readings(tmp_path)) > many, "more readings after SIGTERM")
    run.kill()
    run.wait()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid), "the sampler's end")
    run.stdout.close()


def is_zombie(pid: int) -> bool:
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_what_a_killed_sampler_was_writing_is_passed_over(tmp_path: Path) -> None:
    whole = Reading(at_ns=1, device="cpu", device_index=0, throttle_reasons=("a",), xids=(79,))
    line = json.dumps(whole.to_json())
    (tmp_path / "t.jsonl").write_text(f'{line}\n{{"a_later_field": 1, {line[1:]}\n{line[:20]}')
    assert readings(tmp_path) == [whole, whole]


class Slow:
    """A source whose second reading takes long."""

    def __init__(self, takes_s: Callable[[int], float]) -> None:
        self.began_s: list[float] = []
        self.takes_s = takes_s

    def read(self) -> list[Reading]:
        self.began_s.append(time.monotonic())
        time.sleep(self.takes_s(len(self.began_s)))
        return [Reading(at_ns=0, device="cpu", device_index=0)]

    def close(self) -> None:
        pass


def test_moments_that_were_missed_are_left_out_and_not_made_up_for() -> None:
    source = Slow(lambda reading: 0.35 if reading == 2 else 0.0)
    ours, theirs = os.pipe()
    timer = threading.Timer(1.0, os.close, [theirs])
    timer.start()
    sampler.sample(source, io.BytesIO(), 0.1, ours)  # type: ignore[arg-type]
    timer.join()
    os.close(ours)
    places = [(at_s - source.began_s[0]) / 0.1 for at_s in source.began_s]
    assert not [place for place in places[2:] if place < 4.4], "2, 3 and 4 fell into the long one"
    # From 0 on one for each moment, but for those three, and a last one; however late the timer was.
    assert len(places) <= math.ceil(places[-1]) + 2 - 3


@pytest.mark.parametrize(("second", "is_hot"), [(0.0, False), (2.9, False), (3.0, True), (4.9, True), (5.1, False)])
def test_a_scripted_device_is_hot_when_its_scenario_says_so(second: float, is_hot: bool) -> None:
    now_ns = [1_000]
    source = ScriptedSource([FAKE], lambda: now_ns[0])
    now_ns[0] += round(second * 1e9)
    (found,) = source.read()
    assert (found.throttle_reasons == ("hw_thermal_slowdown",)) is is_hot
    assert (found.at_ns, found.device, found.device_index) == (now_ns[0], "fake", 0)
    assert fake.scenario("hot").hot == (3.0, 5.0)

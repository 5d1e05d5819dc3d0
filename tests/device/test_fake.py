"""``bench.device.fake``: the clock shows what the script says, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.device.fake import SCENARIOS, FakeDevice, Scenario, scenario
from bench.errors import ImpossibleDevice
from bench.types import DeviceInfo, Mark


def launch_times(device: FakeDevice, launches: int) -> list[int]:
    run = device.repeat(lambda: None, 1)
    times = []
    for _ in range(launches):
        device.start()
        run()
        times.append(device.stop())
    return times


def opened(tmp_path: Path, name: str, index: int = 0) -> FakeDevice:
    return FakeDevice(DeviceInfo("fake", index, "fake", scenario=name), tmp_path)


def test_factors_of_first_launches_ripple_drift_and_slow_devices() -> None:
    script = Scenario(first=(8.0, 4.0), ripple=(1.0, 2.0, 3.0), drift=0.5, slow={1: 10.0})
    assert [script.factor(0, launch) for launch in range(5)] == [8.0, 4.5, 3.0 + 1.0, 1.0 + 1.5, 2.0 + 2.0]
    assert script.factor(1, 4) == 10.0 * script.factor(0, 4)


def test_the_clock_moves_by_launches_alone(tmp_path: Path) -> None:
    device = opened(tmp_path, "warm-up")
    assert launch_times(device, 6) == [8_000_000, 4_000_000, 2_000_000, 1_500_000, 1_000_000, 1_001_000]
    assert device.now_ns() == 17_501_000
    device.flush_cache()
    device.synchronize()
    assert device.now_ns() == 17_501_000


def test_a_straggler_is_slower_than_its_peers(tmp_path: Path) -> None:
    peers, straggler = opened(tmp_path, "straggler", 0), opened(tmp_path, "straggler", 2)
    ratios = [s / p for s, p in zip(launch_times(straggler, 9), launch_times(peers, 9), strict=True)]
    assert ratios == pytest.approx([1.25] * 9)


def test_launches_are_performed(tmp_path: Path) -> None:
    performed: list[int] = []
    device = opened(tmp_path, "steady")
    device.repeat(lambda: performed.append(1), 3)()
    assert len(performed) == 3
    assert device.events == ["launch"] * 3


def test_marks_belong_to_the_running_sample(tmp_path: Path) -> None:
    device = opened(tmp_path, "steady")
    device.mark("of no sample")
    device.advance(5)
    device.start()
    device.advance(7)
    device.mark("inside")
    device.stop()
    assert device.take_marks() == [Mark("inside", 7)]
    assert device.take_marks() == []


def test_unknown_scenario() -> None:
    with pytest.raises(ImpossibleDevice, match="steady"):
        scenario("nothing such")
    assert scenario("ramp") is SCENARIOS["ramp"]

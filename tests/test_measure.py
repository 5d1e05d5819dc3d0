"""``bench.measure``: the timing loop on a scripted clock. Nothing here sleeps or reads a real clock."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.device.fake import FakeDevice, Scenario
from bench.kernel import Case
from bench.measure import Bursts, bursts, measure
from bench.types import Check, DeviceInfo, Duet, Mark, Policy, SampleFlag, Work

ONCE = Policy(warmup_rule="count", warmup_min_samples=1, warmup_min_s=0.0, min_samples=1, max_samples=1)
EAGER = Policy(warmup_min_s=0.0)  # asks its rule as soon as there are enough samples
LAUNCH_NS = 1_000_000


class ScriptedCase(Case):
    work = Work(unit="FLOP/s", flops=1)

    def __init__(self, device: FakeDevice, *, resets: bool = False, marks: tuple[str, ...] = ()) -> None:
        self.device, self.resets, self.marks = device, resets, marks
        self.launches = 0

    def launch(self) -> None:
        self.launches += 1
        for name in self.marks:
            self.device.advance(10)
            self.device.mark(name)

    def reset(self) -> None:
        self.device.events.append("reset")
        self.device.advance(12_345)

    def check(self) -> Check:
        return Check(0.0, 0.0)


def device_with(tmp_path: Path, script: Scenario) -> FakeDevice:
    return FakeDevice(DeviceInfo("fake", 0, "fake"), tmp_path, script)


# ---------------------------------------------------------------- what belongs to a sample


def test_nothing_but_the_launch_lies_between_start_and_stop(fake_device: FakeDevice) -> None:
    measure(ScriptedCase(fake_device), fake_device, dataclasses.replace(ONCE, max_samples=2, min_samples=2))
    assert fake_device.events == ["start", "launch", "stop"] * 3


def test_a_reset_comes_before_every_launch_and_is_not_timed(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario())
    policy = dataclasses.replace(ONCE, max_samples=2, min_samples=2)
    measurement = measure(ScriptedCase(device, resets=True), device, policy)
    assert device.events == ["reset", "start", "launch", "stop"] * 3
    assert measurement.elapsed_ns == (LAUNCH_NS, LAUNCH_NS)


def test_samples_are_in_the_order_they_were_taken(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario(first=(9.0, 1.0, 3.0, 2.0)))
    policy = dataclasses.replace(ONCE, max_samples=3, min_samples=3)
    measurement = measure(ScriptedCase(device), device, policy)
    assert measurement.warmup_ns == (9 * LAUNCH_NS,)
    assert measurement.elapsed_ns == (LAUNCH_NS, 3 * LAUNCH_NS, 2 * LAUNCH_NS)


# ---------------------------------------------------------------- warm-up


def measured(tmp_path: Path, scenario: str, policy: Policy) -> tuple[FakeDevice, tuple[int, ...], bool]:
    device = FakeDevice(DeviceInfo("fake", 0, "fake", scenario=scenario), tmp_path)
    measurement = measure(ScriptedCase(device), device, policy)
    return device, measurement.warmup_ns, measurement.steady


def test_warm_up_ends_soon_where_the_clock_is_steady(tmp_path: Path) -> None:
    _, warmup_ns, steady = measured(tmp_path, "steady", EAGER)
    assert steady
    assert len(warmup_ns) <= 18


def test_warm_up_ends_after_the_slow_launches(tmp_path: Path) -> None:
    device = FakeDevice(DeviceInfo("fake", 0, "fake", scenario="warm-up"), tmp_path)
    measurement = measure(ScriptedCase(device), device, EAGER)
    assert measurement.steady
    assert len(measurement.warmup_ns) <= 33
    assert max(measurement.elapsed_ns) <= 1_001_000


def test_a_ramp_is_never_steady_and_is_sampled_all_the_same(tmp_path: Path) -> None:
    device = FakeDevice(DeviceInfo("fake", 0, "fake", scenario="ramp"), tmp_path)
    measurement = measure(ScriptedCase(device), device, EAGER)
    assert not measurement.steady
    assert len(measurement.warmup_ns) == EAGER.warmup_max_samples
    assert measurement.elapsed_ns


def test_warm_up_ends_with_its_time(tmp_path: Path) -> None:
    _, warmup_ns, steady = measured(tmp_path, "ramp", dataclasses.replace(EAGER, warmup_max_s=0.010))
    assert not steady
    assert sum(warmup_ns[:-1]) < 10_000_000 <= sum(warmup_ns)


def test_warm_up_by_count_is_no_longer_than_that(tmp_path: Path) -> None:
    policy = dataclasses.replace(EAGER, warmup_rule="count", warmup_min_samples=7)
    _, warmup_ns, steady = measured(tmp_path, "ramp", policy)
    assert (len(warmup_ns), steady) == (7, True)


def test_warm_up_takes_its_least_time_and_then_looks_at_the_last_samples(tmp_path: Path) -> None:
    """A clock that rises for 50 ms: fifteen launches in its middle would look like anything."""
    device = device_with(tmp_path, Scenario(launch_ns=100_000, first=tuple(2 - n / 500 for n in range(500))))
    policy = Policy(warmup_min_s=0.1, warmup_max_samples=40)
    measurement = measure(ScriptedCase(device), device, policy)
    assert measurement.steady
    assert sum(measurement.warmup_ns[:-1]) < 100_000_000 <= sum(measurement.warmup_ns)
    assert set(measurement.elapsed_ns) == {100_000}


def test_warm_up_gives_up_so_many_samples_after_its_least_time(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario(launch_ns=100_000, drift=0.01))
    measurement = measure(ScriptedCase(device), device, Policy(warmup_min_s=0.01, warmup_max_samples=40))
    samples_in_10_ms = next(n for n in range(200) if sum(measurement.warmup_ns[:n]) >= 10_000_000)
    assert not measurement.steady
    assert len(measurement.warmup_ns) == samples_in_10_ms + 40 - 1


# ---------------------------------------------------------------- the end of sampling


def test_sampling_ends_on_count(fake_device: FakeDevice) -> None:
    policy = Policy(warmup_rule="count", warmup_min_s=0.0, max_samples=12, max_s=1000)
    measurement = measure(ScriptedCase(fake_device), fake_device, policy)
    assert len(measurement.elapsed_ns) == 12
    assert not measurement.cut_short


def test_sampling_ends_on_time_and_not_before(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario())
    measurement = measure(ScriptedCase(device), device, Policy(warmup_rule="count", warmup_min_s=0.0, max_s=0.020))
    assert len(measurement.elapsed_ns) == 20
    assert not measurement.cut_short


def test_time_yields_to_the_least_number_of_samples(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario())
    policy = Policy(warmup_rule="count", warmup_min_s=0.0, min_samples=8, max_s=0.001)
    assert len(measure(ScriptedCase(device), device, policy).elapsed_ns) == 8


def test_a_deadline_cuts_sampling_short(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario())
    policy = dataclasses.replace(ONCE, min_samples=50, max_samples=50)
    measurement = measure(ScriptedCase(device), device, policy, deadline_ns=11 * LAUNCH_NS)
    assert len(measurement.elapsed_ns) == 10  # one launch was warm-up
    assert measurement.cut_short


def test_one_sample_is_taken_after_the_deadline(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario())
    device.advance(1000)
    measurement = measure(ScriptedCase(device), device, Policy(), deadline_ns=0)
    assert (len(measurement.warmup_ns), len(measurement.elapsed_ns)) == (1, 1)
    assert measurement.cut_short
    assert not measurement.steady


# ---------------------------------------------------------------- short launches


def test_short_launches_share_a_sample_and_are_stored_one_by_one(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario(launch_ns=300))
    device.min_sample_ns = 1000
    case = ScriptedCase(device)
    measurement = measure(case, device, dataclasses.replace(ONCE, min_samples=3, max_samples=3))
    assert measurement.launches_per_sample == 4
    assert measurement.elapsed_ns == (300, 300, 300)
    singles, block = ["start", "launch", "stop"] * 3, ["start", *["launch"] * 4, "stop"]
    assert device.events == [*singles, *(block * 3), *block, *(block * 3)]  # sized, tried, warmed up, sampled


def test_a_gap_before_single_launches_does_not_make_samples_short(tmp_path: Path) -> None:
    """On an idle GPU the first launch of a sample comes late: alone it looks three times as long as it is."""

    class Gap(FakeDevice):
        def start(self) -> None:
            super().start()
            self.advance(600)

    device = Gap(DeviceInfo("fake", 0, "fake"), tmp_path, Scenario(launch_ns=300))
    device.min_sample_ns = 100_000
    measurement = measure(ScriptedCase(device), device, ONCE)
    assert measurement.launches_per_sample * 300 >= 0.95 * 100_000


def test_a_case_that_resets_has_one_launch_a_sample(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario(launch_ns=300))
    device.min_sample_ns = 1000
    measurement = measure(ScriptedCase(device, resets=True), device, ONCE)
    assert measurement.launches_per_sample == 1
    assert measurement.elapsed_ns == (300,)


# ---------------------------------------------------------------- flags and marks


def test_outliers_are_flagged_and_kept(tmp_path: Path) -> None:
    ripple = (1.0, 1.01, 1.02, 1.0, 1.01, 1.02, 1.0, 1.01, 1.02, 5.0)
    device = device_with(tmp_path, Scenario(first=(1.0,), ripple=ripple))
    policy = dataclasses.replace(ONCE, min_samples=20, max_samples=20)
    measurement = measure(ScriptedCase(device), device, policy)
    assert len(measurement.elapsed_ns) == len(measurement.sample_flags) == 20
    for elapsed_ns, flags in zip(measurement.elapsed_ns, measurement.sample_flags, strict=True):
        assert bool(flags & SampleFlag.OUTLIER) == (elapsed_ns == 5 * LAUNCH_NS)
    assert measurement.elapsed_ns.count(5 * LAUNCH_NS) == 2


def test_equal_samples_have_no_flags(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario())
    measurement = measure(ScriptedCase(device), device, dataclasses.replace(ONCE, min_samples=9, max_samples=9))
    assert measurement.sample_flags == (SampleFlag.NONE,) * 9


def test_marks_count_from_their_own_sample(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario())
    case = ScriptedCase(device, marks=("first_batch", "first_token"))
    case.launch()  # as a check does, untimed
    measurement = measure(case, device, dataclasses.replace(ONCE, min_samples=3, max_samples=3))
    assert measurement.marks == (Mark("first_batch", 10), Mark("first_token", 20)) * 3
    assert measurement.marks_per_sample == 2


# ---------------------------------------------------------------- the garbage collector


@pytest.fixture
def collector() -> Iterator[None]:
    was_enabled = gc.isenabled()
    yield
    (gc.enable if was_enabled else gc.disable)()


class CollectorCase(ScriptedCase):
    def __init__(self, device: FakeDevice, fails: bool) -> None:
        super().__init__(device)
        self.fails, self.seen = fails, [True]

    def launch(self) -> None:
        self.seen = [gc.isenabled()]
        if self.fails:
            raise RuntimeError("lost")


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_collector_is_off_while_timing_and_put_back(fake_device: FakeDevice, enabled: bool, fails: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    case = CollectorCase(fake_device, fails)
    if fails:
        with pytest.raises(RuntimeError, match="lost"):
            measure(case, fake_device, ONCE)
    else:
        measure(case, fake_device, ONCE)
    assert case.seen == [False]
    assert gc.isenabled() is enabled


# ---------------------------------------------------------------- bursts of an A/B session

DUET = Duet(pairs=3, burst_s=0.02, burst_max_samples=50, warmup_min_s=0.0, warmup_min_samples=3)


def warmed(case: Case, device: FakeDevice, duet: Duet) -> Bursts:
    return bursts(case, device, duet).warm_up(duet)


class FineDevice(FakeDevice):
    """One whose timer does not resolve less than a millisecond."""

    min_sample_ns = 1_000_000


def test_a_burst_has_as_many_samples_as_fill_its_time(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario(launch_ns=2_000_000))
    taken = warmed(ScriptedCase(device), device, DUET)
    assert (taken.samples, taken.launches_per_sample, taken.warmup_ns) == (10, 1, (2_000_000,) * 3)
    assert taken.burst() == [2_000_000] * 10


@pytest.mark.parametrize(("launch_ns", "samples"), [(20_000_000, 1), (19_000_000, 1), (10**10, 1), (7_000_000, 3)])
def test_a_burst_has_one_sample_at_least(tmp_path: Path, launch_ns: int, samples: int) -> None:
    device = device_with(tmp_path, Scenario(launch_ns=launch_ns))
    assert warmed(ScriptedCase(device), device, DUET).samples == samples


def test_short_launches_are_bundled_so_that_no_burst_has_more_than_the_most_samples(tmp_path: Path) -> None:
    """20 ms in 50 samples is 400 us each: 40 launches of 10 us."""
    device = device_with(tmp_path, Scenario(launch_ns=10_000))
    taken = warmed(ScriptedCase(device), device, DUET)
    assert (taken.samples, taken.launches_per_sample) == (50, 40)
    device.events.clear()
    assert taken.burst() == [10_000] * 50  # per launch
    assert device.events.count("start") == 50
    assert device.events.count("launch") == 2000


def test_the_timers_own_resolution_asks_for_more_launches(tmp_path: Path) -> None:
    device = FineDevice(DeviceInfo("fake", 0, "fake"), tmp_path, Scenario(launch_ns=10_000))
    taken = warmed(ScriptedCase(device), device, DUET)
    assert (taken.samples, taken.launches_per_sample) == (20, 100)


def test_a_case_that_resets_is_never_bundled(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario(launch_ns=10_000))
    taken = warmed(ScriptedCase(device, resets=True), device, DUET)
    assert (taken.samples, taken.launches_per_sample) == (50, 1)


def test_the_first_slow_launches_do_not_size_the_burst(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario(launch_ns=2_000_000, first=(9.0, 9.0, 9.0, 50.0, 40.0, 30.0, 20.0, 10.0)))
    taken = warmed(ScriptedCase(device), device, dataclasses.replace(DUET, warmup_min_samples=10))
    assert taken.samples == 10
    assert [ns // 2_000_000 for ns in taken.warmup_ns] == [50, 40, 30, 20, 10, 1, 1, 1, 1, 1]


def test_all_bursts_have_as_many_samples_however_the_machine_drifts(tmp_path: Path) -> None:
    """So that they can be told apart later."""
    device = device_with(tmp_path, Scenario(launch_ns=2_000_000, drift=0.05))
    taken = warmed(ScriptedCase(device), device, DUET)
    assert {len(taken.burst()) for _ in range(3)} == {taken.samples}


def test_warm_up_lasts_at_least_its_time(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario(launch_ns=2_000_000))
    taken = warmed(ScriptedCase(device), device, dataclasses.replace(DUET, warmup_min_s=0.05))
    assert sum(taken.warmup_ns) >= 50_000_000


def test_the_collector_rests_during_a_burst_and_is_as_it_was_after_it(tmp_path: Path) -> None:
    device = device_with(tmp_path, Scenario())
    case = WatchingCase(device)
    taken = warmed(case, device, DUET)
    case.enabled.clear()
    assert gc.isenabled()
    taken.burst()
    assert case.enabled == [False] * taken.samples
    assert gc.isenabled()


class WatchingCase(ScriptedCase):
    def __init__(self, device: FakeDevice) -> None:
        super().__init__(device)
        self.enabled: list[bool] = []

    def launch(self) -> None:
        self.enabled.append(gc.isenabled())

"""``bench.telemetry.host_source``: real files of machines that are not there, and this machine's own."""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.telemetry.host_source import HostSource, growth_uj, spread
from bench.telemetry.reading import Reading
from tests.telemetry.trees import AMD, CPU, INTEL, RAPL, VIRTUAL, link_to_nowhere, ordinary_user, write

SECOND_NS = 1_000_000_000
ENERGY = f"{RAPL}/intel-rapl:0/energy_uj"
CLOCK = f"{CPU}/cpu0/cpufreq/scaling_cur_freq"
THROTTLED_MS = f"{CPU}/cpu0/thermal_throttle/package_throttle_total_time_ms"
THROTTLED_COUNT = f"{CPU}/cpu0/thermal_throttle/package_throttle_count"


class Ticking:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now_ns = 1_800_000_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


def one(source: HostSource) -> Reading:
    (reading,) = source.read()
    return reading


def known(reading: Reading) -> dict[str, object]:
    """What a reading tells, apart from when and at what cost."""
    cost = {"at_ns", "took_ns", "cpu_ns"}
    return {
        name: value for name, value in dataclasses.asdict(reading).items() if value is not None and name not in cost
    }


CPU_TIMES = {
    "cpu_time_s_total": pytest.approx(62.1),  # all but the guests, who are in user and nice time
    "cpu_busy_s_total": pytest.approx(16.3),
    "cpu_steal_s_total": pytest.approx(0.8),
}


def test_all_that_an_intel_machine_shows(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, INTEL))
    write(tmp_path, {ENERGY: "6500000\n", THROTTLED_MS: "2500\n"})
    one(source)
    parts = [name for name in INTEL if name.endswith("energy_uj") and "intel-rapl:1/" not in name]
    write(tmp_path, dict.fromkeys(parts, "8000000000\n"), {ENERGY: "8000000\n"})
    assert known(one(source)) == CPU_TIMES | {
        "device": "cpu",
        "device_index": 0,
        "energy_j": pytest.approx(3.0),  # since it was opened
        "cpu_clock_mhz": pytest.approx(2150.0),
        "temperature_c": pytest.approx(67.0),
        "temperature_margin_c": pytest.approx(29.0),  # package 0 is cooler and yet nearer to its limit
        "throttle_reasons": (),
        "throttled_s_total": pytest.approx(2.5),
    }


def test_all_that_an_amd_machine_shows(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, AMD))
    assert known(one(source)) == CPU_TIMES | {
        "device": "cpu",
        "device_index": 0,
        "energy_j": 0.0,
        "cpu_clock_mhz": pytest.approx(3400.0),
        "temperature_c": pytest.approx(50.0),  # the die's, not Tctl with its offset
    }


def test_a_virtual_machine_shows_its_cpu_times_only(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, VIRTUAL))
    assert known(one(source)) == CPU_TIMES | {"device": "cpu", "device_index": 0}


def test_where_there_is_nothing_nothing_is_known(tmp_path: Path, clock: Ticking) -> None:
    assert known(one(HostSource(clock, tmp_path))) == {"device": "cpu", "device_index": 0}


def test_what_vanishes_becomes_none(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, INTEL))
    one(source)
    write(tmp_path, dict.fromkeys(INTEL, ""))
    clock.now_ns += SECOND_NS
    assert known(one(source)) == {"device": "cpu", "device_index": 0}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.lists(st.binary(max_size=40), min_size=len(INTEL), max_size=len(INTEL)))
def test_no_contents_of_its_files_make_it_raise(tmp_path: Path, garbage: list[bytes]) -> None:
    source = HostSource(Ticking(), write(tmp_path, INTEL))
    broken = HostSource(Ticking(), tmp_path)
    for name, contents in zip(INTEL, garbage, strict=True):
        (tmp_path / name).write_bytes(contents)
    for each in (source, broken, HostSource(Ticking(), tmp_path)):
        assert Reading.from_json(one(each).to_json()).device == "cpu"
        each.close()


# ---------------------------------------------------------------- energy


def test_a_counter_that_wraps_goes_on(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, AMD, {ENERGY: "65532000000\n"}))
    found = []
    for now_uj in (65532500000, 389013, 2389013):
        write(tmp_path, {ENERGY: f"{now_uj}\n"})
        found.append(one(source).energy_j)
    assert found == [pytest.approx(0.5), pytest.approx(1.0), pytest.approx(3.0)]


def test_a_counter_that_falls_by_an_unknown_amount_is_lost_for_good(tmp_path: Path, clock: Ticking) -> None:
    machine = {name: text for name, text in AMD.items() if not name.endswith("max_energy_range_uj")}
    source = HostSource(clock, write(tmp_path, machine))
    found = []
    for now_uj in (4000000, 1000000, 2000000):
        write(tmp_path, {ENERGY: f"{now_uj}\n"})
        found.append(one(source).energy_j)
    assert found == [pytest.approx(1.0), None, None]


def test_a_reading_that_fails_in_between_loses_no_energy(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, AMD))
    found = []
    for contents in ("4000000\n", "", "5500000\n"):
        write(tmp_path, {ENERGY: contents})
        found.append(one(source).energy_j)
    assert found == [pytest.approx(1.0), None, pytest.approx(2.5)]


@pytest.mark.parametrize("package", ["0", "1"])
def test_the_energy_of_some_packages_is_not_that_of_the_host(tmp_path: Path, clock: Ticking, package: str) -> None:
    write(tmp_path, INTEL)
    link_to_nowhere(tmp_path / f"{RAPL}/intel-rapl:{package}/energy_uj")
    assert one(HostSource(clock, tmp_path)).energy_j is None


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_energy_that_is_roots_alone_is_none_for_others(open_folder: Path, clock: Ticking) -> None:
    write(open_folder, INTEL)
    (open_folder / ENERGY).chmod(0o000)
    with ordinary_user():
        reading = one(HostSource(clock, open_folder))
    assert reading.energy_j is None
    assert reading.temperature_c == pytest.approx(67.0)


@given(
    range_uj=st.integers(1, 10**12),
    start=st.floats(0, 1),
    steps=st.lists(st.floats(0, 1, exclude_max=True), max_size=20),
)
def test_growth_adds_up_over_any_number_of_wraps(range_uj: int, start: float, steps: list[float]) -> None:
    true_uj = list(itertools.accumulate((int(step * range_uj) for step in steps), initial=int(start * range_uj)))
    shown_uj = [value % range_uj for value in true_uj]
    growths = [growth_uj(before, now, range_uj) for before, now in itertools.pairwise(shown_uj)]
    assert None not in growths
    assert sum(growth or 0 for growth in growths) == true_uj[-1] - true_uj[0]


def test_a_counter_above_its_own_range_is_not_believed() -> None:
    assert growth_uj(before_uj=200, now_uj=50, range_uj=100) is None
    assert growth_uj(before_uj=100, now_uj=50, range_uj=100) == 50


# ---------------------------------------------------------------- heat


def sensor(number: int, driver: str, **values: str) -> dict[str, str]:
    chip = f"sys/class/hwmon/hwmon{number}"
    return {f"{chip}/name": f"{driver}\n", **{f"{chip}/{name}": f"{text}\n" for name, text in values.items()}}


ZONE = {"sys/class/thermal/thermal_zone3/type": "x86_pkg_temp\n", "sys/class/thermal/thermal_zone3/temp": "55000\n"}


@pytest.mark.parametrize(
    ("machine", "temperature_c", "margin_c"),
    [
        pytest.param(sensor(0, "nvme", temp1_input="40000"), None, None, id="another device's"),
        pytest.param(sensor(0, "k10temp", temp1_label="Tctl", temp1_input="65125"), 65.125, None, id="Tctl alone"),
        pytest.param(
            sensor(0, "k10temp", temp1_input="40000", temp1_max="70000", temp1_crit="95000"), 40, 55, id="no label"
        ),
        pytest.param(
            sensor(0, "coretemp", temp2_label="Core 0", temp2_input="50000", temp3_label="Core 1", temp3_input="54000"),
            54,
            None,
            id="cores only",
        ),
        pytest.param(
            sensor(0, "coretemp", temp1_label="Package id 0", temp1_input="60000", temp1_max="82000"),
            60,
            22,
            id="no critical temperature",
        ),
        pytest.param(
            sensor(0, "coretemp", temp1_label="Package id 0", temp1_input="-3000", temp1_crit="100000"),
            -3,
            103,
            id="frost",
        ),
        pytest.param(ZONE, 55, None, id="thermal zone"),
        pytest.param(
            ZONE | {"sys/class/thermal/thermal_zone0/type": "acpitz", "sys/class/thermal/thermal_zone0/temp": "90000"},
            55,
            None,
            id="the board's zone is not the package's",
        ),
        pytest.param(ZONE | sensor(0, "zenpower", temp1_label="Tdie", temp1_input="33000"), 33, None, id="both"),
    ],
)
def test_the_temperature_is_that_of_the_hottest_package(
    tmp_path: Path, clock: Ticking, machine: dict[str, str], temperature_c: float | None, margin_c: float | None
) -> None:
    reading = one(HostSource(clock, write(tmp_path, machine)))
    assert (reading.temperature_c, reading.temperature_margin_c) == (temperature_c, margin_c)


# ---------------------------------------------------------------- held back


def test_throttling_shows_when_it_begins_and_when_it_ends(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, INTEL))
    found = [(one(source).throttle_reasons, one(source).throttled_s_total)]
    for change in ({THROTTLED_COUNT: "4\n"}, {}, {THROTTLED_MS: "3000\n"}, {}):
        write(tmp_path, change)
        reading = one(source)
        found.append((reading.throttle_reasons, reading.throttled_s_total))
    assert found == [
        (None, 1.0),  # against what should the first be held?
        (("cpu_thermal",), 1.0),
        ((), 1.0),
        (("cpu_thermal",), 4.0),  # three seconds of a package that had none, beside one that had one
        ((), 4.0),
    ]


def test_every_package_is_asked_for_its_throttling(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, INTEL))
    one(source)
    write(tmp_path, {THROTTLED_COUNT.replace("cpu0", "cpu2"): "4\n"})
    assert one(source).throttle_reasons == ("cpu_thermal",)


def test_counters_that_were_set_back_are_no_throttling(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, INTEL))
    one(source)
    write(tmp_path, {THROTTLED_COUNT: "0\n"})
    assert one(source).throttle_reasons == ()


def test_where_no_package_counts_its_cores_do(tmp_path: Path, clock: Ticking) -> None:
    cores_only = {name: text for name, text in INTEL.items() if "package_throttle" not in name}
    assert one(HostSource(clock, write(tmp_path, cores_only))).throttled_s_total == 77.0


# ---------------------------------------------------------------- clocks


def test_the_clock_is_read_about_once_a_second(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, AMD))
    found = [one(source).cpu_clock_mhz]
    write(tmp_path, {CLOCK: "1000000\n"})
    for tenths in (1, 4, 4):
        clock.now_ns += tenths * SECOND_NS // 10
        found.append(one(source).cpu_clock_mhz)
    assert found == [3400.0, 3400.0, 3400.0, 1000.0]


def test_the_clock_is_read_when_time_was_set_back(tmp_path: Path, clock: Ticking) -> None:
    source = HostSource(clock, write(tmp_path, AMD))
    one(source)
    write(tmp_path, {CLOCK: "1000000\n"})
    clock.now_ns -= 3600 * SECOND_NS
    assert one(source).cpu_clock_mhz == 1000.0


def test_no_more_than_sixteen_clocks_of_a_large_machine_are_read(
    tmp_path: Path, clock: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(256)))
    write(tmp_path, {f"{CPU}/cpu{cpu}/cpufreq/scaling_cur_freq": f"{cpu**2 * 1000}\n" for cpu in range(256)})
    assert one(HostSource(clock, tmp_path)).cpu_clock_mhz == 19840.0  # of CPU 0, 16, 32, …


@given(cpus=st.lists(st.integers(0, 1023), unique=True, max_size=300).map(sorted), most=st.integers(1, 20))
def test_a_spread_is_even(cpus: list[int], most: int) -> None:
    chosen = spread(cpus, most)
    assert len(chosen) == min(most, len(cpus))
    places = [cpus.index(cpu) for cpu in chosen]
    steps = [b - a for a, b in itertools.pairwise([*places, len(cpus)])]
    assert not chosen or (places[0] == 0 and max(steps) - min(steps) <= 1)


# ---------------------------------------------------------------- the source itself


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_closed_holds_no_file_and_tells_nothing(tmp_path: Path, clock: Ticking) -> None:
    before = descriptors()
    source = HostSource(clock, write(tmp_path, INTEL))
    assert descriptors() > before
    source.close()
    assert descriptors() == before
    clock.now_ns += SECOND_NS
    assert known(one(source)) == {"device": "cpu", "device_index": 0}
    source.close()


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    source = HostSource()
    before_ns, before = time.time_ns(), psutil.cpu_times()
    readings = [one(source) for _ in range(3)]
    after_ns, after = time.time_ns(), psutil.cpu_times()
    source.close()
    for reading in readings:
        # The clock may be set meanwhile, by a little.
        assert before_ns - SECOND_NS < reading.at_ns < after_ns + SECOND_NS
        assert reading.took_ns > 0
        assert reading.cpu_ns > 0
        assert reading.cpu_steal_s_total is not None
        assert before.steal <= reading.cpu_steal_s_total <= after.steal
        assert reading.power_w is None
        for value in (reading.energy_j, reading.cpu_clock_mhz, reading.temperature_c, reading.throttled_s_total):
            assert value is None or value >= 0
        assert Reading.from_json(reading.to_json()) == reading
    assert readings[0].at_ns < readings[1].at_ns < readings[2].at_ns

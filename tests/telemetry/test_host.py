"""``bench.telemetry.host``: what happened on the host between two readings."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.telemetry import host
from bench.telemetry.host import HostReading, HostWindow
from tests.checkout import wait_until
from tests.telemetry.trees import STAT, link_to_nowhere, write

BEFORE = HostReading(total_s=1000.0, busy_s=100.0, steal_s=10.0, own_s=50.0, involuntary_switches=7)


def after(total_s: float, busy_s: float = 0.0, steal_s: float = 0.0, own_s: float = 0.0) -> HostReading:
    return HostReading(
        BEFORE.total_s + total_s, BEFORE.busy_s + busy_s, BEFORE.steal_s + steal_s, BEFORE.own_s + own_s, 19
    )


@pytest.mark.parametrize(
    ("reading", "steal", "foreign"),
    [
        (after(20.0, busy_s=10.0, own_s=10.0), 0.0, 0.0),
        (after(20.0, busy_s=10.0, own_s=4.0, steal_s=2.0), 0.1, 0.3),
        (after(20.0, busy_s=20.0), 0.0, 1.0),
        # /proc/stat counts in ticks and a process in finer steps: no share is negative, none above one.
        (after(20.0, busy_s=9.99, own_s=10.0), 0.0, 0.0),
        (after(20.0, busy_s=20.01), 0.0, 1.0),
    ],
)
def test_a_window_is_the_difference_of_two_readings(reading: HostReading, steal: float, foreign: float) -> None:
    window = host.window(BEFORE, reading)
    assert window.steal_fraction == pytest.approx(steal)
    assert window.foreign_cpu_fraction == pytest.approx(foreign)
    assert window.involuntary_switches == 12


def test_where_no_tick_was_counted_nothing_is_known() -> None:
    window = host.window(BEFORE, after(0.0, own_s=0.001))
    assert (window.steal_fraction, window.foreign_cpu_fraction) == (None, None)


def test_a_reading_counts_each_tick_once(tmp_path: Path) -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice
    write(tmp_path, {"proc/stat": "cpu  100 200 400 800 1600 3200 6400 12800 25600 51200\ncpu0 1 1 1 1\n"})
    reading = host.read(root=tmp_path)
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    # A guest's time is contained in user and nice time, so it is not added again (proc_stat(5)).
    assert reading.busy_s == pytest.approx((100 + 200 + 400 + 3200 + 6400) / ticks_per_s)
    assert reading.steal_s == pytest.approx(12800 / ticks_per_s)
    assert reading.total_s == pytest.approx(25500 / ticks_per_s)


def test_a_system_that_counts_less_is_read_all_the_same() -> None:
    times = host.cpu_times("cpu 100 0 200 400")
    assert (times.busy_s, times.steal_s, times.total_s) == (3.0, 0.0, 7.0)


@pytest.mark.parametrize("stat", ["", "\n", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8", "cpu a b c d", "intr 1 2 3 4"])
def test_what_holds_no_cpu_times_is_no_guess(stat: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        host.cpu_times(stat)


def test_the_times_are_those_that_psutil_reads() -> None:
    before, reading, after = psutil.cpu_times(), host.read(), psutil.cpu_times()
    assert before.steal <= reading.steal_s <= after.steal
    for name, (least, most) in {
        "busy_s": [sum(each[:3]) + each.irq + each.softirq for each in (before, after)],
        "total_s": [sum(each[:8]) for each in (before, after)],
    }.items():
        assert least - 0.01 <= getattr(reading, name) <= most + 0.01


BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True)\ninput()"


def test_the_work_of_a_child_is_our_own_while_it_lives_and_afterwards() -> None:
    before = host.read()
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"burnt\n"
        alive = host.read()
        child.communicate(b"\n")
    gone = host.read()
    assert alive.own_s - before.own_s >= 0.2
    assert gone.own_s - before.own_s >= 0.2


def test_our_own_work_is_not_foreign() -> None:
    before = host.read()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    window = host.window(before, host.read())
    assert window.involuntary_switches >= 0
    assert window.load_1m == pytest.approx(os.getloadavg()[0], abs=1.0)
    assert window.foreign_cpu_fraction is not None
    assert 0.0 <= window.foreign_cpu_fraction <= 1.0


# ---------------------------------------------------------------- pressure, swapping, the quota

SECOND_NS = 1_000_000_000


def pressure(total_us: int) -> str:
    return (
        f"some avg10=1.25 avg60=0.00 avg300=0.19 total={total_us}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=999\n"
    )


COUNTING = {
    "proc/stat": STAT,
    "proc/pressure/cpu": pressure(1_000_000),
    "proc/pressure/memory": pressure(2_000_000),
    "proc/pressure/io": pressure(3_000_000),
    "proc/vmstat": "nr_free_pages 7\nnot_pswpin 3\npswpin 100\npswpout 200\n",
}


def between(root: Path, *changes: dict[str, str], seconds: float = 2.0) -> HostWindow:
    """What a change of files shows as, if it took so long."""
    before = host.read(root=root)
    after = host.read(root=write(root, *changes))
    return host.window(before, dataclasses.replace(after, at_ns=before.at_ns + round(seconds * SECOND_NS)))


def test_pressure_is_the_share_of_the_time_in_which_something_waited(tmp_path: Path) -> None:
    write(tmp_path, COUNTING)
    changes = {"proc/pressure/cpu": pressure(2_500_000), "proc/pressure/io": pressure(3_000_500)}
    window = between(tmp_path, changes)
    assert window.cpu_pressure_fraction == pytest.approx(0.75)
    assert window.memory_pressure_fraction == 0.0
    assert window.io_pressure_fraction == pytest.approx(0.00025)


def test_two_clocks_that_disagree_make_no_pressure_above_all_of_the_time(tmp_path: Path) -> None:
    write(tmp_path, COUNTING)
    assert between(tmp_path, {"proc/pressure/cpu": pressure(3_000_007)}).cpu_pressure_fraction == 1.0


@pytest.mark.parametrize("contents", [None, "", "full avg10=0 total=3\n", "some avg10=0.00 total=\n", "\0\xff"])
def test_a_kernel_that_counts_no_pressure_leaves_it_unknown(tmp_path: Path, contents: str | None) -> None:
    machine = {name: text for name, text in COUNTING.items() if "pressure" not in name}
    write(tmp_path, machine, {} if contents is None else {"proc/pressure/cpu": contents})
    window = between(tmp_path)
    assert window.cpu_pressure_fraction is None
    assert window.swapped_bytes == 0


def test_pressure_that_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    write(tmp_path, COUNTING)
    link_to_nowhere(tmp_path / "proc/pressure/memory")
    window = between(tmp_path)
    assert (window.memory_pressure_fraction, window.cpu_pressure_fraction) == (None, 0.0)


def test_pages_swapped_in_and_out_are_bytes(tmp_path: Path) -> None:
    write(tmp_path, COUNTING)
    swapped = between(tmp_path, {"proc/vmstat": "pswpin 103\npswpout 204\n"}).swapped_bytes
    assert swapped == 7 * os.sysconf("SC_PAGE_SIZE")
    assert isinstance(swapped, int)


def test_a_kernel_without_swap_leaves_it_unknown(tmp_path: Path) -> None:
    write(tmp_path, COUNTING, {"proc/vmstat": "nr_free_pages 7\n"})
    assert between(tmp_path).swapped_bytes is None


# The quota is that of the pod, two levels above this process.
SECOND_VERSION = {
    "proc/stat": STAT,
    "proc/self/cgroup": "0::/pod/container/worker\n",
    "proc/self/mountinfo": "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 9\nnr_throttled 9\nthrottled_usec 9000000\n",
    "sys/fs/cgroup/pod/cpu.max": "250000 100000\n",
    "sys/fs/cgroup/pod/cpu.stat": "usage_usec 5\nnr_periods 4\nnr_throttled 3\nthrottled_usec 1000000\n",
    "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n",
    "sys/fs/cgroup/pod/container/cpu.stat": "usage_usec 5\nthrottled_usec 8000000\n",
    "sys/fs/cgroup/pod/container/worker/cpu.stat": "usage_usec 5\n",
}
POD = "sys/fs/cgroup/pod/cpu.stat"
FIRST_VERSION = {
    "proc/stat": STAT,
    "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/job\n1:name=systemd:/job\n0::/other\n",
    "proc/self/mountinfo": "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/job/cpu.stat": "nr_periods 2\nnr_throttled 1\nthrottled_time 1000000000\n",
}
JOB = "sys/fs/cgroup/cpu,cpuacct/job/cpu.stat"


@pytest.mark.parametrize(
    ("machine", "change"),
    [
        (SECOND_VERSION, {POD: "throttled_usec 1250000\n"}),
        (FIRST_VERSION, {JOB: "throttled_time 1250000000\n"}),
    ],
    ids=["version 2", "version 1"],
)
def test_a_quota_of_the_groups_around_is_seen(tmp_path: Path, machine: dict[str, str], change: dict[str, str]) -> None:
    assert between(write(tmp_path, machine), change).cpu_quota_s == pytest.approx(0.25)


@pytest.mark.parametrize(
    "change",
    [
        {"sys/fs/cgroup/pod/cpu.max": "max 100000\n"},
        {"sys/fs/cgroup/pod/cpu.stat": "usage_usec 5\n"},
        {"proc/self/cgroup": ""},
        {"proc/self/mountinfo": ""},
    ],
    ids=["no quota", "not counted", "no group", "not mounted"],
)
def test_without_a_quota_that_counts_nothing_is_known_of_it(tmp_path: Path, change: dict[str, str]) -> None:
    assert between(write(tmp_path, SECOND_VERSION, change)).cpu_quota_s is None


# ---------------------------------------------------------------- the window

whole_numbers = st.integers(0, 10**12)
readings = st.builds(
    HostReading,
    total_s=st.floats(0, 1e9),
    busy_s=st.floats(0, 1e9),
    steal_s=st.floats(0, 1e9),
    own_s=st.floats(0, 1e9),
    involuntary_switches=whole_numbers,
    at_ns=whole_numbers,
    cpu_pressure_us=st.none() | whole_numbers,
    memory_pressure_us=st.none() | whole_numbers,
    io_pressure_us=st.none() | whole_numbers,
)


@given(before=readings, after=readings)
def test_every_fraction_is_one(before: HostReading, after: HostReading) -> None:
    columns = host.window(before, after).columns
    fractions = [value for name, value in columns.items() if name.endswith("_fraction")]
    assert len(fractions) == 5
    assert all(value is None or 0.0 <= value <= 1.0 for value in fractions)


def test_a_row_keeps_all_of_a_window(tmp_path: Path) -> None:
    columns = between(write(tmp_path, COUNTING, SECOND_VERSION, {"proc/stat": STAT})).columns
    assert list(columns) == [
        "steal_fraction",
        "foreign_cpu_fraction",
        "involuntary_switches",
        "load_1m",
        "cpu_pressure_fraction",
        "memory_pressure_fraction",
        "io_pressure_fraction",
        "swapped_bytes",
        "cpu_quota_s",
        "host_cpu_s",
    ]


def test_waiting_for_a_cpu_of_this_machine_is_pressure() -> None:
    if host.read().cpu_pressure_us is None:
        pytest.skip("this kernel counts no pressure")
    with contextlib.ExitStack() as stack:
        for _ in range(3 * len(os.sched_getaffinity(0))):
            spinner = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(spinner.kill)
        before = host.read()

        def is_under_pressure() -> bool:  # not while they are still being started
            window = host.window(before, host.read())
            return window.host_cpu_s > 0.0 and (window.cpu_pressure_fraction or 0.0) > 0.1

        wait_until(is_under_pressure, "pressure")

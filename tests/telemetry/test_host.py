"""``bench.telemetry.host``: fractions of all CPUs' time between two readings."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from bench.telemetry import host
from bench.telemetry.host import HostReading

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


def test_a_reading_counts_each_tick_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # A guest's time is contained in user time, so it is not added again (proc(5)).
    times = SimpleNamespace(
        user=1.0, nice=2.0, system=4.0, idle=8.0, iowait=16.0, irq=32.0, softirq=64.0, steal=128.0, guest=256.0
    )
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    reading = host.read()
    assert reading.busy_s == 1 + 2 + 4 + 32 + 64
    assert reading.steal_s == 128
    assert reading.total_s == 255


def test_a_system_that_counts_less_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(user=1.0, system=2.0, idle=4.0))
    reading = host.read()
    assert (reading.busy_s, reading.steal_s, reading.total_s) == (3.0, 0.0, 7.0)


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

"""``HostSource``: what the host's CPUs show at one moment, all together, as the reading of the device ``cpu``."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.telemetry import files, host
from bench.telemetry.files import KeptFile
from bench.telemetry.reading import Reading
from bench.telemetry.total import LongestGrowth

# Below a second: Linux before 5.18 sleeps 10 ms for each CPU whose clock was last asked for more than 1000 ms ago, and
# otherwise gives the mean since then (arch/x86/kernel/cpu/aperfmperf.c, APERFMPERF_STALE_THRESHOLD_MS).
_SLOW_NS = 900_000_000
_MOST_CLOCKS = 16  # each may interrupt its CPU

# Which of a driver's sensors is the whole package, the best first. AMD's Tctl may lie above the true Tdie
# (Documentation/hwmon/k10temp.rst).
_SENSOR_DRIVERS = ("coretemp", "k10temp", "zenpower")
_PACKAGE_LABELS = ("Package id", "Physical id", "Tdie", "Tctl")

_CPUS = "sys/devices/system/cpu"


class HostSource:
    """A ``Source`` of one reading: energy, clock, temperature, throttling and CPU times.

    Files are found when it is opened. The clock is read about once a second and carried forward. What is not there,
    is not readable for this user or vanishes is None.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns, root: Path = Path("/")) -> None:
        """
        Args:
            clock: the run's, in ns of UTC.
            root: where ``proc`` and ``sys`` are.
        """
        self._clock = clock
        self._stat = KeptFile(root / "proc/stat")
        self._packages = [_Package(folder) for folder in rapl_packages(root)]
        self._sensors = _sensors(root)
        self._throttling = _Throttling(root)
        self._clocks = _clocks(root)
        self._clock_mhz: float | None = None
        self._clock_at_ns: int | None = None

    def read(self) -> list[Reading]:
        """The host now. Never raises."""
        began_ns, cpu_began_ns, began_at_ns = time.perf_counter_ns(), time.thread_time_ns(), self._clock()
        time_s, busy_s, steal_s = self._cpu_times()
        energies = [package.read_j() for package in self._packages]
        heat_c, margin_c = _hottest(self._sensors)
        throttled_s, reasons = self._throttling.read()
        clock_mhz = self._mean_clock_mhz(began_at_ns)
        took_ns = time.perf_counter_ns() - began_ns
        reading = Reading(
            at_ns=began_at_ns + took_ns // 2,
            device="cpu",
            device_index=0,
            took_ns=took_ns,
            cpu_ns=time.thread_time_ns() - cpu_began_ns,
            energy_j=_sum(energies),
            cpu_clock_mhz=clock_mhz,
            temperature_c=heat_c,
            temperature_margin_c=margin_c,
            throttle_reasons=reasons,
            throttled_s_total=throttled_s,
            cpu_time_s_total=time_s,
            cpu_busy_s_total=busy_s,
            cpu_steal_s_total=steal_s,
        )
        return [reading]

    def close(self) -> None:
        """Close all files."""
        kept = [self._stat, *self._clocks, *self._throttling.files]
        kept += [package.file for package in self._packages]
        kept += [sensor.file for sensor in self._sensors]
        for file in kept:
            file.close()

    def _cpu_times(self) -> tuple[float, float, float] | tuple[None, None, None]:
        with contextlib.suppress(ValueError):
            times = host.cpu_times(self._stat.text() or "")
            return times.total_s, times.busy_s, times.steal_s
        return None, None, None

    def _mean_clock_mhz(self, now_ns: int) -> float | None:
        # A clock that was set back counts as long ago.
        if self._clock_at_ns is None or not 0 <= now_ns - self._clock_at_ns < _SLOW_NS:
            self._clock_at_ns = now_ns
            found_khz = [khz for khz in (file.number() for file in self._clocks) if khz is not None]
            self._clock_mhz = statistics.fmean(found_khz) / 1000 if found_khz else None
        return self._clock_mhz


# ---------------------------------------------------------------- energy


def rapl_packages(root: Path = Path("/")) -> list[Path]:
    """The folder of each CPU package's energy counter, Intel's or AMD's (Documentation/power/powercap/powercap.rst).

    Not their parts, which the package contains, and not ``psys``, which contains the packages.
    """
    found: dict[str, Path] = {}
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = files.text(folder / "name") or ""
        if name.startswith("package"):
            found.setdefault(name, folder)
    return list(found.values())


def growth_uj(before_uj: int, now_uj: int, range_uj: int | None) -> int | None:
    """By how much a counter grew that begins again at 0 after ``range_uj``; None where that cannot be told.

    It is told rightly where the counter wrapped at most once: at some 60 to 260 kJ, which takes a package minutes.
    """
    if now_uj >= before_uj:
        return now_uj - before_uj
    if range_uj is None or before_uj > range_uj:
        return None
    return now_uj - before_uj + range_uj


class _Package:
    """One package's energy since it was opened."""

    def __init__(self, folder: Path) -> None:
        self.file = KeptFile(folder / "energy_uj")
        self.range_uj = files.number(folder / "max_energy_range_uj")
        self.last_uj = self.file.number()
        self.total_uj: int | None = 0  # None once a part of it is lost

    def read_j(self) -> float | None:
        now_uj = self.file.number()
        if now_uj is None or self.last_uj is None or self.total_uj is None:
            return None
        grown_uj = growth_uj(self.last_uj, now_uj, self.range_uj)
        self.total_uj = None if grown_uj is None else self.total_uj + grown_uj
        self.last_uj = now_uj
        return None if self.total_uj is None else self.total_uj * 1e-6


def _sum(parts: Sequence[float | None]) -> float | None:
    """Of all of them; None where there are none, or one is not known."""
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None


# ---------------------------------------------------------------- heat


@dataclass(frozen=True)
class _Sensor:
    file: KeptFile
    limit_c: float | None


def _sensors(root: Path) -> list[_Sensor]:
    """The temperature of each package (Documentation/hwmon/sysfs-interface.rst: thousandths of a degree)."""
    inputs: list[Path] = []
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if files.text(chip / "name") in _SENSOR_DRIVERS:
            inputs += _package_inputs(sorted(chip.glob("temp*_input")))
    sensors = [_Sensor(KeptFile(each), _limit_c(each)) for each in inputs]
    if sensors:
        return sensors
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    packages = [zone for zone in zones if files.text(zone / "type") == "x86_pkg_temp"]
    return [_Sensor(KeptFile(zone / "temp"), None) for zone in packages]


def _package_inputs(inputs: list[Path]) -> list[Path]:
    labels = {each: files.text(_beside(each, "label")) or "" for each in inputs}
    for wanted in _PACKAGE_LABELS:
        found = [each for each, label in labels.items() if label.startswith(wanted)]
        if found:
            return found
    return inputs  # older parts show their cores only, or one temperature without a name


def _limit_c(temperature: Path) -> float | None:
    for limit in ("crit", "max"):
        found = files.number(_beside(temperature, limit))
        if found:
            return found / 1000
    return None


def _beside(temperature: Path, what: str) -> Path:
    return temperature.with_name(temperature.name.replace("input", what))


def _hottest(sensors: Iterable[_Sensor]) -> tuple[float | None, float | None]:
    """The highest temperature, and the least that one of them is below its limit."""
    shown = [(found / 1000, sensor.limit_c) for sensor in sensors if (found := sensor.file.number()) is not None]
    heat_c = max((now_c for now_c, _ in shown), default=None)
    return heat_c, min((limit_c - now_c for now_c, limit_c in shown if limit_c is not None), default=None)


# ---------------------------------------------------------------- held back


class _Throttling:
    """What Intel's CPUs count of their throttling by heat.

    The kernel counts an event when it begins and adds its time when it ends (drivers/thermal/intel/therm_throt.c,
    Documentation/admin-guide/thermal/intel_thermal_throttle.rst): a long one shows among the reasons when it begins
    and when it ends, and in the seconds only when it ends.
    """

    def __init__(self, root: Path) -> None:
        folders = [cpu / "thermal_throttle" for cpu in _one_per_package(root)]
        self._times = files.kept(folder / "package_throttle_total_time_ms" for folder in folders)
        self._counts = files.kept(folder / "package_throttle_count" for folder in folders)
        if not self._times:
            folders = [root / _CPUS / f"cpu{cpu}" / "thermal_throttle" for cpu in _asked_cpus()]
            self._times = files.kept(folder / "core_throttle_total_time_ms" for folder in folders)
            self._counts = files.kept(folder / "core_throttle_count" for folder in folders)
        self._before: list[int | None] | None = None
        self._total = LongestGrowth()

    @property
    def files(self) -> list[KeptFile]:
        return [*self._times, *self._counts]

    def read(self) -> tuple[float | None, tuple[str, ...] | None]:
        """Seconds since the first reading, and whether one has gone on since the reading before."""
        times_ms = [file.number() for file in self._times]
        now = [*times_ms, *(file.number() for file in self._counts)]
        before, self._before = self._before, now
        total_s = self._total.add({place: ms / 1000 for place, ms in enumerate(times_ms) if ms is not None})
        if total_s is None:
            return None, None
        return total_s, None if before is None else _reasons(before, now)


def _reasons(before: list[int | None], now: list[int | None]) -> tuple[str, ...]:
    growths = map(host.grown, before, now)
    return ("cpu_thermal",) if any(growth is not None and growth > 0 for growth in growths) else ()


def _one_per_package(root: Path) -> list[Path]:
    """A CPU of each package: the package's interrupt reaches all of its CPUs, and each counts it."""
    found: dict[int, Path] = {}
    for folder in sorted((root / _CPUS).glob("cpu[0-9]*")):
        package = files.number(folder / "topology/physical_package_id")
        if package is not None:
            found.setdefault(package, folder)
    return list(found.values())


# ---------------------------------------------------------------- clocks


def spread(cpus: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly spread."""
    count = min(most, len(cpus))
    return [cpus[index * len(cpus) // count] for index in range(count)]


def _asked_cpus() -> list[int]:
    return spread(sorted(os.sched_getaffinity(0)), _MOST_CLOCKS)


def _clocks(root: Path) -> list[KeptFile]:
    # Not the MHz of /proc/cpuinfo: without cpufreq, that is the nominal clock.
    return files.kept(root / _CPUS / f"cpu{cpu}" / "cpufreq/scaling_cur_freq" for cpu in _asked_cpus())

"""Everything that can befall a GPU, across the real boundary: the sampler as a process, pynvml, a library in C.

Each scenario is read for some seconds by a sampler of its own, all at once; what it wrote is joined to rows that were
timed meanwhile, and each row has its columns, its flag, and its sentence for the user.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from bench import fitness, merge, registry, summary
from bench.launch.sampler import Sampler
from bench.report import table
from bench.schema import Row
from bench.telemetry import sampler
from bench.telemetry.reading import Reading
from bench.types import DeviceInfo, Plan
from tests import nvml
from tests.results import make_plan, make_row
from tests.small_kernel import KERNELS

WORK = "small/n1"
LASTS_S = 6.5
START_S = 5.0  # of start-up, so that every sampler is there before its scenario begins
OLD_DRIVER = "old driver"

# scenario → by GPU: (from second, until second) → the flags of a row that was timed then
EXPECTED: dict[str, dict[int, dict[tuple[float, float], list[str]]]] = {
    "healthy": {gpu: {(0.5, 5.5): []} for gpu in range(8)},
    "throttling": {0: {(0.5, 2.5): [], (2.5, 5.5): ["unfit:throttled", "unfit:too-hot"], (5.4, 6.0): []}},
    "power-cap": {0: {(0.5, 5.5): ["power-capped"]}},
    "clocks-locked": {0: {(0.5, 5.5): ["unfit:clocks-locked"]}},
    "ecc": {
        0: {
            (0.3, 0.7): [],
            (0.5, 1.5): ["ecc-corrected"],
            (1.5, 2.5): ["unfit:ecc-uncorrected"],
            (0.5, 5.5): ["unfit:ecc-uncorrected", "ecc-corrected"],
        }
    },
    "remap-pending": {0: {(0.5, 5.5): ["unfit:row-remap-pending"]}},
    "pcie-half": {0: {(0.5, 5.5): ["unfit:pcie-width"]}},
    "nvlink-down": {0: {(0.5, 5.5): []}, 3: {(0.5, 5.5): ["unfit:nvlink-down"]}},
    "pcie-card": {0: {(0.5, 5.5): []}},
    "xid-79": {0: {(0.5, 5.5): []}, 1: {(0.5, 1.5): [], (1.0, 3.0): ["unfit:no-answer", "unfit:xid"]}},
    "gpu-lost": {1: {(0.5, 5.5): []}, 2: {(0.5, 2.5): [], (2.0, 4.0): ["unfit:no-answer"]}},
    "driver-mismatch": {0: {(0.5, 5.5): ["state-unknown"]}},
    "no-permission": {0: {(0.5, 5.5): ["state-unknown"]}},
    "no-permission-calls": {0: {(0.5, 5.5): ["state-unknown"]}},
    "shared": {0: {(0.5, 5.5): []}, 1: {(0.5, 5.5): ["unfit:shared-gpu"]}},
    "mig": {1: {(0.5, 5.5): []}},
    "hot": {4: {(0.5, 5.5): []}, 5: {(0.5, 5.5): ["unfit:too-hot"]}},
    "laptop": {0: {(0.5, 5.5): ["unfit:pcie-width"]}},
    OLD_DRIVER: {0: {(0.5, 2.5): [], (2.5, 5.5): ["unfit:throttled", "unfit:too-hot"]}},
}

# What the user reads of it, beside the rule's meaning and remedy.
MEASURED = {
    ("throttling", "unfit:throttled"): "hw_slowdown, hw_thermal_slowdown",
    ("power-cap", "power-capped"): "100% of the time: sw_power_cap",
    ("ecc", "unfit:ecc-uncorrected"): "worst: 1, limit: 0",
    ("ecc", "ecc-corrected"): "worst: 3, limit: 0",
    ("pcie-half", "unfit:pcie-width"): "worst: x8",
    ("nvlink-down", "unfit:nvlink-down"): "worst: 1, limit: 0",
    ("xid-79", "unfit:xid"): "worst: 79, limit: none",
    ("xid-79", "unfit:no-answer"): "GPU is lost",
    ("gpu-lost", "unfit:no-answer"): "GPU is lost",
    ("driver-mismatch", "state-unknown"): "NVML/RM version mismatch. The driver was updated",
    ("no-permission", "state-unknown"): "Insufficient Permissions. Give this user access",
    ("no-permission-calls", "state-unknown"): "no clock, temperature, throttling",
    ("hot", "unfit:too-hot"): "1 °C below its slowdown",
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "kernels", lambda: KERNELS)


def plan_of(scenario: str) -> Plan:
    """As many GPUs as the scenario has; the UUIDs are those of the library's own."""
    (count,) = re.findall(r"devices (\d)", nvml.SCENARIOS.get(scenario, "")) or [1]
    gpus = tuple(DeviceInfo("cuda", index, "NVIDIA H100 80GB HBM3") for index in range(int(count)))
    return make_plan(WORK, devices=gpus, replicates=1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Reading]]]:
    """What a sampler process wrote of each scenario, on a clock that shows 0 at the scenario's second 0."""
    folder = tmp_path_factory.mktemp("scenarios")
    for is_old in (False, True):  # compiling takes its time, and no scenario waits for it
        nvml.build(is_old)
    with contextlib.ExitStack() as running:
        for number, scenario in enumerate(EXPECTED):
            is_old = scenario == OLD_DRIVER
            script = nvml.environment("throttling" if is_old else scenario, folder, second=-START_S, old_driver=is_old)
            offset_ns = -time.monotonic_ns() - round(START_S * 1e9)
            before = {name: os.environ.get(name) for name in script}
            os.environ.update(script)
            try:
                target = folder / f"{number}.jsonl"
                running.enter_context(Sampler(plan_of(scenario), target, folder / "log", os.getpid(), offset_ns))
            finally:
                for name, value in before.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})
        time.sleep(LASTS_S + START_S)
    yield {scenario: sampler.read_back(folder / f"{number}.jsonl") for number, scenario in enumerate(EXPECTED)}


def rows_of(scenario: str, gpu: int, window: tuple[float, float], readings: list[Reading]) -> list[Row]:
    """A row that was timed in that window, merged with what the sampler read; others answer for what came before and
    after it.
    """
    plan = plan_of(scenario)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    begin, end = (epoch + dt.timedelta(seconds=second) for second in window)
    windows = ((begin, end), (epoch, begin), (end, epoch + dt.timedelta(seconds=LASTS_S)))
    rows = [
        make_row(plan, WORK, device=gpu, replicate=number, timed_from=timed_from, timed_until=timed_until)
        for number, (timed_from, timed_until) in enumerate(windows)
    ]
    merged = merge.finish(plan, rows, {}, readings)
    return [row for row in merged if row["status"] == "ok" and row["replicate"] == 0]


CASES = [
    pytest.param(scenario, gpu, window, flags, id=f"{scenario}-{gpu}-{window[0]}-{window[1]}")
    for scenario, gpus in EXPECTED.items()
    for gpu, windows in gpus.items()
    for window, flags in windows.items()
]


@pytest.mark.parametrize(("scenario", "gpu", "window", "flags"), CASES)
def test_a_scenario_has_its_row_its_flag_and_its_sentence(
    recorded: dict[str, list[Reading]], scenario: str, gpu: int, window: tuple[float, float], flags: list[str]
) -> None:
    (row,) = rows_of(scenario, gpu, window, recorded[scenario])
    assert row["validity"] == flags
    shown = printed([row])
    for flag in flags:
        rule = fitness.RULES[flag]
        assert f"{rule.meaning}; {rule.remedy}" in shown
        assert MEASURED.get((scenario, flag), "") in shown


def printed(rows: list[Row]) -> str:
    out = Console(width=80, record=True, file=io.StringIO(), highlight=False, markup=False, emoji=False)
    table.show_results(out, make_plan(WORK), summary.summarize(rows), [])
    return " ".join(out.export_text().split())


def test_the_columns_of_a_healthy_row_are_filled(recorded: dict[str, list[Reading]]) -> None:
    (row,) = rows_of("healthy", 3, (1.0, 5.0), recorded["healthy"])
    known: dict[str, Any] = {
        "power_w_mean": pytest.approx(650, rel=0.01),
        "energy_j": pytest.approx(2600, rel=0.01),
        "sm_clock_mhz_min": 1755,
        "sm_clock_mhz_mean": 1755,
        "temperature_c_max": 62,
        "memory_temperature_c_max": 70,
        "throttle_s": 0.0,
        "power_cap_s": 0.0,
        "throttle_reasons": [],
        "ecc_corrected_delta": 0,
        "ecc_uncorrected_delta": 0,
        "row_remap_pending": False,
        "row_remap_failed": False,
        "xids": [],
        "pcie_generation": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "pcie_replay_delta": 0,
        "nvlinks_down": 0,
        "nvlink_errors_delta": 0,
        "clocks_locked": False,
        "device_error": None,
    }
    assert {name: row[name] for name in known} == known
    assert row["mem_clock_mhz_mean"] > 1000
    assert row["telemetry_readings"] >= 20
    assert row["foreign_gpu_processes"] in (None, 0)


def test_a_throttled_row_counts_the_seconds(recorded: dict[str, list[Reading]]) -> None:
    (row,) = rows_of("throttling", 0, (2.5, 5.5), recorded["throttling"])
    assert row["throttle_s"] == pytest.approx(2.0, abs=0.25)
    assert (row["sm_clock_mhz_min"], row["temperature_c_max"]) == (900, 89)
    assert row["energy_j"] == pytest.approx(650 * 1.0 + 420 * 2.0, rel=0.02)
    (row,) = rows_of(OLD_DRIVER, 0, (2.5, 5.5), recorded[OLD_DRIVER])
    assert row["throttle_s"] == pytest.approx(2.0, abs=0.25)


def test_what_a_driver_or_a_part_lacks_is_null(recorded: dict[str, list[Reading]]) -> None:
    (row,) = rows_of("laptop", 0, (1.0, 5.0), recorded["laptop"])
    lacking = ["ecc_corrected_delta", "memory_temperature_c_max", "nvlinks_down", "row_remap_pending"]
    assert [row[name] for name in lacking] == [None] * 4
    assert row["power_w_mean"] == pytest.approx(12), "from its power: it has no energy counter"
    (row,) = rows_of(OLD_DRIVER, 0, (1.0, 5.0), recorded[OLD_DRIVER])
    assert row["row_remap_pending"] is None
    assert row["power_w_mean"] is not None


def test_a_lost_gpu_has_no_energy_and_the_others_go_on(recorded: dict[str, list[Reading]]) -> None:
    (lost,) = rows_of("gpu-lost", 2, (2.0, 4.0), recorded["gpu-lost"])
    (other,) = rows_of("gpu-lost", 1, (2.0, 4.0), recorded["gpu-lost"])
    assert (lost["energy_j"], other["energy_j"]) == (None, pytest.approx(1300, rel=0.02))
    assert "GPU is lost" in lost["device_error"]

"""``bench.telemetry.nvml_device``: what a reading shows in every state of a device, through the real pynvml."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from tests import nvml as fake
from tests.telemetry import nvml_child
from tests.telemetry.nvml_child import in_child, one_of

SECOND = 10.0  # of the scripts, when they are read
LOADED = "* power_w 650\n* sm_clock_mhz 1755\n* reasons 0\n* temperature_c 62\n* memory_temperature_c 70\n"
MOMENTARY = ("at_ns", "took_ns", "cpu_ns", "energy_j")

# What a healthy H100 shows under that load.
HEALTHY: dict[str, Any] = {
    "device": "cuda",
    "device_index": 0,
    "power_w": 650.0,
    "sm_clock_mhz": 1755,
    "mem_clock_mhz": 2619,
    "clocks_locked": False,
    "temperature_c": 62,
    "memory_temperature_c": 70,
    "temperature_margin_c": 27,
    "throttle_reasons": [],
    "throttled_s_total": 0.0,
    "power_capped_s_total": 0.0,
    "ecc_corrected_total": 0,
    "ecc_uncorrected_total": 0,
    "row_remap_pending": False,
    "row_remap_failed": False,
    "xids": [],
    "pcie_generation": 5,
    "pcie_width": 16,
    "pcie_width_max": 16,
    "pcie_replays_total": 0,
    "nvlinks_down": 0,
    "nvlink_errors_total": 0,
    "foreign_processes": 0,
}


def changed(**changes: Any) -> dict[str, Any]:
    """The reading of a healthy device with those changes; None stands for what is not known."""
    values = HEALTHY | changes
    return {name: value for name, value in values.items() if value is not None}


def only(error: str, index: int) -> dict[str, Any]:
    return {"device": "cuda", "device_index": index, "error": error}


def closed(obstacle: str, index: int) -> dict[str, Any]:
    return {"device": "cuda", "device_index": index, "obstacle": obstacle}


# A script, a device, and its reading at the script's second 10.
SHOWN: dict[str, tuple[str, int, dict[str, Any]]] = {
    "healthy": ("healthy", 7, changed(device_index=7)),
    "energy": (LOADED + "* power_w 100 @0-5\n* power_w 0 @5-", 0, changed(power_w=0.0, energy_j=500.0)),
    "throttled before": ("throttling", 0, changed(throttled_s_total=2.0)),
    "held by two causes": (
        LOADED + "* reasons 0x60 @3-5\n* reasons 0x4 @6-9",
        0,
        changed(throttled_s_total=2.0, power_capped_s_total=3.0),
    ),
    "throttling": (
        LOADED + "* reasons 0x48\n* sm_clock_mhz 900\n* temperature_c 89",
        0,
        changed(
            sm_clock_mhz=900,
            temperature_c=89,
            temperature_margin_c=0,
            throttle_reasons=["hw_slowdown", "hw_thermal_slowdown"],
            throttled_s_total=ANY,
        ),
    ),
    "power-cap": (
        "power-cap",
        0,
        changed(power_w=700.0, sm_clock_mhz=1590, throttle_reasons=["sw_power_cap"], power_capped_s_total=ANY),
    ),
    "other reasons, and one that is not known": (
        LOADED + "* reasons 0x5b1",
        0,
        changed(
            throttle_reasons=[
                "gpu_idle",
                "sync_boost",
                "sw_thermal_slowdown",
                "hw_power_brake_slowdown",
                "display_clock_setting",
                "unknown_0x400",
            ],
            throttled_s_total=ANY,
        ),
    ),
    "clocks-locked": (
        "clocks-locked",
        0,
        changed(power_w=380.0, sm_clock_mhz=1200, clocks_locked=True, throttle_reasons=["applications_clocks_setting"]),
    ),
    "lowered clocks of an idle device": (
        LOADED + "* app_clock_mhz 1200\n* reasons 1",
        0,
        changed(clocks_locked=True, throttle_reasons=["gpu_idle"]),
    ),
    "clocks held while working": (
        LOADED + "* app_clock_mhz -1\n* reasons 2",
        0,
        changed(clocks_locked=True, throttle_reasons=["applications_clocks_setting"]),
    ),
    "clocks at rest": (
        LOADED + "* app_clock_mhz -1\n* reasons 3",
        0,
        changed(throttle_reasons=["gpu_idle", "applications_clocks_setting"]),
    ),
    "ecc": ("ecc", 0, changed(ecc_corrected_total=3, ecc_uncorrected_total=1)),
    "remap-pending": ("remap-pending", 0, changed(row_remap_pending=True)),
    "remap failed": (LOADED + "* remap_failed 1", 0, changed(row_remap_failed=True)),
    "pcie-half": ("pcie-half", 0, changed(pcie_width=8)),
    "pcie replays, generation": (
        LOADED + "* pcie_replays 5\n* pcie_generation 3",
        0,
        changed(pcie_replays_total=5, pcie_generation=3),
    ),
    "nvlink-down": ("nvlink-down", 3, changed(device_index=3, nvlinks_down=1, nvlink_errors_total=12)),
    "no bridge between cards": (LOADED + "* nvlinks_down 18", 0, changed(nvlinks_down=None)),
    "hot": (
        "hot",
        5,
        changed(device_index=5, temperature_c=86, memory_temperature_c=93, temperature_margin_c=1),
    ),
    "xid-79": ("xid-79", 1, only("GPU is lost", 1)),
    "gpu-lost": ("gpu-lost", 2, only("GPU is lost", 2)),
    "beside a lost one": ("gpu-lost", 3, changed(device_index=3)),
    "no-permission": ("no-permission-calls", 1, closed(ANY, 1)),
    "needs a reset": (LOADED + "* fail nvmlDeviceGetClockInfo 16", 0, only("GPU requires restart", 0) | {"xids": []}),
    "lost in mid-reading": (LOADED + "* fail nvmlDeviceGetClockInfo 15", 0, only("GPU is lost", 0) | {"xids": []}),
    "nothing told": (
        "* fail all 999\n* fail nvmlDeviceGetHandleByIndex_v2 0",
        0,
        closed("Unknown Error", 0),
    ),
    "mig": ("mig", 0, changed()),
    "laptop": (
        "laptop",
        0,
        changed(
            power_w=12.0,
            sm_clock_mhz=210,
            mem_clock_mhz=405,
            temperature_c=35,
            memory_temperature_c=None,
            temperature_margin_c=54,
            throttle_reasons=["gpu_idle"],
            ecc_corrected_total=None,
            ecc_uncorrected_total=None,
            row_remap_pending=None,
            row_remap_failed=None,
            pcie_generation=1,
            pcie_width=8,
            nvlinks_down=None,
            nvlink_errors_total=None,
        ),
    ),
    "power by the older call": (LOADED + "* fail field186 3", 0, changed()),
    "counters by the older call": (
        LOADED + "* reasons 0x40 @1-3\n* reasons 4 @4-5\n* fail nvmlDeviceGetFieldValues 13",
        0,
        changed(throttled_s_total=2.0, power_capped_s_total=1.0, memory_temperature_c=None),
    ),
    "one of the throttle counters missing": (
        LOADED + "* reasons 0x40 @1-3\n* fail field271 3",
        0,
        changed(throttled_s_total=2.0),
    ),
    "reasons by the older name": (
        LOADED + "* reasons 4 @10-\n* fail nvmlDeviceGetCurrentClocksEventReasons 13",
        0,
        changed(throttle_reasons=["sw_power_cap"], power_capped_s_total=ANY),
    ),
    "no reasons": (
        LOADED + "* fail nvmlDeviceGetCurrentClocksEventReasons 3\n* fail nvmlDeviceGetCurrentClocksThrottleReasons 3",
        0,
        changed(throttle_reasons=None),
    ),
    "neither reasons nor clocks": (
        LOADED
        + "* fail nvmlDeviceGetApplicationsClock 3\n"
        + "* fail nvmlDeviceGetCurrentClocksEventReasons 3\n* fail nvmlDeviceGetCurrentClocksThrottleReasons 3",
        0,
        changed(throttle_reasons=None, clocks_locked=None),
    ),
    "margin by the threshold": (LOADED + "* fail nvmlDeviceGetMarginTemperature 3", 0, changed()),
    "temperature by the older call": (LOADED + "* fail nvmlDeviceGetTemperatureV 13", 0, changed()),
    "temperature by the newer call": (LOADED + "* fail nvmlDeviceGetTemperature 26", 0, changed()),
    "memory without a sensor": (LOADED + "* memory_temperature_c 0", 0, changed(memory_temperature_c=None)),
    "no events": (LOADED + "* fail nvmlDeviceRegisterEvents 3", 0, changed(xids=None)),
    "no processes told": (
        LOADED + "* fail nvmlDeviceGetComputeRunningProcesses_v3 4",
        0,
        changed(foreign_processes=None),
    ),
    "an odd call unknown": (LOADED + "* fail nvmlDeviceGetPcieReplayCounter 999", 0, changed(pcie_replays_total=None)),
}


# ---------------------------------------------------------------- what is shown


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The readings of every script of the table, all from one process."""
    folder = tmp_path_factory.mktemp("scripts")
    variables = {script: fake.environment(script, folder, second=SECOND) for script, _, _ in SHOWN.values()}
    readings = in_child(
        nvml_child.read_once, variables["healthy"], *(each[fake.VARIABLE] for each in variables.values())
    )
    return dict(zip(variables, readings, strict=True))


@pytest.mark.parametrize("case", SHOWN)
def test_a_reading_shows_the_device_and_nothing_that_is_not_known(
    shown: Mapping[str, list[dict[str, Any]]], case: str
) -> None:
    script, index, expected = SHOWN[case]
    reading = shown[script][index]
    assert {name: reading[name] for name in reading if name not in MOMENTARY or name in expected} == expected


def test_each_of_eight_gpus_is_read(shown: Mapping[str, list[dict[str, Any]]]) -> None:
    assert [reading["device_index"] for reading in shown["hot"]] == list(range(8))
    assert [reading["temperature_c"] for reading in shown["hot"]] == [62] * 5 + [86] + [62] * 2
    assert [name for name in shown["gpu-lost"] if "error" in name] == [shown["gpu-lost"][2]]


def test_energy_is_a_counter_of_joules(shown: Mapping[str, list[dict[str, Any]]]) -> None:
    for reading in shown["healthy"]:
        assert reading["energy_j"] >= 650 * SECOND
    assert "energy_j" not in shown["laptop"][0]


def test_the_cost_of_a_reading_is_in_it(shown: Mapping[str, list[dict[str, Any]]]) -> None:
    assert all(reading["took_ns"] > 0 and reading["cpu_ns"] > 0 for reading in shown["healthy"])


# ---------------------------------------------------------------- from reading to reading


def test_what_changes_slowly_is_read_once_a_second_in_turns_and_carried_forward(tmp_path: Path) -> None:
    variables = fake.environment("healthy", tmp_path, second=SECOND)
    counts, last = in_child(nvml_child.count_calls, variables, "nvmlDeviceGetRemappedRows", "31", "100000000")
    assert counts[0] == 8, "all are known from the first reading on"
    assert sum(counts[1:11]) == 8
    assert max(counts[1:]) == 1
    # Each device has its first turn within a second and the next ones a second after: 3 by second 3, the last by 2.9.
    assert sum(counts[1:]) == 3 * 8
    assert [reading["pcie_width"] for reading in last] == [16] * 8


def test_a_counter_never_falls_because_a_part_of_it_is_not_told(tmp_path: Path) -> None:
    script = """
    * nvlink_errors 12
    * reasons 0x44
    * fail nvmlDeviceGetNvLinkErrorCounter 3 @1-
    * fail field74 999 @1-
    * fail field270 999 @1-
    """
    ((before,), (after,), _) = in_child(nvml_child.read_across, fake.environment(script, tmp_path), "1.0")
    assert (before["nvlink_errors_total"], after["nvlink_errors_total"]) == (12, 12)
    # The older calls count the same causes, but from another zero.
    assert {"power_capped_s_total", "throttled_s_total"} <= before.keys() - after.keys()


def test_links_that_all_go_down_are_counted_though_a_card_without_any_up_has_none_down(tmp_path: Path) -> None:
    ((before,), (after,), _) = in_child(
        nvml_child.read_across, fake.environment("* nvlinks_down 18 @1-", tmp_path), "1.0"
    )
    assert (before["nvlinks_down"], after["nvlinks_down"]) == (0, 18)


def test_a_clock_that_is_set_back_stops_nothing(tmp_path: Path) -> None:
    variables = fake.environment("idle", tmp_path, second=SECOND)
    counts, _ = in_child(nvml_child.count_calls, variables, "nvmlDeviceGetRemappedRows", "3", "-1000000")
    assert counts == [1, 1, 1]


@pytest.mark.parametrize(
    ("code", "calls"),
    [*((code, [1, 0, 0, 0]) for code in (2, 3, 4, 13, 25, 26)), (999, [1, 1, 1, 1]), (0, [1, 1, 1, 1])],
)
def test_what_a_device_does_not_have_is_asked_for_once(tmp_path: Path, code: int, calls: list[int]) -> None:
    script = LOADED + (f"* fail nvmlDeviceGetTotalEnergyConsumption {code}" if code else "")
    variables = fake.environment(script, tmp_path, second=SECOND)
    counts, last = in_child(nvml_child.count_calls, variables, "nvmlDeviceGetTotalEnergyConsumption", "4", "1000")
    assert counts == calls
    assert ("energy_j" in last[0]) is (code == 0)


@pytest.mark.parametrize(
    ("numbers", "odd_type", "throttled_s"),
    [
        ((269, 270, 271), 3, 3.0),
        ((251, 252, 253), 1, 3.0),  # drivers of 2025: ours are something else to them
        ((251, 252, 253), 3, 2.0),  # two that look alike: neither, but the older call, which counts no power brake
    ],
)
def test_throttle_counters_are_found_by_either_of_their_numbers(
    tmp_path: Path, numbers: tuple[int, ...], odd_type: int, throttled_s: float
) -> None:
    script = LOADED + "* reasons 0x40 @1-3\n* reasons 0x80 @4-7"
    variables = fake.environment(script, tmp_path, second=SECOND)
    (reading,) = in_child(nvml_child.renumber, variables, json.dumps(numbers), str(odd_type))
    assert reading["throttled_s_total"] == throttled_s


# ---------------------------------------------------------------- other drivers, slices of a GPU


def test_a_driver_that_lacks_functions_tells_the_rest(tmp_path: Path) -> None:
    script = LOADED + "* reasons 4\n* reasons 0x40 @1-3"
    variables = fake.environment(script, tmp_path, second=SECOND, old_driver=True)
    (reading,) = in_child(nvml_child.read_devices, variables, json.dumps([{"kind": "cuda", "index": 0, "name": None}]))
    assert {name: reading[0][name] for name in reading[0] if name not in MOMENTARY} == changed(
        throttle_reasons=["sw_power_cap"],
        throttled_s_total=2.0,
        power_capped_s_total=ANY,
        memory_temperature_c=None,
        row_remap_pending=None,
        row_remap_failed=None,
        xids=None,
        foreign_processes=None,
    )
    assert "energy_j" not in reading[0]


@pytest.mark.parametrize("prefix", ["MIG", "GPU"])  # torch puts GPU before all
def test_a_mig_slice_has_its_gpus_state_but_not_its_power(tmp_path: Path, prefix: str) -> None:
    variables = fake.environment("mig", tmp_path, second=SECOND)
    uuid = f"{prefix}-00000001-0000-4000-8000-000000000000"
    ((reading,),) = in_child(nvml_child.read_devices, variables, one_of(uuid))
    assert {name: reading[name] for name in reading if name not in MOMENTARY} == changed(power_w=None)
    assert "energy_j" not in reading


def test_a_mig_slice_is_not_blamed_for_the_others_errors(tmp_path: Path) -> None:
    variables = fake.environment("mig", tmp_path)
    assert in_child(nvml_child.send_events, variables, "MIG-00000001-0000-4000-8000-000000000000") == [13, 79]
    assert in_child(nvml_child.send_events, variables, "GPU-00000000-0000-4000-8000-000000000000") == [13, 31, 79]


# ---------------------------------------------------------------- whose processes


def test_processes_of_others_are_counted_and_the_runs_own_are_not(tmp_path: Path) -> None:
    own, above = os.getpid(), os.getppid()
    gpu = one_of(None)
    variables = fake.environment(f"* processes {own}, {above}", tmp_path)

    def foreign(run_pid: int | None, namespaced: bool = False) -> int | None:
        run = [] if run_pid is None else [str(run_pid)]
        ((reading,),) = in_child(nvml_child.read_devices, variables, gpu, "1", *run, namespaced=namespaced)
        count: int | None = reading.get("foreign_processes")
        return count

    assert foreign(own) == 1
    assert foreign(above) == 0
    assert foreign(None) == 2, "neither is the reader's own"
    assert foreign(above, namespaced=True) is None, "others may be hidden"

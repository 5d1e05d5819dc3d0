"""The fake library speaks to the real pynvml, each time in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests import nvml

# Evaluates its arguments, `n` being pynvml and `g` the handles, or why there is none.
_ASK = """
import json, sys, time
import pynvml as n

sram = n.c_nvmlEccSramErrorStatus_v1_t()

def answer(expression):
    try:
        return eval(expression)
    except (n.NVMLError, n.NVMLLibraryMismatchError) as error:
        return type(error).__name__.removeprefix("NVMLError_")

n.nvmlInit()
g = [answer(f"n.nvmlDeviceGetHandleByIndex({i})") for i in range(n.nvmlDeviceGetCount())]
def fields(*numbers):
    return [value.nvmlReturn or value.value.ullVal for value in n.nvmlDeviceGetFieldValues(g[0], numbers)]
print(json.dumps([answer(expression) for expression in sys.argv[1:]]))
"""

# What nvmlInit says of each script, in one process.
_INIT = """
import json, os, sys
import pynvml as n
said = {}
for path in sys.argv[1:]:
    os.environ["VNBENCH_FAKE_NVML"] = path
    try:
        n.nvmlInit()
        said[path] = "Success"
        n.nvmlShutdown()
    except n.NVMLError as error:
        said[path] = type(error).__name__.removeprefix("NVMLError_")
print(json.dumps(said))
"""


def ask(folder: Path, script: str, *expressions: str, second: float | None = None, old_driver: bool = False) -> Any:
    variables = nvml.environment(script, folder, second=second, old_driver=old_driver)
    return nvml.in_child(_ASK, variables, *expressions)


# ---------------------------------------------------------------- what comes through

IDLE: dict[str, Any] = {
    "n.nvmlSystemGetDriverVersion()": "580.65.06",
    "n.nvmlSystemGetCudaDriverVersion_v2()": 13000,
    "n.nvmlSystemGetNVMLVersion()": "13.580.65.06",
    "n.nvmlDeviceGetName(g[0])": "NVIDIA H100 80GB HBM3",
    "n.nvmlDeviceGetUUID(g[0])": "GPU-00000000-0000-4000-8000-000000000000",
    "n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID('GPU-00000000-0000-4000-8000-000000000000'))": 0,
    "n.nvmlDeviceGetHandleByUUID('GPU-1')": "NotFound",
    "n.nvmlDeviceGetHandleByIndex(1)": "InvalidArgument",
    "n.nvmlDeviceGetSerial(g[0])": "1650223000000",
    "n.nvmlDeviceGetVbiosVersion(g[0])": "96.00.74.00.01",
    "n.nvmlDeviceGetBoardPartNumber(g[0])": "692-2G520-0200-000",
    "n.nvmlDeviceGetPciInfo(g[0]).busId": "00000000:10:00.0",
    "n.nvmlDeviceGetPciInfo(g[0]).pciDeviceId": 0x233010DE,
    "n.nvmlDeviceGetMemoryInfo(g[0]).total": 81559 << 20,
    "n.nvmlDeviceGetMemoryInfo(g[0], n.nvmlMemory_v2).reserved": 600 << 20,
    "n.nvmlDeviceGetMemoryInfo(g[0], 1)": "ArgumentVersionMismatch",
    "n.nvmlDeviceGetArchitecture(g[0]) == n.NVML_DEVICE_ARCH_HOPPER": True,
    "n.nvmlDeviceGetCudaComputeCapability(g[0])": [9, 0],
    "n.nvmlDeviceGetPersistenceMode(g[0])": 1,
    "n.nvmlDeviceGetComputeMode(g[0])": 0,
    "n.nvmlDeviceGetNumaNodeId(g[0])": 0,
    "n.nvmlDeviceGetPowerUsage(g[0])": 70_000,
    "n.nvmlDeviceGetEnforcedPowerLimit(g[0])": 700_000,
    "n.nvmlDeviceGetPowerManagementLimit(g[0])": 700_000,
    "n.nvmlDeviceGetPowerManagementDefaultLimit(g[0])": 700_000,
    "n.nvmlDeviceGetPowerManagementLimitConstraints(g[0])": [200_000, 700_000],
    "n.nvmlDeviceGetClockInfo(g[0], n.NVML_CLOCK_SM)": 345,
    "n.nvmlDeviceGetMaxClockInfo(g[0], n.NVML_CLOCK_MEM)": 2619,
    "n.nvmlDeviceGetApplicationsClock(g[0], n.NVML_CLOCK_GRAPHICS)": 1980,
    "n.nvmlDeviceGetDefaultApplicationsClock(g[0], n.NVML_CLOCK_GRAPHICS)": 1980,
    "n.nvmlDeviceGetCurrentClocksEventReasons(g[0]) == n.nvmlClocksEventReasonGpuIdle": True,
    "n.nvmlDeviceGetCurrentClocksThrottleReasons(g[0])": 1,
    "n.nvmlDeviceGetTemperature(g[0], n.NVML_TEMPERATURE_GPU)": 35,
    "n.nvmlDeviceGetTemperatureV(g[0], n.NVML_TEMPERATURE_GPU)": 35,
    "n.nvmlDeviceGetTemperatureThreshold(g[0], n.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)": 89,
    "n.nvmlDeviceGetMarginTemperature(g[0])": 54,
    "n.nvmlDeviceGetEccMode(g[0])": [1, 1],
    "n.nvmlDeviceGetTotalEccErrors(g[0], 1, n.NVML_AGGREGATE_ECC)": 0,
    "n.nvmlDeviceGetRemappedRows(g[0])": [0, 0, 0, 0],
    "n.nvmlDeviceGetRetiredPages(g[0], 1)": "NotSupported",
    "n.nvmlDeviceGetRetiredPagesPendingStatus(g[0])": "NotSupported",
    "n.nvmlDeviceGetMaxPcieLinkGeneration(g[0])": 5,
    "n.nvmlDeviceGetMaxPcieLinkWidth(g[0])": 16,
    "n.nvmlDeviceGetNvLinkState(g[0], 17)": 1,
    "n.nvmlDeviceGetNvLinkState(g[0], 18)": "InvalidArgument",
    "n.nvmlDeviceGetNvLinkVersion(g[0], 0)": 6,
    "n.nvmlDeviceGetComputeRunningProcesses(g[0])": [],
    "n.nvmlDeviceGetMPSComputeRunningProcesses(g[0])": [],
    "n.nvmlDeviceGetMigMode(g[0])": [0, 0],
    "n.nvmlDeviceGetMigDeviceHandleByIndex(g[0], 0)": "NotFound",
    "n.nvmlDeviceGetSupportedEventTypes(g[0]) & n.nvmlEventTypeXidCriticalError": 8,
    # memory temperature, instant power, a field that is not there
    "fields(82, 186, n.NVML_FI_DEV_NVLINK_GET_STATE)": [45, 70_000, 3],
}

SICK = """
* name Something else   # with a comment
* sram_uncorrected 2
* sram_threshold 1
* ecc_corrected 3
* ecc_corrected_before 40
* ecc_uncorrected 1
* remap_corrected 1
* remap_uncorrected 2
* remap_pending 1
* remap_failed 1
* retired_pages 2
* retired_pending 1
* pcie_generation 3
* pcie_width 8
* pcie_replays 7
* nvlinks 4
* nvlinks_down 1
* nvlink_errors 5
* processes 11, 12,13
* power_limit_w 500.5
* reasons 0x84
* power_w 650
0 power_w 651
"""
SICK_SHOWN: dict[str, Any] = {
    "n.nvmlDeviceGetName(g[0])": "Something else",
    "n.nvmlDeviceGetSramEccErrorStatus(g[0], n.byref(sram)) or sram.aggregateUncSecDed": 2,
    "sram.bThresholdExceeded": 1,
    "n.nvmlDeviceGetTotalEccErrors(g[0], n.NVML_MEMORY_ERROR_TYPE_CORRECTED, n.NVML_VOLATILE_ECC)": 3,
    "n.nvmlDeviceGetTotalEccErrors(g[0], n.NVML_MEMORY_ERROR_TYPE_CORRECTED, n.NVML_AGGREGATE_ECC)": 43,
    "n.nvmlDeviceGetMemoryErrorCounter(g[0], 1, 0, n.NVML_MEMORY_LOCATION_DRAM)": 1,
    "n.nvmlDeviceGetMemoryErrorCounter(g[0], 1, 0, n.NVML_MEMORY_LOCATION_SRAM)": 2,
    "n.nvmlDeviceGetMemoryErrorCounter(g[0], 1, 0, n.NVML_MEMORY_LOCATION_L2_CACHE)": "NotSupported",
    "n.nvmlDeviceGetRemappedRows(g[0])": [1, 2, 1, 1],
    "n.nvmlDeviceGetRetiredPages(g[0], n.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR)": [0x10000, 0x20000],
    "len(n.nvmlDeviceGetRetiredPages_v2(g[0], n.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR))": 2,
    "n.nvmlDeviceGetRetiredPagesPendingStatus(g[0])": 1,
    "n.nvmlDeviceGetCurrPcieLinkGeneration(g[0])": 3,
    "n.nvmlDeviceGetCurrPcieLinkWidth(g[0])": 8,
    "n.nvmlDeviceGetPcieReplayCounter(g[0])": 7,
    "[n.nvmlDeviceGetNvLinkState(g[0], link) for link in range(4)]": [1, 1, 1, 0],
    "n.nvmlDeviceGetNvLinkErrorCounter(g[0], 0, n.NVML_NVLINK_ERROR_DL_REPLAY)": 5,
    "[process.pid for process in n.nvmlDeviceGetComputeRunningProcesses(g[0])]": [11, 12, 13],
    "n.nvmlDeviceGetEnforcedPowerLimit(g[0])": 500_500,
    "n.nvmlDeviceGetCurrentClocksEventReasons(g[0])": 0x84,
    "n.nvmlDeviceGetPowerUsage(g[0])": 651_000,
}


def shown(folder: Path, script: str, table: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(table, ask(folder, script, *table), strict=True))


def test_an_idle_gpu_is_what_pynvml_reads_of_an_empty_script(tmp_path: Path) -> None:
    assert shown(tmp_path, "", IDLE) == IDLE


def test_pynvml_reads_what_the_script_says(tmp_path: Path) -> None:
    assert shown(tmp_path, SICK, SICK_SHOWN) == SICK_SHOWN


def test_what_is_below_zero_is_not_supported(tmp_path: Path) -> None:
    calls = ["PowerUsage(g[0])", "EccMode(g[0])", "TotalEccErrors(g[0], 0, 0)", "MigMode(g[0])", "NvLinkState(g[0], 0)"]
    script = "* power_w -1\n* ecc_mode -1\n* mig -1\n* nvlinks 0\n* memory_temperature_c -1"
    answers = ask(tmp_path, script, *(f"n.nvmlDeviceGet{call}" for call in calls), "fields(82, 186)")
    assert answers == ["NotSupported"] * len(calls) + [[3, 3]]


def test_eight_gpus_are_told_apart(tmp_path: Path) -> None:
    uuids, buses, heat, index = ask(
        tmp_path,
        "hot",
        "[n.nvmlDeviceGetUUID(each) for each in g]",
        "[n.nvmlDeviceGetPciInfo(each).bus for each in g]",
        "[n.nvmlDeviceGetTemperature(each, 0) for each in g]",
        "n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(g[6])))",
    )
    assert len(set(uuids)) == len(set(buses)) == 8
    assert heat == [62] * 5 + [86] + [62] * 2
    assert index == 6


def test_mig_devices_have_a_name_and_memory_but_no_power(tmp_path: Path) -> None:
    slice_1 = "n.nvmlDeviceGetMigDeviceHandleByIndex(g[0], 1)"
    expected = {
        "[n.nvmlDeviceGetMigMode(each) for each in g]": [[1, 1], [0, 0]],
        "n.nvmlDeviceGetMaxMigDeviceCount(g[0])": 7,
        f"n.nvmlDeviceGetName({slice_1})": "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        f"n.nvmlDeviceGetUUID({slice_1})": "MIG-00000001-0000-4000-8000-000000000000",
        f"n.nvmlDeviceGetMemoryInfo({slice_1}).total": 9856 << 20,
        f"n.nvmlDeviceGetAttributes({slice_1}).multiprocessorCount": 16,
        f"n.nvmlDeviceGetAttributes({slice_1}).memorySizeMB": 9856,
        f"n.nvmlDeviceGetGpuInstanceId({slice_1})": 8,
        f"n.nvmlDeviceGetComputeInstanceId({slice_1})": 0,
        f"n.nvmlDeviceGetPowerUsage({slice_1})": "NotSupported",
        f"[n.nvmlDeviceIsMigDeviceHandle(each).value for each in (g[0], {slice_1})]": [0, 1],
        f"n.nvmlDeviceGetIndex(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle({slice_1}))": 0,
        "n.nvmlDeviceGetName(n.nvmlDeviceGetHandleByUUID('MIG-00000001-0000-4000-8000-000000000000'))": (
            "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
        ),
        "n.nvmlDeviceGetMigDeviceHandleByIndex(g[0], 2)": "NotFound",
        "n.nvmlDeviceGetAttributes(g[0])": "NotSupported",
    }
    assert shown(tmp_path, "mig", expected) == expected


# ---------------------------------------------------------------- in the course of time


@pytest.mark.parametrize(("second", "reasons", "clock_mhz"), [(50, 0, 1755), (150, 0x48, 900), (250, 0, 1755)])
def test_a_line_with_a_window_holds_only_within_it(tmp_path: Path, second: int, reasons: int, clock_mhz: int) -> None:
    script = "* reasons 0\n* sm_clock_mhz 1755\n* reasons 0x48 @100-200\n* sm_clock_mhz 900 @100-200"
    calls = ["n.nvmlDeviceGetCurrentClocksEventReasons(g[0])", "n.nvmlDeviceGetClockInfo(g[0], n.NVML_CLOCK_SM)"]
    assert ask(tmp_path, script, *calls, second=second) == [reasons, clock_mhz]


def test_energy_is_the_integral_of_power(tmp_path: Path) -> None:
    script = f"start {time.monotonic() - 1000}\n* power_w 100\n* power_w 400 @200-300\n0 power_w 200 @300-"
    second = f"time.monotonic() - {script.split()[1]}"
    calls = [second, "n.nvmlDeviceGetTotalEnergyConsumption(g[0])", "fields(83)[0]", second]
    before_s, energy_mj, field_mj, after_s = ask(tmp_path, script, *calls)
    least, most = (1e3 * (200 * 100 + 100 * 400 + (at_s - 300) * 200) for at_s in (before_s, after_s))
    assert least - 1 <= energy_mj <= field_mj <= most


def test_times_held_back_are_those_in_which_the_script_names_the_reason(tmp_path: Path) -> None:
    script = "* reasons 0\n* reasons 0x4 @10-16\n* reasons 0x28 @20-22\n* reasons 0x48 @30-33\n* reasons 0x88 @40-41"
    calls = [
        "fields(74, 75, 269, 270, 271)",
        *(f"n.nvmlDeviceGetViolationStatus(g[0], {i}).violationTime" for i in (0, 1)),
    ]
    fields, power_ns, thermal_ns = ask(tmp_path, script, *calls, second=50)
    assert [round(field * 1e-9, 6) for field in fields] == [6, 5, 2, 3, 1]
    assert (round(power_ns * 1e-9, 6), round(thermal_ns * 1e-9, 6)) == (6, 5)


def test_second_zero_is_when_the_process_first_reads_the_script(tmp_path: Path) -> None:
    energy = "n.nvmlDeviceGetTotalEnergyConsumption(g[0])"
    began_s = time.monotonic()
    first_mj, _, _, again_mj = ask(tmp_path, "* power_w 1e6", energy, "n.nvmlShutdown()", "n.nvmlInit()", energy)
    lived_s = time.monotonic() - began_s
    assert 0 < first_mj < again_mj < 1e9 * lived_s


_EVENTS = """
import json
import pynvml as n
n.nvmlInit()
gpus = [n.nvmlDeviceGetHandleByIndex(i) for i in range(3)]

def registered(*gpus):
    events = n.nvmlEventSetCreate()
    for gpu in gpus:
        n.nvmlDeviceRegisterEvents(gpu, n.nvmlEventTypeXidCriticalError, events)
    return events

def next_of(events, timeout_ms):
    try:
        event = n.nvmlEventSetWait(events, timeout_ms)
    except n.NVMLError as error:
        return type(error).__name__
    return [n.addressof(event.device.contents) == n.addressof(gpu.contents) for gpu in gpus], event.eventData

def power_of(gpu):
    try:
        return n.nvmlDeviceGetPowerUsage(gpu)
    except n.NVMLError as error:
        return type(error).__name__

events, other = registered(*gpus), registered(gpus[0], gpus[2])
seen = [next_of(events, 0), power_of(gpus[1]), next_of(events, 60000), next_of(events, 60000), next_of(events, 0)]
late = registered(gpus[2])
seen += [next_of(other, 0), next_of(other, 0), next_of(late, 0), *map(power_of, gpus)]
n.nvmlEventSetFree(events)
print(json.dumps(seen))
"""


def test_an_xid_is_given_once_at_its_time_and_a_lost_gpu_answers_nothing_more(tmp_path: Path) -> None:
    script = "devices 3\n1 xid 79 @0.5\n2 xid 31 @0.5\n1 fail all 15 @0.5-"
    assert nvml.in_child(_EVENTS, nvml.environment(script, tmp_path)) == [
        "NVMLError_Timeout",
        70_000,
        [[False, True, False], 79],
        [[False, False, True], 31],
        "NVMLError_GpuIsLost",
        [[False, False, True], 31],  # each set has its own
        "NVMLError_Timeout",
        "NVMLError_Timeout",  # it came before this set was there
        70_000,
        "NVMLError_GpuIsLost",
        70_000,
    ]


# ---------------------------------------------------------------- refusals


def test_one_function_or_field_fails_and_the_others_do_not(tmp_path: Path) -> None:
    script = "* fail nvmlDeviceGetPowerUsage 4\n* fail field186 4\n* fail nvmlSystemGetDriverVersion 999"
    calls = ["n.nvmlDeviceGetPowerUsage(g[0])", "fields(186, 82)", "n.nvmlSystemGetDriverVersion()"]
    assert ask(tmp_path, script, *calls) == ["NoPermission", [4, 45], "Unknown"]


def test_all_fails_is_all_that_is_asked_of_a_gpu(tmp_path: Path) -> None:
    calls = ["g", "n.nvmlDeviceGetHandleByUUID('GPU-00000000-0000-4000-8000-000000000000')", "n.nvmlDeviceGetCount()"]
    assert ask(tmp_path, "no-permission-calls", *calls) == [["NoPermission"] * 2, "NoPermission", 2]


def test_every_scenario_is_understood_by_both_drivers(tmp_path: Path) -> None:
    paths = {nvml.environment(name, tmp_path)[nvml.VARIABLE]: name for name in nvml.SCENARIOS}
    assert len(paths) == len(nvml.SCENARIOS)
    for old_driver in (False, True):
        said = nvml.in_child(_INIT, nvml.environment("", tmp_path, old_driver=old_driver), *paths)
        refused = {paths[path]: code for path, code in said.items() if code != "Success"}
        assert refused == {"driver-mismatch": "LibRmVersionMismatch", "no-permission": "NoPermission"}


TYPOS = (
    "helthy",
    "* power 650",
    "* power_w",
    "* power_w 650W",
    "* power_w 650 @3..5",
    "* power_w 650 @5-3",
    "* power_w 650 @",
    "1 power_w 650",
    "gpu0 power_w 650",
    "devices 99",
    "devices eight",
    "* fail nvmlDeviceGetPower 4",
    "* fail all",
    "* fail all 4 5",
    "* xid 79",
    "start now",
)


def test_a_typo_in_a_script_fails_init_with_a_line_on_stderr(tmp_path: Path) -> None:
    paths = {nvml.environment(f"devices 1\n{typo}", tmp_path)[nvml.VARIABLE]: typo for typo in TYPOS}
    done = nvml.start_child(_INIT, nvml.environment("", tmp_path), *paths)
    said = json.loads(done.stdout)
    assert {paths[path] for path, code in said.items() if code == "Unknown"} == set(TYPOS)
    told = [line.split(".txt, ", 1)[1] for line in done.stderr.splitlines()]
    assert told == [f"line 2 is not understood: {typo}" for typo in TYPOS]


def test_a_script_that_is_not_there_fails_init(tmp_path: Path) -> None:
    variables = nvml.environment("", tmp_path)
    done = nvml.start_child("import pynvml; pynvml.nvmlInit()", variables | {nvml.VARIABLE: "/nowhere"})
    assert "NVMLError_Unknown" in done.stderr
    assert "the script cannot be read: /nowhere" in done.stderr


def test_an_old_driver_has_no_younger_functions(tmp_path: Path) -> None:
    expected = {
        "n.nvmlDeviceGetCurrentClocksEventReasons(g[0])": "FunctionNotFound",
        "n.nvmlDeviceGetCurrentClocksThrottleReasons(g[0])": 0,
        "n.nvmlDeviceGetViolationStatus(g[0], n.NVML_PERF_POLICY_THERMAL).violationTime": 0,
        "n.nvmlDeviceGetFieldValues(g[0], [82])": "FunctionNotFound",
        "n.nvmlDeviceGetTotalEnergyConsumption(g[0])": "FunctionNotFound",
        "n.nvmlDeviceGetPowerUsage(g[0])": 650_000,
        "n.nvmlDeviceGetTemperatureV(g[0], 0)": "FunctionNotFound",
        "n.nvmlDeviceGetTemperature(g[0], 0)": 62,
        "n.nvmlDeviceGetMarginTemperature(g[0])": "FunctionNotFound",
        "n.nvmlDeviceGetRemappedRows(g[0])": "FunctionNotFound",
        "n.nvmlDeviceGetSramEccErrorStatus(g[0], n.byref(sram))": "FunctionNotFound",
        "n.nvmlDeviceGetMemoryInfo(g[0], n.nvmlMemory_v2)": "FunctionNotFound",
        "n.nvmlDeviceGetMemoryInfo(g[0]).total": 81559 << 20,
        "n.nvmlDeviceGetNumaNodeId(g[0])": "FunctionNotFound",
        "n.nvmlDeviceGetMigMode(g[0])": "FunctionNotFound",
        "n.nvmlEventSetWait(n.nvmlEventSetCreate(), 0)": "FunctionNotFound",
        # pynvml's own exception, which is no NVMLError
        "n.nvmlDeviceGetComputeRunningProcesses(g[0])": "NVMLLibraryMismatchError",
        "n.nvmlDeviceGetComputeRunningProcesses_v3(g[0])": "FunctionNotFound",
    }
    answers = ask(tmp_path, "healthy", *expected, old_driver=True)
    assert dict(zip(expected, answers, strict=True)) == expected


# ---------------------------------------------------------------- how it is built


@pytest.mark.parametrize("old_driver", [False, True])
def test_the_library_sets_nothing(old_driver: bool) -> None:
    names = set(re.findall(rb"\0(nvml[A-Z]\w+)(?=\0)", (nvml.build(old_driver) / nvml.LIBRARY).read_bytes()))
    assert len(names) > 50
    assert {name for name in names if b"Set" in name and not name.startswith(b"nvmlEventSet")} == set()


def test_processes_that_build_at_the_same_time_all_get_it(tmp_path: Path) -> None:
    code = "import ctypes; from tests import nvml; ctypes.CDLL(nvml.build() / nvml.LIBRARY).nvmlInit_v2"
    variables = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(nvml.ROOT)}
    started = [subprocess.Popen([sys.executable, "-c", code], env=variables) for _ in range(2)]
    assert [process.wait(120) for process in started] == [0, 0]
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == [nvml.LIBRARY]


def test_a_compiler_that_fails_half_way_leaves_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import sys; open(sys.argv[sys.argv.index('-o') + 1], 'w').write('half'); sys.exit(1)"
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            nvml.build(compiler=(sys.executable, "-c", code))
    assert [path.name for path in tmp_path.glob("*/*")] == []


ZIG = (sys.executable, "-m", "ziglang", "cc")
HERE = [
    *([ZIG] if importlib.util.find_spec("ziglang") else []),
    *((name,) for name in ("cc", "clang") if shutil.which(name)),
]


@pytest.mark.parametrize("compiler", HERE, ids=lambda command: command[-1])
def test_each_compiler_that_is_here_builds_it(tmp_path: Path, compiler: tuple[str, ...]) -> None:
    """``make`` installs ziglang from PyPI where the system has none."""
    variables = nvml.environment("healthy", tmp_path)
    variables["LD_LIBRARY_PATH"] = str(nvml.build(compiler=compiler))
    assert nvml.in_child(_ASK, variables, "n.nvmlDeviceGetPowerUsage(g[7])") == [650_000]


def test_without_a_compiler_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match="no C compiler"):
        nvml.find_compiler.__wrapped__()

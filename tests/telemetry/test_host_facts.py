"""``bench.telemetry.host_facts``: what machines that are not there say of themselves, and what slows a process down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import child
from bench.telemetry import host_facts
from tests.telemetry.trees import CPU, INTEL, RAPL, link_to_nowhere, write

SERVER = INTEL | {
    **{
        f"{CPU}/cpufreq/policy{cpu}/{name}": f"{text}\n"
        for cpu in range(4)
        for name, text in {
            "scaling_governor": "powersave" if cpu == 3 else "performance",
            "scaling_driver": "intel_pstate",
            "scaling_min_freq": "800000",
            "scaling_max_freq": "3000000",
            "cpuinfo_max_freq": "3800000",
            "energy_performance_preference": "performance",
        }.items()
    },
    f"{CPU}/intel_pstate/no_turbo": "1\n",
    f"{CPU}/smt/control": "on\n",
    f"{CPU}/isolated": "2-3\n",
    f"{CPU}/nohz_full": "(null)\n",
    f"{CPU}/vulnerabilities/meltdown": "Not affected\n",
    f"{CPU}/vulnerabilities/spectre_v1": "Mitigation: usercopy/swapgs barriers\n",
    f"{CPU}/vulnerabilities/retbleed": "Vulnerable\n",
    f"{CPU}/vulnerabilities/mds": "Vulnerable: Clear CPU buffers attempted, no microcode\n",
    "sys/devices/system/node/node0/cpulist": "0-1\n",
    "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:       1048576 kB\nNode 0 MemFree: 7 kB\n",
    "sys/devices/system/node/node10/cpulist": "2-3\n",
    "sys/devices/system/node/node10/meminfo": "Node 10 MemTotal:      2097152 kB\n",
    "sys/devices/system/node/node2/cpulist": "\n",
    "sys/devices/system/node/possible": "0-15\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "proc/meminfo": "SwapTotal: 2048 kB\nSwapFree:   512 kB\nHugePages_Total:  16\nHugepagesize: 2048 kB\n",
    "proc/sys/vm/swappiness": "60\n",
    "proc/self/cgroup": "0::/\n",
    "proc/self/mountinfo": "29 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/cpu.max": "400000 100000\n",
    "sys/fs/cgroup/memory.max": "1073741824\n",
    "sys/fs/cgroup/cpuset.cpus.effective": "0-3\n",
    "sys/class/dmi/id/sys_vendor": "Supermicro\n",
    "sys/class/dmi/id/product_name": "SYS-821GE-TNHR\n",
    **{
        f"sys/class/dmi/id/{name}": "SECRET-1234\n"
        for name in ("product_serial", "product_uuid", "board_serial", "chassis_serial", "chassis_asset_tag")
    },
}


def test_all_that_a_server_says_of_itself(tmp_path: Path) -> None:
    root = write(tmp_path, SERVER)
    (root / "proc/self/ns").mkdir()
    (root / "proc/self/ns/pid").symlink_to("pid:[4026532999]")
    found = host_facts.facts(root, {"SLURM_JOB_ID": "42"})
    assert found.pop("memlock_limit_bytes")  # of this process
    assert found == {
        "cpu_governor": "performance+powersave",
        "scaling_driver": "intel_pstate",
        "energy_performance_preference": "performance",
        "cpu_clock_min_mhz": 800.0,
        "cpu_clock_max_mhz": 3000.0,
        "cpu_clock_hardware_max_mhz": 3800.0,
        "turbo": False,
        "sockets": 2,
        "smt": "on",
        "numa_nodes": [
            {"node": 0, "cpus": "0-1", "memory_bytes": 1 << 30},
            {"node": 2, "cpus": "", "memory_bytes": None},
            {"node": 10, "cpus": "2-3", "memory_bytes": 2 << 30},
        ],
        "cpus_isolated": "2-3",
        "cpus_nohz_full": "",
        "transparent_huge_pages": "madvise",
        "huge_pages": 16,
        "huge_page_bytes": 2 << 20,
        "swap_bytes": 2 << 20,
        "swappiness": 60,
        "cgroup_version": 2,
        "cgroup_cpu_limit_cores": 4.0,
        "cgroup_memory_limit_bytes": 1 << 30,
        "cgroup_cpus": "0-3",
        "clocksource": "tsc",
        "mitigated": ["spectre_v1"],
        "vulnerable": ["mds", "retbleed"],
        "own_pid_namespace": True,
        "rapl_readable": True,
        "system_vendor": "Supermicro",
        "system_product": "SYS-821GE-TNHR",
        "virtualization": "none",
        "hypervisor": None,
        "container": None,
        "slurm_job": True,
    }


def test_a_machine_that_says_nothing_is_unknown(tmp_path: Path) -> None:
    found = host_facts.facts(tmp_path, {})
    told = {name: value for name, value in found.items() if value is not None}
    assert told.keys() == {"memlock_limit_bytes", "virtualization", "slurm_job"}
    assert (told["virtualization"], told["slurm_job"]) == ("none", False)


def test_no_serial_number_is_taken(tmp_path: Path) -> None:
    assert "SECRET" not in json.dumps(host_facts.facts(write(tmp_path, SERVER), {"SLURM_JOB_ID": "SECRET"}))


def test_what_a_frequency_driver_does_not_tell_is_unknown(tmp_path: Path) -> None:
    policies = {f"{CPU}/cpufreq/policy{cpu}/scaling_governor": "schedutil\n" for cpu in (0, 1)}
    found = host_facts.facts(write(tmp_path, policies), {})
    assert (found["cpu_governor"], found["scaling_driver"], found["cpu_clock_max_mhz"]) == ("schedutil", None, None)


@pytest.mark.parametrize(
    ("machine", "turbo"),
    [
        ({f"{CPU}/intel_pstate/no_turbo": "0\n"}, True),
        ({f"{CPU}/intel_pstate/no_turbo": "1\n", f"{CPU}/cpufreq/boost": "1\n"}, False),
        ({f"{CPU}/cpufreq/boost": "1\n"}, True),
        ({f"{CPU}/cpufreq/boost": "0\n"}, False),
        ({}, None),
    ],
)
def test_turbo_is_intels_or_the_others_boost(tmp_path: Path, machine: dict[str, str], turbo: bool | None) -> None:
    assert host_facts.facts(write(tmp_path, machine), {})["turbo"] is turbo


def test_energy_that_may_not_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    root = write(tmp_path, INTEL)
    link_to_nowhere(root / f"{RAPL}/intel-rapl:1/energy_uj")
    assert host_facts.facts(root, {})["rapl_readable"] is False


def test_a_process_of_the_first_namespace_is_in_none_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    assert host_facts.facts(tmp_path, {})["own_pid_namespace"] is False


def test_this_machine_can_be_written_as_json() -> None:
    found = host_facts.facts()
    assert json.loads(json.dumps(found)) == found
    assert found["memlock_limit_bytes"]
    assert found["swap_bytes"] >= 0
    assert found.keys() == host_facts.facts(Path("/nowhere"), {}).keys()


# ---------------------------------------------------------------- slow on purpose


def told(tmp_path: Path, **environ: str) -> set[str]:
    """What is said, apart from what is so in the tests anyway (a coverage tool)."""
    return set(host_facts.debug(tmp_path, environ)) - set(host_facts.debug(tmp_path / "empty", {}))


@pytest.mark.parametrize(
    ("variable", "on", "off"),
    [
        ("PYTHONMALLOC", ("debug", "malloc_debug", "pymalloc_debug", "mimalloc_debug"), ("malloc", "pymalloc", "")),
        ("MALLOC_PERTURB_", ("1", "165"), ("0", "")),
        ("CUDA_LAUNCH_BLOCKING", ("1",), ("0", "")),
        ("CUDA_INJECTION64_PATH", ("/opt/tool.so",), ("",)),
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", ("1",), ("0", "")),
    ],
)
def test_a_variable_that_slows_down(tmp_path: Path, variable: str, on: tuple[str, ...], off: tuple[str, ...]) -> None:
    for value in on:
        (words,) = told(tmp_path, **{variable: value})
        assert words.startswith(variable)
    for value in off:
        assert told(tmp_path, **{variable: value}) == set()


@pytest.mark.parametrize(
    ("preload", "names"),
    [
        ("/usr/lib/gcc/x86_64-linux-gnu/12/libasan.so", {"libasan.so"}),
        ("libtsan.so.2:/lib/libjemalloc.so.2", {"libtsan.so.2"}),
        ("/usr/lib/clang/18/lib/linux/libclang_rt.asan-x86_64.so", {"libclang_rt.asan-x86_64.so"}),
        (
            "/usr/libexec/valgrind/vgpreload_core-amd64-linux.so:/usr/libexec/valgrind/vgpreload_memcheck.so",
            {"vgpreload_core-amd64-linux.so", "vgpreload_memcheck.so"},
        ),
        ("libc_malloc_debug.so.0", {"libc_malloc_debug.so.0"}),
        ("/usr/lib/libjemalloc.so.2:/usr/lib/libtcmalloc.so.4", set()),
        ("libtcmalloc.so.4 libubsan.so.1", {"libubsan.so.1"}),
        ("", set()),
    ],
)
def test_a_checker_that_is_preloaded_is_named(tmp_path: Path, preload: str, names: set[str]) -> None:
    assert told(tmp_path, LD_PRELOAD=preload) == {f"{name} is preloaded" for name in names}


def test_a_process_in_a_debuggers_hands(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/status": "Name:\tpython\nPPid:\t7\nTracerPid:\t0\n"})
    assert told(tmp_path) == set()
    write(tmp_path, {"proc/self/status": "Name:\tpython\nPPid:\t7\nTracerPid:\t81\n"})
    assert told(tmp_path) == {"a debugger or strace holds this process"}


def test_debug_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = sysconfig.get_config_var
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: 1 if name == "Py_DEBUG" else asked(name))
    monkeypatch.setattr(torch.version, "debug", True)
    said = host_facts.debug(tmp_path, {})
    assert {"Python is a debug build", "torch is a debug build"} <= set(said)


def test_a_tool_of_pep_669(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = {1: "coverage"}
    monkeypatch.setattr(sys, "monitoring", SimpleNamespace(get_tool=tools.get), raising=False)
    said = [words for words in host_facts.debug(tmp_path, {}) if "monitored" in words]
    assert said == ["Python is monitored by coverage"]


SAY = "import json, sys; from bench.telemetry import host_facts"
TRACED = f"{SAY}; sys.settrace(lambda *_: None); sys.setprofile(lambda *_: None); print(json.dumps(host_facts.debug()))"


def said_by(*arguments: str, **variables: str) -> list[str]:
    """What a fresh process says of itself."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    printed = subprocess.run(
        [sys.executable, *arguments],
        env=environ | variables | {"PYTHONPATH": str(Path(child.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: list[str] = json.loads(printed)
    return found


def test_a_process_that_is_slowed_down_says_so() -> None:
    said = said_by("-X", "dev", "-c", TRACED, CUDA_LAUNCH_BLOCKING="1")
    assert said == [
        "Python is in development mode",
        "Python traces its lines for a debugger or a coverage tool",
        "Python traces its calls for a profiler",
        "CUDA_LAUNCH_BLOCKING makes every CUDA launch wait for its end",
    ]


def test_an_ordinary_process_has_nothing_to_say() -> None:
    assert said_by("-c", f"{SAY}; print(json.dumps(host_facts.debug()))") == []

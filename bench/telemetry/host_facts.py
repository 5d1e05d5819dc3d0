"""What decides how fast the host is and does not change in a run, and what slows this process down on purpose.

As far as an ordinary user can read it: unknown is None.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.telemetry import cgroup, files, virtualization
from bench.telemetry.host_source import rapl_packages

_CPUS = "sys/devices/system/cpu"
_NODES = "sys/devices/system/node"
_KIB = 1024
# Linux gives the first PID namespace this inode (include/linux/proc_ns.h, PROC_PID_INIT_INO).
_FIRST_PID_NAMESPACE = "pid:[4026531836]"

# AddressSanitizer and its kin, Valgrind (vgpreload_*) and glibc's checking malloc.
_CHECKERS = re.compile(r"lib(clang_rt\.)?(asan|hwasan|tsan|msan|lsan|ubsan)\b|vgpreload_|libc_malloc_debug\b")

# Variable, what it holds when it is on, and what it then does.
_VARIABLES = (
    # docs.python.org, "Command line and environment": debug hooks on an allocator
    ("PYTHONMALLOC", r".*debug", "checks every allocation of Python"),
    # mallopt(3)
    ("MALLOC_PERTURB_", r"0*[1-9]\d*", "writes to all memory that is allocated and freed"),
    # NVIDIA's CUDA Programming Guide, "CUDA Environment Variables": for debugging only
    ("CUDA_LAUNCH_BLOCKING", r"[1-9]\d*", "makes every CUDA launch wait for its end"),
    # NVIDIA's CUPTI sample profiling_injection: a profiler or checker, loaded into each CUDA process
    ("CUDA_INJECTION64_PATH", r".+", "loads a tool into CUDA"),
    # docs.pytorch.org, "CUDA Environment Variables": for debugging
    ("PYTORCH_NO_CUDA_MEMORY_CACHING", r"[1-9]\d*", "makes every GPU allocation ask the driver"),
)


def facts(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What is to be known of the host, as JSON types; no serial number is asked for.

    Args:
        root: where ``proc`` and ``sys`` are.
        environ: the process's variables, by default those of this one.
    """
    environ = os.environ if environ is None else environ
    return {
        **_clock_facts(root),
        **_cpu_facts(root),
        **_memory_facts(root),
        **_cgroup_facts(root),
        **_kernel_facts(root),
        "rapl_readable": _rapl_readable(root),
        "system_vendor": files.text(root / "sys/class/dmi/id/sys_vendor"),
        "system_product": files.text(root / "sys/class/dmi/id/product_name"),
        "virtualization": virtualization.virtualization(root, environ),
        "hypervisor": virtualization.hypervisor(root),
        "container": virtualization.container(root, environ),
        "slurm_job": "SLURM_JOB_ID" in environ,
    }


def _clock_facts(root: Path) -> dict[str, Any]:
    """Documentation/admin-guide/pm/cpufreq.rst; frequencies are in kHz there."""
    policies = sorted((root / _CPUS / "cpufreq").glob("policy*"))

    def named(name: str) -> str | None:
        found = {files.text(policy / name) for policy in policies} - {None, ""}
        return "+".join(sorted(map(str, found))) or None

    def mhz(name: str) -> list[float]:
        return [khz / 1000 for khz in files.numbers(policy / name for policy in policies)]

    return {
        "cpu_governor": named("scaling_governor"),
        "scaling_driver": named("scaling_driver"),
        "energy_performance_preference": named("energy_performance_preference"),
        "cpu_clock_min_mhz": min(mhz("scaling_min_freq"), default=None),  # what the governors may choose
        "cpu_clock_max_mhz": max(mhz("scaling_max_freq"), default=None),
        "cpu_clock_hardware_max_mhz": max(mhz("cpuinfo_max_freq"), default=None),
        "turbo": _turbo(root),
    }


def _turbo(root: Path) -> bool | None:
    no_turbo = files.number(root / _CPUS / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == 0
    boost = files.number(root / _CPUS / "cpufreq/boost")
    return None if boost is None else boost == 1


def _cpu_facts(root: Path) -> dict[str, Any]:
    cpus = root / _CPUS
    packages = files.numbers(cpus.glob("cpu[0-9]*/topology/physical_package_id"))
    nodes = sorted((root / _NODES).glob("node[0-9]*"), key=_node_number)
    nohz_full = files.text(cpus / "nohz_full")
    return {
        "sockets": len(set(packages)) or None,
        "smt": files.text(cpus / "smt/control"),
        "numa_nodes": [_node(folder) for folder in nodes] or None,
        "cpus_isolated": files.text(cpus / "isolated"),
        "cpus_nohz_full": "" if nohz_full == "(null)" else nohz_full,  # so the kernel prints none
    }


def _node_number(folder: Path) -> int:
    return int(folder.name.removeprefix("node"))


def _node(folder: Path) -> dict[str, Any]:
    memory = re.search(r"MemTotal:\s+(\d+) kB", files.text(folder / "meminfo") or "")
    return {
        "node": _node_number(folder),
        "cpus": files.text(folder / "cpulist"),
        "memory_bytes": int(memory[1]) * _KIB if memory else None,
    }


def _memory_facts(root: Path) -> dict[str, Any]:
    meminfo = files.text(root / "proc/meminfo") or ""

    def number(name: str, factor: int = _KIB) -> int | None:
        found = re.search(rf"^{name}:\s+(\d+)", meminfo, re.MULTILINE)
        return int(found[1]) * factor if found else None

    chosen = re.search(r"\[(\w+)\]", files.text(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return {
        "transparent_huge_pages": chosen[1] if chosen else None,
        "huge_pages": number("HugePages_Total", 1),
        "huge_page_bytes": number("Hugepagesize"),
        "swap_bytes": number("SwapTotal"),
        "swappiness": files.number(root / "proc/sys/vm/swappiness"),
        "memlock_limit_bytes": "unlimited" if locked == resource.RLIM_INFINITY else locked,
    }


def _cgroup_facts(root: Path) -> dict[str, Any]:
    return {
        "cgroup_version": cgroup.version(root),
        "cgroup_cpu_limit_cores": cgroup.cpu_limit_cores(root),
        "cgroup_memory_limit_bytes": cgroup.memory_limit_bytes(root),
        "cgroup_cpus": cgroup.cpuset(root),
    }


def _kernel_facts(root: Path) -> dict[str, Any]:
    weaknesses = {path.name: files.text(path) or "" for path in (root / _CPUS / "vulnerabilities").glob("*")}

    def those(state: str) -> list[str] | None:
        found = sorted(name for name, text in weaknesses.items() if text.startswith(state))
        return found if weaknesses else None

    try:
        namespace = (root / "proc/self/ns/pid").readlink().name
    except OSError:
        namespace = None
    return {
        "clocksource": files.text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "mitigated": those("Mitigation"),
        "vulnerable": those("Vulnerable"),
        "own_pid_namespace": None if namespace is None else namespace != _FIRST_PID_NAMESPACE,
    }


def _rapl_readable(root: Path) -> bool | None:
    """Whether this user may read the packages' energy, which Linux 5.10 left to root (CVE-2020-8694)."""
    packages = rapl_packages(root)
    return all(files.number(package / "energy_uj") is not None for package in packages) if packages else None


# ---------------------------------------------------------------- slow on purpose


def debug(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> list[str]:
    """What slows this process down on purpose, each in a few words; empty where nothing does.

    Args:
        root: where ``proc`` is.
        environ: the process's variables, by default those of this one.
    """
    environ = os.environ if environ is None else environ
    found = []
    if sysconfig.get_config_var("Py_DEBUG") or hasattr(sys, "gettotalrefcount"):
        found.append("Python is a debug build")
    if sys.flags.dev_mode:
        found.append("Python is in development mode")
    if sys.gettrace() is not None:
        found.append("Python traces its lines for a debugger or a coverage tool")
    if sys.getprofile() is not None:
        found.append("Python traces its calls for a profiler")
    found += [f"Python is monitored by {name}" for name in _monitors()]
    if _is_traced(root):
        found.append("a debugger or strace holds this process")
    found += [f"{Path(library).name} is preloaded" for library in _checkers(environ)]
    found += [f"{name} {does}" for name, on, does in _VARIABLES if re.fullmatch(on, environ.get(name, ""))]
    if _torch_is_debug():
        found.append("torch is a debug build")
    return found


def _monitors() -> list[str]:
    """Tools of ``sys.monitoring`` (PEP 669), which Python has from 3.12."""
    monitoring: Any = getattr(sys, "monitoring", None)
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring else []
    return [tool for tool in tools if tool is not None]


def _is_traced(root: Path) -> bool:
    tracer = re.search(r"^TracerPid:\s+(\d+)", files.text(root / "proc/self/status") or "", re.MULTILINE)
    return tracer is not None and int(tracer[1]) != 0


def _checkers(environ: Mapping[str, str]) -> list[str]:
    return [library for library in re.split(r"[ :]", environ.get("LD_PRELOAD", "")) if _CHECKERS.search(library)]


def _torch_is_debug() -> bool:
    import torch

    return bool(getattr(torch.version, "debug", False))

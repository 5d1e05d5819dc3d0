"""What machine and what software this is. Unknown is None, never a guess."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import libraries
from bench.device.select import cpu_model
from bench.spec import canonical_json, content_id
from bench.telemetry import host_facts, nvml, nvml_facts
from bench.types import DeviceInfo

# Variables that change what libraries do; no others are read, and none that may be a credential (NVIDIA_API_KEY).
_VARIABLES = re.compile(
    r"(?!.*(KEY|TOKEN|SECRET|PASSWORD))"
    r"(OMP|MKL|OPENBLAS|GOMP|KMP|ONEDNN|DNNL|ATEN|TORCH|PYTORCH|NPY|CUBLAS|NCCL|NVIDIA|CUDA|CUPY|MALLOC|GLIBC)"
    r"_[A-Z0-9_]+"
)


# What a result is checked by: `ab` and `gate` demand equal hardware keys, and equal software and settings but for those
# that the user varies; `compare` and `info diff` show all of them; a run is mixed if any changes in its course.
KEYS: Mapping[str, tuple[str, ...]] = {
    "hardware": (
        "device_name",
        "device_memory_bytes",
        "sm_clock_max_mhz",
        "mig_profile",
        "cpu_model",
        "cpu_cores",
        "memory_bytes",
        "virtualization",
        "hypervisor",
    ),
    "software": ("driver", "vbios", "cuda", "torch", "cupy", "numpy", "python", "os", "os_kernel", "container"),
    "settings": ("ecc_mode", "power_limit_w", "power_limit_default_w", "cpu_governor", "debug"),
}

# Those that decide speed, and under which names they are installed.
_PACKAGES = {
    "pandas": ("pandas",),
    "pyarrow": ("pyarrow",),
    "scipy": ("scipy",),
    "triton": ("triton",),
    "nvidia-ml-py": ("nvidia-ml-py",),
    "nvidia-cublas": ("nvidia-cublas", "nvidia-cublas-cu12"),
    "nvidia-cudnn": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
    "nvidia-cusparselt": ("nvidia-cusparselt-cu13", "nvidia-cusparselt-cu12"),
    "nvidia-nccl": ("nvidia-nccl-cu13", "nvidia-nccl-cu12"),
}

# What torch older than its `get_capabilities` can be asked for.
_FEATURES = ("avx2", "avx512", "avx512_bf16", "vnni", "amx_tile", "amx_fp16")

# What the kernel leaves of the memory changes a little with every boot: no other machine.
_MEMORY_TOLERANCE = 0.01


@dataclass(frozen=True)
class Environment:
    """The checked keys (columns of their own) and everything else worth keeping."""

    keys: Mapping[str, Any]
    details: Mapping[str, Any]

    @property
    def env_id(self) -> str:
        return content_id({key: value for key, value in self.keys.items() if key != "memory_bytes"})

    @property
    def columns(self) -> dict[str, Any]:
        """The environment's columns of a row."""
        return {"env_id": self.env_id, **self.keys, "environment": canonical_json(dict(self.details))}


def same_memory(sizes: Sequence[float | None]) -> bool:
    """Whether sizes of main memory can be one machine's at several boots."""
    known = [size for size in sizes if size]
    return len(known) in (0, len(sizes)) and (not known or max(known) <= min(known) * (1 + _MEMORY_TOLERANCE))


def details(text: str | None) -> Iterator[tuple[str, Any]]:
    """What the column ``environment`` holds, each value with its path, as ``host.smt``.

    A text that somebody has made unreadable is one value, so that it differs from any other.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = {"unreadable": text}
    return _flat(found, "")


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _flat(each, f"{path}.{name}" if path else name)
    else:
        yield path, value


def capture(device: DeviceInfo) -> Environment:
    """The environment of this process on that device."""
    import psutil
    import torch

    gpu = nvml_facts.facts(device) if device.kind == "cuda" else {}
    machine = host_facts.facts()
    keys = {
        "device_name": device.name,
        "device_memory_bytes": device.memory_bytes if device.kind == "cuda" else None,
        "sm_clock_max_mhz": gpu.get("sm_clock_max_mhz"),
        "mig_profile": (gpu.get("mig_slice") or {}).get("profile"),
        "cpu_model": cpu_model(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "virtualization": machine["virtualization"],
        "hypervisor": machine["hypervisor"],
        "driver": gpu.get("driver") or nvml.driver_version(),
        "vbios": gpu.get("vbios"),
        **libraries.versions(),
        "os": _distribution(),
        "os_kernel": platform.release(),
        "container": machine["container"],
        "ecc_mode": gpu.get("ecc_mode"),
        "power_limit_w": gpu.get("power_limit_w"),
        "power_limit_default_w": gpu.get("power_limit_default_w"),
        "cpu_governor": _governor(machine),
        "debug": host_facts.debug(),
    }
    details = {
        "architecture": platform.machine(),
        "cpu_flags": _cpu_flags(),
        "cpu_threads": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)),
        "torch_capabilities": _capabilities(torch),
        "torch_build": _torch_build(torch),
        "torch_threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "matmul": _matmul_settings(torch),
        "numpy_blas": _numpy_blas(),
        "packages": {name: libraries.version(*names) for name, names in _PACKAGES.items()},
        "variables": _variables(),
        "host": machine,
        "gpu": gpu,
    }
    return Environment(keys, details)


def _variables() -> dict[str, str]:
    """Those that change what libraries do. One that names a path would name a user, and changes no speed."""
    known = {key: value for key, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(key)}
    return {key: value for key, value in known.items() if "/" not in value}


def _governor(machine: Mapping[str, Any]) -> str | None:
    """The frequency governor; with the preference behind it where that decides.

    In their active mode these two drivers choose the clock by the preference, and ``powersave`` names only the mode
    (Linux, Documentation/admin-guide/pm/intel_pstate.rst and amd-pstate.rst).
    """
    governor: str | None = machine["cpu_governor"]
    preference = machine["energy_performance_preference"]
    if governor == "powersave" and machine["scaling_driver"] in ("intel_pstate", "amd-pstate-epp") and preference:
        return f"{governor}/{preference}"
    return governor


def _cpu_flags() -> list[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return sorted(line.partition(":")[2].split())
    return []


def _capabilities(torch: Any) -> dict[str, str]:
    # A VM can mask /proc/cpuinfo; this asks the CPU itself.
    if hasattr(torch.cpu, "get_capabilities"):
        return {key: str(value) for key, value in torch.cpu.get_capabilities().items()}
    asked = {name: getattr(torch.cpu, f"_is_{name}_supported", None) for name in _FEATURES}
    return {name: str(ask()) for name, ask in asked.items() if ask is not None}


def _torch_build(torch: Any) -> list[str]:
    """The versions of oneDNN, MKL and OpenMP that torch was built with, and the instructions that its own code uses."""
    lines = [line.strip() for line in torch.__config__.show().splitlines()]
    return [line.removeprefix("- ") for line in lines if line.startswith("- ") and "Build settings" not in line]


def _matmul_settings(torch: Any) -> dict[str, Any]:
    """The switches of torch that decide how matrices are multiplied, beside the precision of float32."""
    reduction = "reduced_precision_reduction"
    names = (f"allow_fp16_{reduction}", f"allow_bf16_{reduction}", "allow_fp16_accumulation")
    settings = {name: getattr(torch.backends.cuda.matmul, name, None) for name in names}
    return settings | {"onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled}


def _numpy_blas() -> str | None:
    """Name and version of the BLAS that numpy was built with."""
    import numpy as np

    with contextlib.suppress(KeyError):
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}"
    return None


def _distribution() -> str | None:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    return None

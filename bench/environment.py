"""What machine and what software this is. Unknown is None, never a guess."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.device.select import cpu_model
from bench.spec import canonical_json, content_id
from bench.types import DeviceInfo

# Variables that change what libraries do; no others are read, and none that may be a credential (NVIDIA_API_KEY).
_VARIABLES = re.compile(
    r"(?!.*(KEY|TOKEN|SECRET|PASSWORD))"
    r"(OMP|MKL|OPENBLAS|GOMP|KMP|ONEDNN|DNNL|TORCH|PYTORCH|CUBLAS|NVIDIA|CUDA|CUPY|MALLOC)_[A-Z0-9_]+"
)


@dataclass(frozen=True)
class Environment:
    """The checked keys (columns of their own) and everything else worth keeping."""

    keys: Mapping[str, Any]
    details: Mapping[str, Any]

    @property
    def env_id(self) -> str:
        # The memory that the kernel leaves changes a little with every boot: no other machine.
        return content_id({key: value for key, value in self.keys.items() if key != "memory_bytes"})

    @property
    def columns(self) -> dict[str, Any]:
        """The environment's columns of a row."""
        return {"env_id": self.env_id, **self.keys, "environment": canonical_json(dict(self.details))}


def capture(device: DeviceInfo) -> Environment:
    """The environment of this process on that device."""
    import psutil
    import torch

    keys = {
        "device_name": device.name,
        "driver": driver_version(),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "cupy": _version("cupy", "cupy-cuda12x", "cupy-cuda13x"),
        "numpy": _version("numpy"),
        "python": platform.python_version(),
        "cpu_model": cpu_model(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "os": _distribution(),
        "os_kernel": platform.release(),
        "virtualization": virtualization(),
    }
    details = {
        "architecture": platform.machine(),
        "cpu_flags": _cpu_flags(),
        "cpu_threads": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)),
        "torch_capabilities": _capabilities(torch),
        "torch_threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "packages": {name: _version(name) for name in ("pandas", "pyarrow", "scipy", "nvidia-ml-py", "nvidia-cublas")},
        "variables": {key: value for key, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(key)},
    }
    return Environment(keys, details)


def driver_version() -> str | None:
    """The NVIDIA driver's version from NVML; None where there is no driver or it does not answer."""
    import pynvml

    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            version: str = pynvml.nvmlSystemGetDriverVersion()
            return version
        finally:
            pynvml.nvmlShutdown()
    return None


def virtualization() -> str:
    """``vm``, ``container``, ``vm+container`` or ``none``, as far as an ordinary user can see."""
    found = []
    if "hypervisor" in _cpu_flags():
        found.append("vm")
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")) or "container" in os.environ:
        found.append("container")
    return "+".join(found) or "none"


def _cpu_flags() -> list[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return sorted(line.partition(":")[2].split())
    return []


def _capabilities(torch: Any) -> Any:
    # A VM can mask /proc/cpuinfo; this asks the CPU itself. Newer than the oldest torch that is supported.
    ask = getattr(torch.cpu, "get_capabilities", None)
    return {key: str(value) for key, value in ask().items()} if ask else None


def _distribution() -> str | None:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    return None


def _version(*distributions: str) -> str | None:
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None

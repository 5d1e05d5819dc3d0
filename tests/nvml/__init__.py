"""A fake ``libnvidia-ml.so.1`` for the real pynvml: built from ``fake_nvml.c``, scripted by a text.

A script has one statement a line; ``#`` begins a comment, and later lines win::

    devices 8                     how many GPUs; 1 by default
    start 123.4                   the script's second 0 on CLOCK_MONOTONIC; when it is first read, by default
    init 18                       nvmlInit fails with this code
    * power_w 650                 a key of every GPU
    2 sm_clock_mhz 900 @3-5       of GPU 2 from second 3 until second 5; @3- has no end
    2 fail all 15 @4-             from second 4 every call for GPU 2 fails with this code
    * fail nvmlDeviceGetSerial 3  one function; field82 is one field of nvmlDeviceGetFieldValues

The keys and what they are without a script are the table KEYS of ``script.h``: an idle, healthy H100. A number below
zero means that the device does not support it. ``reasons`` is the mask of clock-event reasons, ``processes`` a list of
pids, ``mig`` the number of MIG devices, ``xid`` an event at the beginning of its window. Energy and the times held back
are the integrals of ``power_w`` and ``reasons``. A line that is not understood makes nvmlInit fail.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = tuple(Path(__file__).with_name(name) for name in ("fake_nvml.c", "script.h", "recent.h"))
LIBRARY = "libnvidia-ml.so.1"
VARIABLE = "VNBENCH_FAKE_NVML"

_FLAGS = ("-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden", f"-Wl,-soname,{LIBRARY}")

_LOAD = """
* power_w 650
* sm_clock_mhz 1755
* reasons 0
* temperature_c 62
* memory_temperature_c 70
"""
_EIGHT = "devices 8" + _LOAD
_ONE = "devices 1" + _LOAD

SCENARIOS: dict[str, str] = {
    "idle": "devices 1",
    "healthy": _EIGHT,
    "throttling": _ONE + "* reasons 0x48 @3-5\n* sm_clock_mhz 900 @3-5\n* power_w 420 @3-5\n* temperature_c 89 @3-5\n",
    "power-cap": _ONE + "* power_w 700\n* reasons 0x4\n* sm_clock_mhz 1590\n",
    "power-limit": _ONE + "* power_limit_w 500\n* power_w 500\n* reasons 0x4\n* sm_clock_mhz 1290\n",
    "clocks-locked": _ONE + "* app_clock_mhz 1200\n* sm_clock_mhz 1200\n* power_w 380\n* reasons 0x2\n",
    "ecc": _ONE + "* ecc_corrected 3 @1-\n* ecc_uncorrected 1 @2-\n* ecc_corrected_before 40\n",
    "remap-pending": _ONE + "* remap_uncorrected 1\n* remap_pending 1\n",
    "pcie-half": _ONE + "* pcie_width 8\n",
    "nvlink-down": _EIGHT + "3 nvlinks_down 1\n3 nvlink_errors 12\n",
    # A card on PCIe without a bridge has links, and none of them is up.
    "pcie-card": _ONE + "* name NVIDIA H100 PCIe\n* nvlinks_down 18\n* power_w 300\n* power_limit_w 350\n"
    "* power_limit_default_w 350\n* power_limit_max_w 350\n",
    "xid-79": _EIGHT + "1 xid 79 @2\n1 fail all 15 @2-\n",
    "gpu-lost": _EIGHT + "2 fail all 15 @3-\n",
    "driver-mismatch": "init 18",
    "no-permission": "init 4",
    "no-permission-calls": "devices 2\n* fail all 4\n",
    "hot": _EIGHT + "* slowdown_c 87\n5 temperature_c 86\n5 memory_temperature_c 93\n",
    # Processes that are there and are nobody's who measures. Two, since one is taken for the run's in a PID namespace.
    "shared": "devices 2" + _LOAD + "1 processes 1, 2\n",
    "mig": "devices 2" + _LOAD + "0 mig 2\n",
    "laptop": """
* name NVIDIA GeForce RTX 4070 Laptop GPU
* architecture 8
* compute_capability 8.9
* memory_mib 8188
* power_w 12
* power_limit_w 80
* power_limit_default_w -1
* power_limit_min_w 5
* power_limit_max_w 115
* sm_clock_mhz 210
* sm_clock_max_mhz 3105
* mem_clock_mhz 405
* mem_clock_max_mhz 8001
* app_clock_mhz -1
* default_app_clock_mhz -1
* memory_temperature_c -1
* memory_max_c -1
* ecc_mode -1
* pcie_generation 1  # an idle link rests
* pcie_generation_max 4
* pcie_width 8
* pcie_width_max 16
* nvlinks 0
* mig -1
* persistence 0
* numa_node -1
* fail nvmlDeviceGetSerial 3
* fail nvmlDeviceGetBoardPartNumber 3
* fail nvmlDeviceGetTotalEnergyConsumption 3
* fail field83 3
* fail nvmlDeviceGetRemappedRows 3
* fail nvmlDeviceGetNumaNodeId 3
""",
}


def build(old_driver: bool = False, compiler: Sequence[str] | None = None) -> Path:
    """The folder that holds the library, compiled if that has not been done yet; safe beside other processes.

    Args:
        old_driver: without the functions that some driver in the field lacks.
        compiler: the command; by default the first that is found here. Where there is none, the test is skipped.
    """
    command = [*(compiler or find_compiler()), *_FLAGS, *(["-DOLD_DRIVER"] if old_driver else [])]
    key = hashlib.sha256("\0".join([*command, *(path.read_text() for path in SOURCES)]).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"vnbench-fake-nvml-{os.getuid()}-{key}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder / LIBRARY).exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / LIBRARY
            subprocess.run([*command, "-o", str(made), str(SOURCES[0]), "-ldl"], check=True)
            made.replace(folder / LIBRARY)
    return folder


@functools.cache
def find_compiler() -> tuple[str, ...]:
    """The command of a C compiler; where there is none, the test is skipped."""
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return (name,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "cc")
    pytest.skip("no C compiler for the fake NVML: install gcc or clang, or the package ziglang from PyPI")


def environment(script: str, folder: Path, *, second: float | None = None, old_driver: bool = False) -> dict[str, str]:
    """Variables for a child process, in which pynvml then finds the fake.

    Args:
        script: a name of ``SCENARIOS`` or a script's text.
        folder: where the script is written to.
        second: the script's second at this moment; without it second 0 is when a process first reads the script.
        old_driver: see ``build``.
    """
    text = SCENARIOS.get(script, script)
    if second is not None:
        text = f"start {time.monotonic() - second}\n{text}"
    path = folder / f"nvml-{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
    path.write_text(text)
    rest = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": f"{build(old_driver)}{f':{rest}' if rest else ''}", VARIABLE: str(path)}


def start_child(code: str, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, in which this checkout can be imported."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def in_child(code: str, variables: dict[str, str], *arguments: str) -> Any:
    """What the code prints in a process of its own, as JSON; its errors are the test's."""
    done = start_child(code, variables, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

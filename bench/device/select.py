"""Which devices a run uses, and why; and opening one of them in a worker.

CUDA is asked in a child process: a context in the parent would hold memory on every GPU while workers are timed.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench import child
from bench.device import fake
from bench.device.base import Device
from bench.errors import ImpossibleDevice, UnusableGpu
from bench.types import DeviceInfo

SELECTORS = "auto, cpu, cuda, cuda:N, all, fake:SCENARIO"

_NVIDIA_NODES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
_PCI = Path("/sys/bus/pci/devices")
_ENUMERATE_TIMEOUT_S = 120


def find(selector: str) -> tuple[DeviceInfo, ...]:
    """The devices behind ``--device``.

    Raises:
        ImpossibleDevice: this machine has no such device, or the selector is none.
        UnusableGpu: NVIDIA hardware is present and CUDA does not work.
    """
    kind, _, argument = selector.partition(":")
    if selector == "cpu":
        return (cpu_info("asked for with --device cpu"),)
    if selector in ("auto", "all"):
        gpus = _usable_gpus(f"--device {selector}: every NVIDIA GPU that CUDA shows")
        if selector == "all":
            return (*gpus, cpu_info("--device all: the CPU beside the GPUs"))
        return gpus or (cpu_info("--device auto: no NVIDIA hardware here"),)
    if kind == "cuda" and (argument.isdecimal() or not argument):
        return _asked_gpus(selector, argument)
    if kind == "fake":
        name = argument or "steady"
        count = fake.scenario(name).devices
        reason = f"asked for with --device {selector}; simulated"
        return tuple(DeviceInfo("fake", i, "simulated", reason=reason, scenario=name) for i in range(count))
    raise ImpossibleDevice(f"no device {selector!r}", f"Choose one of: {SELECTORS}")


def open_device(info: DeviceInfo, scratch: Path, indices: Sequence[int] = ()) -> Device:
    """Open a device in this process.

    Args:
        indices: of the GPUs that a launch may take together, its own first; none: this one alone.
    """
    if info.kind == "cuda":
        from bench.device.cuda import CudaDevice

        return CudaDevice(info, scratch, indices)
    if info.kind == "fake":
        return fake.FakeDevice(info, scratch)
    from bench.device.cpu import CpuDevice

    return CpuDevice(info, scratch)


def cpu_info(reason: str) -> DeviceInfo:
    import psutil

    return DeviceInfo("cpu", 0, cpu_model(), memory_bytes=psutil.virtual_memory().total, reason=reason)


def cpu_model() -> str | None:
    """The model that the kernel shows; a VM may mask it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def nvidia_hardware() -> str | None:
    """The first sign of NVIDIA hardware or its driver on this machine; None where there is none."""
    for node in _NVIDIA_NODES:
        if Path(node).exists():
            return node
    for device in sorted(_PCI.glob("*")) if _PCI.is_dir() else ():
        try:
            vendor, device_class = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and device_class.startswith("0x03"):  # a display or 3D controller
            return str(device)
    return None


def _usable_gpus(reason: str) -> tuple[DeviceInfo, ...]:
    sign = nvidia_hardware()
    if sign is None:
        return ()
    gpus, error = _ask_cuda()
    if not gpus:
        raise UnusableGpu(
            f"NVIDIA hardware is present ({sign}) but CUDA cannot use it: {error}",
            "Mend the driver or install a torch built for CUDA; --device cpu measures the CPU instead",
        )
    return tuple(dataclasses.replace(gpu, reason=reason) for gpu in gpus)


def _asked_gpus(selector: str, argument: str) -> tuple[DeviceInfo, ...]:
    gpus = _usable_gpus(f"asked for with --device {selector}")
    if not gpus:
        raise ImpossibleDevice(f"--device {selector}: no NVIDIA GPU on this machine", "Use --device cpu or auto")
    if argument and int(argument) >= len(gpus):
        raise ImpossibleDevice(
            f"--device {selector}: this machine has {len(gpus)} GPU(s)", f"Use cuda:0 to cuda:{len(gpus) - 1}"
        )
    return (gpus[int(argument)],) if argument else gpus


def _ask_cuda() -> tuple[Sequence[DeviceInfo], str]:
    """The GPUs that torch shows in a child process, or its error."""
    try:
        answer = subprocess.run(
            child.command("bench.device.select"),
            env=child.environment(),
            capture_output=True,
            text=True,
            timeout=_ENUMERATE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (), f"no answer within {_ENUMERATE_TIMEOUT_S} s"
    try:
        found = json.loads(answer.stdout)
    except ValueError:
        return (), (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
    return [DeviceInfo(**gpu) for gpu in found["gpus"]], found["error"]


def _enumerate_cuda() -> dict[str, object]:
    """What this process's torch sees; runs in the child."""
    import torch

    if torch.version.cuda is None:
        return {"gpus": [], "error": f"torch {torch.__version__} is built without CUDA"}
    try:
        torch.cuda.init()
        gpus = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            uuid = getattr(properties, "uuid", None)
            gpus.append(DeviceInfo("cuda", index, properties.name, uuid and f"GPU-{uuid}", properties.total_memory))
            torch.zeros(1, device=f"cuda:{index}")
    except (RuntimeError, AssertionError) as error:
        return {"gpus": [], "error": str(error).splitlines()[0]}
    return {"gpus": [dataclasses.asdict(gpu) for gpu in gpus], "error": "CUDA shows no device"}


if __name__ == "__main__":
    print(json.dumps(_enumerate_cuda()))

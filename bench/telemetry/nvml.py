"""NVIDIA GPUs through NVML: what there are, what keeps NVML from telling, and their state at one moment.

Everything is read, as an ordinary user; nothing is ever set. What a device, its driver or this user's rights do not
tell is None. The names and numbers are those of nvml.h; ``pynvml`` (nvidia-ml-py) is NVIDIA's own binding to it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.telemetry.nvml_calls import GONE, Code, DeviceGone, DeviceSilent, Gpu, opened, words_of
from bench.telemetry.nvml_device import SLOW_PERIOD_NS, NvmlDevice
from bench.telemetry.reading import Reading
from bench.types import DeviceInfo


@dataclass(frozen=True)
class Obstacle:
    """Why NVML cannot be used here, in its own words, and what to do about it."""

    words: str
    remedy: str
    is_absence: bool = False  # there is no NVIDIA driver, which is none where there is no GPU

    def __str__(self) -> str:
        return f"{self.words}. {self.remedy}"

    @classmethod
    def of(cls, error: Any) -> Obstacle:
        """What an ``NVMLError`` stands for."""
        is_absence = error.value in (Code.LIBRARY_NOT_FOUND, Code.DRIVER_NOT_LOADED)
        return cls(words_of(error), _REMEDIES.get(error.value, "See what nvidia-smi says"), is_absence)


_REMEDIES = {
    Code.LIBRARY_NOT_FOUND: "Install the NVIDIA driver; start a container with NVIDIA's runtime",
    Code.DRIVER_NOT_LOADED: "Load the kernel module (modprobe nvidia), or reinstall the driver after a kernel update",
    Code.LIB_RM_VERSION_MISMATCH: "The driver was updated while the old one runs: reboot, or restart the container",
    Code.NO_PERMISSION: "Give this user access to /dev/nvidiactl and /dev/nvidia*; a container needs its devices",
    Code.GPU_IS_LOST: "A GPU has fallen off the bus: look for Xid in the kernel's log, reboot, have it replaced",
    Code.RESET_REQUIRED: "Have the GPU reset (nvidia-smi --gpu-reset) or reboot",
    Code.IRQ_ISSUE: "The GPU's interrupts do not arrive: look for NVRM in the kernel's log",
    Code.OPERATING_SYSTEM: "The operating system blocks it: look at the container's and cgroup's device rules",
    Code.UNKNOWN: "In a container, restart it (it may have lost its devices); else look for NVRM in the kernel's log",
}


def obstacle() -> Obstacle | None:
    """Why NVML does not work here; None if it does."""
    import pynvml

    try:
        with opened():
            if pynvml.nvmlDeviceGetCount() > 0:
                return None
    except pynvml.NVMLError as error:
        return Obstacle.of(error)
    return Obstacle(
        "NVML works but shows no GPU", "See nvidia-smi -L and the container's device rules", is_absence=True
    )


def devices() -> tuple[DeviceInfo, ...]:
    """All GPUs in NVML's order, found without CUDA; a GPU that does not answer has no name. None: an empty tuple."""
    import pynvml

    found = []
    with contextlib.suppress(pynvml.NVMLError), opened():
        for index in range(pynvml.nvmlDeviceGetCount()):
            info = DeviceInfo("cuda", index, None, reason="shown by NVML")
            with contextlib.suppress(pynvml.NVMLError, DeviceGone):
                gpu = Gpu(info)
                name, uuid = gpu.ask("nvmlDeviceGetName"), gpu.ask("nvmlDeviceGetUUID")
                memory = gpu.ask("nvmlDeviceGetMemoryInfo")
                info = DeviceInfo("cuda", index, name, uuid, memory and memory.total, reason=info.reason)
            found.append(info)
    return tuple(found)


def driver_version() -> str | None:
    """The NVIDIA driver's version from NVML; None where there is no driver or it does not answer."""
    import pynvml

    with contextlib.suppress(pynvml.NVMLError), opened():
        version: str = pynvml.nvmlSystemGetDriverVersion()
        return version
    return None


class NvmlSource:
    """Readings of some devices; a ``Source``.

    What changes slowly is read about once a second, device after device, so that no reading pays for all of it. A MIG
    slice shows its GPU's clocks, temperatures and errors, but neither power nor energy: those are of all slices
    together. A device is found by its UUID; one that has none by its index, which is CUDA's only where CUDA sees all
    GPUs in the order of their bus ids.
    """

    def __init__(
        self, devices: Sequence[DeviceInfo], run_pid: int | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        """
        Args:
            run_pid: the first process of the run, whose processes on a GPU are not foreign; None where none runs.
            clock: ns of the time that the readings are to carry.
        """
        import pynvml

        self._clock = clock
        self._closing = contextlib.ExitStack()
        failure = None
        try:
            self._closing.enter_context(opened())
        except pynvml.NVMLError as error:
            failure = {"obstacle": str(Obstacle.of(error))}
        self._devices: list[tuple[DeviceInfo, NvmlDevice | dict[str, str]]] = []
        for place, info in enumerate(devices):
            turn_ns = SLOW_PERIOD_NS * (place + 1) // len(devices)
            self._devices.append((info, failure or self._open(info, run_pid, turn_ns)))

    def _open(self, info: DeviceInfo, run_pid: int | None, turn_ns: int) -> NvmlDevice | dict[str, str]:
        """The device, or why it cannot be read."""
        import pynvml

        try:
            return NvmlDevice(info, run_pid, turn_ns, self._closing)
        except DeviceGone as error:
            return {"error": words_of(error)}
        except pynvml.NVMLError as error:
            is_gone = error.value in GONE
            return {"error": words_of(error)} if is_gone else {"obstacle": str(Obstacle.of(error))}

    def read(self) -> list[Reading]:
        """Each device now; a device that does not answer gives a reading with its ``error``. Never raises."""
        return [self._read(info, device) for info, device in self._devices]

    def close(self) -> None:
        """Give NVML back."""
        self._devices = []
        self._closing.close()

    def _read(self, info: DeviceInfo, device: NvmlDevice | dict[str, str]) -> Reading:
        began_ns, cpu_began_ns = time.perf_counter_ns(), time.thread_time_ns()
        values: dict[str, Any] = {"at_ns": self._clock()}
        if isinstance(device, dict):
            values |= device
        else:
            try:
                values["xids"] = device.xids()
                values |= device.read(self._clock)
            except DeviceSilent as error:
                values["obstacle"] = str(error)
            except Exception as error:  # DeviceGone, and whatever else a driver may cause: the run goes on
                values["error"] = str(error) or type(error).__name__
        return Reading(
            device=info.kind,
            device_index=info.index,
            took_ns=time.perf_counter_ns() - began_ns,
            cpu_ns=time.thread_time_ns() - cpu_began_ns,
            **values,
        )

"""What an NVIDIA device is, as NVML tells it: what does not change while a run lasts."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.telemetry.nvml_calls import DeviceGone, Gpu, opened
from bench.types import DeviceInfo

_COMPUTE_MODES = ("default", "exclusive_thread", "prohibited", "exclusive_process")  # nvmlComputeMode_t
# nvmlNvlinkVersion_t; the first is "invalid".
_NVLINK_VERSIONS = (None, "1.0", "2.0", "2.2", "3.0", "3.1", "4.0", "5.0", "6.0")
_NVLINK_ERRORS = ("replay", "recovery", "crc_flit", "crc_data", "ecc_data")  # nvmlNvLinkErrorCounter_t
_NO_ARCHITECTURE = 0xFFFFFFFF
_PCI = Path("/sys/bus/pci/devices")


def facts(device: DeviceInfo) -> dict[str, Any]:
    """All that NVML tells of a device, as JSON types; None is what it does not tell, with this driver or these rights.

    Of a MIG slice, name, uuid, ``memory_bytes`` and ``mig_slice`` are its own and the rest is its GPU's. Empty where
    NVML or the device does not answer at all: ``nvml.obstacle`` says why.
    """
    import pynvml

    with contextlib.suppress(pynvml.NVMLError, DeviceGone), opened():
        gpu = Gpu(device)
        return {
            **_identity(gpu),
            **_software(),
            **_power_and_clocks(gpu),
            **_temperatures(gpu),
            **_links(gpu),
            **_modes(gpu),
            **_memory_errors(gpu),
        }
    return {}


def _identity(gpu: Gpu) -> dict[str, Any]:
    import pynvml

    architectures = {
        value: name.removeprefix("NVML_DEVICE_ARCH_").lower()
        for name, value in vars(pynvml).items()
        if name.startswith("NVML_DEVICE_ARCH_") and value != _NO_ARCHITECTURE
    }
    capability = gpu.ask("nvmlDeviceGetCudaComputeCapability")
    memory = gpu.ask("nvmlDeviceGetMemoryInfo", handle=gpu.handle)
    pci = gpu.ask("nvmlDeviceGetPciInfo")
    bus_id = pci and str(pci.busId)
    return {
        "name": gpu.ask("nvmlDeviceGetName", handle=gpu.handle),
        "uuid": gpu.ask("nvmlDeviceGetUUID", handle=gpu.handle),
        "serial": gpu.ask("nvmlDeviceGetSerial"),
        "vbios": gpu.ask("nvmlDeviceGetVbiosVersion"),
        "board_part_number": gpu.ask("nvmlDeviceGetBoardPartNumber"),
        "architecture": architectures.get(gpu.ask("nvmlDeviceGetArchitecture")),
        "compute_capability": capability and "{}.{}".format(*capability),
        "memory_bytes": memory and memory.total,
        "pci_bus_id": bus_id,
        "numa_node": _numa_node(bus_id),
    }


def _numa_node(bus_id: str | None) -> int | None:
    """The node of the CPUs that are near; NVML tells only that of a GPU's own memory (Grace), so ask the kernel."""
    if bus_id is None:
        return None
    domain, _, rest = bus_id.lower().partition(":")
    with contextlib.suppress(OSError, ValueError):
        node = int((_PCI / f"{domain[-4:]}:{rest}" / "numa_node").read_text())
        return node if node >= 0 else None  # -1: the machine has no nodes, or does not say
    return None


def _software() -> dict[str, Any]:
    import pynvml

    def told(name: str) -> Any:
        with contextlib.suppress(pynvml.NVMLError, AttributeError):
            return getattr(pynvml, name)()
        return None

    cuda = told("nvmlSystemGetCudaDriverVersion_v2") or told("nvmlSystemGetCudaDriverVersion")
    return {
        "driver": told("nvmlSystemGetDriverVersion"),
        "driver_cuda": cuda and f"{cuda // 1000}.{cuda % 1000 // 10}",  # CUDA_VERSION: 1000 major + 10 minor
        "nvml": told("nvmlSystemGetNVMLVersion"),
    }


def _power_and_clocks(gpu: Gpu) -> dict[str, Any]:
    import pynvml

    limits = gpu.ask("nvmlDeviceGetPowerManagementLimitConstraints") or (None, None)
    graphics, memory = pynvml.NVML_CLOCK_GRAPHICS, pynvml.NVML_CLOCK_MEM
    return {
        "power_limit_w": _watts(gpu.first("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit")),
        "power_limit_default_w": _watts(gpu.ask("nvmlDeviceGetPowerManagementDefaultLimit")),
        "power_limit_min_w": _watts(limits[0]),
        "power_limit_max_w": _watts(limits[1]),
        "sm_clock_max_mhz": gpu.ask("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),
        "mem_clock_max_mhz": gpu.ask("nvmlDeviceGetMaxClockInfo", memory),
        "applications_sm_clock_mhz": gpu.ask("nvmlDeviceGetApplicationsClock", graphics),
        "applications_sm_clock_default_mhz": gpu.ask("nvmlDeviceGetDefaultApplicationsClock", graphics),
        "applications_mem_clock_mhz": gpu.ask("nvmlDeviceGetApplicationsClock", memory),
        "applications_mem_clock_default_mhz": gpu.ask("nvmlDeviceGetDefaultApplicationsClock", memory),
    }


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts * 1e-3


def _temperatures(gpu: Gpu) -> dict[str, Any]:
    """Thresholds; from Ada on NVIDIA prefers margins (``temperature_margin_c`` of a reading) to these."""
    import pynvml

    thresholds = {
        "temperature_slowdown_c": pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
        "temperature_shutdown_c": pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,
        "temperature_gpu_max_c": pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,
        "temperature_memory_max_c": pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX,
    }
    return {name: gpu.ask("nvmlDeviceGetTemperatureThreshold", number) for name, number in thresholds.items()}


def _links(gpu: Gpu) -> dict[str, Any]:
    """``pcie_generation_max`` is what GPU and slot can do together, ``pcie_generation_gpu_max`` the GPU alone."""
    import pynvml

    states = {link: gpu.ask("nvmlDeviceGetNvLinkState", link) for link in range(pynvml.NVML_NVLINK_MAX_LINKS)}
    links = [link for link, state in states.items() if state is not None]
    version = gpu.ask("nvmlDeviceGetNvLinkVersion", links[0]) if links else None
    return {
        "pcie_generation": gpu.ask("nvmlDeviceGetCurrPcieLinkGeneration"),
        "pcie_generation_max": gpu.ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        "pcie_generation_gpu_max": gpu.ask("nvmlDeviceGetGpuMaxPcieLinkGeneration"),
        "pcie_width": gpu.ask("nvmlDeviceGetCurrPcieLinkWidth"),
        "pcie_width_max": gpu.ask("nvmlDeviceGetMaxPcieLinkWidth"),
        "nvlinks": len(links) or None,
        "nvlinks_active": sum(states[link] for link in links) if links else None,
        "nvlink_version": _named(_NVLINK_VERSIONS, version),
        "nvlink_errors": {name: _link_errors(gpu, links, kind) for kind, name in enumerate(_NVLINK_ERRORS)},
    }


def _link_errors(gpu: Gpu, links: Sequence[int], kind: int) -> int | None:
    counts = [gpu.ask("nvmlDeviceGetNvLinkErrorCounter", link, kind) for link in links]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _modes(gpu: Gpu) -> dict[str, Any]:
    mig, ecc = gpu.ask("nvmlDeviceGetMigMode"), gpu.ask("nvmlDeviceGetEccMode")
    persistence = gpu.ask("nvmlDeviceGetPersistenceMode")
    return {
        "persistence_mode": None if persistence is None else bool(persistence),
        "compute_mode": _named(_COMPUTE_MODES, gpu.ask("nvmlDeviceGetComputeMode")),
        "ecc_mode": ecc and bool(ecc[0]),
        "mig_mode": mig and bool(mig[0]),
        "mig_slice": _slice(gpu) if gpu.is_slice else None,
    }


def _slice(gpu: Gpu) -> dict[str, Any]:
    """What a MIG device has of its GPU; its profile stands in its name, "NVIDIA H100 80GB HBM3 MIG 1g.10gb"."""
    name = gpu.ask("nvmlDeviceGetName", handle=gpu.handle)
    attributes = gpu.ask("nvmlDeviceGetAttributes_v2", handle=gpu.handle)
    return {
        "profile": name.rpartition(" MIG ")[2] if name and " MIG " in name else None,
        "memory_bytes": attributes and attributes.memorySizeMB << 20,
        "multiprocessors": attributes and attributes.multiprocessorCount,
        "gpu_slices": attributes and attributes.gpuInstanceSliceCount,
        "compute_slices": attributes and attributes.computeInstanceSliceCount,
        "gpu_uuid": gpu.ask("nvmlDeviceGetUUID", handle=gpu.board),
    }


def _named(names: Sequence[str | None], number: int | None) -> str | None:
    return names[number] if number is not None and number < len(names) else None


def _memory_errors(gpu: Gpu) -> dict[str, Any]:
    """Over the GPU's life, not since the driver was loaded; pages are retired before Ampere, rows remapped since."""
    import pynvml

    lasting = pynvml.NVML_AGGREGATE_ECC
    remapped = gpu.ask("nvmlDeviceGetRemappedRows") or (None, None, None, None)
    pending = gpu.ask("nvmlDeviceGetRetiredPagesPendingStatus")
    return {
        "ecc_corrected": gpu.ask("nvmlDeviceGetTotalEccErrors", pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, lasting),
        "ecc_uncorrected": gpu.ask("nvmlDeviceGetTotalEccErrors", pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, lasting),
        **_sram_errors(gpu),
        "retired_pages_single_bit": _retired(gpu, pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS),
        "retired_pages_double_bit": _retired(gpu, pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR),
        "retired_pages_pending": None if pending is None else bool(pending),
        "remapped_rows_corrected": remapped[0],
        "remapped_rows_uncorrected": remapped[1],
        "row_remap_pending": None if remapped[2] is None else bool(remapped[2]),
        "row_remap_failed": None if remapped[3] is None else bool(remapped[3]),
    }


def _retired(gpu: Gpu, cause: int) -> int | None:
    pages = gpu.ask("nvmlDeviceGetRetiredPages", cause)
    return None if pages is None else len(pages)


def _sram_errors(gpu: Gpu) -> dict[str, Any]:
    import pynvml

    # The caller brings the structure, which older bindings do not have.
    make = getattr(pynvml, "c_nvmlEccSramErrorStatus_v1_t", None)
    status = make and make()
    if status is None or gpu.ask("nvmlDeviceGetSramEccErrorStatus", ctypes.byref(status)) is None:
        return dict.fromkeys(("sram_corrected", "sram_uncorrected", "sram_threshold_exceeded"))
    return {
        "sram_corrected": status.aggregateCor,
        "sram_uncorrected": status.aggregateUncParity + status.aggregateUncSecDed,
        "sram_threshold_exceeded": bool(status.bThresholdExceeded),
    }

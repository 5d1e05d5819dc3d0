"""The state of one NVIDIA device: what is read at every moment, and what is read about once a second."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from bench.telemetry import gpu_processes
from bench.telemetry.nvml_calls import Code, DeviceSilent, Gpu
from bench.telemetry.total import LongestGrowth
from bench.types import DeviceInfo

# What changes slowly or takes many calls is read so often, and carried forward between.
SLOW_PERIOD_NS = 1_000_000_000

# nvmlClocksEventReasons of nvml.h, formerly nvmlClocksThrottleReasons.
_EVENT_REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}

_FIELD_POWER_CAPPED_NS = 74  # NVML_FI_DEV_PERF_POLICY_POWER
_FIELD_MEMORY_TEMPERATURE_C = 82
_FIELD_POWER_INSTANT_MW = 186
# NVML_FI_DEV_CLOCKS_EVENT_REASON_{SW_THERM,HW_THERM,HW_POWER_BRAKE}_SLOWDOWN. NVIDIA has renumbered them: the second
# three in nvidia-ml-py 12.575.51 and 13.580.65, the first three from 13.580.126 on; to the other drivers either three
# are of power smoothing. A driver does not say which numbers it goes by.
_FIELDS_THROTTLED_NS = ((269, 270, 271), (251, 252, 253))
_TYPE_COUNTER = 3  # NVML_VALUE_TYPE_UNSIGNED_LONG_LONG

_EVENTS_AT_ONCE = 64
_NO_INSTANCE = 0xFFFFFFFF  # the MIG instance of an event that concerns the whole GPU


class NvmlDevice:
    """Reads one device as columns of a ``Reading``. A method that asks the device may raise ``DeviceGone``."""

    def __init__(
        self, info: DeviceInfo, run_pid: int | None, first_period_ns: int, closing: contextlib.ExitStack
    ) -> None:
        """
        Args:
            first_period_ns: from the first reading of the slow figures to the second, so that several devices take
                turns.
            closing: takes what has to be given back.

        Raises:
            pynvml.NVMLError: NVML does not show this device, or cannot reach it.
            DeviceGone: it was lost.
        """
        import pynvml

        self._nvml = pynvml
        self._gpu = Gpu(info)
        self._run_pid = run_pid
        self._period_ns = first_period_ns
        self._slow_at_ns: int | None = None
        self._slow: dict[str, Any] = {}
        self._clocks_lowered: bool | None = None
        self._had_links = False
        self._link_errors: dict[tuple[int, int], int] = {}
        self._slowdown_c = self._gpu.ask(
            "nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        )
        self._power_capped = tuple(self._gpu.fields([_FIELD_POWER_CAPPED_NS]))
        self._throttled = self._throttle_fields()
        self._throttled_total, self._capped_total = LongestGrowth(), LongestGrowth()
        self._instance = self._gpu.ask("nvmlDeviceGetGpuInstanceId", handle=self._gpu.handle)
        self._events = self._register(closing)

    def xids(self) -> tuple[int, ...] | None:
        """The Xid errors since the reading before; of a MIG slice, its own and those of the whole GPU."""
        if self._events is None:
            return None
        found = []
        try:
            for _ in range(_EVENTS_AT_ONCE):
                event = self._nvml.nvmlEventSetWait(self._events, 0)
                elsewhere = self._gpu.is_slice and event.gpuInstanceId not in (self._instance, _NO_INSTANCE)
                if event.eventType & self._nvml.nvmlEventTypeXidCriticalError and not elsewhere:
                    found.append(int(event.eventData))
        except self._nvml.NVMLError as error:
            if error.value != Code.TIMEOUT and not found:  # a timeout says that no more are waiting
                return None
        return tuple(found)

    def read(self, clock: Callable[[], int]) -> dict[str, Any]:
        """All columns but the Xid errors; ``at_ns`` is the middle of reading the fast ones."""
        self._refresh(clock())
        began_ns = clock()
        fast = self._fast()
        at_ns = (began_ns + clock()) // 2
        if all(value is None for value in fast.values()):
            raise DeviceSilent(self._gpu.refusal or "NVML tells nothing about this device")
        return {"at_ns": at_ns, **fast, **self._slow}

    # ------------------------------------------------------------ fast

    def _fast(self) -> dict[str, Any]:
        gpu, nvml = self._gpu, self._nvml
        fields = gpu.fields(
            (_FIELD_POWER_INSTANT_MW, _FIELD_MEMORY_TEMPERATURE_C, *self._power_capped, *self._throttled)
        )
        reasons = self._reasons()
        temperature_c = self._temperature_c()
        return {
            **self._electricity(fields),
            "sm_clock_mhz": gpu.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            "mem_clock_mhz": gpu.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            "clocks_locked": self._clocks_locked(reasons),
            "temperature_c": temperature_c,
            # A device without a sensor there may answer 0.
            "memory_temperature_c": fields.get(_FIELD_MEMORY_TEMPERATURE_C) or None,
            "temperature_margin_c": self._margin_c(temperature_c),
            "throttle_reasons": reasons,
            "throttled_s_total": self._throttled_s(fields),
            "power_capped_s_total": self._capped_total.add(
                self._counters_s(fields, self._power_capped, nvml.NVML_PERF_POLICY_POWER)
            ),
            "ecc_corrected_total": self._ecc_errors(nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            "ecc_uncorrected_total": self._ecc_errors(nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            "pcie_replays_total": gpu.ask("nvmlDeviceGetPcieReplayCounter"),
        }

    def _electricity(self, fields: Mapping[int, float]) -> dict[str, Any]:
        if self._gpu.is_slice:  # the board's are those of all slices together
            return {}
        power_mw = fields.get(_FIELD_POWER_INSTANT_MW)
        if power_mw is None:  # from Ampere on (but A100) a mean over a second, says nvml.h
            power_mw = self._gpu.ask("nvmlDeviceGetPowerUsage")
        energy_mj = self._gpu.ask("nvmlDeviceGetTotalEnergyConsumption")
        return {"power_w": _scaled(power_mw, 1e-3), "energy_j": _scaled(energy_mj, 1e-3)}

    def _reasons(self) -> tuple[str, ...] | None:
        mask = self._gpu.first("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        if mask is None:
            return None
        bits = (1 << place for place in range(mask.bit_length()))
        return tuple(_EVENT_REASONS.get(bit, f"unknown_{bit:#x}") for bit in bits if mask & bit)

    def _clocks_locked(self, reasons: Sequence[str] | None) -> bool | None:
        """Whether someone holds the clocks below what the device would choose, as far as NVML shows it.

        That is by the applications clocks (``nvidia-smi -ac``). Locked clocks (``nvidia-smi -lgc``, ``-lmc``) have no
        getter in NVML: they show only as clocks that stay below their maximum while nothing is named as the reason.
        """
        if reasons is None:
            return self._clocks_lowered
        is_held = "applications_clocks_setting" in reasons and "gpu_idle" not in reasons
        return bool(self._clocks_lowered) or is_held

    def _temperature_c(self) -> int | None:
        names = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
        temperature_c: int | None = self._gpu.first(*names, arguments=(self._nvml.NVML_TEMPERATURE_GPU,))
        return temperature_c

    def _margin_c(self, temperature_c: int | None) -> int | None:
        margin_c: int | None = self._gpu.ask("nvmlDeviceGetMarginTemperature")
        if margin_c is None and temperature_c is not None and self._slowdown_c is not None:
            return int(self._slowdown_c - temperature_c)
        return margin_c

    def _throttled_s(self, fields: Mapping[int, float]) -> float | None:
        """By heat or by the power brake."""
        return self._throttled_total.add(self._counters_s(fields, self._throttled, self._nvml.NVML_PERF_POLICY_THERMAL))

    def _counters_s(self, fields: Mapping[int, float], numbers: Sequence[int], policy: int) -> dict[Hashable, float]:
        """Those counters; where the device has none of them, the older one of that policy."""
        if numbers:
            known: dict[Hashable, float] = {number: fields[number] * 1e-9 for number in numbers if number in fields}
            return known if len(known) == len(numbers) else {}
        violation = self._gpu.ask("nvmlDeviceGetViolationStatus", policy)
        return {} if violation is None else {policy: violation.violationTime * 1e-9}

    def _throttle_fields(self) -> tuple[int, ...]:
        known = self._gpu.fields([number for three in _FIELDS_THROTTLED_NS for number in three], _TYPE_COUNTER)
        whole = [three for three in _FIELDS_THROTTLED_NS if known.keys() >= set(three)]
        return whole[0] if len(whole) == 1 else ()

    def _ecc_errors(self, kind: int) -> int | None:
        """Since the driver was loaded."""
        count: int | None = self._gpu.ask("nvmlDeviceGetTotalEccErrors", kind, self._nvml.NVML_VOLATILE_ECC)
        return count

    # ------------------------------------------------------------ slow

    def _refresh(self, now_ns: int) -> None:
        if self._slow_at_ns is not None:
            if 0 <= now_ns - self._slow_at_ns < self._period_ns:  # below 0 where the clock was set back
                return
            self._period_ns = SLOW_PERIOD_NS
        self._slow_at_ns = now_ns
        gpu = self._gpu
        remapped = gpu.ask("nvmlDeviceGetRemappedRows")
        self._clocks_lowered = self._applications_clocks_lowered()
        self._slow = {
            "row_remap_pending": remapped and bool(remapped[2]),
            "row_remap_failed": remapped and bool(remapped[3]),
            "pcie_generation": gpu.ask("nvmlDeviceGetCurrPcieLinkGeneration"),
            "pcie_width": gpu.ask("nvmlDeviceGetCurrPcieLinkWidth"),
            "pcie_width_max": gpu.ask("nvmlDeviceGetMaxPcieLinkWidth"),
            **self._links(),
            "foreign_processes": self._foreign_processes(),
        }

    def _applications_clocks_lowered(self) -> bool | None:
        lowered = []
        for kind in (self._nvml.NVML_CLOCK_GRAPHICS, self._nvml.NVML_CLOCK_MEM):
            now_mhz = self._gpu.ask("nvmlDeviceGetApplicationsClock", kind)
            default_mhz = self._gpu.ask("nvmlDeviceGetDefaultApplicationsClock", kind)
            if now_mhz is not None and default_mhz is not None:
                lowered.append(now_mhz < default_mhz)
        return any(lowered) if lowered else None

    def _links(self) -> dict[str, int | None]:
        """NVLinks that are down, and the errors of all.

        Where no link has been up yet none is counted as down: a card without a bridge looks the same. The counters
        are asked link by link, since the fields that promise their sum answer 0 on Hopper (DataDog/datadog-agent pull
        request 55966); a link that stops answering keeps its last count, so that the sum never falls.
        """
        gpu, nvml = self._gpu, self._nvml
        states = [gpu.ask("nvmlDeviceGetNvLinkState", link) for link in range(nvml.NVML_NVLINK_MAX_LINKS)]
        self._had_links |= 1 in states
        for link, state in enumerate(states):
            for counter in range(nvml.NVML_NVLINK_ERROR_COUNT) if state is not None else ():
                count = gpu.ask("nvmlDeviceGetNvLinkErrorCounter", link, counter)
                if count is not None:
                    self._link_errors[link, counter] = count
        return {
            "nvlinks_down": states.count(0) if self._had_links else None,
            "nvlink_errors_total": sum(self._link_errors.values()) if self._link_errors else None,
        }

    def _foreign_processes(self) -> int | None:
        """Processes that compute; those that only draw are not counted."""
        names = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
        processes = self._gpu.first(*names, handle=self._gpu.handle)
        if processes is None:
            return None
        return gpu_processes.foreign([process.pid for process in processes], self._run_pid)

    # ------------------------------------------------------------ events

    def _register(self, closing: contextlib.ExitStack) -> Any:
        """An event set that collects this device's Xid errors from now on; None where that is not to be had."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            return None
        closing.callback(_free, events)
        try:
            nvml.nvmlDeviceRegisterEvents(self._gpu.board, nvml.nvmlEventTypeXidCriticalError, events)
        except nvml.NVMLError:
            return None
        return events


def _free(events: Any) -> None:
    import pynvml

    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlEventSetFree(events)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor

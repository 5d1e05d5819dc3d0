"""``FACTS`` and ``STATES``: what an inventory and a state criterion may name, and where a row has it.

A reader gives None for what the row does not tell: unknown is never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.rule import cpu_share
from bench.telemetry.reading import POWER_CAP_REASON, THROTTLE_REASONS

Row = Mapping[str, Any]
Read = Callable[[Row], Any]
Kind = Literal["number", "text", "version", "yes-no", "texts"]

# Which limits a value of each kind can be held against.
LIMITS: Mapping[Kind, tuple[str, ...]] = {
    "number": ("at_least", "at_most", "equal"),
    "text": ("equal", "one_of"),
    "version": ("at_least", "at_most", "equal"),
    "yes-no": ("equal",),
    "texts": ("none_of",),
}


@dataclass(frozen=True)
class Fact:
    """Something that does not change while a run lasts."""

    words: str
    kind: Kind
    read: Read
    unit: str = "1"
    is_of_node: bool = False  # of the host, not of each device
    combine: Callable[[Sequence[Any]], Any] | None = None  # of a device's rows, where they may differ without a fault


@dataclass(frozen=True)
class StateFigure:
    """Something that is read beside the measurement; ``combine`` makes one figure of a device's rows.

    Each is such that another row can only bring it nearer to its limit, or over it.
    """

    words: str
    kind: Kind
    combine: Callable[[Sequence[Any]], Any]
    limit: str  # the one that it can be held against
    unit: str = "1"
    read: Read | None = None  # the column itself, unless said


def environment(*path: str) -> Read:
    """Reads a value of the column ``environment``; None where it is not there."""

    def read(row: Row) -> Any:
        try:
            found: Any = json.loads(row["environment"] or "{}")
        except (ValueError, RecursionError):
            return None
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    return read


def _column(name: str) -> Read:
    return lambda row: row[name]


def _length(read: Read) -> Read:
    def length(row: Row) -> int | None:
        found = read(row)
        return len(found) if isinstance(found, list) else None

    return length


def _held_back(seconds: str, reasons: Sequence[str]) -> Read:
    """The seconds; zero where a window was too short to count them and the driver named no reason."""

    def read(row: Row) -> float | None:
        if row[seconds] is not None or row["throttle_reasons"] is None:
            found: float | None = row[seconds]
            return found
        return None if set(reasons) & set(row["throttle_reasons"]) else 0.0

    return read


def _lost(row: Row) -> bool | None:
    if row["device_error"] is not None:
        return True
    return False if row["telemetry_readings"] else None


def _union(values: Sequence[Sequence[Any]]) -> list[Any]:
    return sorted({each for value in values for each in value})


DEVICES = "devices"  # counted from the plan, not from rows

FACTS: Mapping[str, Fact] = {
    DEVICES: Fact("devices", "number", lambda row: None, is_of_node=True),
    "device_name": Fact("model", "text", _column("device_name")),
    "device_memory": Fact("device memory", "number", _column("device_memory_bytes"), "B"),
    "driver": Fact("NVIDIA driver", "version", _column("driver")),
    "vbios": Fact("firmware", "text", _column("vbios")),
    "ecc_mode": Fact("ECC", "yes-no", _column("ecc_mode")),
    "mig_mode": Fact("MIG mode", "yes-no", environment("gpu", "mig_mode")),
    "power_limit": Fact("power limit", "number", _column("power_limit_w"), "W"),
    "pcie_generation": Fact("PCIe generation", "number", _column("pcie_generation"), combine=max),  # idle lowers it
    "pcie_width": Fact("PCIe lanes", "number", _column("pcie_width"), combine=min),
    "nvlinks": Fact("active NVLinks", "number", environment("gpu", "nvlinks_active"), combine=min),
    "ecc_uncorrected": Fact(
        "uncorrected memory errors in its life", "number", environment("gpu", "ecc_uncorrected"), combine=max
    ),
    "remapped_rows_corrected": Fact(
        "memory rows remapped for corrected errors",
        "number",
        environment("gpu", "remapped_rows_corrected"),
        combine=max,
    ),
    "remapped_rows_uncorrected": Fact(
        "memory rows remapped for uncorrected errors",
        "number",
        environment("gpu", "remapped_rows_uncorrected"),
        combine=max,
    ),
    "cpu_model": Fact("CPU model", "text", _column("cpu_model"), is_of_node=True),
    "cpu_cores": Fact("physical cores", "number", _column("cpu_cores"), is_of_node=True),
    "cpu_threads": Fact("CPU threads", "number", environment("cpu_threads"), is_of_node=True),
    "sockets": Fact("CPU sockets", "number", environment("host", "sockets"), is_of_node=True),
    "numa_nodes": Fact("NUMA nodes", "number", _length(environment("host", "numa_nodes")), is_of_node=True),
    "memory": Fact("main memory", "number", _column("memory_bytes"), "B", is_of_node=True),
    "virtualization": Fact("virtualization", "text", _column("virtualization"), is_of_node=True),
}

STATES: Mapping[str, StateFigure] = {
    "throttle_s": StateFigure(
        "time slowed down by heat or a hardware brake",
        "number",
        sum,
        "at_most",
        "s",
        _held_back("throttle_s", THROTTLE_REASONS),
    ),
    "power_cap_s": StateFigure(
        "time held back by the power limit",
        "number",
        sum,
        "at_most",
        "s",
        _held_back("power_cap_s", (POWER_CAP_REASON,)),
    ),
    "throttle_reasons": StateFigure("reasons that held the clocks", "texts", _union, "none_of"),
    "temperature_c_max": StateFigure("highest temperature", "number", max, "at_most", "°C"),
    "memory_temperature_c_max": StateFigure("highest memory temperature", "number", max, "at_most", "°C"),
    "temperature_margin_c_min": StateFigure("margin to the thermal slowdown", "number", min, "at_least", "°C"),
    "ecc_corrected_delta": StateFigure("corrected memory errors", "number", sum, "at_most"),
    "ecc_uncorrected_delta": StateFigure("uncorrected memory errors", "number", sum, "at_most"),
    "row_remap_pending": StateFigure("a memory row that waits for a reset", "yes-no", any, "equal"),
    "row_remap_failed": StateFigure("a memory row that could not be remapped", "yes-no", any, "equal"),
    "xids": StateFigure("critical errors of the driver (XID)", "number", sum, "at_most", read=_length(_column("xids"))),
    "pcie_replay_delta": StateFigure("PCIe replays", "number", sum, "at_most"),
    "nvlinks_down": StateFigure("NVLinks that are not active", "number", max, "at_most"),
    "nvlink_errors_delta": StateFigure("errors on the NVLinks", "number", sum, "at_most"),
    "device_error": StateFigure("the device stopped answering", "yes-no", any, "equal", read=_lost),
    "clocks_locked": StateFigure("clocks held down by someone", "yes-no", any, "equal"),
    "foreign_gpu_processes": StateFigure("processes of others on the GPU", "number", max, "at_most"),
    "steal_fraction": StateFigure(
        "CPU time given to others by the hypervisor", "number", max, "at_most", "1", cpu_share("steal_fraction")
    ),
    "cpu_quota_s": StateFigure("time that a CPU quota held back", "number", sum, "at_most", "s"),
    "swapped_bytes": StateFigure("memory swapped", "number", sum, "at_most", "B"),
}


def read_state(column: str, row: Row) -> Any:
    """What a row tells of a state."""
    read = STATES[column].read
    return row[column] if read is None else read(row)


_HIGHER, _LOWER = ("at_least",), ("at_most",)


@dataclass(frozen=True)
class MetricFigure:
    """A figure beside the headline: its base unit, None where it is the headline's, and the limits that make sense."""

    unit: str | None
    limits: tuple[str, ...]


# Those that a criterion may name, over all kernels.
METRICS: Mapping[str, MetricFigure] = {
    **dict.fromkeys(("mfu", "mbu", "share", "rtfx"), MetricFigure("1", _HIGHER)),
    **dict.fromkeys(("resident_fraction", "device_read_fraction"), MetricFigure("1", _HIGHER)),
    **dict.fromkeys(("algbw", "bytes_per_s", "copied"), MetricFigure("B/s", _HIGHER)),
    "dense_equivalent": MetricFigure(None, _HIGHER),
    "user_rate": MetricFigure("token/s", _HIGHER),
    **dict.fromkeys(("tpot_s", "itl_p50_s", "itl_p99_s", "prefill_s", "batch_s"), MetricFigure("s", _LOWER)),
    **dict.fromkeys(("latency_s", "latency_ns", "launch_s", "operator_s"), MetricFigure("s", _LOWER)),
    **dict.fromkeys(("step_s", "forward_s", "backward_s", "update_s"), MetricFigure("s", _LOWER)),
    **dict.fromkeys(("product_s", "copy_s", "both_s"), MetricFigure("s", _LOWER)),
    **dict.fromkeys(("memory_s", "h2d_s", "d2h_s", "decode_s"), MetricFigure("s", _LOWER)),
    **dict.fromkeys(("time_to_first_batch", "wait_p99"), MetricFigure("s", _LOWER)),
    "prepare_s": MetricFigure("s", _HIGHER + _LOWER),
    "peak_memory_bytes": MetricFigure("B", _HIGHER + _LOWER),
}

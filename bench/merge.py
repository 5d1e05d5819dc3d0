"""From the rows that workers left to the rows of the result: state, roofs, calibration, flags, what is missing.

Pure and repeatable: merging merged rows again changes nothing, so a resumed run needs no special case.
"""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import fitness, peaks, registry, schema
from bench.schema import Row
from bench.telemetry import window
from bench.telemetry.reading import Reading
from bench.types import SOAK_ARM, Item, Job, Plan, Work

# (before, after) in ns
Calibration = tuple[int, int]

# What was never measured was in no process, so loaded together with nothing.
_NOT_LOADED = dict.fromkeys(("world_size", "rank", "concurrency_group"))
_ADDED_UP = ("power_w_mean", "energy_j")  # over the devices that a launch takes
_UTILISATION = {"roof/compute": "mfu", "roof/memory": "mbu"}


def finish(
    plan: Plan, rows: Iterable[Row], calibrations: Mapping[str, Calibration], readings: Iterable[Reading] = ()
) -> list[Row]:
    """The rows of a run's file: one for everything that was planned.

    Args:
        calibrations: by ``concurrency_group`` and rank, as ``calibration_key`` names them.
        readings: of all devices, in any order.
    """
    by_key = {row_key(row): dict(row) for row in sorted(rows, key=lambda row: row["started_at"])}
    found = list(by_key.values())
    roofs = _measured_roofs(found)
    environments: dict[tuple[Any, ...], set[str]] = {}  # the arms of an A/B test may differ
    for row in found:
        known = environments.setdefault((row["device"], row["device_index"], row["arm"]), set())
        known |= {row["env_id"]} - {None}
    series = _series(readings)
    for row in found:
        if row["value"] is not None and row["kernel"] in registry.kernels():
            _fill_roofs(row, roofs)
    typical = _typical_fractions(found)
    answers_for_ns = _answers_for_ns(found)
    for row in found:
        calibration = calibrations.get(calibration_key(row["concurrency_group"], row["rank"]))
        if calibration is not None:
            row["calibration_before_ns"], row["calibration_after_ns"] = calibration
        hz = plan.soak.telemetry_hz if plan.soak and row["arm"] == SOAK_ARM else plan.telemetry_hz
        of_devices = [series.get(one, []) for one in _devices_of(row, plan)]
        _fill_state(row, of_devices, plan.telemetry_hz and hz, answers_for_ns.get(row_key(row)))
        is_mixed = len(environments[row["device"], row["device_index"], row["arm"]]) > 1
        row["validity"] = _validity(row | {"fraction_of_roof": typical.get(_replicates_key(row))}, is_mixed)
    missing = [row for row in _interrupted_rows(plan) if row_key(row) not in by_key]
    return sorted([*found, *missing], key=lambda row: (row["replicate"], row["sequence"], row["device_index"]))


def row_key(row: Row) -> tuple[Any, ...]:
    """What there is to be one row of in a run."""
    return row["workload"], row["device"], row["device_index"], row["replicate"], row["arm"], row["session"]


def calibration_key(concurrency_group: str | None, rank: int | None) -> str:
    """Names one worker's pass."""
    return f"{concurrency_group}-{rank}"


def _interrupted_rows(plan: Plan) -> list[Row]:
    """A row for all that the plan asks for, as if none of it had been measured; an A/B test ends when it is decided."""
    rows: list[Row] = []
    for replicate in range(0 if plan.arms else plan.replicates):
        for device in plan.devices:
            alike = [other for other in plan.devices if other.kind == device.kind]
            names = [name for name in plan.workloads[device.kind] if device in registry.measured_by(name, alike)]
            items = tuple(map(Item, names))
            job = Job(plan, device, items, replicate, folder="", scratch="")
            for index, item in enumerate(items):
                row = schema.blank_row(job, index, registry.resolve(item.workload), "interrupted")
                row["reason"] = "the run ended before this was measured"
                rows.append(row | _NOT_LOADED)
    return rows


def _validity(row: Row, is_mixed: bool) -> list[str]:
    """Nothing speaks against what was not measured."""
    is_judged = row["value"] is not None or row["timed_from"] is not None
    flags = fitness.validity(row) if is_judged else row["validity"]
    return [*(flag for flag in flags if flag != "mixed-environment"), *(["mixed-environment"] if is_mixed else [])]


def _series(readings: Iterable[Reading]) -> dict[tuple[str, int], list[Reading]]:
    """The readings of each device, in the order of time."""
    found: dict[tuple[str, int], list[Reading]] = {}
    for one in sorted(readings, key=lambda reading: reading.at_ns):
        found.setdefault((one.device, one.device_index), []).append(one)
    return found


def _devices_of(row: Row, plan: Plan) -> list[tuple[str, int]]:
    """Its own device, before the others that its launches took; on a CPU these are processes."""
    own: tuple[str, int] = row["device"], row["device_index"]
    taken = registry.devices_of(row["workload"]) if row["kernel"] in registry.kernels() else 1
    if taken == 1 or row["device"] == "cpu":
        return [own]
    return [(row["device"], device.index) for device in plan.devices if device.kind == row["device"]][:taken]


_EVER_AFTER_NS = 2**63 - 1


def _answers_for_ns(rows: Iterable[Row]) -> dict[tuple[Any, ...], tuple[int, int]]:
    """The time whose errors each row tells: since the measurement before it on its device, the last one's to the end.

    What befalls a device while a process starts, prepares or checks is in no window, and would be in no row. Windows
    that overlap, as the arms of an A/B test have them, begin where the one before both of them ended.
    """
    by_device: dict[tuple[str, int], list[tuple[tuple[int, int], Row]]] = {}
    for row in rows:
        if (window_ns := schema.window_ns(row)) is not None:
            by_device.setdefault((row["device"], row["device_index"]), []).append((window_ns, row))
    found = {}
    for timed in by_device.values():
        ends_ns = [0, *sorted(until_ns for (_, until_ns), _ in timed)]
        last_ns = max(from_ns for (from_ns, _), _ in timed)
        for (from_ns, until_ns), row in timed:
            since_ns = ends_ns[bisect.bisect_right(ends_ns, from_ns) - 1]
            found[row_key(row)] = since_ns, until_ns if last_ns >= until_ns else _EVER_AFTER_NS
    return found


def _fill_state(
    row: Row, series: Sequence[Sequence[Reading]], hz: float, answers_for_ns: tuple[int, int] | None
) -> None:
    """What the readings of the row's device say of the time of the samples; a row that has it already keeps it.

    Power and energy are those of all devices together whose series are given: null where one of them is not known.
    """
    timed = schema.window_ns(row)
    if timed is None or not hz:
        return
    states = [window.state(one, *timed, round(1e9 / hz), answers_for_ns) for one in series]
    state = states[0] | {name: _sum([one[name] for one in states]) for name in _ADDED_UP}
    is_known = any(value is not None for name, value in state.items() if name != "telemetry_readings")
    if is_known or row["telemetry_readings"] is None:
        row |= state


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _measured_roofs(rows: Sequence[Row]) -> dict[tuple[str, int, str], tuple[float, str]]:
    """The value and unit of each roof measured in this run: the best of its replicates on that device.

    The best, because what the machine did once it can do; decision 0008.
    """
    values: dict[tuple[str, int, str], list[float]] = {}
    units: dict[str, str] = {}
    for row in rows:
        if row["kernel"].startswith("roof/") and row["status"] == "ok":
            values.setdefault((row["device"], row["device_index"], row["workload"]), []).append(row["value"])
            units[row["workload"]] = row["unit"]
    return {key: (max(replicates), units[key[2]]) for key, replicates in values.items()}


def _replicates_key(row: Row) -> tuple[Any, ...]:
    """What the replicates of one workload on one device have in common."""
    return row["workload"], row["device"], row["device_index"], row["arm"]


def _typical_fractions(rows: Iterable[Row]) -> dict[tuple[Any, ...], float]:
    """The fraction of its roof that a workload reaches in its median replicate, by which it is judged too fast."""
    fractions: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["fraction_of_roof"] is not None:
            fractions.setdefault(_replicates_key(row), []).append(row["fraction_of_roof"])
    return {key: statistics.median(replicates) for key, replicates in fractions.items()}


def _fill_roofs(row: Row, measured: Mapping[tuple[str, int, str], tuple[float, str]]) -> None:
    work = Work(row["unit"], row["flops"], row["bytes_moved"], row["items"], row["item_unit"])
    workload = registry.resolve(row["workload"])
    names = list(workload.kernel.roofs(workload.params, row["device"]))
    entries = []
    for name in names:
        if (row["device"], row["device_index"], name) in measured:
            value, unit = measured[row["device"], row["device_index"], name]
            rate = work.rate(row["median_ns"], unit)
            entries.append(_roof(name, value, unit, "measured", rate))
    for name in names or [row["workload"]]:  # a roof itself is held against the datasheet only
        peak = peaks.peak(row["device_name"], name)
        if peak is not None:
            entries.append(_roof(name, peak.value, peak.unit, "datasheet", work.rate(row["median_ns"], peak.unit)))
    row["roofs"] = entries
    measured_entries = [entry for entry in entries if entry["source"] == "measured" and entry["fraction"] is not None]
    row["fraction_of_roof"] = max((entry["fraction"] for entry in measured_entries), default=None)
    row["metrics"] = [metric for metric in row["metrics"] if metric["name"] not in _UTILISATION.values()]
    for entry in measured_entries:
        utilisation = _UTILISATION.get("/".join(entry["name"].split("/")[:2]))
        if utilisation is not None:
            row["metrics"].append({"name": utilisation, "value": entry["fraction"], "unit": "1", "better": "higher"})


def _roof(name: str, value: float, unit: str, source: str, rate: float | None) -> dict[str, Any]:
    fraction = None if rate is None else rate / value
    return {"name": name, "value": value, "unit": unit, "source": source, "fraction": fraction}

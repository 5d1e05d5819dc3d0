"""A benchmark of pytest-benchmark as a row, and a JSON file of it as the benchmarks of one process.

The format is that of pytest-benchmark 3 to 5 (``pytest_benchmark_generate_json`` and ``Metadata.as_dict``): times are
seconds per iteration, ``stats.data`` too, and is only there if saved with ``--benchmark-save-data`` or
``--benchmark-json``. Of its figures only the median is used: ``hd15iqr`` was wrong before 5.3.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import environment
from bench.environment import Environment
from bench.importing import foreign
from bench.importing.foreign import NO_SAMPLES, Foreign, finite, metric, printable
from bench.schema import Row
from bench.spec import Spec
from bench.types import DeviceInfo, Plan, Status

SUITE = "pytest"
BACKEND = "pytest-benchmark"

# What a benchmark is told and not what was found while it ran: rounds and iterations follow from the machine's speed.
_OPTIONS = ("disable_gc", "timer", "min_rounds", "max_time", "min_time", "precision", "confidence", "warmup")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
# A nanosecond count has to fit into 64 bits; and nothing that Python calls takes less than a clock cycle.
_LONGEST_S, _SHORTEST_S = 9e9, 1e-11
# What py-cpuinfo measures anew each time, so that a machine would differ from itself.
_VOLATILE = re.compile(r"hz_actual.*")


@dataclass(frozen=True)
class SavedProcess:
    """What one process of pytest saved."""

    source: str  # the file's name
    content_id: str
    at: dt.datetime
    version: str | None
    commit: str | None
    machine: Mapping[str, Any]  # less what changes from moment to moment
    benchmarks: Sequence[Mapping[str, Any]]

    @property
    def node(self) -> str:
        name = self.machine.get("node")
        return re.sub(r"[^A-Za-z0-9._-]+", "_", name if isinstance(name, str) else "").strip("._-") or "unnamed"


def parse(source: str, content_id: str, data: Any) -> SavedProcess:
    """The process behind a file's JSON.

    Raises:
        ValueError: it is not of pytest-benchmark; the text says what is missing.
    """
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise ValueError("it has no list of benchmarks")
    for one in data["benchmarks"]:
        if not isinstance(one, dict) or not isinstance(one.get("fullname"), str):
            raise ValueError("a benchmark in it has no fullname")
        if not isinstance(one.get("stats"), dict):
            raise ValueError(f"{printable(one['fullname'])} in it has no stats")
    if not data["benchmarks"]:
        raise ValueError("it holds no benchmark")
    machine, version = data.get("machine_info"), data.get("version")
    return SavedProcess(
        source=printable(source),
        content_id=content_id,
        at=_time(data.get("datetime")),
        version=version if isinstance(version, str) else None,
        commit=commit_of(data.get("commit_info")),
        machine=_steady(machine if isinstance(machine, dict) else {}),
        benchmarks=data["benchmarks"],
    )


def workload(entry: Mapping[str, Any]) -> Foreign:
    """What a benchmark is: its full name, parameters included. Its options are the policy."""
    fullname = printable(entry["fullname"])
    options = {name: _plain(value) for name, value in _options(entry).items() if name in _OPTIONS}
    # What a version does not know yet, it does not do.
    policy = {name: value for name, value in options.items() if value is not None}
    return Foreign(f"pytest/{fullname}", Spec("pytest", 1, {"fullname": fullname}, backend=BACKEND), policy)


def row(
    plan: Plan,
    entry: Mapping[str, Any],
    columns: Row,
    *,
    device: DeviceInfo,
    status: Status = "ok",
    reason: str | None = None,
    replicate: int = 0,
    sequence: int = 0,
) -> Row:
    """A benchmark of one process as a row: calls per second at the median round. What is not ok has no value."""
    found = foreign.make_row(plan, workload(entry), device, status, reason, replicate=replicate, sequence=sequence) | {
        "items": 1,
        "item_unit": "call",
        "unit": "call/s",
        **columns,
    }
    figures = entry.get("stats") or {}
    elapsed_s, median_s = _times(figures, _options(entry))
    found["metrics"] = _metrics(figures, entry.get("extra_info"))
    found["launches_per_sample"] = _count(figures.get("iterations"))
    if elapsed_s:
        found |= foreign.sample_columns(elapsed_s)
    if status != "ok":
        return found
    if median_s is None:
        return found | {"status": "failed", "reason": "its times are not all finite numbers that a time can be"}
    if median_s < _SHORTEST_S:
        return found | {
            "status": "failed",
            "reason": f"its median time is {median_s:g} s: its timer does not resolve it",
        }
    flags = [*found["validity"], *([] if elapsed_s else [NO_SAMPLES])]
    return found | {"value": 1 / median_s, "median_ns": median_s * 1e9, "validity": flags}


def environment_columns(process: SavedProcess) -> Row:
    """What pytest-benchmark says of the machine. Physical cores, memory, GPU and libraries it does not tell."""
    cpu = process.machine.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    model = cpu.get("brand_raw") or cpu.get("brand")
    keys = dict.fromkeys(key for group in environment.KEYS.values() for key in group) | {
        "device_name": device(process).name,
        "cpu_model": model,
        "python": process.machine.get("python_version"),
        "os": process.machine.get("system"),
        "os_kernel": process.machine.get("release"),
    }
    keys = {key: printable(value) if isinstance(value, str) else None for key, value in keys.items()}
    details = {"machine_info": process.machine, "pytest_benchmark": process.version}
    return Environment(keys, details).columns


def device(process: SavedProcess) -> DeviceInfo:
    """The CPU, with how many of it: physical cores, which have a column, are not told."""
    cpu = process.machine.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    model, count = cpu.get("brand_raw") or cpu.get("brand"), cpu.get("count")
    name = ", ".join([*([str(model)] if model else []), *([f"{count} CPUs"] if count else [])])
    return DeviceInfo("cpu", 0, printable(name) or None, reason=f"imported from {BACKEND}")


def _options(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("options")
    return found if isinstance(found, dict) else {}


def _times(figures: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[list[float], float | None]:
    """Seconds per iteration of each round, none where not saved or one is no number; and their median."""
    # A timer such as time.perf_counter_ns counts nanoseconds, which pytest-benchmark takes for seconds.
    unit_s = 1e-9 if str(options.get("timer")).endswith("_ns") else 1.0
    data = figures.get("data")
    if isinstance(data, list) and data:
        numbers = [number for number in map(finite, data) if number is not None]
        elapsed_s = [number * unit_s for number in numbers]
        is_sound = len(numbers) == len(data) and min(elapsed_s) >= 0 and max(elapsed_s) < _LONGEST_S
        return (elapsed_s, statistics.median(elapsed_s)) if is_sound else ([], None)
    median = finite(figures.get("median"))
    return [], None if median is None or not 0 <= median * unit_s < _LONGEST_S else median * unit_s


def _metrics(figures: Mapping[str, Any], extra: Any) -> list[dict[str, Any]]:
    found = [*metric("rounds", figures.get("rounds"), "1"), *metric("iterations", figures.get("iterations"), "1")]
    for name, value in extra.items() if isinstance(extra, dict) else ():
        found += metric(f"extra/{printable(str(name))}", value, "1")
    return found


def _count(value: Any) -> int | None:
    number = finite(value)
    return int(number) if number is not None and 0 < number < 2**31 else None


def _plain(value: Any) -> Any:
    """An option in one spelling: older versions saved times as texts."""
    if isinstance(value, bool) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
    return number if math.isfinite(number) else str(value)  # which has no spelling in a hash


def _time(text: Any) -> dt.datetime:
    """When the file was saved; UTC, as all versions write, where it names no zone.

    Raises:
        ValueError: it is no time.
    """
    try:
        at = dt.datetime.fromisoformat(text)
        return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):  # the last: in UTC it is before the year 1, or after 9999
        raise ValueError("its datetime cannot be read") from None


def commit_of(info: Any) -> str | None:
    """The commit, with a ``+`` where files were changed; None where there was no repository."""
    if not isinstance(info, dict) or not isinstance(info.get("id"), str) or not _COMMIT.fullmatch(info["id"]):
        return None
    return str(info["id"]) + ("+" if info.get("dirty") else "")


def _steady(value: Any) -> Any:
    """A machine_info without what is measured anew each time."""
    if isinstance(value, dict):
        return {name: _steady(each) for name, each in value.items() if not _VOLATILE.fullmatch(name)}
    return value

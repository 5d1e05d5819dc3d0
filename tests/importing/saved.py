"""Files as pytest-benchmark and SuperBench write them: their formats, filled by hand."""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CPU = {
    "brand_raw": "Some CPU @ 2.60GHz",
    "count": 8,
    "hz_advertised": [2600000000, 0],
    "hz_actual": [2593905000, 0],
    "hz_actual_friendly": "2.5939 GHz",
}
MACHINE = {
    "node": "ci runner/7",
    "machine": "x86_64",
    "python_version": "3.12.4",
    "release": "6.8.0-45-generic",
    "system": "Linux",
    "cpu": CPU,
}
OPTIONS = {
    "disable_gc": False,
    "timer": "perf_counter",
    "min_rounds": 5,
    "max_time": 1.0,
    "min_time": 5e-06,
    "precision": None,
    "confidence": None,
    "warmup": False,
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def entry(name: str, data: Sequence[float], *, iterations: int = 10, with_data: bool = True, **options: Any) -> Any:
    """One benchmark; ``data`` is seconds per iteration, as pytest-benchmark saves it."""
    figures = {"median": statistics.median(data), "mean": statistics.mean(data), "rounds": len(data)}
    figures |= {"iterations": iterations, "hd15iqr": max(data)}
    return {
        "group": None,
        "name": name.rpartition("::")[2],
        "fullname": name,
        "params": None,
        "extra_info": {},
        "options": OPTIONS | options,
        "stats": figures | ({"data": list(data)} if with_data else {}),
    }


def session(
    *benchmarks: Any, minute: int = 0, machine: Mapping[str, Any] = MACHINE, commit: str = COMMIT, **changes: Any
) -> dict[str, Any]:
    """What one process of pytest saved."""
    return {
        "machine_info": copy.deepcopy(dict(machine)),
        "commit_info": {"id": commit, "dirty": False, "branch": "main"},
        "benchmarks": list(benchmarks),
        "datetime": f"2026-11-22T05:{minute:02d}:00.000000+00:00",
        "version": "5.3.1",
        **changes,
    }


def write(folder: Path, *sessions: Any) -> list[Path]:
    """A file for each."""
    paths = []
    for number, one in enumerate(sessions):
        paths.append(folder / f"{number:04d}_saved.json")
        paths[-1].write_text(json.dumps(one, indent=4))
    return paths


def write_lines(folder: Path, *nodes: Mapping[str, Any], name: str = "results-summary.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(node) + "\n" for node in nodes))
    return path

"""The process that writes what ``bench/pytest_plugin.py`` tells it: a message a line, and an answer to each.

``out`` begins a run, ``watch`` a test, ``entry`` is what came of it, ``end`` makes the result. A finished benchmark is
on disk before its message is answered. A pipe that closes without ``end`` means that pytest was killed: then the result
is made of what there is.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import importlib.metadata
import json
import os
import platform
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import environment, fitness, store
from bench.device.select import cpu_model
from bench.environment import Environment
from bench.errors import VnbenchError
from bench.importing import foreign, pytest_benchmark
from bench.importing.foreign import load_json
from bench.plan import node_names
from bench.schema import Row
from bench.store import RunFolder
from bench.telemetry import host, host_facts, nvml
from bench.telemetry.host import HostReading
from bench.types import DeviceInfo


class _Run:
    """The replicate that one process of pytest is. Its folder is made with the first row: without one there is none."""

    def __init__(self, out: str, label: str | None, planned: list[str]) -> None:
        self._out = Path(out).absolute()  # a test may change the directory of its process, not of this one
        self._planned = planned
        self._device, columns = _machine()
        self._columns = columns
        self._plan = foreign.make_plan(
            secrets.token_hex(5),
            suite=pytest_benchmark.SUITE,
            node=node_names()[0],
            started_at=dt.datetime.now(dt.UTC),
            devices=(self._device,),
            source_commit=_commit(),
            label=label,
        )
        self._folder: RunFolder | None = None
        self._before: HostReading | None = None
        self._sequence = 0

    def watch(self) -> None:
        """A test is about to begin."""
        self._before = host.read(os.getppid())

    def keep(self, entry: Mapping[str, Any], status: Any, reason: str | None, began_s: float) -> None:
        """Write what came of a test.

        Raises:
            OutputNotWritable: it is not kept.
        """
        columns = {**self._columns, "started_at": dt.datetime.fromtimestamp(began_s, dt.UTC), **self._host_columns()}
        row = self._row(entry, status, reason, columns)
        if self._folder is None:
            self._folder = store.begin(self._out, self._plan)
        store.write_part(self._folder.path, row | {"validity": fitness.validity(row)}, self._plan)

    def finish(self) -> tuple[Path | None, int]:
        """Make the result, with a row for each benchmark that was not reached; give its path and how many were ok.

        Raises:
            OutputNotWritable: the rows stay where they are.
        """
        if self._folder is None:
            return None, 0
        # A test that a plug-in repeated has several rows: the last is what it came to.
        rows = {row["workload"]: row for row in self._folder.rows()}
        for nodeid in self._planned:
            missing = self._row({"fullname": nodeid}, "interrupted", "pytest ended before this was measured", {})
            rows.setdefault(missing["workload"], missing)
        path = self._folder.commit(list(rows.values()))
        self._folder.release()
        self._folder = None
        return path, sum(row["status"] == "ok" for row in rows.values())

    def _row(self, entry: Mapping[str, Any], status: Any, reason: str | None, columns: Row) -> Row:
        self._sequence += 1
        return pytest_benchmark.row(
            self._plan,
            entry,
            columns,
            device=self._device,
            status=status,
            reason=reason,
            sequence=self._sequence - 1,
        )

    def _host_columns(self) -> Row:
        before, self._before = self._before, None
        if before is None:
            return {}
        window = host.window(before, host.read(os.getppid()))
        # Those would be of this process, which slept.
        return {**window.columns, "involuntary_switches": None}


def _machine() -> tuple[DeviceInfo, Row]:
    """The CPU with all GPUs beside it, since which of them a test uses is its own affair; and the environment.

    What slows pytest's own process down, and the CUDA of its torch, are not to be seen from here.
    """
    import psutil

    gpus = nvml.devices()
    names = {name: sum(gpu.name == name for gpu in gpus) for name in dict.fromkeys(gpu.name for gpu in gpus)}
    model = cpu_model()
    words = [*([model] if model else []), *(f"{count} × {name or 'unknown GPU'}" for name, count in names.items())]
    uuid = gpus[0].uuid if len(gpus) == 1 else None
    device = DeviceInfo("cpu", 0, " + ".join(words) or None, uuid, reason="where pytest ran")
    machine = host_facts.facts()
    keys = dict.fromkeys(key for group in environment.KEYS.values() for key in group) | {
        "device_name": device.name,
        "cpu_model": model,
        "cpu_cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "virtualization": machine["virtualization"],
        "hypervisor": machine["hypervisor"],
        "driver": nvml.driver_version(),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "python": platform.python_version(),
        "os": _distribution(),
        "os_kernel": platform.release(),
        "container": machine["container"],
        "cpu_governor": machine["cpu_governor"],
    }
    details = {
        "cpu_threads": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)),
        "gpus": [{"name": gpu.name, "uuid": gpu.uuid, "memory_bytes": gpu.memory_bytes} for gpu in gpus],
        "packages": {name: _version(name) for name in ("pytest", "pytest-benchmark")},
        "host": machine,
    }
    return device, Environment(keys, details).columns


def _version(distribution: str) -> str | None:
    """Of what is installed; nothing is imported."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return None


def _distribution() -> str | None:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    return None


def _commit() -> str | None:
    """The commit of the user's own checkout, as pytest-benchmark finds it."""
    utils: Any = importlib.import_module("pytest_benchmark.utils")
    return pytest_benchmark.commit_of(utils.get_commit_info())


def main() -> None:
    run: _Run | None = None
    for line in sys.stdin.buffer:
        try:
            message = load_json(line.decode())
            answer: dict[str, Any] = {}
            if "out" in message:
                run = _Run(**message)
            elif run is None:
                raise ValueError("no run has begun")
            elif "watch" in message:
                run.watch()
            elif "entry" in message:
                run.keep(**message)
            else:
                path, finished = run.finish()
                answer = {"path": path and str(path), "finished": finished}
        except Exception as error:  # whatever it is, the tests are not to suffer from it
            words = error.what if isinstance(error, VnbenchError) else f"{type(error).__name__}: {error}"
            answer = {"error": words}
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    if run is not None:
        run.finish()


if __name__ == "__main__":
    main()

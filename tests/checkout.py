"""A checkout of one's own, with the faulty kernel in it, and vnbench run in it as a user would: in a real process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import store
from bench.schema import Row
from bench.types import Plan

ROOT = Path(__file__).resolve().parent.parent

# Far beyond what any machine needs: only a test that has failed waits so long.
PATIENCE_S = 120.0

_QUICK_POLICY = """
[policy]
warmup_rule = "count"
warmup_min_samples = 1
warmup_min_s = 0.001
min_samples = 3
max_samples = 3
"""


class Checkout:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        ignore = shutil.ignore_patterns("__pycache__")
        for package in ("bench", "kernels"):
            shutil.copytree(ROOT / package, self.root / package, ignore=ignore)
        shutil.copy(ROOT / "tests" / "fault_kernel.py", self.root / "kernels" / "fault.py")
        self.out = folder / "results"
        self.started: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "bench", *map(str, arguments)]

    def environment(self, **extra: str) -> dict[str, str]:
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return {**variables, "COLUMNS": "80", "NO_COLOR": "1", **extra}

    def start(self, *arguments: str | Path, **extra: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment(**extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def start_run(self, *arguments: str | Path, **extra: str) -> subprocess.Popen[str]:
        """``run`` that is not waited for."""
        return self.start("run", "--device", "cpu", "--out", self.out, *arguments, **extra)

    def vnbench(self, *arguments: str | Path, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def run(self, *arguments: str | Path, **extra: str) -> subprocess.CompletedProcess[str]:
        """``vnbench run`` on the CPU into this checkout's own results."""
        return self.vnbench("run", "--device", "cpu", "--out", self.out, *arguments, **extra)

    def suite(self, *workloads: str, replicates: int = 1, timeout_s: float = 300) -> Path:
        """A suite file of those workloads with the shortest sampling there is."""
        path = self.root.parent / "quickest.toml"
        path.write_text(
            f"workloads = {list(workloads)}\nreplicates = {replicates}\ntimeout_s = {timeout_s}\n{_QUICK_POLICY}"
        )
        return path

    def edit(self, file: str, old: str, new: str) -> None:
        """Change the copy of a source file."""
        text = (self.root / file).read_text()
        assert old in text
        (self.root / file).write_text(text.replace(old, new))

    def files(self) -> list[Path]:
        """The result files."""
        return sorted((self.out / "runs").rglob("*.parquet"))

    def read(self) -> tuple[Plan, list[Row]]:
        """The one result there is."""
        (path,) = self.files()
        return store.read(path)

    def incomplete(self) -> list[Path]:
        """The folders of runs in progress, or killed."""
        return sorted((self.out / ".incomplete").glob("*"))

    def wait_for_log(self, text: str) -> None:
        """Until a worker has printed it."""
        wait_until(lambda: any(text in log.read_text() for log in self.out.glob(".incomplete/*/logs/*.log")), text)

    def workers(self) -> list[int]:
        """Processes that work for a run into this checkout's results."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = path.read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has just ended
                continue
            if {"bench.worker", "bench.soak_worker"} & set(arguments) and any(
                one.startswith(str(self.out)) for one in arguments
            ):
                found.append(int(path.parent.name))
        return found

    def wait_for_no_worker(self) -> None:
        wait_until(lambda: not self.workers(), "no worker")


def wait_until(condition: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, f"waited in vain for: {what}"
        time.sleep(0.02)


def by_status(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The workloads of each outcome."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["status"], []).append(row["workload"])
    return found


def pid(row: Row) -> int:
    """The process that measured a workload of the faulty kernel."""
    (value,) = (metric["value"] for metric in row["metrics"] if metric["name"] == "pid")
    return int(value)

"""A checkout of one's own, with the faulty kernel in it, and vnbench run in it as a user would: in a real process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Checkout:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        ignore = shutil.ignore_patterns("__pycache__")
        for package in ("bench", "kernels"):
            shutil.copytree(ROOT / package, self.root / package, ignore=ignore)
        shutil.copy(ROOT / "tests" / "fault_kernel.py", self.root / "kernels" / "fault.py")
        self.out = folder / "results"

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "bench", *map(str, arguments)]

    def environment(self, **extra: str) -> dict[str, str]:
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return {**variables, "COLUMNS": "80", "NO_COLOR": "1", **extra}

    def start(self, *arguments: str | Path, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment(**extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

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

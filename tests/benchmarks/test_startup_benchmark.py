"""How long a user waits before anything happens."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--dry-run", "smoke", "--device", "cpu"]], ids=" ".join)
def test_start_up(benchmark: BenchmarkFixture, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "bench", *arguments]
    benchmark(subprocess.run, command, check=True, capture_output=True)

"""``roof/memory`` beside STREAM in C, compiled here: with plain stores, and with streaming ones that fetch no line.

In turns within one process, on arrays of one size from the same allocator, with as many threads. The goals are to be
ahead of plain C, and at 0.85 or more of C with streaming stores.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.device.cpu import CpuDevice
from kernels._memory import array_bytes
from kernels.roof_memory import KERNEL
from tests.conftest import prepare
from tests.stream import COPY, READ, STREAMING_COPY, STREAMING_TRIAD, TRIAD, Stream

ROUNDS = 20
REPEATS = 4  # launches of each in a round

C_PATTERNS = {
    "read": {"C": READ},
    "copy": {"C": COPY, "C, streaming stores": STREAMING_COPY},
    "triad": {"C": TRIAD, "C, streaming stores": STREAMING_TRIAD},
}


def took_ns(run: Callable[[], Any]) -> float:
    began_ns = time.perf_counter_ns()
    for _ in range(REPEATS):
        run()
    return (time.perf_counter_ns() - began_ns) / REPEATS


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("pattern", C_PATTERNS)
def test_stream(
    pattern: str,
    benchmark: BenchmarkFixture,
    cpu_device: CpuDevice,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = Stream(array_bytes(cpu_device, on_host=True), cpu_device.threads, tmp_path)
    case = prepare(KERNEL, f"roof/memory/{pattern}", cpu_device)
    assert case.check().ok
    runs: dict[str, Callable[[], Any]] = {"ours": case.launch}
    for name, number in C_PATTERNS[pattern].items():
        if "," not in name or stream.has_streaming_stores:
            assert stream.is_right(number)
            runs[name] = functools.partial(stream.run, number)
    took: dict[str, list[float]] = {name: [] for name in runs}
    orders = itertools.cycle(itertools.permutations(runs))

    def one_round() -> None:
        for name in next(orders):
            took[name].append(took_ns(runs[name]))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=2)  # type: ignore[no-untyped-call]
    lines = report(pattern, took, case.work.bytes_moved or 0)
    benchmark.extra_info["ratios"] = lines
    with capsys.disabled():
        print("", *lines, sep="\n")


def report(pattern: str, took: dict[str, list[float]], moved: int) -> list[str]:
    """Rates, and ours over each of C's, round by round: the median and the middle half."""
    rates = [f"{name} {moved / statistics.median(times_ns):.1f} GB/s" for name, times_ns in took.items()]
    lines = [f"roof/memory/{pattern}: {', '.join(rates)}"]
    for name in list(took)[1:]:
        ratios = [theirs / ours for theirs, ours in zip(took[name], took["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        lines.append(f"  ours / {name}: {middle:.2f} ({low:.2f} to {high:.2f})")
    return lines

"""``roof/memory`` beside STREAM in C, compiled here: with plain stores, and with streaming ones that fetch no line.

In turns within one process, on arrays of one size from the same allocator, with as many threads. The goals are to be
ahead of plain C, and at 0.85 or more of C with streaming stores.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.device.cpu import CpuDevice
from kernels._memory import array_bytes, host_words
from kernels.roof_memory import KERNEL
from tests.conftest import prepare

ROUNDS = 20
REPEATS = 4  # launches of each in a round: what it costs C to start its threads is lost in them
LINE_BYTES = 64

# As enum pattern has them.
C_PATTERNS = {
    "read": {"C": 0},
    "copy": {"C": 1, "C, streaming stores": 3},
    "triad": {"C": 2, "C, streaming stores": 4},
}

# Else the compiler makes a call of memcpy out of the copy, and C's plain copy is no longer plain.
FLAGS = ("-O3", "-march=native", "-funroll-loops", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC", "-pthread")


@pytest.fixture(scope="module")
def c_stream(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("stream") / "stream.so"
    source = Path(__file__).with_name("stream.c")
    subprocess.run([compiler, *FLAGS, "-o", str(library), str(source)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.stream.restype = ctypes.c_int64
    loaded.stream.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_size_t, *[ctypes.c_void_p] * 3]
    return loaded


def filled(size: int) -> Any:
    """Random numbers from the start of a line on."""
    words = host_words(size + LINE_BYTES)
    skipped = -words.ctypes.data % LINE_BYTES // 8
    words = words[skipped : skipped + size // 8]
    words.view(np.float32)[:] = np.random.default_rng(0).standard_normal(size // 4, dtype=np.float32)
    return words


def took_ns(run: Callable[[], Any]) -> float:
    began_ns = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - began_ns) / REPEATS


@pytest.mark.parametrize("pattern", C_PATTERNS)
def test_stream(
    pattern: str, benchmark: BenchmarkFixture, c_stream: Any, cpu_device: CpuDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    size = array_bytes(cpu_device, on_host=True)
    a, b, c = (filled(size) for _ in range(3))
    case = prepare(KERNEL, f"roof/memory/{pattern}", cpu_device)
    assert case.check().ok

    def in_c(number: int) -> Callable[[], int]:
        arrays = (array.ctypes.data for array in (a, b, c))
        call = (number, cpu_device.threads, REPEATS, size // 4, *arrays)
        return lambda: int(c_stream.stream(*call))

    def ours() -> None:
        for _ in range(REPEATS):
            case.launch()

    runs: dict[str, Callable[[], Any]] = {"ours": ours}
    runs |= {name: in_c(number) for name, number in C_PATTERNS[pattern].items() if "," not in name or streams(c_stream)}
    assert_right(pattern, runs, a, b, c)
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


def streams(c_stream: Any) -> bool:
    return bool(c_stream.has_streaming_stores())


def assert_right(pattern: str, runs: dict[str, Callable[[], Any]], a: Any, b: Any, c: Any) -> None:
    """What C computes is the same work."""
    a_N, b_N, c_N = (array.view(np.float32) for array in (a, b, c))
    for name in [name for name in runs if name != "ours"]:
        a[:] = -1
        returned = runs[name]()
        if pattern == "read":
            assert (int(np.add.reduce(b)) * REPEATS - returned) % 2**64 == 0
        else:
            np.testing.assert_allclose(a_N, b_N if pattern == "copy" else b_N + 3 * c_N, rtol=1e-5, atol=1e-5)


def report(pattern: str, took: dict[str, list[float]], moved: int) -> list[str]:
    """Rates, and ours over each of C's, round by round: the median and the middle half."""
    rates = [f"{name} {moved / statistics.median(times_ns):.1f} GB/s" for name, times_ns in took.items()]
    lines = [f"roof/memory/{pattern}: {', '.join(rates)}"]
    for name in list(took)[1:]:
        ratios = [theirs / ours for theirs, ours in zip(took[name], took["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        lines.append(f"  ours / {name}: {middle:.2f} ({low:.2f} to {high:.2f})")
    return lines

"""What limits torch's plain product on a CPU: the same product in other ways, in turns, as ratios to the plain one.

- ``allocated``: the result in fresh memory instead of one place.
- ``B by rows``: B as mathematics writes it, instead of as a linear layer stores its weight.
- ``packed``: B in oneDNN's own layout, made ahead (``backend=onednn``).
- ``apart``: a Python thread for each core, each with its share of A's rows and one thread of oneDNN's.
- ``apart, packed``: both.

A round takes all of them once, in random order; a ratio's spread is its quartiles over the rounds.
"""

from __future__ import annotations

import functools
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.device.cpu import CpuDevice
from bench.spec import SEED
from bench.stats import quantile
from kernels._gemm import Shape, Stack
from kernels._gemm_backends import BACKENDS
from kernels._gemm_product import Product

ROUNDS = int(os.environ.get("VNBENCH_GEMM_ROUNDS", "15"))
TURN_S = 0.05
SHAPES = ("1024", "3072x1536x256", "2048", "4096")
DTYPES = ("fp32", "bf16", "int8")


@contextmanager
def ways(dtype: str, shape: Shape, device: CpuDevice) -> Iterator[dict[str, Callable[[], object]]]:
    import torch

    def plain(product: Product) -> Callable[[], object]:
        return BACKENDS["torch"](dtype, product)

    product = Product(dtype, shape.stack, device, SEED)
    by_rows = Product(dtype, shape.stack, device, SEED)
    by_rows.b_KN = by_rows.b_KN.contiguous()
    multiply: Any = torch._int_mm if dtype == "int8" else torch.mm
    part = Stack((shape.m // device.threads,), shape.k, shape.n)
    parts = [Product(dtype, part, device, SEED + 1) for _ in range(device.threads)]
    for one in parts:
        one.b_KN = product.b_KN
    with ThreadPoolExecutor(device.threads, initializer=functools.partial(torch.set_num_threads, 1)) as pool:

        def apart(backend: str) -> Callable[[], object]:
            calls = [BACKENDS[backend](dtype, one) for one in parts]
            return lambda: [done.result() for done in [pool.submit(call) for call in calls]]

        yield {
            "plain": plain(product),
            "allocated": functools.partial(multiply, product.a_MK, product.b_KN),
            "B by rows": plain(by_rows),
            "packed": BACKENDS["onednn"](dtype, Product(dtype, shape.stack, device, SEED)),
            "apart": apart("torch"),
            "apart, packed": apart("onednn"),
        }


def turn_ns(launch: Callable[[], object]) -> float:
    """The median launch of a turn."""
    elapsed_ns: list[int] = []
    end_ns = time.perf_counter_ns() + TURN_S * 1e9
    while len(elapsed_ns) < 3 or time.perf_counter_ns() < end_ns:
        began_ns = time.perf_counter_ns()
        launch()
        elapsed_ns.append(time.perf_counter_ns() - began_ns)
    return statistics.median(elapsed_ns)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_in_other_ways(
    benchmark: BenchmarkFixture, dtype: str, shape: str, cpu_device: CpuDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu_device.torch_device  # noqa: B018  # torch is told how many threads there are
    draw = random.Random(SEED)

    def play() -> dict[str, list[float]]:
        with ways(dtype, Shape.parse(shape), cpu_device) as launches:
            for launch in launches.values():
                launch()
            taken: dict[str, list[float]] = {name: [] for name in launches}
            for _ in range(ROUNDS):
                for name in draw.sample(list(launches), len(launches)):
                    taken[name].append(turn_ns(launches[name]))
        return taken

    run: Any = benchmark.pedantic
    taken = run(play, rounds=1)
    rate = Shape.parse(shape).flops / statistics.median(taken["plain"])
    with capsys.disabled():
        print(f"\n{dtype} {shape}: plain {rate:.0f} GFLOP/s", end="")
        for name in list(taken)[1:]:
            ratios = [plain / other for plain, other in zip(taken["plain"], taken[name], strict=True)]
            quartiles = [quantile(ratios, share) for share in (0.25, 0.5, 0.75)]
            benchmark.extra_info[name] = quartiles
            print(f"; {name} {quartiles[1]:.2f} ({quartiles[0]:.2f} to {quartiles[2]:.2f})", end="")
        print()

"""What stored formats of weights are worth on this CPU: decode beside dense bf16, and where widening a weight pays."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.device.cpu import CpuDevice
from bench.kernel import Kernel
from bench.measure import measure
from bench.stats import log_t_interval
from bench.types import Policy
from kernels import _linear, decode, prefill
from kernels._linear import Linear, Linears
from tests.conftest import prepare

SESSIONS = 9
FORMATS = ("dense", "int8", "int4")
POLICY = Policy(warmup_rule="count", warmup_min_samples=1, warmup_min_s=0.0, min_samples=2, max_samples=2)
WORKLOADS: dict[str, tuple[Kernel[Any], str]] = {
    "decode": (decode.KERNEL, "decode/smollm2-135m/b1/ctx512@steps=4,weights={}"),
    "prefill": (prefill.KERNEL, "prefill/smollm2-135m/b1/p512@weights={}"),
}
ROWS = (1, 4, 16, 32, 64, 128, 256)


@pytest.mark.parametrize("family", list(WORKLOADS))
def test_formats_beside_dense_bf16(
    benchmark: BenchmarkFixture, cpu_device: CpuDevice, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sessions of all formats in random order in one process: the session's ratio is the unit."""
    kernel, text = WORKLOADS[family]
    cases = {weights: prepare(kernel, text.format(weights), cpu_device) for weights in FORMATS}
    took_s: dict[str, list[float]] = {weights: [] for weights in FORMATS}

    def sessions() -> None:
        for _ in range(SESSIONS):
            for weights in random.sample(FORMATS, len(FORMATS)):
                took_s[weights].append(statistics.median(measure(cases[weights], cpu_device, POLICY).elapsed_ns) / 1e9)

    benchmark.pedantic(sessions, rounds=1)  # type: ignore[no-untyped-call]
    dense_s = took_s["dense"]
    with capsys.disabled():
        for weights, case in cases.items():
            rate = case.work.rate(statistics.median(took_s[weights]) * 1e9)
            moved_gb_s = (case.work.bytes_moved or 0) / statistics.median(took_s[weights]) / 1e9
            line = f"\n{family} {weights}: {rate:.1f} token/s, {moved_gb_s:.1f} GB/s"
            if weights != "dense":
                ratios = [before / after for before, after in zip(dense_s, took_s[weights], strict=True)]
                interval = log_t_interval(ratios)
                assert interval is not None
                ratio = math.exp(statistics.fmean(map(math.log, ratios)))
                line += f", {ratio:.2f} times as fast as dense ({interval.low:.2f} to {interval.high:.2f})"
            print(line, end="")
            benchmark.extra_info[weights] = line.strip()


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_where_widening_pays(
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gate and up projections of SmolLM2-135M, in layers enough that no cache holds them."""
    products = {}
    for way, many_rows in (("integer", 1 << 30), ("widened", 0)):
        monkeypatch.setitem(_linear._MANY_ROWS, (weights, "cpu"), many_rows)
        make = Linears(weights)
        products[way] = [make(torch.randn(3072, 576, dtype=torch.bfloat16)) for _ in range(30)]

    def compare() -> None:
        for rows in ROWS:
            x_MK = torch.randn(rows, 576, dtype=torch.bfloat16)
            took = {way: _best_s(products[way], x_MK) for way in products}
            benchmark.extra_info[f"{rows}_rows"] = took["widened"] / took["integer"]

    benchmark.pedantic(compare, rounds=1)  # type: ignore[no-untyped-call]
    with capsys.disabled():
        print(f"\n{weights}, time widened / integer:", {k: round(v, 2) for k, v in benchmark.extra_info.items()})


def _best_s(linears: Sequence[Linear], x_MK: torch.Tensor) -> float:
    took_s = []
    for _ in range(7):
        began = time.perf_counter()
        for linear in linears:
            linear(x_MK)
        took_s.append(time.perf_counter() - began)
    return min(took_s)

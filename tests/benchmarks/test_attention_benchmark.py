"""What attention in blocks of queries is worth on this CPU: whole models beside those with torch's fused operator."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import registry
from bench.device.cpu import CpuDevice
from kernels._attention import by_blocks, fused
from tests.conftest import prepare

PAIRS = 6
WORKLOADS = ("prefill/smollm2-135m/b1/p512", "encode/phobert-base/b8", "encode/vit-b-16/b8", "encode/whisper-base/b1")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_blocks_beside_the_fused_operator(
    benchmark: BenchmarkFixture, cpu_device: CpuDevice, workload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Launches in turns, in pairs of alternating order in one process: the pair's ratio is the unit."""
    case = prepare(registry.resolve(workload).kernel, workload, cpu_device)
    took_s: dict[str, list[float]] = {"fused": [], "by_blocks": []}

    def pairs() -> None:
        for pair in range(PAIRS):
            for attend in (fused, by_blocks) if pair % 2 else (by_blocks, fused):
                case.model._attend = attend  # type: ignore[attr-defined]
                took_s[attend.__name__].append(_launch_s(case.launch))

    case.launch()
    benchmark.pedantic(pairs, rounds=1)  # type: ignore[no-untyped-call]
    ratios = [whole / parts for whole, parts in zip(took_s["fused"], took_s["by_blocks"], strict=True)]
    with capsys.disabled():
        print(f"\n{workload}: fused takes {statistics.median(ratios):.2f} times as long as blocks", end="")
        print(f" ({min(ratios):.2f} to {max(ratios):.2f})")


def _launch_s(launch: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    launch()
    return time.perf_counter() - began_s

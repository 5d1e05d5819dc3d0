"""Where a step of decoding spends its time: ``python -m tests.peers.parts [MODEL]`` prints a table.

Each kind of matrix is multiplied by itself, layer after layer as in a step, so that every weight comes from memory.
What is left of the step is attention, norms, rotations and the calls from Python. On the CPU, in turns with a read of
memory, which is the limit; lower quartiles of all rounds, as a burst is read.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench import registry, stats
from bench.device import select
from bench.spec import SEED
from bench.units import show

ROUNDS = 15


def main(model: str = "llama-3.2-1b") -> None:
    with tempfile.TemporaryDirectory(prefix="vnbench-peers-") as scratch:
        device = select.open_device(select.cpu_info("a profile"), Path(scratch))
        decode, roof = (registry.resolve(name) for name in (f"decode/{model}/b1/ctx512@steps=1", "roof/memory/read"))
        step = decode.kernel.prepare(decode.params, device, SEED)
        read = roof.kernel.prepare(roof.params, device, SEED)
        parts = {**products(step), "the whole step": (step.launch, step.work.bytes_moved or 0)}
        took_s = in_turns({name: run for name, (run, _) in parts.items()} | {"read": read.launch})
    limit = (read.work.bytes_moved or 0) / took_s["read"]
    print("| part of a step | time | of the step | rate | of the read roof |\n| --- | --- | --- | --- | --- |")
    whole_s = took_s["the whole step"]
    rest_s = 2 * whole_s - sum(took_s[name] for name in parts)
    for name, (_, size) in parts.items():
        rate = size / took_s[name]
        cells = [show(took_s[name], "s"), f"{took_s[name] / whole_s:.0%}", show(rate, "B/s", 3), f"{rate / limit:.0%}"]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"| attention, norms, rotations, calls | {show(rest_s, 's')} | {rest_s / whole_s:.0%} | – | – |")
    print(f"\nread roof {show(limit, 'B/s', 3)}")


def products(case: Any) -> dict[str, tuple[Callable[[], object], int]]:
    """For each kind of matrix all products of a step, and the bytes of their weights."""
    model = case.model
    shape = model.shape
    by_name: dict[str, Sequence[Any]] = {
        "q, k, v": [layer.qkv for layer in model.layers],
        "attention's output": [layer.out for layer in model.layers],
        "gate and up": [layer.mlp.up for layer in model.layers],
        "down": [layer.mlp.down for layer in model.layers],
        "head": [model.head],
    }
    columns = {"attention's output": shape.heads * shape.head_width, "down": shape.mlp_width}
    found: dict[str, tuple[Callable[[], object], int]] = {}
    for name, matrices in by_name.items():
        width = columns.get(name, shape.width)
        x_BTK = torch.randn(1, 1, width, dtype=model.dtype)
        rows = sum(matrix(x_BTK).shape[-1] for matrix in matrices)

        def run(matrices: Sequence[Any] = matrices, x_BTK: torch.Tensor = x_BTK) -> None:
            with torch.inference_mode():
                for matrix in matrices:
                    matrix(x_BTK)

        found[name] = run, rows * width * x_BTK.element_size()
    return found


def in_turns(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The lower quartile of the seconds that each takes."""
    took_s: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            began_s = time.perf_counter()
            run()
            took_s[name].append(time.perf_counter() - began_s)
    return {name: stats.quantile(times, 0.25) for name, times in took_s.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])

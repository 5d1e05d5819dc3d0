"""``Steps``: how the forwards of a launch are performed: eagerly, from CUDA graphs, or compiled.

``eager``     Python enqueues one operation after another.
``graph``     each forward is captured into a CUDA graph, with its position in it, and a launch replays them in turn:
              the same kernels, without Python between them.
``compiled``  torch compiles the half-layers; on a GPU their kernels are captured as well, for Python would be slower
              than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.device.base import Device
from kernels._decoder import Decoder

MODES = ("eager", "graph", "compiled")


@dataclass(frozen=True)
class Steps:
    calls: Sequence[Callable[[], object]]
    replayed: bool  # the calls write to the memory that they were captured with, and to no trace
    tuned: bool = False  # torch timed kernels and chose one: another process may choose one that adds up otherwise


def made_ready(mode: str, model: Decoder, forwards: Sequence[Callable[[], object]], device: Device) -> Steps:
    """The forwards of a launch, ready to be called any number of times in their order.

    Raises:
        Unsupported: this device has no graphs.
        RuntimeError: torch cannot compile or capture them.
    """
    if mode == "compiled":
        model.compile()
        for forward in forwards[:2]:  # the second has torch compile once more, for any position
            forward()
    is_tuned = mode == "compiled" and device.torch_device.startswith("cuda")
    is_captured = mode == "graph" or is_tuned
    return Steps(device.captured(forwards) if is_captured else forwards, is_captured, is_tuned)

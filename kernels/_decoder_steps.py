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
from bench.errors import Unsupported
from kernels._decoder import Decoder

MODES = ("eager", "graph", "compiled")


@dataclass(frozen=True)
class Steps:
    calls: Sequence[Callable[[], object]]
    replayed: bool  # the calls write to the memory that they were captured with, and to no trace


def made_ready(mode: str, model: Decoder, forwards: Sequence[Callable[[], object]], device: Device) -> Steps:
    """The forwards of a launch, ready to be called any number of times in their order.

    Raises:
        Unsupported: this device has no CUDA graphs.
        RuntimeError: torch cannot compile or capture them.
    """
    on_gpu = device.torch_device.startswith("cuda")
    if mode == "graph" and not on_gpu:
        raise Unsupported("CUDA graphs are a GPU's: a CPU has none")
    if mode == "compiled":
        model.compile()
        for forward in forwards[:2]:  # the second has torch compile once more, for any position
            forward()
    return Steps(_captured(forwards), True) if mode != "eager" and on_gpu else Steps(forwards, False)


def _captured(forwards: Sequence[Callable[[], object]]) -> list[Callable[[], object]]:
    """A graph of each. They share their memory, as they are replayed in the order they were captured in."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries allocate their workspaces before a capture
        for forward in forwards:
            forward()
    torch.cuda.current_stream().wait_stream(side)
    pool = torch.cuda.graph_pool_handle()
    replays = []
    for forward in forwards:
        graph = torch.cuda.CUDAGraph()
        # torch leaves the capture's stream current where the capture fails; the outer context puts ours back.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, pool=pool, stream=side):
            forward()
        replays.append(graph.replay)
    return replays

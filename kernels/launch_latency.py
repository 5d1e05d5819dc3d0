"""``launch``: what it costs to give a device work, apart from the work: the smallest kernel, over and over.

The smallest kernel is one that leaves a trace, so that a check can count what ran: it adds one to a number. With
``backend=torch`` it is torch's operator ``add_`` on one int64, with ``backend=cupy`` a CUDA kernel of one thread.

A launch of the harness is a burst of many such kernels. Its events thus enclose a time far above what they resolve, and
a burst takes far longer than what the harness would capture into a CUDA graph: what Python is to enqueue, it enqueues.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.errors import Unsupported
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Measurement, Metric, Work
from kernels._cupy import torchs_stream

if TYPE_CHECKING:
    import torch

# Kernels in a burst; fewer where each is waited for.
BURSTS = {"empty": 1000, "round-trip": 100, "graph": 1000}

_ADD_ONE = 'extern "C" __global__ void add_one(unsigned long long* count) { atomicAdd(count, 1ull); }'
_POISON = -(1 << 40)  # no burst counts so far


@dataclass(frozen=True)
class LaunchParams:
    what: str = axis(choices=tuple(BURSTS))
    backend: str = option("torch", choices=("torch", "cupy"))


class LaunchCase(Case):
    """A burst, and the number that it adds up."""

    def __init__(self, params: LaunchParams, device: Device) -> None:
        import torch

        item = "launch" if device.info.kind == "cuda" else "operator"
        self._device = device
        self._times = BURSTS[params.what]
        self._count_1 = torch.zeros(1, dtype=torch.int64, device=device.torch_device)
        self.work = Work(unit=f"{item}/s", items=self._times, item_unit=item)
        add_one = _cupy_kernel(self._count_1) if params.backend == "cupy" else functools.partial(self._count_1.add_, 1)
        settings = torchs_stream if params.backend == "cupy" else contextlib.nullcontext
        arrange = _one_by_one if params.what == "round-trip" else _back_to_back
        self._enqueue = arrange(add_one, self._times, settings)
        if params.what == "graph":
            (self._enqueue,) = device.captured([self._enqueue])

    def launch(self) -> None:
        self._enqueue()

    def check(self) -> Check:
        """Every kernel of a burst has added its one."""
        self._count_1.fill_(_POISON)
        self.launch()
        self._device.synchronize()
        counted = int(self._count_1) - _POISON
        return Check(abs(counted - self._times), 0, detail=f"{counted} of {self._times} kernels ran")

    def metrics(self, measurement: Measurement) -> list[Metric]:
        one_s = statistics.median(measurement.elapsed_ns) * 1e-9 / self._times
        return [Metric(f"{self.work.item_unit}_s", one_s, "s", "lower")]

    def close(self) -> None:
        del self._enqueue, self._count_1


Enqueue = Callable[[], object]
Settings = Callable[[], contextlib.AbstractContextManager[object]]


def _back_to_back(add_one: Enqueue, times: int, settings: Settings) -> Enqueue:
    def burst() -> None:
        with settings():
            for _ in range(times):
                add_one()

    return burst


def _one_by_one(add_one: Enqueue, times: int, settings: Settings) -> Enqueue:
    """Each is waited for before the next: the one launch that may wait, for that is what it times."""
    import torch

    def burst() -> None:
        wait = torch.cuda.current_stream().synchronize
        with settings():
            for _ in range(times):
                add_one()
                wait()

    return burst


def _cupy_kernel(count_1: torch.Tensor) -> Enqueue:
    """
    Raises:
        Unsupported: cupy is not installed.
    """
    try:
        import cupy
    except ImportError as error:
        raise Unsupported(str(error)) from error
    add_one = cupy.RawKernel(_ADD_ONE, "add_one")
    add_one.compile()
    return functools.partial(add_one, (1,), (1,), (cupy.from_dlpack(count_1),))


def _require(params: LaunchParams, device: Device) -> None:
    """
    Raises:
        Unsupported: there is nothing of the kind on a CPU.
    """
    if device.info.kind == "cuda":
        return
    if params.backend == "cupy":
        raise Unsupported("cupy launches on NVIDIA GPUs only")
    if params.what == "round-trip":
        raise Unsupported("a CPU is done with an operator when the call returns: launch/empty is its round trip")


class LaunchKernel(Kernel[LaunchParams]):
    name = "launch"
    version = 1
    summary = "launches of the smallest kernel a second; on a CPU, torch operators a second"
    about = About(
        stands_for="What a program pays for every kernel, whatever that computes. A model's step at a small batch is a "
        "long row of short kernels: a slow host before a fast GPU shows here first.",
        parameters={
            "what": "empty: launches back to back, as fast as the host can enqueue them; round-trip: each launch is "
            "waited for before the next; graph: launches captured once and replayed as one CUDA graph, so that only "
            "the device's own time from one kernel to the next is left",
            "backend": "torch: the operator add_ on one int64, so Python, torch's dispatch and the launch; cupy: a "
            "compiled kernel of one thread, so little more than the driver's launch",
        },
        work="Items are kernels: 1000 in a burst, 100 where each is waited for. The metric launch_s is the time of "
        "one, the median burst divided by its kernels. On a CPU nothing is launched: launch/empty is then the cost of "
        "a call of torch's smallest operator, counted in operators, its time operator_s.",
        check="Each kernel adds one to the same int64, which after a burst must have grown by its number of kernels.",
        pitfalls="empty and round-trip time the host: its clock, other processes and Python count, which is why they "
        "spread more than a GPU's own work does. Of empty the device sees the slower of two: where a host enqueues "
        "faster than the device can begin kernels, it is the device that is timed. round-trip waits by "
        "cudaStreamSynchronize as the driver is set: spinning is faster than sleeping. Kernels of a graph follow each "
        "other on one stream; independent ones could overlap.",
    )
    params_type = LaunchParams
    catalogue = (
        "launch/empty",
        "launch/empty@backend=cupy",
        "launch/round-trip",
        "launch/round-trip@backend=cupy",
        "launch/graph",
    )

    def prepare(self, params: LaunchParams, device: Device, seed: int) -> Case:
        """Raises:
        Unsupported: there is nothing of the kind on this device, or no cupy.
        """
        _require(params, device)
        return LaunchCase(params, device)

    def roofs(self, params: LaunchParams, kind: DeviceKind) -> Sequence[str]:
        """None: no datasheet promises a latency."""
        return ()


KERNEL = LaunchKernel()

"""A kernel that fails in every way a workload can. Tests copy it into the ``kernels/`` of a checkout of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from bench.device.base import Device
from bench.errors import Unsupported
from bench.kernel import Case, Kernel
from bench.spec import axis
from bench.types import Check, Measurement, Metric, Output, Work

KINDS = (
    "none",
    "fine",
    "slow",
    "hang",
    "hang-midway",  # once two rows are on disk, and only where FAULT_HANG is set
    "crash",
    "crash-on-1",  # on the device of that index
    "crash-once",  # when two rows are on disk
    "exit",
    "lose-device",  # and with it this process's context
    "raise",
    "oom",
    "wrong",
    "wrong-later",
    "bits",  # of an output of 4 floats, one of which is flipped where FAULT_BITS says: in a replicate, or on a device
    "nan",
    "unsupported",
    "hungry",
    "fill-disk",  # once two rows are on it
    "search",
    "search-hang",
    "search-crash",
    "probe-hang",
    "probe-crash",
)
# What a search tries, or a probe, for the workload named on the left.
TRIED = {
    "search": "fine",
    "search-hang": "hang",
    "search-crash": "crash",
    "probe-hang": "hang",
    "probe-crash": "crash",
}


@dataclass(frozen=True)
class FaultParams:
    kind: str = axis(choices=KINDS)


class FaultCase(Case):
    work = Work("item/s", items=1, item_unit="item")

    def __init__(self, kind: str, device: Device) -> None:
        self.kind = kind
        self.device = device
        self.checks = 0

    @property
    def midway(self) -> bool:
        """Two rows of this run are on disk."""
        return len(list(self.device.scratch.parent.glob("part-*.parquet"))) >= 2

    def launch(self) -> None:
        if os.getpid() in lost_processes:
            raise_lost_device()
        match self.kind:
            case "slow":
                time.sleep(0.05)
            case "hang":
                hang()
            case "hang-midway" if "FAULT_HANG" in os.environ and self.midway:
                hang()
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "crash-on-1" if self.device.info.index == 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            case "crash-once" if self.midway and not (self.device.scratch / "crashed").exists():
                (self.device.scratch / "crashed").touch()
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(7)
            case "lose-device":
                lost_processes.append(os.getpid())
                raise_lost_device()
            case "raise":
                raise ValueError("a launch that fails [/as code does]")
            case "oom":
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

    def check(self) -> Check:
        self.launch()
        self.checks += 1
        wrong = self.kind == "wrong" or (self.kind == "wrong-later" and self.checks > 1)
        error = float("nan") if self.kind == "nan" else 1.0 if wrong else 0.0
        if self.kind == "fill-disk" and self.midway:
            with (self.device.scratch / "filler").open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\1" * 4096)
                except OSError:
                    pass
        return Check(error=error, tolerance=0.5, output=self.output() if self.kind == "bits" else None)

    def output(self) -> Output:
        """Right but for its lowest bit."""
        import torch

        from kernels._output import taken

        values = torch.ones(4)
        where, _, number = os.environ.get("FAULT_BITS", "").partition(" ")
        replicate = len(list(self.device.scratch.parent.glob("part-*.parquet")))  # of a run of this workload alone
        if number and int(number) == {"replicate": replicate, "device": self.device.info.index}[where]:
            values.view(torch.int32)[2] ^= 1
        return taken(values)

    def metrics(self, measurement: Measurement) -> list[Metric]:
        return [Metric("pid", os.getpid(), "1", "higher")]


class Fault(Kernel[FaultParams]):
    name = "fault"
    version = 1
    summary = "fails on purpose"
    params_type = FaultParams
    catalogue = tuple(f"fault/{kind}" for kind in KINDS)

    def prepare(self, params: FaultParams, device: Device, seed: int) -> FaultCase:
        if params.kind == "unsupported":
            raise Unsupported("this library says no")
        return FaultCase(params.kind, device)

    def memory_bytes(self, params: FaultParams) -> int:
        return 1 << 60 if params.kind == "hungry" else 0

    def candidates(self, params: FaultParams) -> Sequence[FaultParams]:
        return [FaultParams(TRIED[params.kind])] if params.kind.startswith("search") else []

    def probe(self, params: FaultParams) -> FaultParams | None:
        return FaultParams(TRIED[params.kind]) if params.kind.startswith("probe") else None


lost_processes: list[int] = []


def raise_lost_device() -> NoReturn:
    import torch

    raise torch.AcceleratorError("CUDA error: the launch timed out and was terminated")


def hang() -> None:
    print("hanging", flush=True)  # into the worker's log, where a test waits for it
    time.sleep(3600)


KERNEL = Fault()

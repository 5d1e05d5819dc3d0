"""A kernel that fails in every way a workload can. Tests copy it into the ``kernels/`` of a checkout of their own."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from bench.device.base import Device
from bench.errors import Unsupported
from bench.kernel import Case, Kernel
from bench.spec import axis
from bench.types import Check, Work

KINDS = (
    "none",
    "slow",
    "hang",
    "crash",
    "exit",
    "raise",
    "oom",
    "wrong",
    "wrong-later",
    "nan",
    "unsupported",
    "hungry",
    "fill-disk",
)


@dataclass(frozen=True)
class FaultParams:
    kind: str = axis(choices=KINDS)


class FaultCase(Case):
    work = Work("item/s", items=1, item_unit="item")

    def __init__(self, kind: str, device: Device) -> None:
        self.kind = kind
        self.device = device
        self.checks = 0

    def launch(self) -> None:
        match self.kind:
            case "slow":
                time.sleep(0.05)
            case "hang":
                time.sleep(3600)
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(7)
            case "raise":
                raise ValueError("a launch that fails")
            case "oom":
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

    def check(self) -> Check:
        self.checks += 1
        wrong = self.kind == "wrong" or (self.kind == "wrong-later" and self.checks > 1)
        error = float("nan") if self.kind == "nan" else 1.0 if wrong else 0.0
        if self.kind == "fill-disk":
            with (self.device.scratch / "filler").open("wb") as file:
                while True:
                    try:
                        file.write(b"\1" * 4096)
                        file.flush()
                    except OSError:
                        break
        return Check(error=error, tolerance=0.5)


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


KERNEL = Fault()

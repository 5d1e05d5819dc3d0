"""Kernels of the tests' own, so that a test of the harness does not hang on a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.device.base import Device
from bench.kernel import Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Work


@dataclass(frozen=True)
class SmallParams:
    size: int = axis(prefix="n")
    variant: str = option("a", choices=("a", "b"))


@dataclass(frozen=True)
class RoofParams:
    what: str = axis(choices=("fp32", "bf16", "copy"))


class SmallCase(Case):
    def __init__(self, size: int) -> None:
        self.work = Work("FLOP/s", flops=size, bytes_moved=size)

    def launch(self) -> None:
        return

    def check(self) -> Check:
        return Check(0.0, 0.0)


class Small(Kernel[SmallParams]):
    name = "small"
    version = 3
    summary = "nothing"
    params_type: type[Any] = SmallParams
    catalogue: Sequence[str] = ("small/n1", "small/n2", "small/n2@variant=b")

    def prepare(self, params: Any, device: Device, seed: int) -> Case:
        return SmallCase(params.size)

    def roofs(self, params: Any, kind: DeviceKind) -> Sequence[str]:
        return ("roof/compute/fp32", "roof/memory/copy")


class ComputeRoof(Small):
    name = "roof/compute"
    params_type = RoofParams
    catalogue: Sequence[str] = ("roof/compute/fp32", "roof/compute/bf16")

    def roofs(self, params: Any, kind: DeviceKind) -> Sequence[str]:
        return ()


class MemoryRoof(ComputeRoof):
    name = "roof/memory"
    catalogue = ("roof/memory/copy",)


KERNELS: Mapping[str, Kernel[Any]] = {kernel.name: kernel for kernel in (Small(), ComputeRoof(), MemoryRoof())}

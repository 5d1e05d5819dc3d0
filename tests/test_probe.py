"""``bench.probe`` and the worker's part in it: workloads are tried at a small size, each small one once."""

from __future__ import annotations

from typing import Any

import pytest

from bench import registry, worker
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.kernel import Case
from bench.types import Item, Job
from tests.results import make_plan
from tests.small_kernel import Small, SmallParams


class Link:
    """Keeps what the parent would be told."""

    def __init__(self) -> None:
        self.reasons: list[str | None] = []

    def begin(self, item: int) -> None:
        pass

    def tell(self, event: str, **fields: Any) -> None:
        if event == "probed":
            self.reasons.append(fields["reason"])


class Recorded(Small):
    """Of each variant n1 is the probe; b is beyond this machine, and n8 beyond its memory."""

    def __init__(self) -> None:
        self.prepared: list[SmallParams] = []

    def probe(self, params: Any) -> Any:
        return SmallParams(1, params.variant) if params.size > 1 else None

    def memory_bytes(self, params: Any) -> int:
        return 1 << 60 if params.size == 8 else 0

    def prepare(self, params: Any, device: Any, seed: int) -> Case:
        self.prepared.append(params)
        if params.variant == "b":
            raise Unsupported("no b here")
        return super().prepare(params, device, seed)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    found = Recorded()
    monkeypatch.setattr(registry, "kernels", lambda: {"small": found})
    return found


def tried(device: CpuDevice, *names: str) -> list[str | None]:
    link = Link()
    folder = str(device.scratch)
    job = Job(make_plan(), device.info, tuple(map(Item, names)), 0, folder, folder, task="probe")
    worker._try_each(job, device, link)  # type: ignore[arg-type]
    return link.reasons


def test_a_workload_is_tried_at_its_small_size_alone(kernel: Recorded, cpu_device: CpuDevice) -> None:
    assert tried(cpu_device, "small/n5") == [None]
    assert kernel.prepared == [SmallParams(1)]


def test_workloads_with_one_probe_share_its_answer(kernel: Recorded, cpu_device: CpuDevice) -> None:
    names = ("small/n5", "small/n5@variant=b", "small/n6", "small/n6@variant=b", "small/n1")
    assert tried(cpu_device, *names) == [None, "no b here", None, "no b here", None]
    assert kernel.prepared == [SmallParams(1), SmallParams(1, "b")]


def test_what_does_not_fit_is_not_saved_by_its_probe(kernel: Recorded, cpu_device: CpuDevice) -> None:
    first, second, third = tried(cpu_device, "small/n5", "small/n8", "small/n6")
    assert (first, third) == (None, None)
    assert second is not None and second.startswith("needs 1048576.00 TiB")

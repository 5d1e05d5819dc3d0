"""``bench.ready``: what preparing a workload took, its probe aside; and whether there is memory for it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from bench.device.fake import FakeDevice
from bench.errors import Unsupported
from bench.kernel import Case
from bench.ready import fits, prepared
from bench.registry import Workload
from bench.types import DeviceKind
from tests.small_kernel import Small, SmallCase, SmallParams


class Slow(Small):
    """Takes its time over what a probe leaves out, and more of it over the probe: by a clock of its own."""

    now_ns = 0

    def prepare(self, params: Any, device: Any, seed: int) -> Case:
        self.now_ns += 300_000_000 if params.size == 1 else 50_000_000
        return SmallCase(params.size)

    def probe(self, params: Any) -> Any:
        return SmallParams(1)


def test_the_time_to_prepare_is_that_of_the_workload_itself(
    fake_device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow()
    monkeypatch.setattr("bench.ready.time", SimpleNamespace(monotonic_ns=lambda: slow.now_ns))
    with prepared(Workload("small/n2", slow, SmallParams(2)), fake_device, timeout_s=60.0) as ready:
        assert ready.case.work.flops == 2
        assert ready.prepare_s == pytest.approx(0.05)
    assert slow.now_ns == 350_000_000  # the probe was made
    assert "synchronize" in fake_device.events  # what prepare has queued is waited for


class Spanning(Small):
    """Takes a device for each of its size, and 100 bytes on each."""

    def devices(self, params: Any) -> int:
        size: int = params.size
        return size

    def memory_bytes(self, params: Any) -> int:
        return 100


def test_processes_on_a_cpu_share_its_memory_and_gpus_have_their_own(
    fake_device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = Workload("small/n3", Spanning(), SmallParams(3))
    wanted: dict[DeviceKind, int] = {"cpu": 300, "cuda": 100}
    for kind, free, is_enough in [
        (kind, least - short, not short) for kind, least in wanted.items() for short in (0, 1)
    ]:
        monkeypatch.setattr(fake_device, "info", dataclasses.replace(fake_device.info, kind=kind))
        monkeypatch.setattr(fake_device, "free_bytes", lambda free=free: free)
        if is_enough:
            fits(three, fake_device)
        else:
            with pytest.raises(Unsupported, match=f"{free} B"):
                fits(three, fake_device)

"""``bench.ready``: what preparing a workload took, its probe aside."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bench.device.fake import FakeDevice
from bench.kernel import Case
from bench.ready import prepared
from bench.registry import Workload
from tests.small_kernel import Small, SmallCase, SmallParams


class Slow(Small):
    """Takes its time over what a probe leaves out, and more of it over the probe."""

    def prepare(self, params: Any, device: Any, seed: int) -> Case:
        time.sleep(0.3 if params.size == 1 else 0.05)
        return SmallCase(params.size)

    def probe(self, params: Any) -> Any:
        return SmallParams(1)


def test_the_time_to_prepare_is_that_of_the_workload_itself(fake_device: FakeDevice) -> None:
    with prepared(Workload("small/n2", Slow(), SmallParams(2)), fake_device, timeout_s=60.0) as ready:
        assert ready.case.work.flops == 2
        assert ready.prepare_s == pytest.approx(0.05, abs=0.15)
    assert "synchronize" in fake_device.events  # what prepare has queued is waited for

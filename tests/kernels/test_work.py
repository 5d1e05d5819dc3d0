"""The work of a launch: what the parameters tell is what the prepared case says."""

from __future__ import annotations

import pytest

from bench import registry
from bench.device.base import Device
from bench.device.cpu import CpuDevice
from kernels._ranks import end_ranks
from tests.conftest import prepare

# One for each kernel that knows its work from the parameters, as small as it goes, and one for each way of counting.
SMALL = (
    "decode/tiny/b2/ctx8@steps=3",
    "decode/tiny/b2/ctx8@steps=3,weights=int8",
    "decode/tiny-moe/b3/ctx8@steps=2",
    "decode/tiny-alibi/b1/ctx8@steps=2,weights=int4",
    "prefill/tiny/b2/p16",
    "prefill/tiny-moe/b1/p16@dtype=fp32",
    "encode/tiny-text/b2",
    "encode/tiny-image/b1@dtype=fp32",
    "encode/tiny-speech/b3",
    "train/tiny/b2/s16",
    "soak/320/mib1/tiny@products=2,moves=2,copies=1,steps=3",
    "matmul/bf16/16x32x48",
    "matmul/int8/32@cache=cold",
    "matmul-batched/fp32/3x16x32x48",
    "matmul-grouped/bf16/5x2x32x48",
    "roof/compute/fp32@shape=64",
    "memory/latency@mib=1",
    "dataload/tokens/warm@batches=2",
)
ON_A_GPU = (
    "matmul-sparse/bf16/256",
    "overlap/h2d/256/mib1@part=turns",
    "transfer/device_local_copy@mib=1",
    "transfer/host_to_device_bidirectional_memcpy_sm@mib=1",
)
OF_SEVERAL_DEVICES = ("collective/all-reduce/w2/kib1", "decode/tiny/b1/ctx8@dtype=fp32,steps=2,tp=2")


@pytest.mark.parametrize("workload", SMALL)
def test_a_case_does_the_work_that_its_parameters_tell(cpu_device: CpuDevice, workload: str) -> None:
    _hold(workload, cpu_device)


@pytest.mark.parametrize("workload", OF_SEVERAL_DEVICES)
def test_a_case_of_several_ranks_does_that_work(cpu_device: CpuDevice, workload: str) -> None:
    try:
        _hold(workload, cpu_device)
    finally:
        end_ranks()


@pytest.mark.gpu
@pytest.mark.parametrize("workload", ON_A_GPU)
def test_a_case_does_that_work_on_a_gpu(cuda_device: Device, workload: str) -> None:
    _hold(workload, cuda_device)


def _hold(workload: str, device: Device) -> None:
    found = registry.resolve(workload)
    case = prepare(found.kernel, workload, device)
    assert case.work == found.kernel.work(found.params)
    case.close()


def test_every_kernel_that_tells_its_work_is_tried() -> None:
    tried = {registry.resolve(workload).kernel.name for workload in (*SMALL, *ON_A_GPU, *OF_SEVERAL_DEVICES)}
    listed = map(registry.resolve, registry.catalogue())
    assert {one.kernel.name for one in listed if one.kernel.work(one.params)} <= tried

"""``transfer``: nvbandwidth's test cases, bytes counted as it counts them, and a check of every bit.

Without a GPU, the copies run within the host's memory and the kernels on its cores: the same code but for the driver.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from typing import Any

import pytest
import torch

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported, UsageError
from bench.spec import parse_params, workload_name
from kernels import _transfer_pair, transfer
from kernels._transfer_pair import CHECK_BYTES, Pair
from kernels.transfer import KERNEL, ROUTES, Exchange, Opposed, TransferParams
from tests.conftest import prepare
from tests.kernels import cuda_on_cpu

MIB = 1 << 20
ON_ONE_GPU = [name for name, route in ROUTES.items() if "peer" not in (route.source, route.target)]
BETWEEN_TWO = [name for name in ROUTES if name not in ON_ONE_GPU]


class Stream:
    """What a test case asks of a stream of torch's."""

    def synchronize(self) -> None: ...


@pytest.fixture
def gpu(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> CpuDevice:
    """A device that says it is a GPU, whose memory is the host's and which has a second one like it."""
    cuda_on_cpu.install(monkeypatch)
    monkeypatch.setattr(transfer, "_words", lambda count, place, params, device: torch.empty(count, dtype=torch.int64))
    monkeypatch.setattr(transfer, "_memcpy", lambda target, source: target.copy_(source))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda device, peer: True)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(transfer, "_reach", lambda peer, device: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    cpu_device.info = dataclasses.replace(cpu_device.info, kind="cuda")
    return cpu_device


def opened(test_case: str, device: Device) -> Any:
    return prepare(KERNEL, f"transfer/{test_case}@mib=1", device)


def tampered(case: Any, tamper: Any) -> Any:
    """The case, with ``tamper()`` after every launch."""
    launch = case.launch

    def launch_and_tamper() -> None:
        launch()
        tamper()

    case.launch = launch_and_tamper
    return case


# ---------------------------------------------------------------- names


def test_catalogued_names_are_canonical() -> None:
    for workload in KERNEL.catalogue:
        assert workload_name(KERNEL.name, parse_params(KERNEL.name, KERNEL.params_type, workload)) == workload


def test_the_buffer_is_nvbandwidth_s() -> None:
    params = parse_params(KERNEL.name, TransferParams, "transfer/device_local_copy")
    assert params.buffer_bytes == 512 * MIB


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("device_local_copy@mib=0", "mib"),
        ("device_local_copy@mib=01", "mib"),
        ("device_local_copy@memory=pageable", "no memory of the host"),
        ("host_to_device_memcpy_sm@memory=pageable", "needs pinned memory"),
        ("host_to_device_bidirectional_memcpy_ce@memory=pageable", "needs pinned memory"),
        ("host_to_device_memcpy_ce@hop=2", "no second GPU"),
        ("device_to_device_memcpy_read_ce@hop=0", "hop"),
    ],
)
def test_an_option_that_a_test_case_has_no_use_for_is_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_params(KERNEL.name, TransferParams, f"transfer/{name}")


@pytest.mark.parametrize("test_case", ROUTES)
def test_a_name_says_where_from_where_to_and_by_what(test_case: str) -> None:
    route = ROUTES[test_case]
    assert test_case.endswith("_sm") == route.by_kernel
    assert ("bidirectional" in test_case) == route.both_ways
    ends = {"host_to_device": ("host", "device"), "device_to_host": ("device", "host")}
    if test_case in BETWEEN_TWO:
        assert (route.source, route.target) == (("peer", "device") if "read" in test_case else ("device", "peer"))
    elif test_case != "device_local_copy":
        assert (route.source, route.target) == ends[test_case.partition("_bi")[0].partition("_memcpy")[0]]


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize("test_case", ROUTES)
def test_what_arrives_in_the_measured_direction_is_counted_once(test_case: str, gpu: CpuDevice) -> None:
    case = opened(test_case, gpu)
    measured = case.pairs[0]
    assert case.work.unit == "B/s"
    assert case.work.bytes_moved == measured.target.numel() * 8
    assert KERNEL.work(TransferParams(test_case, mib=1)) == case.work
    assert case.work.bytes_moved == (MIB // 2 if isinstance(case, Exchange) else MIB)


def test_the_copy_beside_the_measured_one_is_twice_its_size_and_goes_the_other_way(gpu: CpuDevice) -> None:
    case = opened("host_to_device_bidirectional_memcpy_ce", gpu)
    assert isinstance(case, Opposed)
    assert case.resets
    measured, other = case.pairs
    assert other.source.nbytes == 2 * measured.source.nbytes


@pytest.mark.parametrize("test_case", ON_ONE_GPU)
def test_the_memory_asked_for_covers_the_buffers_on_the_device(
    test_case: str, gpu: CpuDevice, monkeypatch: Any
) -> None:
    taken = []

    def counted(count: int, place: str, params: Any, device: Any) -> torch.Tensor:
        taken.append(8 * count if place == "device" else 0)
        return torch.empty(count, dtype=torch.int64)

    monkeypatch.setattr(transfer, "_words", counted)
    params = parse_params(KERNEL.name, TransferParams, f"transfer/{test_case}@mib=2")
    KERNEL.prepare(params, gpu, 0)
    assert 0 < sum(taken) <= KERNEL.memory_bytes(params) - CHECK_BYTES


# ---------------------------------------------------------------- checks and mutations


@pytest.mark.parametrize("test_case", ROUTES)
def test_a_test_case_passes_its_own_check(test_case: str, gpu: CpuDevice) -> None:
    case = opened(test_case, gpu)
    assert case.check().ok
    case.launch()
    assert case.check().ok
    case.close()


@pytest.mark.parametrize("test_case", ROUTES)
def test_a_launch_that_does_nothing_fails_in_every_word(test_case: str, gpu: CpuDevice) -> None:
    case = opened(test_case, gpu)
    case.launch = lambda: None
    assert case.check().error == sum(pair.target.numel() for pair in case.pairs)


@pytest.mark.parametrize("test_case", ROUTES)
@pytest.mark.parametrize("position", [0, 777, -1])
def test_one_wrong_bit_of_any_copy_fails(test_case: str, position: int, gpu: CpuDevice) -> None:
    for index in range(len(opened(test_case, gpu).pairs)):
        case = opened(test_case, gpu)
        word = case.pairs[index].target[position].view(-1)[-1:]
        assert tampered(case, lambda word=word: word.bitwise_xor_(1)).check().error == 1


def test_every_bit_of_the_poison_is_wrong() -> None:
    pair = Pair(torch.randint(-(2**63), 2**63 - 1, (999,)), torch.empty(999, dtype=torch.int64))
    pair.poison()
    assert torch.equal(pair.source ^ pair.target, torch.full((999,), -1))
    assert pair.wrong() == 999


def test_words_are_compared_to_the_last_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transfer_pair, "_CHUNK", 100)
    pair = Pair(torch.arange(256).view(2, 2, 64)[:, 1], torch.arange(256).view(2, 2, 64)[:, 1].clone())
    assert pair.wrong() == 0
    pair.target[-1, -1] += 1
    assert pair.wrong() == 1


def test_sources_are_random_over_all_bits(gpu: CpuDevice) -> None:
    (pair,) = opened("host_to_device_memcpy_ce", gpu).pairs
    assert pair.source.unique().numel() == pair.source.numel()
    ones = [(pair.source >> bit & 1).double().mean().item() for bit in range(64)]
    assert all(0.49 < share < 0.51 for share in ones)


# ---------------------------------------------------------------- the kernels


@pytest.mark.parametrize("words", [1, 31, 383, 384, 385, 4 * 384 - 1, 4 * 384 + 1, 5000])
def test_the_copy_kernel_moves_every_word_and_none_beyond(words: int, gpu: CpuDevice) -> None:
    source = torch.randint(-(2**63), 2**63 - 1, (2 * words + 4,))
    target = ~source
    cuda_on_cpu.enqueue("copy", target.data_ptr(), source.data_ptr(), words)
    assert torch.equal(target[: 2 * words], source[: 2 * words])
    assert torch.equal(target[2 * words :], ~source[2 * words :])


def test_the_exchange_kernel_moves_half_of_the_warps_each_way(gpu: CpuDevice) -> None:
    a, b = torch.arange(12800), -torch.arange(12800) - 1
    cuda_on_cpu.enqueue("exchange", a.data_ptr(), b.data_ptr(), 6400)
    assert torch.equal(a, b)
    by_warp = a.view(-1, 2, 64)
    assert bool((by_warp[:, 0] >= 0).all()), "even warps bring theirs from a to b"
    assert bool((by_warp[:, 1] < 0).all()), "odd warps theirs from b to a"


# ---------------------------------------------------------------- where it runs


@pytest.mark.parametrize("test_case", ROUTES)
def test_a_cpu_has_no_transfers(test_case: str, cpu_device: CpuDevice) -> None:
    with pytest.raises(Unsupported, match=r"one end of every transfer is an NVIDIA GPU; this device is cpu"):
        opened(test_case, cpu_device)


@pytest.mark.parametrize("test_case", BETWEEN_TWO)
def test_one_gpu_has_no_peer(test_case: str, gpu: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(Unsupported, match=r"there is no second GPU: this process sees 1"):
        opened(test_case, gpu)


def test_a_hop_around_the_whole_circle_has_no_peer(gpu: CpuDevice) -> None:
    with pytest.raises(Unsupported, match="2 on from GPU 0 there is no second GPU: this process sees 2"):
        prepare(KERNEL, "transfer/device_to_device_memcpy_read_ce@mib=1,hop=2", gpu)


def test_a_peer_out_of_reach_is_unsupported(gpu: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda device, peer: False)
    with pytest.raises(Unsupported, match="GPU 0 has no access to the memory of GPU 1"):
        opened("device_to_device_memcpy_write_sm", gpu)


def test_a_probe_is_the_same_test_case_at_a_mebibyte() -> None:
    params = TransferParams("host_to_device_memcpy_ce", memory="pageable")
    assert KERNEL.probe(params) == TransferParams("host_to_device_memcpy_ce", mib=1, memory="pageable")


def test_importing_the_kernel_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, kernels.transfer; print({'torch', 'numpy', 'cupy'} & set(sys.modules) or 'none')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("workload", KERNEL.catalogue)
def test_a_transfer_passes_on_a_gpu_and_a_wrong_word_fails(workload: str, cuda_device: Device) -> None:
    params = parse_params(KERNEL.name, TransferParams, workload)
    if params.route.by_kernel or "peer" in (params.route.source, params.route.target):
        pytest.importorskip("cupy")
    if workload.partition("/")[2] in BETWEEN_TWO and torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    case: Any = KERNEL.prepare(dataclasses.replace(params, mib=64), cuda_device, 0)
    target = case.pairs[0].target
    assert target.is_cuda == (params.route.target != "host")
    assert case.check().ok
    case.reset()
    case.launch()
    cuda_device.synchronize()
    assert case.check().ok

    def tamper() -> None:
        cuda_device.synchronize()
        target.view(-1)[-1:].neg_() if target.ndim == 1 else target[-1, -1:].neg_()

    assert tampered(case, tamper).check().error == 1
    case.close()

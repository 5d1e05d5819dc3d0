"""``dataload/tokens``: its names, the lanes, what a check finds, and the labels warm and cold."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.device.fake import FakeDevice
from bench.errors import Unsupported, UsageError
from bench.measure import measure
from bench.spec import SEED, parse_params, spec_of, workload_name
from bench.types import DeviceInfo, Mark, Measurement, Policy
from kernels import _page_cache, _token_lanes, dataload_tokens
from kernels._token_file import BATCH, WINDOW, epoch_order, token_block
from kernels.dataload_tokens import KERNEL, TokensParams
from tests.conftest import prepare

BATCHES = 3
LANES = ("mmap", "pread", "torch")
FEW_SAMPLES = Policy(warmup_min_samples=1, warmup_max_samples=1, min_samples=2, max_samples=2)


def named(cache: str = "warm", backend: str = "mmap", workers: int = 0, batches: int = BATCHES) -> str:
    return workload_name(KERNEL.name, TokensParams(cache, backend, workers, batches))


@pytest.fixture
def opened(cpu_device: CpuDevice) -> Iterator[Callable[..., Any]]:
    """Prepares a small case and closes it after the test."""
    cases = []

    def prepared(**params: Any) -> Any:
        cases.append(prepare(KERNEL, named(**params), cpu_device))
        return cases[-1]

    yield prepared
    for case in cases:
        case.close()


@pytest.fixture
def disk(tmp_path: Path) -> None:
    try:
        _page_cache.require_disk(tmp_path)
    except Unsupported as reason:
        pytest.skip(str(reason))


def token_file(folder: Path) -> Path:
    (path,) = folder.glob("tokens-*.u16")
    return path


def open_token_files() -> list[str]:
    targets = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [target for target in targets if "tokens-" in target]


# ---------------------------------------------------------------- names


def test_catalogue_names_are_canonical() -> None:
    for name in KERNEL.catalogue:
        assert workload_name(KERNEL.name, parse_params(KERNEL.name, TokensParams, name)) == name


@pytest.mark.parametrize("options", ["workers=2", "backend=pread,workers=2", "batches=0"])
def test_options_that_mean_nothing_are_refused(options: str) -> None:
    with pytest.raises(UsageError):
        parse_params(KERNEL.name, TokensParams, f"dataload/tokens/warm@{options}")


def test_the_spec_covers_cache_lane_and_size() -> None:
    params = [
        TokensParams("warm"),
        TokensParams("cold"),
        TokensParams("warm", "pread"),
        TokensParams("warm", batches=4),
    ]
    assert len({spec_of(KERNEL.name, KERNEL.version, each).spec_id for each in params}) == len(params)


def test_devices_and_sizes_have_files_of_their_own(tmp_path: Path) -> None:
    for index in (0, 1):
        device = FakeDevice(DeviceInfo("fake", index, "fake", scenario="steady"), tmp_path)
        for batches in (1, 2):
            prepare(KERNEL, named(batches=batches), device).close()
    assert len(list(tmp_path.iterdir())) == 4


# ---------------------------------------------------------------- the lanes


@pytest.mark.parametrize("cache", ["warm", "cold"])
@pytest.mark.parametrize("backend", LANES)
def test_an_epoch_is_every_window_once_in_its_order(
    backend: str, cache: str, opened: Callable[..., Any], disk: None
) -> None:
    case = opened(cache=cache, backend=backend)
    batches = [batch_BT.clone() for batch_BT in case.lane.batches()]
    assert [(batch_BT.shape, batch_BT.dtype) for batch_BT in batches] == [((BATCH, WINDOW), torch.int64)] * BATCHES
    file_WT = np.concatenate([token_block(SEED, block) for block in range(BATCHES)]).astype(np.int64)
    assert np.array_equal(torch.cat(batches).numpy(), file_WT[epoch_order(SEED, BATCHES * BATCH)])
    check = case.check()
    assert check.ok, check


def test_workers_load_the_same_and_end_with_the_case(cpu_device: CpuDevice) -> None:
    case = prepare(KERNEL, named(backend="torch", workers=2), cpu_device)
    assert case.check().ok
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    case.launch()
    assert multiprocessing.active_children() == workers  # they last over epochs
    case.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("backend", LANES)
def test_a_closed_case_leaves_no_file_open_or_mapped(backend: str, cpu_device: CpuDevice) -> None:
    case = prepare(KERNEL, named(backend=backend), cpu_device)
    case.launch()
    assert open_token_files()
    assert "tokens-" not in Path("/proc/self/maps").read_text()  # a mapped file could not be evicted
    case.close()
    assert not open_token_files()


@pytest.mark.parametrize("backend", ["pread", "torch"])
def test_a_shortened_file_is_an_error(backend: str, opened: Callable[..., Any], tmp_path: Path) -> None:
    case = opened(backend=backend)
    os.truncate(token_file(tmp_path), 1000)
    with pytest.raises(OSError, match="shorter"):
        case.launch()


# ---------------------------------------------------------------- what a check finds


def change_file(folder: Path, change: Callable[[Any], Any]) -> None:
    path = token_file(folder)
    path.write_bytes(change(np.fromfile(path, np.uint16).reshape(-1, WINDOW)).tobytes())


def one_token(file_WT: Any) -> Any:
    file_WT[7, -1] ^= 1
    return file_WT


def one_window_shifted(file_WT: Any) -> Any:
    file_WT[7] = np.roll(file_WT[7], 1)
    return file_WT


def two_windows_swapped(file_WT: Any) -> Any:
    file_WT[[7, 8]] = file_WT[[8, 7]]
    return file_WT


def one_window_twice(file_WT: Any) -> Any:
    file_WT[7] = file_WT[8]
    return file_WT


@pytest.mark.parametrize("backend", LANES)
@pytest.mark.parametrize("change", [one_token, one_window_shifted, two_windows_swapped, one_window_twice])
def test_wrong_tokens_fail(
    change: Callable[[Any], Any], backend: str, opened: Callable[..., Any], tmp_path: Path
) -> None:
    case = opened(backend=backend)
    change_file(tmp_path, change)
    check = case.check()
    assert not check.ok
    assert check.error == 1 or change is not one_token


def test_a_window_read_twice_fails(opened: Callable[..., Any]) -> None:
    case = opened()
    case.lane._order_SB[1, 0] = case.lane._order_SB[0, 0]
    check = case.check()
    assert WINDOW - 5 < check.error <= WINDOW  # a token or so may agree by chance


def test_an_order_with_replacement_fails(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the lane and the check agree on it."""
    order = epoch_order(SEED, BATCHES * BATCH)
    order[0] = order[1]
    monkeypatch.setattr(dataload_tokens, "epoch_order", lambda seed, windows: order)
    check = opened().check()
    assert check.error == WINDOW, check


def test_an_epoch_cut_short_fails(opened: Callable[..., Any]) -> None:
    case = opened()
    case.lane._offsets_SB.pop()
    assert case.check().error == BATCH * WINDOW


def test_a_read_that_leaves_the_buffer_as_it_was_fails(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = opened(backend="pread")
    case.launch()  # the buffer holds good tokens of the last batch
    monkeypatch.setattr(_token_lanes, "_pread", lambda fd, rows, offsets: None)
    assert case.check().error == BATCHES * BATCH * WINDOW


def test_a_staging_buffer_filled_again_too_early_fails(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a missing wait would do on a GPU: the copy delivers what the buffer holds by then."""
    case = opened(backend="pread")
    lane = case.lane
    deliver, last_B = lane._deliver, lane._offsets_SB[-1]

    def late(stage: int) -> Any:
        _token_lanes._pread(lane._fd, lane._rows[stage], last_B)
        return deliver(stage)

    monkeypatch.setattr(lane, "_deliver", late)
    assert case.check().error > (BATCHES - 1) * BATCH * (WINDOW - 5)


# ---------------------------------------------------------------- warm and cold


@pytest.mark.parametrize("backend", LANES)
def test_a_cold_epoch_reads_the_whole_file_from_the_device(
    backend: str, cpu_device: CpuDevice, opened: Callable[..., Any], disk: None, tmp_path: Path
) -> None:
    case = opened(cache="cold", backend=backend)
    assert _page_cache.resident_fraction(token_file(tmp_path)) == 0.0
    case.launch()
    assert _page_cache.resident_fraction(token_file(tmp_path)) == 1.0
    case.reset()
    assert _page_cache.resident_fraction(token_file(tmp_path)) == 0.0
    assert case.resets
    metrics = {metric.name: metric.value for metric in case.metrics(measure(case, cpu_device, FEW_SAMPLES))}
    assert metrics["resident_fraction_before"] == 0.0
    if _page_cache.device_bytes_read() is not None:
        # Whole pages are counted, and the interpreter's own few.
        assert metrics["device_read_fraction"] == pytest.approx(1.0, abs=0.2)


def test_a_file_that_cannot_be_evicted_is_not_called_cold(
    opened: Callable[..., Any], disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = opened(cache="cold")
    case.launch()
    monkeypatch.setattr(_page_cache, "evict", lambda path: None)
    for function in (case.reset, case.check):  # a check goes the cold way too
        with pytest.raises(Unsupported, match=r"100% of .* is still in the page cache.*--out"):
            function()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
def test_a_cold_file_in_memory_is_refused_before_it_is_written() -> None:
    shm = Path("/dev/shm")
    before = set(shm.iterdir())
    with pytest.raises(Unsupported, match="tmpfs"):
        prepare(KERNEL, named("cold"), FakeDevice(DeviceInfo("fake", 0, "fake", scenario="steady"), shm))
    assert set(shm.iterdir()) == before


def test_a_warm_file_is_made_resident(
    opened: Callable[..., Any], disk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    path = token_file(tmp_path)
    _page_cache.evict(path)
    monkeypatch.setattr(dataload_tokens, "ensure_file", lambda path, blocks, seed: None)  # its proof reads a part
    case = opened()
    assert _page_cache.resident_fraction(path) == 1.0
    assert not case.resets


def test_a_file_that_does_not_stay_is_not_called_warm(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_page_cache, "resident_fraction", lambda path: 0.42)
    with pytest.raises(Unsupported, match=r"only 42% .* too little free memory"):
        prepare(KERNEL, named(), cpu_device)
    assert not open_token_files()


# ---------------------------------------------------------------- figures


def test_every_batch_is_marked(fake_device: FakeDevice) -> None:
    case = prepare(KERNEL, named(), fake_device)
    fake_device.start()
    case.launch()
    fake_device.stop()
    assert [mark.name for mark in fake_device.take_marks()] == ["first_batch", "batch", "batch"]
    case.close()


def test_metrics_come_from_the_marks(opened: Callable[..., Any]) -> None:
    marks = [Mark("first_batch", 500), Mark("batch", 600), Mark("batch", 800)]
    later = [Mark("first_batch", 700), Mark("batch", 730), Mark("batch", 740)]
    measurement = Measurement((1000, 1000), (), (0, 0), (*marks, *later), 1, True, False)
    metrics = {metric.name: metric for metric in opened().metrics(measurement)}
    assert metrics["time_to_first_batch"].value == pytest.approx(600e-9)
    assert metrics["wait_p99"].value == pytest.approx(200e-9)  # of 100, 200, 30 and 10
    assert metrics["bytes_per_s"].value == pytest.approx(BATCHES * BATCH * WINDOW * 2 / 1e-6)
    assert metrics["resident_fraction"].value == 1.0
    assert {name: metric.better for name, metric in metrics.items()} == {
        "time_to_first_batch": "lower",
        "wait_p99": "lower",
        "bytes_per_s": "higher",
        "resident_fraction": "higher",
    }


def test_a_single_batch_has_no_wait(opened: Callable[..., Any]) -> None:
    measurement = Measurement((1000,), (), (0,), (Mark("first_batch", 500),), 1, True, False)
    assert "wait_p99" not in {metric.name for metric in opened(batches=1).metrics(measurement)}


def test_p99_is_the_nearest_rank() -> None:
    assert dataload_tokens._p99(range(1, 101)) == 99
    assert dataload_tokens._p99([3]) == 3


def test_work_is_the_files_tokens(opened: Callable[..., Any]) -> None:
    work = opened().work
    tokens = BATCHES * 32 * 2049
    assert (work.unit, work.items, work.item_unit) == ("token/s", tokens, "token")
    assert work.bytes_moved == tokens * 2
    assert KERNEL.work(TokensParams("warm", batches=BATCHES)) == work


def test_roofs_are_of_the_hosts_memory() -> None:
    assert KERNEL.roofs(TokensParams("warm"), "cpu") == ("roof/memory/read",)
    assert KERNEL.roofs(TokensParams("warm"), "cuda") == ("roof/memory/read@where=host",)


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("backend", LANES)
def test_batches_arrive_on_the_gpu(backend: str, cuda_device: Device) -> None:
    case: Any = prepare(KERNEL, named(backend=backend, batches=64), cuda_device)
    check = case.check()
    assert check.ok, check
    assert all(batch_BT.is_cuda and batch_BT.dtype == torch.int64 for batch_BT in case.lane.batches())
    metrics = {metric.name for metric in case.metrics(measure(case, cuda_device, FEW_SAMPLES))}
    assert {"time_to_first_batch", "wait_p99"} <= metrics
    case.close()


@pytest.mark.gpu
def test_workers_pin_for_the_gpu(cuda_device: Device) -> None:
    case = prepare(KERNEL, named(backend="torch", workers=2, batches=64), cuda_device)
    assert case.check().ok
    case.close()
    assert not multiprocessing.active_children()


@pytest.mark.gpu
def test_staging_is_pinned_and_more_than_one(cuda_device: Device) -> None:
    case: Any = prepare(KERNEL, named(), cuda_device)
    assert len(case.lane.stages_BT) >= 2
    assert all(stage_BT.is_pinned() for stage_BT in case.lane.stages_BT)
    case.close()


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_a_pinned_buffer_overwritten_in_flight_fails(backend: str, cuda_device: Device) -> None:
    class NoWait:
        def synchronize(self) -> None: ...

        def record(self) -> None: ...

    # The standard size: its reference is large enough to hold the GPU back for milliseconds.
    case: Any = prepare(KERNEL, named(backend=backend, batches=512), cuda_device)
    case.lane.copied = [NoWait() for _ in case.lane.copied]
    assert not case.check().ok
    case.close()

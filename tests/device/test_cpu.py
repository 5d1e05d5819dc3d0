"""``bench.device.cpu``: samples, marks, threads and memory of the host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.device import cpu
from bench.device.cpu import CpuDevice, usable_cores
from bench.errors import Unsupported
from bench.types import DeviceInfo


class Clock:
    """A ``perf_counter_ns`` that moves when told."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter_ns", clock)
    return clock


def test_a_sample_is_the_time_from_start_to_stop(cpu_device: CpuDevice, clock: Clock) -> None:
    cpu_device.start()
    clock.now_ns += 250
    assert cpu_device.stop() == 250


def test_marks_are_taken_once_and_from_their_own_sample(cpu_device: CpuDevice, clock: Clock) -> None:
    cpu_device.mark("of no sample")
    cpu_device.start()
    for name in ("first", "second"):
        clock.now_ns += 10
        cpu_device.mark(name)
    cpu_device.stop()
    assert [(mark.name, mark.ns) for mark in cpu_device.take_marks()] == [("first", 10), ("second", 20)]
    assert cpu_device.take_marks() == []


@pytest.mark.parametrize("launches", [1, 3])
def test_repeat_performs_every_launch(cpu_device: CpuDevice, launches: int) -> None:
    performed: list[int] = []
    cpu_device.repeat(lambda: performed.append(1), launches)()
    assert len(performed) == launches


def test_a_single_launch_has_no_wrapper(cpu_device: CpuDevice) -> None:
    def launch() -> None:
        pass

    assert cpu_device.repeat(launch, 1) is launch


def test_torch_uses_the_stated_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_threads = torch.get_num_threads()
    try:
        for threads in (1, 2):
            monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
            assert CpuDevice(DeviceInfo("cpu", 0, "test"), tmp_path).threads == threads
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(torch_threads)


def test_usable_cores_follow_affinity_quota_and_omp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 6)
    monkeypatch.setattr(cpu, "_cgroup_cpu_quota", lambda: None)
    assert usable_cores() == 6
    monkeypatch.setattr(cpu, "_cgroup_cpu_quota", lambda: 3)
    assert usable_cores() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert usable_cores() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert usable_cores() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert usable_cores() == 2


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /sys/fs/cgroup."""
    real = Path

    def redirected(path: str) -> Path:
        return tmp_path / real(path).name

    monkeypatch.setattr(cpu, "Path", redirected)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000\n", None), ("150000 100000\n", 2), ("20000 100000\n", 1), ("nonsense", None)]
)
def test_cgroup_quota(cgroup: Path, text: str, cpus: int | None) -> None:
    (cgroup / "cpu.max").write_text(text)
    assert cpu._cgroup_cpu_quota() == cpus


@pytest.mark.parametrize(("limit", "free"), [("max", None), ("1000", 500), ("500", 0)])
def test_cgroup_memory(cgroup: Path, limit: str, free: int | None) -> None:
    (cgroup / "memory.max").write_text(limit)
    (cgroup / "memory.current").write_text("600")
    (cgroup / "memory.stat").write_text("anon 400\ninactive_file 100\n")  # page cache is given back when asked for
    assert cpu._cgroup_free_bytes() == free


def test_outside_a_cgroup_nothing_is_limited(cgroup: Path) -> None:
    assert cpu._cgroup_cpu_quota() is None
    assert cpu._cgroup_free_bytes() is None


def test_free_bytes_is_the_tighter_limit(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_cgroup_free_bytes", lambda: 123)
    assert cpu_device.free_bytes() == 123
    monkeypatch.setattr(cpu, "_cgroup_free_bytes", lambda: None)
    free = cpu_device.free_bytes()
    assert free is not None
    assert free > 1 << 20


def test_peak_memory_is_the_most_since_it_was_forgotten(cpu_device: CpuDevice) -> None:
    cpu_device.forget_peak_memory()
    before = cpu_device.peak_memory_bytes()
    block = b"x" * (64 << 20)
    del block
    after = cpu_device.peak_memory_bytes()
    cpu_device.forget_peak_memory()
    again = cpu_device.peak_memory_bytes()
    assert before is not None and after is not None and again is not None
    assert after - before > 60 << 20
    assert again < after - (30 << 20)


def test_peak_memory_is_unknown_where_it_cannot_be_forgotten(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cpu_device.peak_memory_bytes() is None  # nobody asked for it yet

    def refuse(path: Path, text: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "write_text", refuse)
    cpu_device.forget_peak_memory()
    assert cpu_device.peak_memory_bytes() is None


def test_flush_touches_twice_the_cache(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_FLUSH_FLOOR_BYTES", 1 << 10)
    cpu_device.cache_bytes = 4 << 10
    cpu_device.flush_cache()
    cpu_device.flush_cache()
    flushed: Any = cpu_device._flush
    assert flushed.nbytes == 8 << 10
    assert flushed.unique().tolist() == [2]  # every byte was written, twice


def test_flush_has_a_floor_where_the_cache_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "last_level_cache_bytes", lambda: 0)
    monkeypatch.setattr(cpu, "_FLUSH_FLOOR_BYTES", 1 << 12)
    device = CpuDevice(DeviceInfo("cpu", 0, "test"), tmp_path)
    device.flush_cache()
    flushed: Any = device._flush
    assert flushed.nbytes == 1 << 12


def test_last_level_caches_are_added_up_once_each(tmp_path: Path) -> None:
    """Two L3 of 32 MiB shared by two CPUs each; what lies below the last level does not count."""
    for number in range(4):
        for level, sharers, size in ((2, f"{number}", "1024K"), (3, "0-1" if number < 2 else "2-3", "32768K")):
            index = tmp_path / f"cpu{number}" / "cache" / f"index{level}"
            index.mkdir(parents=True)
            (index / "level").write_text(f"{level}\n")
            (index / "shared_cpu_list").write_text(f"{sharers}\n")
            (index / "size").write_text(f"{size}\n")
    assert cpu.last_level_cache_bytes(tmp_path) == 2 * 32 << 20
    assert cpu.last_level_cache_bytes(tmp_path / "nothing") == 0


def test_a_cpu_has_no_graphs(cpu_device: CpuDevice) -> None:
    with pytest.raises(Unsupported, match="a CPU has none"):
        cpu_device.captured([lambda: None])

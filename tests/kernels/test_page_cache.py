"""The page cache of a file: filled, emptied, and told apart."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from bench.errors import Unsupported
from kernels import _page_cache

PAGES = 64
SHM = Path("/dev/shm")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Some pages of a file on a disk."""
    try:
        _page_cache.require_disk(tmp_path)
    except Unsupported as reason:
        pytest.skip(str(reason))
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    return path


def test_filled_is_resident_and_evicted_is_not(file: Path) -> None:
    _page_cache.evict(file)
    assert _page_cache.resident_fraction(file) == 0.0
    assert _page_cache.resident_fraction(file) == 0.0  # the first look brought nothing in
    _page_cache.fill(file)
    assert _page_cache.resident_fraction(file) == 1.0


def test_eviction_writes_dirty_pages_first(file: Path) -> None:
    content = os.urandom(PAGES * mmap.PAGESIZE)
    file.write_bytes(content)  # not synced: dirty pages cannot be dropped
    _page_cache.evict(file)
    assert _page_cache.resident_fraction(file) == 0.0
    assert file.read_bytes() == content


def test_a_part_of_the_file_is_a_fraction(file: Path) -> None:
    _page_cache.evict(file)
    with file.open("rb", buffering=0) as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # one page, no read-ahead
        opened.read(1)
        assert _page_cache.resident_fraction(file) == 1 / PAGES


def test_mapped_pages_survive_an_eviction_and_show(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        assert len(bytes(mapping)) == len(mapping)  # touches every page
        _page_cache.evict(file)
        assert _page_cache.resident_fraction(file) == 1.0


def test_a_cold_read_is_counted_as_read_from_the_device(file: Path) -> None:
    _page_cache.evict(file)
    before = _page_cache.device_bytes_read()
    if before is None:
        pytest.skip("/proc/self/io cannot be read here")
    _page_cache.fill(file)
    after = _page_cache.device_bytes_read()
    assert after is not None
    assert after - before >= file.stat().st_size


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    for function in (_page_cache.evict, _page_cache.resident_fraction, _page_cache.require_disk):
        with pytest.raises(FileNotFoundError):
            function(tmp_path / "missing")


def test_file_system_types_are_those_of_statfs() -> None:
    assert _page_cache._file_system_type(Path("/proc")) == 0x9FA0  # PROC_SUPER_MAGIC, linux/magic.h


@pytest.mark.skipif(not SHM.is_dir(), reason="no /dev/shm")
def test_a_file_system_in_memory_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match=r"/dev/shm is on tmpfs.*--out"):
        _page_cache.require_disk(SHM)


def test_read_ahead_is_a_setting_or_unknown(tmp_path: Path) -> None:
    setting = _page_cache.read_ahead_kb(tmp_path)
    assert setting is None or setting >= 0
    assert _page_cache.read_ahead_kb(Path("/proc")) is None  # no disk below it

"""The page cache of one file: filling it, emptying it, and evidence of which it was.

Everything here works as an ordinary user on a file of one's own. For the files of others ``mincore`` always says
resident (Linux ``mm/mincore.c``, ``can_do_mincore``). Caches below the kernel (a hypervisor's, a disk array's) can be
neither seen nor emptied from here.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from bench.errors import Unsupported

_CHUNK_BYTES = 1 << 20

# Files that live in memory only: there is no disk to read them from (f_type, statfs(2)).
# Tmpfs takes POSIX_FADV_DONTNEED without an error and ignores it.
_MEMORY_FILE_SYSTEMS = {0x01021994: "tmpfs", 0x858458F6: "ramfs", 0x958458F6: "hugetlbfs"}


def fill(path: Path) -> None:
    """Read the whole file once, so that its pages are cached."""
    with path.open("rb", buffering=0) as file:
        while file.read(_CHUNK_BYTES):
            pass


def evict(path: Path) -> None:
    """Drop the file's pages. Dirty ones are written first; pages that some process has mapped stay."""
    with _opened(path) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def resident_fraction(path: Path) -> float:
    """The share of the file's pages in the page cache, by ``mincore`` on a mapping that nobody touches.

    ``cachestat`` would need no mapping, but reports nothing for files on overlayfs; a mapping there is one of the
    real file below.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # A private writable mapping is the kind whose address ctypes can take. No page is written, so none is copied.
    with _opened(path) as fd, mmap.mmap(fd, 0, access=mmap.ACCESS_COPY) as mapping:
        pages = -(-len(mapping) // mmap.PAGESIZE)
        residency = (ctypes.c_ubyte * pages)()
        first_byte = ctypes.c_char.from_buffer(mapping)
        failed = libc.mincore(ctypes.byref(first_byte), ctypes.c_size_t(len(mapping)), residency)
        del first_byte  # a mapping with a pointer into it cannot be closed
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return sum(page & 1 for page in residency) / pages  # only the lowest bit is defined, mincore(2)


def require_disk(path: Path) -> None:
    """See that a file lies on something that it can be read back from.

    Raises:
        Unsupported: it lies in memory.
    """
    file_system = _MEMORY_FILE_SYSTEMS.get(_file_system_type(path))
    if file_system is not None:
        raise Unsupported(
            f"{path} is on {file_system}, which keeps files in memory only: nothing there is ever read cold. "
            "Choose a folder on a real disk with --out"
        )


def _file_system_type(path: Path) -> int:
    """``f_type`` of statfs(2), the first word of its structure on 64-bit Linux."""
    libc = ctypes.CDLL(None, use_errno=True)
    statfs = (ctypes.c_ulong * 32)()  # 256 bytes, twice what the structure takes
    if libc.statfs(os.fsencode(path), statfs):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return int(statfs[0]) & 0xFFFF_FFFF


def read_ahead_kb(path: Path) -> int | None:
    """How far the kernel reads ahead on the disk below, in KiB; None where that cannot be read."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    # A partition has no setting of its own: its parent is the disk. File systems without a block device have a bdi.
    for setting in (
        f"/sys/dev/block/{number}/queue/read_ahead_kb",
        f"/sys/dev/block/{number}/../queue/read_ahead_kb",
        f"/sys/class/bdi/{number}/read_ahead_kb",
    ):
        try:
            return int(Path(setting).read_text())
        except (OSError, ValueError):
            continue
    return None


def device_bytes_read() -> int | None:
    """Bytes that this process's threads have had fetched from storage so far (proc_pid_io(5)); None where unknown."""
    try:
        counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(counters["read_bytes"])
    except (OSError, ValueError, KeyError):
        return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)

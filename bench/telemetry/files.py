"""Small files of ``/proc`` and ``/sys``: what cannot be read is None, and those read often stay open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_MOST_BYTES = 4096  # sysfs gives a page at most (sysfs(5)); of /proc/stat the first line is far shorter


def text(path: Path) -> str | None:
    """The file's text without the white space around it; None where it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        return path.read_text().strip()
    return None


def number(path: Path) -> int | None:
    """The whole number that a file holds; None where it cannot be read or is none."""
    return _whole(text(path))


def numbers(paths: Iterable[Path]) -> list[int]:
    """The whole numbers of those files that hold one."""
    return [found for found in map(number, paths) if found is not None]


class KeptFile:
    """A file that is read again and again through one descriptor.

    A read from offset 0 makes the kernel produce the contents anew (Documentation/filesystems/sysfs.rst), and spares
    the look-up of the path.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = None
        with contextlib.suppress(OSError):
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def is_open(self) -> bool:
        return self._fd is not None

    def text(self) -> str | None:
        """The first 4 KiB now; None where the file cannot be read, or not any more."""
        if self._fd is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            return os.pread(self._fd, _MOST_BYTES, 0).decode()
        return None

    def number(self) -> int | None:
        """The whole number that it holds now; None where it holds none."""
        return _whole(self.text())

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def kept(paths: Iterable[Path]) -> list[KeptFile]:
    """Those of the files that hold a whole number, kept open."""
    opened = [KeptFile(path) for path in paths]
    for file in opened:
        if file.number() is None:
            file.close()
    return [file for file in opened if file.is_open]


def _whole(found: str | None) -> int | None:
    with contextlib.suppress(ValueError):
        return int(found) if found else None
    return None

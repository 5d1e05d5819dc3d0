"""Files written whole or not at all: to a temporary name, synchronised, renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from bench.errors import OutputNotWritable

# What reading a damaged file raises: for its frame, its compressed pages, its texts, its plan.
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)

_ANOTHER_PLACE = "Free space or choose another place"


def write_table(table: pa.Table, target: Path, temporary: Path) -> None:
    """Write a Parquet file beside, synchronise it, and rename it into place."""
    with _written_beside(target, temporary) as file:
        pq.write_table(table, file, compression="zstd")


def write_atomically(target: Path, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    with _written_beside(target, target.with_name(target.name + ".tmp")) as file:
        file.write(content)


def write_new(target: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file that must not be there yet, and that has its mode from its first moment. A failure leaves none.

    Raises:
        OSError: it is there, or cannot be written.
    """
    file_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(file_fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        target.unlink()
        raise


def write_report(target: Path, content: bytes) -> None:
    """Write a file that somebody asked for beside what is printed, whole or not at all.

    Raises:
        OutputNotWritable: it cannot be written.
    """
    with writing(target, _ANOTHER_PLACE):
        write_atomically(target, content)


def expect_writable(target: Path) -> None:
    """Try the folder of such a file, so that a wrong place is told before anything is measured.

    Raises:
        OutputNotWritable: no file can be made there.
    """
    with writing(target, _ANOTHER_PLACE), tempfile.TemporaryFile(dir=target.parent):
        pass


@contextlib.contextmanager
def _written_beside(target: Path, temporary: Path) -> Iterator[BinaryIO]:
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def writing(target: Path, remedy: str = "Free space or choose another folder with --out") -> Iterator[None]:
    """Turns the system's errors into one that says what could not be written.

    Raises:
        OutputNotWritable: an ``OSError`` came.
    """
    try:
        yield
    except OSError as error:
        raise OutputNotWritable(f"cannot write {target}: {error.strerror or error}", remedy) from error


def replace(temporary: Path, target: Path) -> None:
    """Give a synchronised file its name."""
    temporary.replace(target)
    folder_fd = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder_fd)  # the rename itself has to reach the disk
    finally:
        os.close(folder_fd)

"""STREAM in C on arrays of ``PEER_BYTES`` each: ``tests/stream.c``, compiled into the peers' folder."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from tests.stream import COPY, READ, STREAMING_COPY, STREAMING_TRIAD, TRIAD, Stream


@functools.cache
def _stream() -> Stream:
    return Stream(int(os.environ["PEER_BYTES"]), int(os.environ["OMP_NUM_THREADS"]), Path(os.environ["PEER_FOLDER"]))


def read() -> None:
    _stream().run(READ)


def check_read() -> bool:
    return _stream().is_right(READ)


def copy() -> None:
    _stream().run(COPY)


def check_copy() -> bool:
    return _stream().is_right(COPY)


def triad() -> None:
    _stream().run(TRIAD)


def check_triad() -> bool:
    return _stream().is_right(TRIAD)


def streaming_copy() -> None:
    _stream().run(STREAMING_COPY)


def check_streaming_copy() -> bool:
    return _stream().is_right(STREAMING_COPY)


def streaming_triad() -> None:
    _stream().run(STREAMING_TRIAD)


def check_streaming_triad() -> bool:
    return _stream().is_right(STREAMING_TRIAD)

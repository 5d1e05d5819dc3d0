"""``Stream``: STREAM in C, compiled here (``stream.c`` beside this), with arrays and threads of its own."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from kernels._memory import host_words

SOURCE = Path(__file__).with_name("stream.c")
# Else the compiler makes a call of memcpy out of the copy, and C's plain copy is no longer plain.
FLAGS = ("-O3", "-march=native", "-funroll-loops", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC", "-pthread")
CLEAR, READ, COPY, TRIAD, STREAMING_COPY, STREAMING_TRIAD = range(6)  # enum pattern


def compiled(folder: Path) -> Path:
    """The library, made anew where source or flags have changed.

    Raises:
        OSError: there is no compiler.
        subprocess.CalledProcessError: it refuses.
    """
    recipe = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:12]
    library = folder / f"stream-{recipe}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", *FLAGS, "-o", str(made), str(SOURCE)], check=True, capture_output=True, text=True)
        made.rename(library)
    return library


class Stream:
    """Three arrays of ``size`` bytes, allocated as ours are and touched first by the threads that stream them."""

    def __init__(self, size: int, threads: int, folder: Path) -> None:
        self._library = ctypes.CDLL(str(compiled(folder)))
        self._library.team.restype = ctypes.c_void_p
        self._library.stream.restype = ctypes.c_int64
        self._library.stream.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, *[ctypes.c_void_p] * 3]
        self._team = self._library.team(threads)
        self.a, self.b, self.c = (host_words(size).view(np.float32) for _ in range(3))
        for array in (self.a, self.b, self.c):
            self._stream(CLEAR, array, array, array)
        for array in (self.b, self.c):
            np.random.default_rng(0).standard_normal(out=array, dtype=np.float32)

    @property
    def has_streaming_stores(self) -> bool:
        return bool(self._library.has_streaming_stores())

    def run(self, pattern: int) -> int:
        """The pattern once; what a read adds up to."""
        return self._stream(pattern, self.a, self.b, self.c)

    def _stream(self, pattern: int, *arrays: Any) -> int:
        return int(self._library.stream(self._team, pattern, len(self.a), *(array.ctypes.data for array in arrays)))

    def is_right(self, pattern: int) -> bool:
        """Whether a run reads or writes all that it should."""
        self.a[:] = np.nan
        returned = self.run(pattern)
        if pattern == READ:
            return (int(np.add.reduce(self.b.view(np.int64))) - returned) % 2**64 == 0
        scaled = np.float32(3.0) * self.c if pattern in (TRIAD, STREAMING_TRIAD) else np.float32(0.0)
        return bool(np.allclose(self.a, self.b + scaled, rtol=1e-5, atol=1e-5))

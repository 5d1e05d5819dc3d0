"""STREAM in C, compiled here: ``tests/benchmarks/stream.c`` on arrays of ``PEER_BYTES`` each."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent / "benchmarks" / "stream.c"
# Else the compiler makes a call of memcpy out of the copy, and C's plain copy is no longer plain.
FLAGS = ("-O3", "-march=native", "-funroll-loops", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC", "-pthread")
_READ, _COPY, _TRIAD, _STREAMING_COPY, _STREAMING_TRIAD = range(5)  # enum pattern
_LINE_BYTES = 64


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


class _Streams:
    def __init__(self) -> None:
        self._size = int(os.environ["PEER_BYTES"])
        self._threads = int(os.environ["OMP_NUM_THREADS"])
        library = ctypes.CDLL(str(compiled(Path(os.environ["PEER_FOLDER"]))))
        self._stream = library.stream
        self._stream.restype = ctypes.c_int64
        self._stream.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_size_t, *[ctypes.c_void_p] * 3]
        self.a, self.b, self.c = (_filled(self._size) for _ in range(3))

    def run(self, pattern: int) -> int:
        arrays = (array.ctypes.data for array in (self.a, self.b, self.c))
        return int(self._stream(pattern, self._threads, 1, self._size // 4, *arrays))


def _filled(size: int) -> Any:
    """Random float32 from the start of a line on."""
    import numpy as np

    words = np.empty((size + _LINE_BYTES) // 8, dtype=np.int64)
    skipped = -words.ctypes.data % _LINE_BYTES // 8
    floats = words[skipped : skipped + size // 8].view(np.float32)
    np.random.default_rng(0).standard_normal(out=floats, dtype=np.float32)
    return floats


@functools.cache
def _streams() -> _Streams:
    return _Streams()


def read() -> int:
    return _streams().run(_READ)


def check_read() -> bool:
    import numpy as np

    return (int(np.add.reduce(_streams().b.view(np.int64))) - read()) % 2**64 == 0


def copy() -> None:
    _streams().run(_COPY)


def check_copy() -> bool:
    return _writes(_COPY, 0.0)


def triad() -> None:
    _streams().run(_TRIAD)


def check_triad() -> bool:
    return _writes(_TRIAD, 3.0)


def streaming_copy() -> None:
    _streams().run(_STREAMING_COPY)


def check_streaming_copy() -> bool:
    return _writes(_STREAMING_COPY, 0.0)


def streaming_triad() -> None:
    _streams().run(_STREAMING_TRIAD)


def check_streaming_triad() -> bool:
    return _writes(_STREAMING_TRIAD, 3.0)


def _writes(pattern: int, scalar: float) -> bool:
    import numpy as np

    streams = _streams()
    streams.a[:] = np.nan
    streams.run(pattern)
    return bool(np.allclose(streams.a, streams.b + np.float32(scalar) * streams.c, rtol=1e-5, atol=1e-5))

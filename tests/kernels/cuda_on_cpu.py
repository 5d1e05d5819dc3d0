"""Runs our CUDA kernels' own source on the CPU: every thread of a warp is one of the host's, and warps take turns.

What the compiler makes of the source on a GPU, and how fast that is, only a GPU can tell; which words it reads and
writes does not depend on that.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from bench.device.base import Device
from kernels import _cuda_kernels

BLOCKS, THREADS = 3, 128

# What a CUDA compiler knows without being told.
_CUDA = """
#include <barrier>
#include <functional>
#include <thread>
#include <vector>

#define __global__
#define __device__

struct Index { unsigned x; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) longlong2 { long long x, y; };
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static Index gridDim, blockDim;
static thread_local Index blockIdx, threadIdx;

static long long lanes[32];
static std::barrier<> all_lanes(32);

static long long __shfl_down_sync(unsigned, long long value, unsigned distance)
{
    unsigned lane = threadIdx.x % 32;
    lanes[lane] = value;
    all_lanes.arrive_and_wait();
    long long other = lane + distance < 32 ? lanes[lane + distance] : value;
    all_lanes.arrive_and_wait();
    return other;
}
"""

_LAUNCH = """
typedef void (*Kernel)(u64, u64, u64, u64);

extern "C" void launch(Kernel kernel, unsigned blocks, unsigned threads, u64 a, u64 b, u64 c, u64 d)
{
    gridDim.x = blocks;
    blockDim.x = threads;
    for (unsigned block = 0; block < blocks; block++)
        for (unsigned warp = 0; warp < threads; warp += 32) {
            std::vector<std::jthread> running;
            for (unsigned lane = 0; lane < (threads < 32 ? threads : 32); lane++)
                running.emplace_back([=] {
                    blockIdx.x = block;
                    threadIdx.x = warp + lane;
                    kernel(a, b, c, d);
                });
        }
}
"""


def enqueue(name: str, *arguments: int, one_thread: bool = False) -> None:
    """As ``_cuda_kernels.enqueue``, at once and with few blocks."""
    library = _library()
    blocks, threads = (1, 1) if one_thread else (BLOCKS, THREADS)
    padded = [ctypes.c_uint64(argument) for argument in (*arguments, 0, 0)[:4]]
    library.launch(ctypes.cast(getattr(library, name), ctypes.c_void_p), blocks, threads, *padded)


def require(device: Device) -> None:
    """As ``_cuda_kernels.require``, with nothing to say against any device."""


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernels run here for the rest of a test; skip it where there is no compiler."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    monkeypatch.setattr(_cuda_kernels, "enqueue", enqueue)
    monkeypatch.setattr(_cuda_kernels, "require", require)


@functools.cache
def _library() -> Any:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, library = folder / "kernels.cpp", folder / "kernels.so"
        source.write_text(_CUDA + _cuda_kernels.SOURCE + _LAUNCH)
        flags = ("-std=c++20", "-O1", "-w", "-shared", "-fPIC", "-pthread")
        subprocess.run(["g++", *flags, "-o", str(library), str(source)], check=True)
        return ctypes.CDLL(str(library))

"""Our own CUDA kernels: their source, and how they are enqueued on torch's stream. CuPy has NVRTC compile them.

They move 16 bytes with an instruction, the most that a thread can on the GPUs we support (CUDA C++ Programming Guide,
"Device Memory Accesses"), and walk an array with as many threads as the GPU holds at once: how many blocks that are
depends on a kernel's registers, and the driver tells. With more, the last ones would start when the first have ended.
"""

from __future__ import annotations

import functools
from typing import Any

from bench.device.base import Device
from bench.errors import Unsupported
from kernels._cupy import torchs_stream

ROW = 4096  # numbers of int64 that ``row_sums`` adds up into one sum
WARP_BYTES = 32 * 16  # what a warp moves with an instruction: ``exchange`` changes its direction so often

_THREADS = 512

SOURCE = r"""
typedef unsigned long long u64;

#define FIRST ((u64)blockIdx.x * blockDim.x + threadIdx.x)
#define THREADS ((u64)gridDim.x * blockDim.x)

// A thread's share of a copy: four loads are under way before the first is waited for.
__device__ void move(uint4* to, const uint4* from, u64 words)
{
    u64 i = FIRST;
    const u64 step = THREADS;
    for (; i + 3 * step < words; i += 4 * step) {
        uint4 a = from[i], b = from[i + step], c = from[i + 2 * step], d = from[i + 3 * step];
        to[i] = a;
        to[i + step] = b;
        to[i + 2 * step] = c;
        to[i + 3 * step] = d;
    }
    for (; i < words; i += step)
        to[i] = from[i];
}

extern "C" __global__ void copy(uint4* to, const uint4* from, u64 words)
{
    move(to, from, words);
}

// Odd warps move their words from b to a, even ones theirs from a to b. There is an even number of warps, so that each
// keeps its direction from step to step.
extern "C" __global__ void exchange(uint4* a, uint4* b, u64 words)
{
    if (FIRST / 32 % 2)
        move(a, b, words);
    else
        move(b, a, words);
}

extern "C" __global__ void triad(float4* a, const float4* b, const float4* c, u64 words)
{
    #pragma unroll 4
    for (u64 i = FIRST; i < words; i += THREADS) {
        float4 x = b[i], y = c[i];
        a[i] = make_float4(x.x + 3.0f * y.x, x.y + 3.0f * y.y, x.z + 3.0f * y.z, x.w + 3.0f * y.w);
    }
}

// A warp adds up a row of 4096 numbers; each load of a lane brings two.
extern "C" __global__ void row_sums(long long* sums, const longlong2* rows, u64 count)
{
    const unsigned lane = threadIdx.x % 32;
    for (u64 r = FIRST / 32; r < count; r += THREADS / 32) {
        const longlong2* row = rows + r * 2048 + lane;
        long long sum = 0;
        #pragma unroll 8
        for (int i = 0; i < 2048; i += 32) {
            longlong2 pair = row[i];
            sum += pair.x + pair.y;
        }
        for (int distance = 16; distance; distance /= 2)
            sum += __shfl_down_sync(0xffffffffu, sum, distance);
        if (!lane)
            sums[r] = sum;
    }
}

// One thread; each load is at the place that the one before it found.
extern "C" __global__ void chase(u64* at, const u64* links, u64 loads)
{
    u64 i = *at;
    for (; loads; loads--)
        i = links[i];
    *at = i;
}
"""


def require(device: Device) -> None:
    """Have the kernels compiled.

    Raises:
        Unsupported: this is no GPU, or CuPy or what it needs is missing, in its own words.
    """
    if device.info.kind != "cuda":
        raise Unsupported(f"a CUDA kernel needs an NVIDIA GPU, and this device is {device.info.label}")
    try:
        _kernel("copy")
    except (ImportError, RuntimeError) as error:
        raise Unsupported(str(error).strip().partition("\n")[0]) from error


def enqueue(name: str, *arguments: int, one_thread: bool = False) -> None:
    """Enqueue a kernel on torch's current stream.

    Args:
        arguments: addresses and numbers, of 64 bits each.
    """
    import torch

    blocks, threads = (1, 1) if one_thread else (_blocks(name, torch.cuda.current_device()), _THREADS)
    with torchs_stream():
        _kernel(name)((blocks,), (threads,), arguments)


@functools.cache
def _kernel(name: str) -> Any:
    return _module().get_function(name)


@functools.cache
def _module() -> Any:
    import cupy

    return cupy.RawModule(code=SOURCE)


@functools.cache
def _blocks(name: str, index: int) -> int:
    """Blocks of a kernel that the current device, which is ``index``, holds at once."""
    import cupy
    import torch

    per_sm = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(_kernel(name).kernel.ptr, _THREADS, 0)
    return int(per_sm * torch.cuda.get_device_properties(index).multi_processor_count)

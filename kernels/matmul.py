"""``matmul``: one matrix product per launch, in nine arithmetics and by four libraries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bench.device.base import Device
from bench.kernel import About, Kernel
from bench.spec import axis, option
from bench.types import DeviceKind, Work
from kernels import _gemm_product
from kernels._gemm import CHECKED, DTYPES, DTYPES_ABOUT, PROBE, SHAPE_HINT, Shape, work
from kernels._gemm_backends import BACKENDS
from kernels._gemm_case import Gemm

_SQUARES = (1024, 2048, 4096, 8192, 16384)
_MODEL_SHAPES = (
    # Llama-3.1-8B (arXiv 2407.21783, table 3): width 4096, feed-forward width 14336
    "bf16/2048x4096x14336",  # gate and up projections, a prefill of 2048 tokens
    "bf16/2048x14336x4096",  # its down projection
    "fp8-e4m3/2048x4096x14336",
    "bf16/1x4096x14336@cache=cold",  # one token: as fast as the weight can be read
    "bf16/8x4096x14336@cache=cold",  # a step of decoding for 8, 32 and 128 sequences
    "bf16/32x4096x14336@cache=cold",
    "bf16/128x4096x14336@cache=cold",
    "fp8-e4m3/32x4096x14336@cache=cold",
    "bf16/1x4096x128256@cache=cold",  # the head: a vocabulary of 128256 (its configuration)
    # Llama-3.2-1B (its model card): width 2048, feed-forward width 8192
    "bf16/512x2048x8192",  # gate and up projections, a prefill of 512 tokens
    "bf16/1x2048x8192@cache=cold",
    "bf16/8x2048x8192@cache=cold",
)
_SECOND_OPINIONS = (
    "fp64/2048@backend=numpy",
    "fp32/2048@backend=numpy",
    "fp32/4096@backend=numpy",
    "fp32/2048@backend=onednn",
    "bf16/2048@backend=onednn",
    "int8/2048@backend=onednn",
    "fp64/4096@backend=cupy",
    "fp32/4096@backend=cupy",
    "tf32/8192@backend=cupy",
    "fp16/8192@backend=cupy",
)


@dataclass(frozen=True)
class MatmulParams:
    dtype: str = axis(choices=DTYPES)
    shape: Shape = axis(parse=Shape.parse, hint=SHAPE_HINT)
    backend: str = option("torch", choices=tuple(BACKENDS))
    cache: str = option("hot", choices=("hot", "cold"))


class Matmul(Kernel[MatmulParams]):
    name = "matmul"
    version = 1
    summary = "one matrix product, C[m,n] = A[m,k] B[k,n], written <m>x<k>x<n>"
    about = About(
        stands_for="The linear layers of a model, in which it does nearly all of its arithmetic: m tokens at a time "
        "meet a weight of k inputs and n outputs. Squares compare machines; the other shapes are those of published "
        "models, for a prefill (m in the hundreds and thousands) or a step of decoding (m is the number of sequences).",
        parameters={
            "dtype": DTYPES_ABOUT,
            "shape": "<m>x<k>x<n>, or <n> for a square.",
            "backend": "Whose product it is: torch (oneDNN or MKL on a CPU, cuBLAS on a GPU), numpy's BLAS, cupy "
            "(cuBLAS by another way), or onednn: B in oneDNN's own layout, packed ahead as a frozen model's weight is.",
            "cache": "cold drives the operands out of the last-level cache before every launch, as the other layers of "
            "a model would; hot leaves them where the last launch did.",
        },
        work="2 m k n operations, one multiplication and one addition each (Golub & Van Loan, Matrix Computations, "
        "1.1). Bytes: both operands read once, the result written once; nvfp4 with a byte of scale for 16 elements.",
        check=CHECKED,
        pitfalls="A hot product of few rows finds its weight in the cache, which no model does: take a cold one. "
        "onednn leaves the packing of B out of the time; torch packs it in every launch, and cannot be told not to. "
        "onednn takes the memory of its result itself, and has A of int8 as bytes above a zero point and its sums as "
        "float32.",
    )
    params_type = MatmulParams
    catalogue = tuple(
        f"matmul/{text}"
        for text in (*(f"{dtype}/{n}" for dtype in DTYPES for n in _SQUARES), *_MODEL_SHAPES, *_SECOND_OPINIONS)
    )

    def prepare(self, params: MatmulParams, device: Device, seed: int) -> Gemm:
        cold = params.cache == "cold"
        return Gemm(params.dtype, params.shape.stack, device, seed, backend=params.backend, cold=cold)

    def roofs(self, params: MatmulParams, kind: DeviceKind) -> Sequence[str]:
        """What is cold has to be read: few rows are bound by that, many by arithmetic."""
        compute = f"roof/compute/{params.dtype}"
        return (compute, "roof/memory/read") if params.cache == "cold" else (compute,)

    def work(self, params: MatmulParams) -> Work:
        return work(params.dtype, params.shape.stack)

    def probe(self, params: MatmulParams) -> MatmulParams | None:
        return dataclasses.replace(params, shape=PROBE) if params.shape.flops > PROBE.flops else None

    def memory_bytes(self, params: MatmulParams) -> int:
        return _gemm_product.memory_bytes(params.dtype, params.shape.stack, packed=params.backend == "onednn")


KERNEL = Matmul()

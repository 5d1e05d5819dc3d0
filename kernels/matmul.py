"""``matmul``: one matrix product per launch, in seven arithmetics and by three libraries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bench.device.base import Device
from bench.kernel import Kernel
from bench.spec import axis, option
from bench.types import DeviceKind
from kernels import _gemm_product
from kernels._gemm import DTYPES, PROBE, SHAPE_HINT, Shape
from kernels._gemm_backends import BACKENDS
from kernels._gemm_case import Gemm

_SQUARES = (1024, 2048, 4096, 8192)
_MODEL_SHAPES = (
    "bf16/2048x4096x14336",  # Llama-3.1-8B's gate and up projections, a prefill of 2048 tokens
    "bf16/2048x14336x4096",  # its down projection
    "bf16/1x4096x14336@cache=cold",  # one token: as fast as the weight can be read
    "bf16/512x2048x8192",  # Llama-3.2-1B's gate and up projections, a prefill of 512 tokens
    "fp8-e4m3/2048x4096x14336",
)
_SECOND_OPINIONS = (
    "fp64/2048@backend=numpy",
    "fp32/2048@backend=numpy",
    "fp32/4096@backend=numpy",
    "fp64/4096@backend=cupy",
    "fp32/4096@backend=cupy",
    "tf32/8192@backend=cupy",
    "fp16/8192@backend=cupy",
)


@dataclass(frozen=True)
class MatmulParams:
    dtype: str = axis(choices=DTYPES)
    shape: Shape = axis(parse=Shape.parse, hint=SHAPE_HINT)
    backend: str = option("torch", choices=BACKENDS)
    cache: str = option("hot", choices=("hot", "cold"))


class Matmul(Kernel[MatmulParams]):
    name = "matmul"
    version = 1
    summary = "one matrix product, C[m,n] = A[m,k] B[k,n], written <m>x<k>x<n>"
    params_type = MatmulParams
    catalogue = tuple(
        f"matmul/{text}"
        for text in (*(f"{dtype}/{n}" for dtype in DTYPES for n in _SQUARES), *_MODEL_SHAPES, *_SECOND_OPINIONS)
    )

    def prepare(self, params: MatmulParams, device: Device, seed: int) -> Gemm:
        return Gemm(params.dtype, params.shape, params.backend, device, seed, cold=params.cache == "cold")

    def roofs(self, params: MatmulParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{params.dtype}",)

    def probe(self, params: MatmulParams) -> MatmulParams | None:
        return dataclasses.replace(params, shape=PROBE) if params.shape.flops > PROBE.flops else None

    def memory_bytes(self, params: MatmulParams) -> int:
        return _gemm_product.memory_bytes(params.dtype, params.shape)


KERNEL = Matmul()

"""``matmul-batched``: many small products of one shape in one launch, as in attention without a fused kernel."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.device.base import Device
from bench.kernel import About, Kernel
from bench.spec import axis
from bench.types import DeviceKind, Work
from kernels import _gemm_product
from kernels._gemm import CHECKED, DTYPES_ABOUT, SHAPES_HINT, Shapes, small, work
from kernels._gemm_case import Gemm
from kernels._gemm_product import Product

_DTYPES = ("fp64", "fp32", "tf32", "bf16", "fp16")  # what torch.bmm takes

_CATALOGUE = (
    # Llama-3.1-8B (arXiv 2407.21783, table 3): 32 heads of 128, 8 of keys and values
    "bf16/32x2048x128x2048",  # the scores of a sequence of 2048
    "bf16/32x2048x2048x128",  # and the values that they weigh
    "fp16/32x2048x128x2048",
    "bf16/256x4x128x1024",  # a step of decoding: 32 sequences of 1024, 8 heads of keys, each for 4 of queries
    # PhoBERT-base (arXiv 2003.00744; the shape of BERT-base): 12 heads of 64, 256 tokens, 32 sequences
    "fp32/384x256x64x256",
    "tf32/384x256x64x256",
    "bf16/384x256x64x256",
    # ViT-B/16 (arXiv 2010.11929, table 1): 12 heads of 64, 196 patches and a class token, 64 images
    "bf16/768x197x64x197",
    "fp64/64x512x512x512",
)


@dataclass(frozen=True)
class MatmulBatchedParams:
    dtype: str = axis(choices=_DTYPES)
    shape: Shapes = axis(parse=Shapes.parse, hint=SHAPES_HINT)


def _batched(dtype: str, product: Product) -> Callable[[], object]:
    import torch

    count = len(product.stack.rows)
    a_GMK, out_GMN = (matrix.unflatten(0, (count, -1)) for matrix in (product.a_MK, product.out_MN))
    return functools.partial(torch.bmm, a_GMK, product.b_GKN, out=out_GMN)


class MatmulBatched(Kernel[MatmulBatchedParams]):
    name = "matmul-batched"
    version = 1
    summary = "products of one shape side by side, written <count>x<m>x<k>x<n>"
    about = About(
        stands_for="Attention without a fused kernel: each head's queries times its keys, then the weights times the "
        "values, for all heads and sequences in one call. Shapes are those of published models.",
        parameters={
            "dtype": DTYPES_ABOUT,
            "shape": "<count>x<m>x<k>x<n>: so many products of m x k times k x n; count is heads times sequences.",
        },
        work="2 m k n operations for each product (Golub & Van Loan, Matrix Computations, 1.1). Bytes: all operands "
        "read once, all results written once.",
        check=CHECKED,
        pitfalls="With k = 64 or 128 the result is as large as what it is made from, so memory can bind before "
        "arithmetic does, though the fraction shown is of the compute roof. Fused attention never writes the scores: "
        "this is the limit of what it replaces, not of attention.",
    )
    params_type = MatmulBatchedParams
    catalogue = tuple(f"matmul-batched/{text}" for text in _CATALOGUE)

    def prepare(self, params: MatmulBatchedParams, device: Device, seed: int) -> Gemm:
        return Gemm(params.dtype, params.shape.stack, device, seed, library=_batched)

    def roofs(self, params: MatmulBatchedParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{params.dtype}",)

    def work(self, params: MatmulBatchedParams) -> Work:
        return work(params.dtype, params.shape.stack)

    def probe(self, params: MatmulBatchedParams) -> MatmulBatchedParams | None:
        shape = small(params.shape)
        return dataclasses.replace(params, shape=shape) if shape else None

    def memory_bytes(self, params: MatmulBatchedParams) -> int:
        return _gemm_product.memory_bytes(params.dtype, params.shape.stack)


KERNEL = MatmulBatched()

"""``matmul-sparse``: a weight of which two in four elements are zero, multiplied by the units that skip them."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.device.base import Device
from bench.kernel import About, Kernel
from bench.spec import axis
from bench.types import DeviceKind, Measurement, Metric, Work
from kernels import _gemm_product
from kernels._gemm import ARITHMETIC, CHECKED, DTYPES_ABOUT, PROBE, SHAPE_HINT, Shape, tolerance, work
from kernels._gemm_case import Gemm
from kernels._gemm_product import Product

if TYPE_CHECKING:
    import torch

_DTYPES = ("bf16", "fp16", "fp8-e4m3", "int8")  # what cuSPARSELt takes of ours
_SQUARES = (4096, 8192)
_MODEL_SHAPES = (
    "bf16/2048x4096x14336",  # Llama-3.1-8B's gate and up projections (arXiv 2407.21783, table 3), 2048 tokens
    "bf16/32x4096x14336",  # a step of decoding for 32 sequences
)

_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # which two of four stay
_PRUNING_BYTES = 4  # an element of B: which pair stays, in int64 for four of them, and a mask


@dataclass(frozen=True)
class MatmulSparseParams:
    dtype: str = axis(choices=_DTYPES)
    shape: Shape = axis(parse=Shape.parse, hint=SHAPE_HINT)


def sparse_work(dtype: str, shape: Shape) -> Work:
    """m k n operations, those on kept elements; B is the kept half and 2 bits for the place of each of them."""
    dense = work(dtype, shape.stack)
    b = shape.k * shape.n
    saved = round(b * ARITHMETIC[dtype].operand_bytes) // 2 - b // 8
    return dataclasses.replace(dense, flops=shape.flops // 2, bytes_moved=(dense.bytes_moved or 0) - saved)


def keep_two_of_four(b_NK: torch.Tensor, seed: int) -> None:
    """Set two of every four neighbours in a row to zero, which two by the seed."""
    import torch

    n, k = b_NK.shape
    generator = torch.Generator(b_NK.device).manual_seed(seed)
    pairs = torch.zeros(len(_PAIRS), 4, dtype=torch.bool, device=b_NK.device)
    pairs[torch.arange(len(_PAIRS))[:, None], torch.tensor(_PAIRS)] = True
    drawn = torch.randint(len(_PAIRS), (n, k // 4), generator=generator, device=b_NK.device)
    bits = {1: torch.int8, 2: torch.int16}[b_NK.element_size()]  # 8-bit floats cannot be multiplied
    b_NK.view(bits).mul_(pairs[drawn].flatten(1))


def _sparse(seed: int, dtype: str, product: Product) -> Callable[[], object]:
    """B pruned and compressed ahead; the algorithm is the one that cuSPARSELt's own search finds."""
    import torch

    b_NK, a_KM = product.b_KN.t(), product.a_MK.t()
    keep_two_of_four(b_NK, seed)
    same = product.out_MN.dtype == product.a_MK.dtype  # then out_dtype may not be given
    options: dict[str, Any] = {"out_dtype": None if same else product.out_MN.dtype, "transpose_result": True}
    packed = torch._cslt_compress(b_NK)
    algorithm = torch._cslt_sparse_mm_search(packed, a_KM, **options)
    return product.keep(functools.partial(torch._cslt_sparse_mm, packed, a_KM, alg_id=algorithm, **options))


class Sparse(Gemm):
    has_equal_bits = False  # the search times algorithms, and another may win next time

    def __init__(self, params: MatmulSparseParams, device: Device, seed: int) -> None:
        super().__init__(params.dtype, params.shape.stack, device, seed, library=functools.partial(_sparse, seed))
        self.work = sparse_work(params.dtype, params.shape)
        self._tolerance = tolerance(params.dtype, params.shape.k // 2)

    def metrics(self, measurement: Measurement) -> list[Metric]:
        rate = self.work.rate(statistics.median(measurement.elapsed_ns)) or 0.0
        return [Metric("dense_equivalent", 2 * rate, self.work.unit, "higher")]


class MatmulSparse(Kernel[MatmulSparseParams]):
    name = "matmul-sparse"
    version = 1
    summary = "a product with a 2:4 sparse weight; the work counts what is not skipped"
    about = About(
        stands_for="A linear layer whose weight was pruned so that two of every four elements along k are zero, the "
        "one pattern that NVIDIA's tensor cores skip, from Ampere on (Mishra et al., \"Accelerating Sparse Deep Neural "
        'Networks", arXiv 2104.08378).',
        parameters={"dtype": DTYPES_ABOUT, "shape": "<m>x<k>x<n> of the dense product, or <n> for a square."},
        work="m k n operations: those on the kept half of the weight, which are really done. NVIDIA's datasheets count "
        "the skipped half as well; that figure is the metric dense_equivalent, and held against a dense roof it would "
        "pass 100 %. Bytes: A, the kept half of B with 2 bits for the place of each element (arXiv 2104.08378), and "
        "the result.",
        check=CHECKED + " The reference multiplies the pruned weight with its zeros; k/2 additions count.",
        pitfalls="The fraction of the roof says how well the units that skip are fed: at half of it, a sparse product "
        "takes as long as a dense one at the roof. Pruning and compressing are not timed. cuSPARSELt takes the memory "
        "of its result itself.",
    )
    params_type = MatmulSparseParams
    catalogue = tuple(
        f"matmul-sparse/{text}" for text in (*(f"{dtype}/{n}" for dtype in _DTYPES for n in _SQUARES), *_MODEL_SHAPES)
    )

    def prepare(self, params: MatmulSparseParams, device: Device, seed: int) -> Sparse:
        return Sparse(params, device, seed)

    def roofs(self, params: MatmulSparseParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{params.dtype}",)

    def work(self, params: MatmulSparseParams) -> Work:
        return sparse_work(params.dtype, params.shape)

    def probe(self, params: MatmulSparseParams) -> MatmulSparseParams | None:
        return dataclasses.replace(params, shape=PROBE) if params.shape.flops > PROBE.flops else None

    def memory_bytes(self, params: MatmulSparseParams) -> int:
        pruning = _PRUNING_BYTES * params.shape.k * params.shape.n
        return _gemm_product.memory_bytes(params.dtype, params.shape.stack, packed=True) + pruning


KERNEL = MatmulSparse()

"""``matmul-grouped``: tokens sorted by expert, each expert's rows times its own weight, as in a mixture of experts."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.device.base import Device
from bench.kernel import About, Kernel
from bench.spec import SEED, axis
from bench.types import DeviceKind, Measurement, Metric, Work
from kernels import _gemm_product
from kernels._gemm import CHECKED, DTYPES_ABOUT, SHAPES_HINT, Shapes, Stack, small, work
from kernels._gemm_case import Gemm
from kernels._gemm_product import Product

_DTYPES = ("fp32", "tf32", "bf16", "fp16")

_CATALOGUE = (
    # Mixtral 8x7B (arXiv 2401.04088, table 1): 8 experts, 2 for each token, width 4096, feed-forward width 14336
    "bf16/8x512x4096x14336",  # gate or up projection, a prefill of 2048 tokens
    "bf16/8x512x14336x4096",  # down projection
    "bf16/8x8x4096x14336",  # a step of decoding for 32 sequences
    # Qwen3-30B-A3B (arXiv 2505.09388, table 2, and its configuration): 128 experts, 8 for a token, widths 2048 and 768
    "bf16/128x128x2048x768",  # 2048 tokens
    "bf16/128x2x2048x768",  # 32 sequences
    # OLMoE-1B-7B (arXiv 2409.02060): 64 experts, 8 for each token, width 2048, feed-forward width 1024
    "bf16/64x64x2048x1024",  # 512 tokens
    "fp32/64x64x2048x1024",
)


@dataclass(frozen=True)
class MatmulGroupedParams:
    dtype: str = axis(choices=_DTYPES)
    shape: Shapes = axis(parse=Shapes.parse, hint=SHAPES_HINT)


def routed(shapes: Shapes, seed: int) -> Stack:
    """Rows of each expert: shares drawn evenly from half to one and a half times the mean, count x m rows in all.

    Routers leave the shares uneven, and differently so for every text (arXiv 2401.04088, figure 7). How uneven they are
    here is a choice.
    """
    draw = random.Random(seed).random  # the one method whose sequence Python promises to keep
    shares = list(itertools.accumulate(0.5 + draw() for _ in range(shapes.count)))
    ends = [round(shapes.count * shapes.m * share / shares[-1]) for share in shares]
    rows = tuple(end - begin for begin, end in itertools.pairwise([0, *ends]))
    return Stack(rows, shapes.k, shapes.n)


def _one_by_one(dtype: str, product: Product) -> Callable[[], object]:
    """The plain sequence: a product for each expert that has rows, into its part of the one result."""
    import torch

    rows = product.stack.rows
    parts = zip(product.a_MK.split(rows), product.b_GKN, product.out_MN.split(rows), strict=True)
    calls = [functools.partial(torch.mm, a_RK, b_KN, out=out_RN) for a_RK, b_KN, out_RN in parts if len(a_RK)]

    def launch() -> None:
        for call in calls:
            call()

    return launch


def _fused(dtype: str, product: Product) -> Callable[[], object]:
    import torch

    ends = torch.tensor(list(itertools.accumulate(product.stack.rows)), dtype=torch.int32, device=product.a_MK.device)
    return product.keep(functools.partial(torch._grouped_mm, product.a_MK, product.b_GKN, offs=ends))


def _is_fused(dtype: str, device: Device) -> bool:
    """Where torch has one kernel for all groups: bfloat16 on Hopper and Blackwell.

    Elsewhere ``torch._grouped_mm`` is the plain sequence itself, with a wait for the GPU before it, since the rows of
    each group are in its memory (aten/src/ATen/native/GroupedMMUtils.h); here the host knows them.
    """
    if device.info.kind != "cuda" or dtype != "bf16":
        return False
    import torch

    return torch.cuda.get_device_capability(device.torch_device)[0] in (9, 10)


class Grouped(Gemm):
    def __init__(self, params: MatmulGroupedParams, device: Device, seed: int) -> None:
        stack, fused = routed(params.shape, seed), _is_fused(params.dtype, device)
        super().__init__(params.dtype, stack, device, seed, library=_fused if fused else _one_by_one)
        self._calls = 1 if fused else sum(rows > 0 for rows in stack.rows)

    def metrics(self, measurement: Measurement) -> list[Metric]:
        rows = self._product.stack.rows
        return [
            Metric("library_calls", self._calls, "1"),
            Metric("rows_least", min(rows), "1"),
            Metric("rows_most", max(rows), "1"),
        ]


class MatmulGrouped(Kernel[MatmulGroupedParams]):
    name = "matmul-grouped"
    version = 1
    summary = "products of uneven rows, each with a weight of its own, written <count>x<mean m>x<k>x<n>"
    about = About(
        stands_for="The expert layers of a mixture of experts: a router gave each expert some of the tokens, which lie "
        "sorted by expert, and each expert has a weight of its own.",
        parameters={
            "dtype": DTYPES_ABOUT,
            "shape": "<count>x<m>x<k>x<n>: count experts, m rows each on average, weights of k x n; count times m is "
            "tokens times experts per token. The rows of each expert are drawn with the seed, from half to one and a "
            "half times the mean.",
        },
        work="2 m k n operations, m the rows that are there (Golub & Van Loan, Matrix Computations, 1.1), so 2 count m "
        "k n in all: no row is padded. Bytes: all rows and the weights of the experts that have any read once, the "
        "result written once.",
        check=CHECKED,
        pitfalls="On Hopper and Blackwell bfloat16 is one kernel, torch._grouped_mm, which takes the memory of its "
        "result itself. Everything else is a product for each expert in turn, as model code without such a kernel has "
        "it; library_calls among the metrics says which. With few rows for each, weights are read for little "
        "arithmetic, and the fraction of the compute roof is low for that reason.",
    )
    params_type = MatmulGroupedParams
    catalogue = tuple(f"matmul-grouped/{text}" for text in _CATALOGUE)

    def prepare(self, params: MatmulGroupedParams, device: Device, seed: int) -> Grouped:
        return Grouped(params, device, seed)

    def roofs(self, params: MatmulGroupedParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{params.dtype}",)

    def work(self, params: MatmulGroupedParams) -> Work:
        return work(params.dtype, routed(params.shape, SEED))

    def probe(self, params: MatmulGroupedParams) -> MatmulGroupedParams | None:
        shape = small(params.shape)
        return dataclasses.replace(params, shape=shape) if shape else None

    def memory_bytes(self, params: MatmulGroupedParams) -> int:
        return _gemm_product.memory_bytes(params.dtype, routed(params.shape, SEED))


KERNEL = MatmulGrouped()

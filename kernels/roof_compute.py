"""``roof/compute``: the most operations per second that a matrix product reaches here, over shapes and libraries.

The roof of a dtype is found by search: its candidates are products of a given shape, each a workload in its own right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.device.base import Device
from bench.errors import UsageError
from bench.kernel import About, Kernel
from bench.spec import axis, option
from bench.types import Measurement, Metric, Work
from kernels import _gemm, _gemm_product
from kernels._gemm import CHECKED, DTYPES, DTYPES_ABOUT, PROBE, SHAPE_HINT, Shape
from kernels._gemm_case import Gemm

# From what two cores finish in milliseconds to what fills a large GPU. The last three are the best shapes published
# for A100, H100 and B200 (Bekman, Machine Learning Engineering, "Maximum Achievable Matmul FLOPS", there m x n x k).
_COARSE = ("1024", "3072x1536x256", "2048", "4096", "8192", "1024x5120x10240", "2048x13312x2048", "1792x3072x16128")

# Not every library is the best on every CPU: others stand in for torch's plain product where they are faster.
_OTHERS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "numpy": {"fp64": ("1024", "2048"), "fp32": ("1024", "2048")},
    "onednn": dict.fromkeys(("fp32", "bf16", "fp16", "int8"), ("1024", "3072x1536x256", "2048", "4096")),
}

_STEPS = (1 / 2, 2 / 3, 3 / 2, 2)
_GRAIN = 64  # every dimension is a multiple: tiles, and the alignment that short operands ask for
_LEAST, _MOST = 256, 32768


@dataclass(frozen=True)
class RoofComputeParams:
    dtype: str = axis(choices=DTYPES)
    shape: Shape | None = option(None, parse=Shape.parse, hint=SHAPE_HINT)
    backend: str = option("torch", choices=("torch", *_OTHERS))


class RoofCase(Gemm):
    """A product that also says its shape, so that the roof tells where it was found."""

    def __init__(self, params: RoofComputeParams, shape: Shape, device: Device, seed: int):
        super().__init__(params.dtype, shape.stack, device, seed, backend=params.backend)
        self._shape = shape

    def metrics(self, measurement: Measurement) -> list[Metric]:
        sizes = dataclasses.asdict(self._shape)
        return [Metric(f"shape_{axis_name}", size, "1") for axis_name, size in sizes.items()]


class RoofCompute(Kernel[RoofComputeParams]):
    name = "roof/compute"
    version = 1
    summary = "the most operations per second of any matrix product, found by search"
    about = About(
        stands_for="What this machine's arithmetic units deliver through the libraries that models use: the limit that "
        "the other workloads of the dtype are held against.",
        parameters={
            "dtype": DTYPES_ABOUT,
            "shape": "<m>x<k>x<n>, or <n> for a square. Without it, a search chooses.",
            "backend": "torch, numpy's BLAS, or onednn with B packed ahead as a frozen model's weight is. The search "
            "tries them where they can be ahead.",
        },
        work="2 m k n operations (Golub & Van Loan, Matrix Computations, 1.1).",
        check=CHECKED,
        pitfalls="The best of many is flattered by its own luck, so the search's own figure is never the roof: the "
        "winner is measured anew in the fresh process of every pass. A search in a bounded time can miss a better "
        "shape; a workload above its roof is then flagged, and the roof is not raised to fit. Budget, time spent and "
        "candidates tried are among the row's metrics.",
    )
    params_type = RoofComputeParams
    catalogue = tuple(f"roof/compute/{dtype}" for dtype in DTYPES)

    def prepare(self, params: RoofComputeParams, device: Device, seed: int) -> RoofCase:
        """Raises:
        UsageError: no shape is given; `candidates` lists those that a search starts from.
        Unsupported: the device or the library has no such product.
        """
        if params.shape is None:
            raise UsageError(
                f"roof/compute/{params.dtype} is what a search finds and has no shape of its own",
                f"Name one to time it alone: roof/compute/{params.dtype}@shape=4096",
            )
        return RoofCase(params, params.shape, device, seed)

    def probe(self, params: RoofComputeParams) -> RoofComputeParams:
        return dataclasses.replace(params, shape=PROBE)

    def work(self, params: RoofComputeParams) -> Work | None:
        return _gemm.work(params.dtype, params.shape.stack) if params.shape else None

    def memory_bytes(self, params: RoofComputeParams) -> int:
        """Of the smallest candidate, where the shape is still to be found."""
        shape = params.shape or self.candidates(params)[0].shape
        packed = params.backend == "onednn"
        return _gemm_product.memory_bytes(params.dtype, shape.stack, packed=packed) if shape else 0

    def candidates(self, params: RoofComputeParams) -> Sequence[RoofComputeParams]:
        """Ascending by their work, so that a slow device finds its own before the large ones; none if one is named."""
        if params.shape is not None:
            return ()
        shapes = {"torch": _COARSE} | {name: shapes.get(params.dtype, ()) for name, shapes in _OTHERS.items()}
        return _ascending(
            dataclasses.replace(params, shape=Shape.parse(text), backend=backend)
            for backend, texts in shapes.items()
            for text in texts
        )

    def neighbours(self, params: RoofComputeParams) -> Sequence[RoofComputeParams]:
        """One dimension longer or shorter, by a half or twofold, by the same library; ascending by their work."""
        shape = params.shape
        if shape is None:
            return ()
        near = {
            dataclasses.replace(shape, **{name: stepped})
            for name, size in dataclasses.asdict(shape).items()
            for stepped in (round(size * step / _GRAIN) * _GRAIN for step in _STEPS)
            if _LEAST <= stepped <= _MOST
        }
        return _ascending(dataclasses.replace(params, shape=other) for other in near - {shape})


def _ascending(candidates: Iterable[RoofComputeParams]) -> Sequence[RoofComputeParams]:
    def by_work(params: RoofComputeParams) -> tuple[int, str, str]:
        shape = params.shape
        return (shape.flops if shape else 0, str(shape), params.backend)

    return tuple(sorted(candidates, key=by_work))


KERNEL = RoofCompute()

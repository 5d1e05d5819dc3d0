"""``overlap``: a matrix product and a copy between host and GPU at the same time, each on a stream of its own.

What computes and what copies are different units of a GPU, so the two should take no longer than the longer of them
alone. ``part=turns`` measures how near they come to that: product, copy, and both together follow each other in every
launch, so that all three meet the same state of the machine, and a mark ends each.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.errors import Unsupported
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Measurement, Metric, Work
from kernels._gemm import tolerance

if TYPE_CHECKING:
    import torch

_BLOCK_COLUMNS = 256  # of a product, that share one signed sum
_VECTORS = 4  # one alone misses a tile of 16 equal errors a row one time in five
_CHUNK_ROWS = 1024  # that its check holds in float64 at a time
_NOT_COPIED = -1  # what is copied is never negative


@dataclass(frozen=True)
class OverlapParams:
    copy: str = axis(choices=("h2d", "d2h"))
    n: int = axis()
    mib: int = axis(prefix="mib")
    part: str = option("both", choices=("both", "turns"))

    @property
    def copied_bytes(self) -> int:
        return self.mib << 20

    @property
    def work(self) -> Work:
        times = 2 if self.part == "turns" else 1
        return Work("FLOP/s", flops=times * 2 * self.n**3, bytes_moved=times * self.copied_bytes)


class Product:
    """``out = a b``, square, in bf16."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        import torch

        sizes = {"size": (n, n), "dtype": torch.bfloat16, "device": generator.device}
        self._a_MK, self._b_KN = (torch.randn(**sizes, generator=generator) for _ in range(2))
        self.out_MN = torch.empty(**sizes)

    def launch(self) -> None:
        import torch

        torch.mm(self._a_MK, self._b_KN, out=self.out_MN)

    def poison(self) -> None:
        self.out_MN.fill_(math.nan)

    def error(self) -> float:
        """Each row against float64, 256 columns at a time, in root mean squares of the exact sums; NaN if any is.

        Freivalds ("Probabilistic Machines Can Use Less Running Time", IFIP 1977): out x must be a (b x), here for some
        vectors of random signs for every block of columns, zero elsewhere. A wrong element changes its row's sums; of
        a wrong tile the signs may cancel in one of them, and hardly in all.
        """
        exact_MT = _times(self._a_MK, _times(self._b_KN, self._signs))
        deviation_MT = _times(self.out_MN, self._signs) - exact_MT
        return float(deviation_MT.abs().max() / exact_MT.square().mean().sqrt())

    @functools.cached_property
    def _signs(self) -> torch.Tensor:
        import torch

        n = len(self.out_MN)
        blocks_N = torch.arange(n, device=self.out_MN.device) // _BLOCK_COLUMNS
        signs_NV1 = 2.0 * torch.randint(2, (n, _VECTORS, 1), device=self.out_MN.device, dtype=torch.float64) - 1.0
        return (signs_NV1 * torch.nn.functional.one_hot(blocks_N)[:, None]).flatten(1)


def _times(matrix_RC: torch.Tensor, factor_CT: torch.Tensor) -> torch.Tensor:
    """The product in float64, a chunk of rows at a time."""
    import torch

    return torch.cat([rows_RC.double() @ factor_CT for rows_RC in matrix_RC.split(_CHUNK_ROWS)])


class Copy:
    """Random words from a page-locked buffer of the host to the device's memory, or back."""

    def __init__(self, to_device: bool, copied_bytes: int, generator: torch.Generator) -> None:
        import torch

        words = copied_bytes // 8
        on_gpu = generator.device.type == "cuda"
        host_W = torch.empty(words, dtype=torch.int64, pin_memory=on_gpu)
        device_W = torch.empty(words, dtype=torch.int64, device=generator.device)
        device_W.random_(generator=generator)  # 63 bits
        host_W.copy_(device_W)
        self.source_W, self.target_W = (host_W, device_W) if to_device else (device_W, host_W)

    def launch(self) -> None:
        self.target_W.copy_(self.source_W, non_blocking=True)

    def poison(self) -> None:
        self.target_W.fill_(_NOT_COPIED)

    def wrong(self) -> int:
        """The words that did not arrive."""
        return int((self.target_W.cpu() != self.source_W.cpu()).sum())


class OverlapCase(Case):
    def __init__(self, params: OverlapParams, device: Device, seed: int) -> None:
        import torch

        generator = torch.Generator(device.torch_device).manual_seed(seed)
        self._device = device
        self._params = params
        self.work = params.work
        self.product = Product(params.n, generator)
        self.copy = Copy(params.copy == "h2d", params.copied_bytes, generator)
        self._copying = torch.cuda.Stream()
        self._begun, self._copied = torch.cuda.Event(), torch.cuda.Event()

    def launch(self) -> None:
        if self._params.part == "both":
            self._together()
            return
        self.product.launch()
        self._device.mark("product")
        self.copy.launch()
        self._device.mark("copy")
        self._together()
        self._device.mark("both")

    def _together(self) -> None:
        """Neither begins before what was queued earlier is done, and what is queued later waits for both."""
        import torch

        computing = torch.cuda.current_stream()
        self._begun.record(computing)
        self._copying.wait_event(self._begun)
        with torch.cuda.stream(self._copying):
            self.copy.launch()
        self._copied.record(self._copying)
        self.product.launch()
        computing.wait_event(self._copied)

    def check(self) -> Check:
        self.product.poison()
        self.copy.poison()
        self.launch()
        self._device.synchronize()
        wrong = self.copy.wrong()
        error = math.inf if wrong else self.product.error()
        return Check(error, tolerance("bf16", self._params.n), detail=f"of the product; {wrong} words not copied")

    def metrics(self, measurement: Measurement) -> list[Metric]:
        if self._params.part == "both":
            copied = self.work.rate(statistics.median(measurement.elapsed_ns), "B/s") or 0.0
            return [Metric("copied", copied, "B/s", "higher")]
        return turns_metrics(measurement)

    def close(self) -> None:
        del self.product, self.copy


def turns_metrics(measurement: Measurement) -> list[Metric]:
    """The median times of product, copy and both, and the share of the ideal: the longer one alone, over both.

    The share is taken launch by launch, so that a slow moment befalls both sides of it.
    """
    ends_ns = [mark.ns for mark in measurement.marks]
    per_sample = measurement.marks_per_sample
    taken_ns = [end_ns - (ends_ns[index - 1] if index % per_sample else 0) for index, end_ns in enumerate(ends_ns)]
    phases = {"product": taken_ns[0::3], "copy": taken_ns[1::3], "both": taken_ns[2::3]}
    shares = [max(product, copy) / both for product, copy, both in zip(*phases.values(), strict=True)]
    figures = [Metric(f"{name}_s", statistics.median(ns) * 1e-9, "s", "lower") for name, ns in phases.items()]
    return [*figures, Metric("share", statistics.median(shares), "1", "higher")]


class OverlapKernel(Kernel[OverlapParams]):
    name = "overlap"
    version = 1
    summary = "a bf16 matrix product while a copy runs between host and GPU"
    about = About(
        stands_for="Programs that hide transfers behind work: the next batch on its way in while this one is trained "
        "on, offloaded weights, optimiser states or KV caches on their way out.",
        parameters={
            "copy": "h2d: from page-locked memory of the host to the device; d2h: back",
            "n": "the product is n x n by n x n in bf16, with the operands stored by rows",
            "mib": "MiB that are copied while one product runs; in the catalogue 64, which take 1.2 ms at 55 GB/s, as "
            "the product takes 1.5 ms at 750 TFLOP/s",
            "part": "both: product and copy together; turns: product, copy, and both together, one after the other",
        },
        work="2 n^3 FLOPs of a product (Golub & Van Loan, Matrix Computations, 1.1) over the time until both it and "
        "the copy are done; the metric copied is the copy's bytes, counted once, over the same time. part=turns makes "
        "two products and two copies in a launch. Its metric share is the longer of product and copy alone over the "
        "time of both, the median over launches: 1 where the shorter one costs nothing.",
        check="Every word of the copy must have arrived. Each row of the product is held against float64, 256 columns "
        "at a time, by Freivalds' random signs; the tolerance is that of matmul: 8 (u sqrt(n) + u') of the root mean "
        "square, u = 2^-24 of the sums and u' = 2^-8 of bf16 (Higham & Mary 2019, SIAM J. Sci. Comput. 41(5)).",
        pitfalls="Where one of the two is far longer, share is near 1 whatever the device does: choose mib so that "
        "product_s and copy_s of part=turns are alike. The headline of turns mixes three phases; its share is what it "
        "is for. Both compete for device memory and for power, so a share below 1 need not mean that they were "
        "serialised. A CPU has no unit that only copies.",
    )
    params_type = OverlapParams
    catalogue = (
        "overlap/h2d/8192/mib64",
        "overlap/d2h/8192/mib64",
        "overlap/h2d/8192/mib64@part=turns",
        "overlap/d2h/8192/mib64@part=turns",
    )

    def prepare(self, params: OverlapParams, device: Device, seed: int) -> Case:
        """Raises:
        Unsupported: the device has no unit that only copies.
        """
        if device.info.kind != "cuda":
            raise Unsupported("a CPU has no copy engine: a core that copies does not compute meanwhile")
        return OverlapCase(params, device, seed)

    def roofs(self, params: OverlapParams, kind: DeviceKind) -> Sequence[str]:
        """A product beside a copy is held against the best one alone; the turns mix several things."""
        return ("roof/compute/bf16",) if params.part == "both" else ()

    def work(self, params: OverlapParams) -> Work:
        return params.work

    def memory_bytes(self, params: OverlapParams) -> int:
        blocks = -(-params.n // _BLOCK_COLUMNS)
        float64 = (_CHUNK_ROWS + 6 * blocks) * params.n
        return 3 * 2 * params.n**2 + params.copied_bytes + 8 * float64


KERNEL = OverlapKernel()

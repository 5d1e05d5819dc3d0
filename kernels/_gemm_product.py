"""The operands and the result of matrix products, and the reference that the result is held against.

B is stored column by column, as a linear layer stores its weight: cuBLASLt's fp8 and int8 products ask for it, and the
others are as fast that way. Operands are standard normal (int8: uniform). The result goes to preallocated memory where
a library can write to it.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.device.base import Device
from kernels import _gemm_nvfp4
from kernels._gemm import ARITHMETIC, Stack

if TYPE_CHECKING:
    import numpy as np
    import torch

_SAMPLED = 8  # rows, and columns, whose crossings are recomputed with math.fsum
_BLOCK_COLUMNS = 256  # columns of C that share a sum
_VECTORS = 2  # that each of these blocks is summed by: random signs, and ones
_CHUNK_ROWS = 1024  # rows that the check holds in float64 at a time

# Bytes an element that it takes to make operands which no generator fills: float32 normals; for nvfp4 also what rounds
# and packs them, and the packed operands.
_MAKING_BYTES = {"fp8-e4m3": 4, "fp8-e5m2xe4m3": 4, "nvfp4": 32}


def memory_bytes(dtype: str, stack: Stack, *, packed: bool = False) -> int:
    """Operands and result, what the operands are made from, and the check's float64 chunks.

    Args:
        packed: the library keeps a second B in a layout of its own.
    """
    arithmetic, vectors = ARITHMETIC[dtype], _VECTORS * _blocks(stack.n)
    a, b = stack.m * stack.k, len(stack.rows) * stack.k * stack.n
    operands = (a + (2 if packed else 1) * b) * math.ceil(arithmetic.operand_bytes)
    making = max(a, b) * _MAKING_BYTES.get(dtype, 0)
    result = stack.m * stack.n * arithmetic.result_bytes
    check = 8 * (_CHUNK_ROWS * max(stack.k, stack.n) + vectors * (stack.n + stack.k + 3 * stack.m))
    return operands + making + result + check


class Product:
    """Operands and result as torch tensors, whatever computes on them, and how the result is checked.

    The whole result is checked after Freivalds ("Probabilistic Machines Can Use Less Running Time", IFIP 1977): C x
    must be A (B x) for a random vector x, which costs three matrix-vector products. Here there are two vectors for
    every 256 columns of C, zero elsewhere, and float64 does the sums: one of random signs, and one of ones, since equal
    errors add up in it that the signs may cancel (of a tile's sixteen, one time in five). So each row of C is checked
    256 columns at a time, and a wrong tile, even a wrong element, cannot hide under the rounding of the rest. That
    reference leans on a float64 GEMM, so a few elements spread over C are also held against ``math.fsum``.
    """

    def __init__(self, dtype: str, stack: Stack, device: Device, seed: int) -> None:
        import torch

        arithmetic, count = ARITHMETIC[dtype], len(stack.rows)
        generator = torch.Generator(device.torch_device).manual_seed(seed)
        self.stack = stack
        self.a_MK = _random(dtype, stack.m, stack.k, arithmetic.operand, generator)
        b_NK = _random(dtype, count * stack.n, stack.k, arithmetic.b_operand or arithmetic.operand, generator)
        self.b_GKN = b_NK.view(count, stack.n, stack.k).transpose(1, 2)
        self.b_KN = self.b_GKN[0]  # the only one of a plain product
        self.out_MN = torch.empty(stack.m, stack.n, dtype=getattr(torch, arithmetic.result), device=device.torch_device)
        self._seed = seed

    def keep(self, compute: Callable[[], torch.Tensor]) -> Callable[[], None]:
        """The launch of a library that takes memory for its result itself: the last result's is free for the next."""

        def launch() -> None:
            del self.out_MN
            self.out_MN = compute()

        return launch

    def poison(self) -> None:
        import torch

        floating = self.out_MN.dtype.is_floating_point
        self.out_MN.fill_(math.nan if floating else torch.iinfo(self.out_MN.dtype).min)

    def error(self) -> float:
        """The largest deviation from the reference, in the reference's root mean squares; NaN if any element is."""
        import numpy as np

        sums_MT = _times(self.out_MN, self._signs)
        elements = _rows(self.out_MN, self._sampled_rows)[:, self._sampled_columns]
        return float(np.max([_deviation(sums_MT.cpu().numpy(), self._exact_sums), _deviation(elements, self._exact)]))

    @functools.cached_property
    def _signs(self) -> torch.Tensor:
        """For each block of columns of C one column of random signs and one of ones, zero outside the block."""
        import torch

        n = self.stack.n
        generator = torch.Generator().manual_seed(self._seed)
        signs_N = 2.0 * torch.randint(2, (n,), generator=generator, dtype=torch.float64) - 1.0
        signs_NT = torch.zeros(n, _VECTORS * _blocks(n), dtype=torch.float64)
        columns = torch.arange(n)
        signs_NT[columns, columns // _BLOCK_COLUMNS] = signs_N
        signs_NT[columns, _blocks(n) + columns // _BLOCK_COLUMNS] = 1.0
        return signs_NT.to(self.a_MK.device)

    @functools.cached_property
    def _exact_sums(self) -> np.ndarray:
        import torch

        pairs = zip(self.a_MK.split(self.stack.rows), self.b_GKN, strict=True)
        sums_MT = torch.cat([_times(a_RK, _times(b_KN, self._signs)) for a_RK, b_KN in pairs])
        exact: np.ndarray = sums_MT.cpu().numpy()
        return exact

    @functools.cached_property
    def _exact(self) -> np.ndarray:
        import numpy as np

        ends = list(itertools.accumulate(self.stack.rows))
        exact = []
        for position, row in zip(self._sampled_rows, _rows(self.a_MK, self._sampled_rows), strict=True):
            b_KN = self.b_GKN[bisect.bisect_right(ends, position)]
            columns = _rows(b_KN.t(), self._sampled_columns)
            exact.append([math.fsum((row * column).tolist()) for column in columns])
        return np.array(exact)

    @functools.cached_property
    def _sampled_rows(self) -> list[int]:
        return _spread(self.stack.m, self._seed)

    @functools.cached_property
    def _sampled_columns(self) -> list[int]:
        return _spread(self.stack.n, self._seed + 1)


def _random(dtype: str, rows: int, columns: int, operand: str, generator: torch.Generator) -> torch.Tensor:
    import torch

    options = {"generator": generator, "device": generator.device}
    if dtype == "int8":
        return torch.randint(-128, 128, (rows, columns), dtype=torch.int8, **options)
    if dtype == "nvfp4":
        return _gemm_nvfp4.nearest(torch.randn(rows, columns, **options))
    if dtype in _MAKING_BYTES:
        return torch.randn(rows, columns, **options).to(getattr(torch, operand))
    return torch.randn(rows, columns, dtype=getattr(torch, operand), **options)


def _blocks(columns: int) -> int:
    return -(-columns // _BLOCK_COLUMNS)


def _times(matrix_RC: torch.Tensor, factor_CT: torch.Tensor) -> torch.Tensor:
    """The product in float64, a chunk of rows at a time."""
    import torch

    return torch.cat([rows.double() @ factor_CT for rows in matrix_RC.split(_CHUNK_ROWS)])


def _rows(matrix_RC: torch.Tensor, rows: Sequence[int]) -> np.ndarray:
    import torch

    taken: np.ndarray = torch.stack([matrix_RC[row].double() for row in rows]).cpu().numpy()
    return taken


def _spread(size: int, seed: int) -> list[int]:
    """One random position in each of a few equal stretches of ``range(size)``."""
    import numpy as np

    offsets = np.random.default_rng(seed).random(_SAMPLED)
    return [int(position) for position in (np.arange(_SAMPLED) + offsets) * size / _SAMPLED]


def _deviation(computed: np.ndarray, exact: np.ndarray) -> float:
    import numpy as np

    return float(np.abs(computed - exact).max() / np.sqrt(np.square(exact).mean()))

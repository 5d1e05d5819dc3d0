"""The operands and the result of a matrix product, and the reference that the result is held against.

B is stored column by column, as a linear layer stores its weight: cuBLASLt's fp8 and int8 products ask for it, and the
others are as fast that way. Operands are standard normal (int8: uniform), the result goes to preallocated memory.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.device.base import Device
from kernels._gemm import ARITHMETIC, Shape, work

if TYPE_CHECKING:
    import numpy as np
    import torch

_SAMPLED = 8  # rows, and columns, whose crossings are recomputed with math.fsum
_BLOCK_COLUMNS = 256  # columns of C that share one signed sum
_CHUNK_ROWS = 1024  # rows that the check holds in float64 at a time


def memory_bytes(dtype: str, shape: Shape) -> int:
    """Operands and result, the float32 normals that fp8 operands are made from, and the check's float64 chunks."""
    blocks = _blocks(shape.n)
    normals = 4 * max(shape.m, shape.n) * shape.k if dtype == "fp8-e4m3" else 0
    check = 8 * (_CHUNK_ROWS * max(shape.k, shape.n) + blocks * (shape.n + shape.k + 3 * shape.m))
    return (work(dtype, shape).bytes_moved or 0) + normals + check


class Product:
    """Operands and result as torch tensors, whatever computes on them, and how the result is checked.

    The whole result is checked after Freivalds ("Probabilistic Machines Can Use Less Running Time", IFIP 1977): C x
    must be A (B x) for a random vector x, which costs three matrix-vector products. Here there is one vector of random
    signs for every 256 columns of C, zero elsewhere, and float64 does the sums. So each row of C is checked 256
    columns at a time, and a wrong tile, even a wrong element, cannot hide under the rounding of the rest. That
    reference leans on a float64 GEMM, so a few elements spread over C are also held against ``math.fsum``.
    """

    def __init__(self, dtype: str, shape: Shape, device: Device, seed: int) -> None:
        import torch

        arithmetic = ARITHMETIC[dtype]
        operand = getattr(torch, arithmetic.operand)
        generator = torch.Generator(device.torch_device).manual_seed(seed)
        self.a_MK = _random(shape.m, shape.k, operand, generator)
        self.b_KN = _random(shape.n, shape.k, operand, generator).t()
        self.out_MN = torch.empty(shape.m, shape.n, dtype=getattr(torch, arithmetic.result), device=device.torch_device)
        self._seed = seed

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

    def sha256(self) -> str:
        import torch

        return hashlib.sha256(self.out_MN.view(torch.uint8).cpu().numpy().data).hexdigest()

    @functools.cached_property
    def _signs(self) -> torch.Tensor:
        """One column of random signs for each block of columns of C, zero outside its block."""
        import torch

        n = self.b_KN.shape[1]
        generator = torch.Generator().manual_seed(self._seed)
        signs_N = 2.0 * torch.randint(2, (n,), generator=generator, dtype=torch.float64) - 1.0
        signs_NT = torch.zeros(n, _blocks(n), dtype=torch.float64)
        columns = torch.arange(n)
        signs_NT[columns, columns // _BLOCK_COLUMNS] = signs_N
        return signs_NT.to(self.b_KN.device)

    @functools.cached_property
    def _exact_sums(self) -> np.ndarray:
        sums_MT = _times(self.a_MK, _times(self.b_KN, self._signs))
        exact: np.ndarray = sums_MT.cpu().numpy()
        return exact

    @functools.cached_property
    def _exact(self) -> np.ndarray:
        import numpy as np

        rows = _rows(self.a_MK, self._sampled_rows)
        columns = _rows(self.b_KN.t(), self._sampled_columns)
        return np.array([[math.fsum((row * column).tolist()) for column in columns] for row in rows])

    @functools.cached_property
    def _sampled_rows(self) -> list[int]:
        return _spread(self.a_MK.shape[0], self._seed)

    @functools.cached_property
    def _sampled_columns(self) -> list[int]:
        return _spread(self.b_KN.shape[1], self._seed + 1)


def _random(rows: int, columns: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    import torch

    options = {"generator": generator, "device": generator.device}
    if dtype == torch.int8:
        return torch.randint(-128, 128, (rows, columns), dtype=dtype, **options)
    if dtype == torch.float8_e4m3fn:  # no generator fills it
        return torch.randn(rows, columns, **options).to(dtype)
    return torch.randn(rows, columns, dtype=dtype, **options)


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

"""What ``matmul`` and ``roof/compute`` multiply: shapes and dtypes, and the work and tolerance that follow from them.

One launch computes C[m, n] = A[m, k] B[k, n] once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bench.types import Work

_SIZES = re.compile(r"(\d+)(?:x(\d+)x(\d+))?", re.ASCII)
_SAFETY = 8  # the constant c of the tolerance


@dataclass(frozen=True)
class Shape:
    """A is m x k, B is k x n. Written ``<m>x<k>x<n>``, or ``<n>`` where all three are equal."""

    m: int
    k: int
    n: int

    def __str__(self) -> str:
        return f"{self.n}" if self.m == self.k == self.n else f"{self.m}x{self.k}x{self.n}"

    @classmethod
    def square(cls, n: int) -> Shape:
        return cls(n, n, n)

    @classmethod
    def parse(cls, text: str) -> Shape:
        """The shape behind its one spelling.

        Raises:
            ValueError: not a shape, or not spelt as it would be shown (``8x8x8``, ``08``).
        """
        match = _SIZES.fullmatch(text)
        if match is None:
            raise ValueError(text)
        first, k, n = match.groups()
        shape = cls.square(int(first)) if k is None else cls(int(first), int(k), int(n))
        if str(shape) != text or 0 in (shape.m, shape.k, shape.n):
            raise ValueError(text)
        return shape

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each of m k n products (Golub & Van Loan, Matrix Computations, 1.1)."""
        return 2 * self.m * self.k * self.n


SHAPE_HINT = "<n> | <m>x<k>x<n>"
PROBE = Shape.square(256)


@dataclass(frozen=True)
class Arithmetic:
    """What a dtype means: torch's names of the operands and the result, and how coarsely they round.

    ``sum_roundoff`` is the unit roundoff of the accumulator, ``edge_roundoff`` that of the operands' conversion on the
    way in or the result's on the way out, 0 where there is none.
    """

    operand: str
    operand_bytes: int
    result: str
    result_bytes: int
    sum_roundoff: float
    edge_roundoff: float = 0.0


ARITHMETIC = {
    "fp64": Arithmetic("float64", 8, "float64", 8, 2**-53),
    "fp32": Arithmetic("float32", 4, "float32", 4, 2**-24),
    # Tensor cores drop the low 13 bits of an fp32 operand: truncation, whose unit roundoff is 2^-10.
    "tf32": Arithmetic("float32", 4, "float32", 4, 2**-24, 2**-10),
    "bf16": Arithmetic("bfloat16", 2, "bfloat16", 2, 2**-24, 2**-8),
    "fp16": Arithmetic("float16", 2, "float16", 2, 2**-24, 2**-11),
    "int8": Arithmetic("int8", 1, "int32", 4, 0.0),
    "fp8-e4m3": Arithmetic("float8_e4m3fn", 1, "bfloat16", 2, 2**-24, 2**-8),
}
DTYPES = tuple(ARITHMETIC)


def work(dtype: str, shape: Shape) -> Work:
    """2 m k n operations; each operand read once and the result written once."""
    arithmetic = ARITHMETIC[dtype]
    operands = (shape.m * shape.k + shape.k * shape.n) * arithmetic.operand_bytes
    return Work(
        unit="OP/s" if dtype == "int8" else "FLOP/s",
        flops=shape.flops,
        bytes_moved=operands + shape.m * shape.n * arithmetic.result_bytes,
    )


def tolerance(dtype: str, k: int) -> float:
    """The largest error, in root mean squares of the exact result, that sound arithmetic leaves: c (u sqrt(k) + u').

    Each of k additions rounds a running sum by at most u. Such errors have mean zero and add up like a random walk:
    with near certainty they stay below c u sqrt(k), c a small constant (Higham & Mary, "A New Approach to
    Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5), 2019; relative to the result's own size, as
    here, for operands of mean zero: "Sharper Probabilistic Backward Error Analysis", ibid. 42(5), 2020). u' is what
    the conversion of operands or result adds. Integers are exact.
    """
    arithmetic = ARITHMETIC[dtype]
    return _SAFETY * (arithmetic.sum_roundoff * math.sqrt(k) + arithmetic.edge_roundoff)

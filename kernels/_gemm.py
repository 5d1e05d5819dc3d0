"""What the ``matmul`` kernels multiply: shapes and dtypes, and the work and tolerance that follow from them.

One launch computes C[m, n] = A[m, k] B[k, n] once, or several such products side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.types import Work

_SAFETY = 8  # the constant c of the tolerance


def _sizes(text: str) -> tuple[int, ...]:
    """The numbers of ``8x16x32``. Raises ValueError for other text, or another spelling of them (``08``, ``+8``)."""
    sizes = tuple(int(size) for size in text.split("x"))
    if min(sizes) < 1 or "x".join(map(str, sizes)) != text:
        raise ValueError(text)
    return sizes


@dataclass(frozen=True)
class Stack:
    """Products of one k and n: rows[g] rows of A times the g-th B. All rows of A, and of C, lie below each other."""

    rows: tuple[int, ...]
    k: int
    n: int

    @property
    def m(self) -> int:
        return sum(self.rows)

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each of m k n products (Golub & Van Loan, Matrix Computations, 1.1)."""
        return 2 * self.m * self.k * self.n


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
        sizes = _sizes(text)
        if len(sizes) not in (1, 3):
            raise ValueError(text)
        shape = cls(*sizes) if len(sizes) == 3 else cls.square(*sizes)
        if str(shape) != text:
            raise ValueError(text)
        return shape

    @property
    def stack(self) -> Stack:
        return Stack((self.m,), self.k, self.n)

    @property
    def flops(self) -> int:
        return self.stack.flops


@dataclass(frozen=True)
class Shapes:
    """``count`` products, of m rows each or on average. Written ``<count>x<m>x<k>x<n>``."""

    count: int
    m: int
    k: int
    n: int

    def __str__(self) -> str:
        return f"{self.count}x{self.m}x{self.k}x{self.n}"

    @classmethod
    def parse(cls, text: str) -> Shapes:
        """Raises ValueError for what is no such shape, or is not spelt as it would be shown."""
        sizes = _sizes(text)
        if len(sizes) != 4:
            raise ValueError(text)
        return cls(*sizes)

    @property
    def stack(self) -> Stack:
        """All products of the same number of rows."""
        return Stack((self.m,) * self.count, self.k, self.n)


SHAPE_HINT = "<n> | <m>x<k>x<n>"
SHAPES_HINT = "<count>x<m>x<k>x<n>"
PROBE = Shape.square(256)
SMALL_COUNT = 4  # products of a probe


def small(shapes: Shapes) -> Shapes | None:
    """The same kind of work small enough to try first; None for what is as small itself."""
    probe = Shapes(min(shapes.count, SMALL_COUNT), *(min(size, 256) for size in (shapes.m, shapes.k, shapes.n)))
    return None if probe == shapes else probe


@dataclass(frozen=True)
class Arithmetic:
    """What a dtype means: torch's names of the operands and the result, and how coarsely they round.

    ``sum_roundoff`` is the unit roundoff of the accumulator, ``edge_roundoff`` that of the operands' conversion on the
    way in or the result's on the way out, 0 where there is none.
    """

    operand: str
    operand_bytes: float  # of an element, with its share of what comes with it
    result: str
    result_bytes: int
    sum_roundoff: float
    edge_roundoff: float = 0.0
    b_operand: str = ""  # where B's is another one


ARITHMETIC = {
    "fp64": Arithmetic("float64", 8, "float64", 8, 2**-53),
    "fp32": Arithmetic("float32", 4, "float32", 4, 2**-24),
    # Tensor cores drop the low 13 bits of an fp32 operand: truncation, whose unit roundoff is 2^-10.
    "tf32": Arithmetic("float32", 4, "float32", 4, 2**-24, 2**-10),
    "bf16": Arithmetic("bfloat16", 2, "bfloat16", 2, 2**-24, 2**-8),
    "fp16": Arithmetic("float16", 2, "float16", 2, 2**-24, 2**-11),
    "int8": Arithmetic("int8", 1, "int32", 4, 0.0),
    "fp8-e4m3": Arithmetic("float8_e4m3fn", 1, "bfloat16", 2, 2**-24, 2**-8),
    # A in e5m2, B in e4m3, as gradients meet weights in training (Micikevicius et al., "FP8 Formats for Deep Learning",
    # arXiv 2209.05433, section 3). cuBLASLt has no product of two e5m2 matrices, and torch says so.
    "fp8-e5m2xe4m3": Arithmetic("float8_e5m2", 1, "bfloat16", 2, 2**-24, 2**-8, b_operand="float8_e4m3fn"),
    # Half a byte, and a byte of scale for 16 elements. kernels/_gemm_nvfp4.py packs bfloat16 values on its grid.
    "nvfp4": Arithmetic("bfloat16", 1 / 2 + 1 / 16, "bfloat16", 2, 2**-24, 2**-8),
}
DTYPES = tuple(ARITHMETIC)

# For every kernel's ``about``.
DTYPES_ABOUT = (
    "The number format of both operands. fp64, fp32, bf16 and fp16 give their own format back; tf32 is fp32 of which "
    "a tensor core multiplies 19 bits; int8 gives int32; fp8-e4m3, fp8-e5m2xe4m3 (A in the one, B in the other) and "
    "nvfp4 (4-bit floats, 16 to a scale) give bf16. Sums are taken in fp32 where the operands are shorter."
)
CHECKED = (
    "Every element, by sums over 256 columns at a time in float64, plain and with random signs (after Freivalds, IFIP "
    "1977), and 64 elements by math.fsum. The largest deviation, in root mean squares of the exact result, may be "
    "8 (u sqrt(k) + u'): u the unit roundoff of the sums (Higham & Mary, SIAM J. Sci. Comput. 41(5), 2019), u' that of "
    "what is rounded on the way in or out. Integers have to be exact."
)


def work(dtype: str, stack: Stack) -> Work:
    """2 m k n operations; each operand that takes part read once and the result written once."""
    arithmetic = ARITHMETIC[dtype]
    used = sum(rows > 0 for rows in stack.rows)
    operands = (stack.m * stack.k + used * stack.k * stack.n) * arithmetic.operand_bytes
    return Work(
        unit="OP/s" if dtype == "int8" else "FLOP/s",
        flops=stack.flops,
        bytes_moved=round(operands) + stack.m * stack.n * arithmetic.result_bytes,
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

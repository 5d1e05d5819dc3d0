"""The matrix product that ``matmul`` and ``roof/compute`` time: C[m, n] = A[m, k] B[k, n], once per launch.

B is stored column by column, as a linear layer stores its weight: cuBLASLt's fp8 and int8 products ask for it, and the
others are as fast that way. Operands are standard normal (int8: uniform), the result goes to preallocated memory.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.device.base import Device
from bench.errors import Unsupported
from bench.kernel import Case
from bench.types import Check, Work

if TYPE_CHECKING:
    import numpy as np
    import torch

_SIZES = re.compile(r"(\d+)(?:x(\d+)x(\d+))?", re.ASCII)

_SAFETY = 8  # the constant c of the tolerance
_SAMPLED = 8  # rows, and columns, whose crossings are recomputed with math.fsum
_BLOCK_COLUMNS = 256  # columns of C that share one signed sum
_CHUNK_ROWS = 1024  # rows that the check holds in float64 at a time

_CUBLAS_REFUSALS = ("NOT_SUPPORTED", "ARCH_MISMATCH", "INVALID_VALUE")  # other statuses are failures


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
_TF32_PROOF = Shape.square(512)


@dataclass(frozen=True)
class _Arithmetic:
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


_ARITHMETIC = {
    "fp64": _Arithmetic("float64", 8, "float64", 8, 2**-53),
    "fp32": _Arithmetic("float32", 4, "float32", 4, 2**-24),
    # Tensor cores drop the low 13 bits of an fp32 operand: truncation, whose unit roundoff is 2^-10.
    "tf32": _Arithmetic("float32", 4, "float32", 4, 2**-24, 2**-10),
    "bf16": _Arithmetic("bfloat16", 2, "bfloat16", 2, 2**-24, 2**-8),
    "fp16": _Arithmetic("float16", 2, "float16", 2, 2**-24, 2**-11),
    "int8": _Arithmetic("int8", 1, "int32", 4, 0.0),
    "fp8-e4m3": _Arithmetic("float8_e4m3fn", 1, "bfloat16", 2, 2**-24, 2**-8),
}
DTYPES = tuple(_ARITHMETIC)


def work(dtype: str, shape: Shape) -> Work:
    """2 m k n operations; each operand read once and the result written once."""
    arithmetic = _ARITHMETIC[dtype]
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
    arithmetic = _ARITHMETIC[dtype]
    return _SAFETY * (arithmetic.sum_roundoff * math.sqrt(k) + arithmetic.edge_roundoff)


def memory_bytes(dtype: str, shape: Shape) -> int:
    """Operands and result, the float32 normals that fp8 operands are made from, and the check's float64 chunks."""
    blocks = _blocks(shape.n)
    normals = 4 * max(shape.m, shape.n) * shape.k if dtype == "fp8-e4m3" else 0
    check = 8 * (_CHUNK_ROWS * max(shape.k, shape.n) + blocks * (shape.n + shape.k + 3 * shape.m))
    return (work(dtype, shape).bytes_moved or 0) + normals + check


# ---------------------------------------------------------------- the case


class Gemm(Case):
    """A prepared product. While it is open, the library's float32 precision is set to what the dtype says."""

    def __init__(self, dtype: str, shape: Shape, backend: str, device: Device, seed: int, *, cold: bool = False):
        """Allocate, fill and launch once.

        Raises:
            Unsupported: the backend or the device has no such product, in its own words; or tf32 changes nothing here.
        """
        self.work = work(dtype, shape)
        self.resets = cold
        self._device = device
        self._tolerance = tolerance(dtype, shape.k)
        _require_backend(backend, dtype, device)
        with contextlib.ExitStack() as settings:
            settings.enter_context(_float32_precision(backend, dtype))
            if dtype == "tf32":
                _require_tf32(backend, device, seed)
            self._product = _Product(dtype, shape, device, seed)
            self._enqueue = _tried(backend, dtype, self._product)
            self._settings = settings.pop_all()

    def launch(self) -> None:
        self._enqueue()

    def reset(self) -> None:
        self._device.flush_cache()

    def check(self) -> Check:
        self._product.poison()
        self._enqueue()
        self._device.synchronize()
        error = self._product.error()
        return Check(error, self._tolerance, self._product.sha256(), "in root mean squares of the exact result")

    def close(self) -> None:
        self._settings.close()
        del self._enqueue, self._product


def _require_tf32(backend: str, device: Device, seed: int) -> None:
    """Run a small product with tf32 allowed.

    Raises:
        Unsupported: it is as accurate as fp32, so tf32 was not used.
    """
    product = _Product("tf32", _TF32_PROOF, device, seed)
    _tried(backend, "tf32", product)
    device.synchronize()
    error, fp32 = product.error(), tolerance("fp32", _TF32_PROOF.k)
    if error <= fp32:
        raise Unsupported(
            f"allowing tf32 changes nothing here: the error of a {_TF32_PROOF} product is {error:.1e}, "
            f"within fp32's {fp32:.1e}"
        )


def _tried(backend: str, dtype: str, product: _Product) -> Callable[[], object]:
    """The launch, performed once, since libraries refuse a dtype or a shape only when called.

    Raises:
        Unsupported: the library refused. Lack of memory and faults of the device stay what they are.
    """
    import torch

    try:
        enqueue = _BACKENDS[backend](dtype, product)
        enqueue()
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (RuntimeError, ValueError) as error:
        words = str(error)
        if "CUBLAS_STATUS" in words and not any(status in words for status in _CUBLAS_REFUSALS):
            raise
        raise Unsupported(words.strip().partition("\n")[0]) from error
    return enqueue


# ---------------------------------------------------------------- operands, result and reference


class _Product:
    """Operands and result as torch tensors, whatever computes on them, and how the result is checked.

    The whole result is checked after Freivalds ("Probabilistic Machines Can Use Less Running Time", IFIP 1977): C x
    must be A (B x) for a random vector x, which costs three matrix-vector products. Here there is one vector of random
    signs for every 256 columns of C, zero elsewhere, and float64 does the sums. So each row of C is checked 256
    columns at a time, and a wrong tile, even a wrong element, cannot hide under the rounding of the rest. That
    reference leans on a float64 GEMM, so a few elements spread over C are also held against ``math.fsum``.
    """

    def __init__(self, dtype: str, shape: Shape, device: Device, seed: int) -> None:
        import torch

        arithmetic = _ARITHMETIC[dtype]
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


# ---------------------------------------------------------------- the libraries that compute it


def _require_backend(backend: str, dtype: str, device: Device) -> None:
    """What is known of a backend without calling it.

    Raises:
        Unsupported: it is not installed, not for this device, or has no such product.
    """
    on_gpu = device.info.kind == "cuda"
    if backend == "numpy":
        if on_gpu:
            raise Unsupported("numpy computes on the CPU only")
        if dtype not in ("fp64", "fp32"):
            raise Unsupported(f"numpy has no BLAS product for {dtype}")
    if backend == "cupy":
        if not on_gpu:
            raise Unsupported("cupy computes on NVIDIA GPUs only")
        if dtype == "int8":
            raise Unsupported("cupy returns an int8 product modulo 256")
        try:
            import cupy  # noqa: F401
        except ImportError as error:
            raise Unsupported(str(error)) from error


def _on_torch(dtype: str, product: _Product) -> Callable[[], object]:
    import torch

    a_MK, b_KN, out_MN = product.a_MK, product.b_KN, product.out_MN
    if dtype == "int8":
        return functools.partial(torch._int_mm, a_MK, b_KN, out=out_MN)
    if dtype == "fp8-e4m3":
        one = torch.ones((), dtype=torch.float32, device=out_MN.device)
        return functools.partial(
            torch._scaled_mm, a_MK, b_KN, scale_a=one, scale_b=one, out_dtype=out_MN.dtype, out=out_MN
        )
    return functools.partial(torch.mm, a_MK, b_KN, out=out_MN)


def _on_numpy(dtype: str, product: _Product) -> Callable[[], object]:
    import numpy as np

    a_MK, b_KN, out_MN = (tensor.numpy() for tensor in (product.a_MK, product.b_KN, product.out_MN))
    return functools.partial(np.matmul, a_MK, b_KN, out=out_MN)


def _on_cupy(dtype: str, product: _Product) -> Callable[[], object]:
    import cupy
    import torch

    try:
        a_MK, b_KN, out_MN = (cupy.from_dlpack(tensor) for tensor in (product.a_MK, product.b_KN, product.out_MN))
    except (BufferError, TypeError) as error:  # a dtype that cupy does not know
        raise Unsupported(f"cupy: {error}") from error

    def launch() -> None:
        # On torch's stream, or its events would not see the work.
        with _cupy_stream(torch.cuda.current_stream().cuda_stream):
            cupy.dot(a_MK, b_KN, out=out_MN)

    return launch


@functools.cache
def _cupy_stream(pointer: int) -> Any:
    import cupy

    with warnings.catch_warnings():
        # CuPy 14 prefers Stream.from_external; CuPy 13 does not have it, nor older streams of torch its protocol.
        warnings.simplefilter("ignore", DeprecationWarning)
        return cupy.cuda.ExternalStream(pointer)


_BACKENDS = {"torch": _on_torch, "numpy": _on_numpy, "cupy": _on_cupy}
BACKENDS = tuple(_BACKENDS)


@contextlib.contextmanager
def _float32_precision(backend: str, dtype: str) -> Iterator[None]:
    """Let the library multiply float32 as tf32 for tf32 only, and put its setting back afterwards."""
    if backend == "cupy":
        from cupy._core import _routines_linalg as cupy_linalg  # cupy's only switch beside an environment variable

        before = cupy_linalg.get_compute_type("float32")
        wanted = cupy_linalg.COMPUTE_TYPE_TF32 if dtype == "tf32" else cupy_linalg.COMPUTE_TYPE_DEFAULT
        cupy_linalg.set_compute_type("float32", wanted)
        try:
            yield
        finally:
            cupy_linalg.set_compute_type("float32", before)
    else:
        import torch

        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

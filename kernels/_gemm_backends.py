"""The libraries that compute a matrix product, what they refuse, and their switch between fp32 and tf32."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

from bench.device.base import Device
from bench.errors import Unsupported
from kernels import _gemm_nvfp4
from kernels._cupy import torchs_stream
from kernels._gemm import Shape, tolerance
from kernels._gemm_product import Product

Library = Callable[[str, Product], Callable[[], object]]  # makes the launch of a dtype's prepared products

_REFUSALS = ("NOT_SUPPORTED", "ARCH_MISMATCH", "INVALID_VALUE")  # of NVIDIA's libraries; other statuses are failures
_TF32_PROOF = Shape.square(512)


def require_backend(backend: str, dtype: str, device: Device) -> None:
    """What is known of a backend without calling it.

    Raises:
        Unsupported: it is not installed, not for this device, or has no such product.
    """
    on_gpu = device.info.kind == "cuda"
    if backend in ("numpy", "onednn") and on_gpu:
        raise Unsupported(f"{backend} computes on the CPU only")
    if backend == "numpy" and dtype not in ("fp64", "fp32"):
        raise Unsupported(f"numpy has no BLAS product for {dtype}")
    if backend != "torch" and dtype == "nvfp4":
        raise Unsupported(f"{backend} has no product of packed 4-bit floats")
    if backend == "cupy":
        if not on_gpu:
            raise Unsupported("cupy computes on NVIDIA GPUs only")
        if dtype == "int8":
            raise Unsupported("cupy returns an int8 product modulo 256")
        try:
            import cupy  # noqa: F401
        except ImportError as error:
            raise Unsupported(str(error)) from error


def _on_torch(dtype: str, product: Product) -> Callable[[], object]:
    import torch

    a_MK, b_KN, out_MN = product.a_MK, product.b_KN, product.out_MN
    if dtype == "int8":
        return functools.partial(torch._int_mm, a_MK, b_KN, out=out_MN)
    if dtype == "nvfp4":
        a_packed, scale_a = _gemm_nvfp4.pack(a_MK)
        b_packed, scale_b = _gemm_nvfp4.pack(b_KN.t())
        return functools.partial(
            torch._scaled_mm, a_packed, b_packed.t(), scale_a, scale_b, out_dtype=out_MN.dtype, out=out_MN
        )
    if dtype.startswith("fp8"):
        one = torch.ones((), dtype=torch.float32, device=out_MN.device)
        return functools.partial(
            torch._scaled_mm, a_MK, b_KN, scale_a=one, scale_b=one, out_dtype=out_MN.dtype, out=out_MN
        )
    return functools.partial(torch.mm, a_MK, b_KN, out=out_MN)


def _on_onednn(dtype: str, product: Product) -> Callable[[], object]:
    """B in oneDNN's own blocked layout, made ahead as a model's weights are when it is frozen for inference."""
    import torch

    a_MK, b_NK = product.a_MK, product.b_KN.t()
    if dtype == "int8":
        one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
        # A as bytes above a zero point of 128, as models quantise it: the same product, and what VNNI multiplies. For
        # signed bytes oneDNN has nothing but its reference where there is no AMX, thousands of times slower.
        a_MK = a_MK.view(torch.uint8) ^ 128
        packed = torch.ops.onednn.qlinear_prepack(b_NK, list(a_MK.shape))
        linear = torch.ops.onednn.qlinear_pointwise.default
        # The sums come as float32, exact up to 2^24: ten times what random operands reach at k = 16384.
        return product.keep(
            lambda: linear(a_MK, 1.0, 128, packed, one, zero, None, 1.0, 0, torch.float32, "none", [], "")
        )
    packed = torch.ops.mkldnn._reorder_linear_weight(b_NK)
    linear = torch.ops.mkldnn._linear_pointwise.default
    return product.keep(lambda: linear(a_MK, packed, None, "none", [], ""))


def _on_numpy(dtype: str, product: Product) -> Callable[[], object]:
    import numpy as np

    a_MK, b_KN, out_MN = (tensor.numpy() for tensor in (product.a_MK, product.b_KN, product.out_MN))
    return functools.partial(np.matmul, a_MK, b_KN, out=out_MN)


def _on_cupy(dtype: str, product: Product) -> Callable[[], object]:
    import cupy

    try:
        a_MK, b_KN, out_MN = (cupy.from_dlpack(tensor) for tensor in (product.a_MK, product.b_KN, product.out_MN))
    except (BufferError, TypeError) as error:  # a dtype that cupy does not know
        raise Unsupported(f"cupy: {error}") from error

    def launch() -> None:
        with torchs_stream():
            cupy.dot(a_MK, b_KN, out=out_MN)

    return launch


BACKENDS: dict[str, Library] = {"torch": _on_torch, "numpy": _on_numpy, "cupy": _on_cupy, "onednn": _on_onednn}


def tried(library: Library, dtype: str, product: Product) -> Callable[[], object]:
    """The launch, performed once, since libraries refuse a dtype or a shape only when called.

    Raises:
        Unsupported: the library refused. Lack of memory and faults of the device stay what they are.
    """
    import torch

    try:
        enqueue = library(dtype, product)
        enqueue()
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (RuntimeError, ValueError) as error:
        words = str(error)
        if "_STATUS_" in words and not any(status in words for status in _REFUSALS):
            raise
        raise Unsupported(words.strip().partition("\n")[0]) from error
    return enqueue


@contextlib.contextmanager
def float32_precision(backend: str, dtype: str) -> Iterator[None]:
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


def require_tf32(backend: str, device: Device, seed: int) -> None:
    """Run a small product with tf32 allowed.

    Raises:
        Unsupported: it is as accurate as fp32, so tf32 was not used.
    """
    product = Product("tf32", _TF32_PROOF.stack, device, seed)
    tried(BACKENDS[backend], "tf32", product)
    device.synchronize()
    error, fp32 = product.error(), tolerance("fp32", _TF32_PROOF.k)
    if error <= fp32:
        raise Unsupported(
            f"allowing tf32 changes nothing here: the error of a {_TF32_PROOF} product is {error:.1e}, "
            f"within fp32's {fp32:.1e}"
        )

"""One matrix product as people call it, with a fresh result: in torch and in numpy."""

from __future__ import annotations

import functools
import os
from typing import Any

_SAMPLED = 64  # elements of the product that a check computes


@functools.cache
def _in_torch() -> tuple[Any, Any]:
    """a_MK and b_KN."""
    import torch

    rows, inner, columns = _sizes()
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[os.environ["PEER_DTYPE"]]
    device = os.environ["PEER_DEVICE"]
    generator = torch.Generator(device).manual_seed(0)
    a_MK, b_KN = (
        torch.randn(sizes, generator=generator, device=device).to(dtype) for sizes in ((rows, inner), (inner, columns))
    )
    return a_MK, b_KN


def torch_mm() -> Any:
    import torch

    return torch.mm(*_in_torch())


def check_torch_mm() -> bool:
    """Some of it against float64: bf16 keeps 8 bits of a sum, and sums of float32 go wrong by less."""
    a_MK, b_KN = _in_torch()
    rows = slice(0, min(8, len(a_MK)))
    exact = a_MK[rows].double() @ b_KN[:, :_SAMPLED].double()
    error = (torch_mm()[rows, :_SAMPLED].double() - exact).abs().max()
    return bool(error <= 2**-8 * exact.abs().max())


@functools.cache
def _in_numpy() -> tuple[Any, Any]:
    """a_MK and b_KN."""
    import numpy as np

    rows, inner, columns = _sizes()
    random = np.random.default_rng(0)
    a_MK, b_KN = (random.standard_normal(sizes, dtype=np.float32) for sizes in ((rows, inner), (inner, columns)))
    return a_MK, b_KN


def numpy_matmul() -> Any:
    a_MK, b_KN = _in_numpy()
    return a_MK @ b_KN


def check_numpy_matmul() -> bool:
    a_MK, b_KN = _in_numpy()
    exact = a_MK[:8].astype("float64") @ b_KN[:, :_SAMPLED].astype("float64")
    return bool(abs(numpy_matmul()[:8, :_SAMPLED] - exact).max() <= 2**-16 * abs(exact).max())


def _sizes() -> tuple[int, int, int]:
    rows, inner, columns = map(int, os.environ["PEER_SHAPE"].split("x"))
    return rows, inner, columns

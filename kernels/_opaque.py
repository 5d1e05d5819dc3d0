"""``Opaque``: a matrix product that a compiler calls without looking into it: a packed weight is no tensor it knows."""

from __future__ import annotations

import functools
import itertools
import weakref
from typing import TYPE_CHECKING, overload

from kernels._biased import Biased
from kernels._linear import Linear, Unfused

if TYPE_CHECKING:
    import torch

_LINEARS: weakref.WeakValueDictionary[int, Linear] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()


class Opaque(Unfused):
    """The same as the ``Linear`` in it."""

    def __init__(self, linear: Linear) -> None:  # has no weight of its own to pack
        import torch

        _define()
        self._linear = linear
        self._rows = len(linear.dense())
        number = next(_NUMBERS)
        _LINEARS[number] = linear
        self._number = torch.tensor(number)  # an int would be a constant of the code, and each layer have its own

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        y: torch.Tensor = torch.ops.vnbench.linear(x, self._number, self._rows)
        return y

    def dense(self) -> torch.Tensor:
        """The weight, row by row."""
        return self._linear.dense()

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return self._linear.seen(x)


@overload
def hidden(matrix: Linear) -> Opaque: ...
@overload
def hidden(matrix: Biased) -> Biased: ...
def hidden(matrix: Linear | Biased) -> Opaque | Biased:
    """The same matrix, hidden from a compiler, which is to see the bias and what comes behind it."""
    if isinstance(matrix, Biased):
        return Biased(Opaque(matrix.linear), matrix.bias_N, matrix.gelu)
    return Opaque(matrix)


@functools.cache
def _define() -> torch.library.Library:
    """Make ``vnbench::linear`` known to torch, for as long as what comes back is kept."""
    import torch

    def linear(x: torch.Tensor, number: torch.Tensor, rows: int) -> torch.Tensor:
        return _LINEARS[int(number)](x)

    def alike(x: torch.Tensor, number: torch.Tensor, rows: int) -> torch.Tensor:
        return x.new_empty(*x.shape[:-1], rows)

    library = torch.library.Library("vnbench", "DEF")  # ``custom_op`` wraps each call in more Python
    library.define("linear(Tensor x, Tensor number, int rows) -> Tensor")
    library.impl("linear", linear, "CPU")
    torch.library.register_fake("vnbench::linear", alike, lib=library)
    return library

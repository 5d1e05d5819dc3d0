"""``Biased``: a matrix product with a bias behind it, where a model has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels._linear import Linear

if TYPE_CHECKING:
    import torch


class Biased:
    """``x_…K -> linear(x_…K) + bias_N``, through GELU where asked for."""

    def __init__(self, linear: Linear, bias_N: torch.Tensor, gelu: bool = False) -> None:
        self.linear = linear
        self.bias_N = bias_N
        self.gelu = gelu

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear.biased(x, self.bias_N, self.gelu)

    def dense(self) -> torch.Tensor:
        """The weight, row by row."""
        return self.linear.dense()

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """The activations that are multiplied."""
        return self.linear.seen(x)

"""The parts that an encoder's stem and its layers are built of: layer norm, and what draws weights.

D is the width of what is normalised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernels._biased import Biased
from kernels._linear import Linear

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
DTYPES = tuple(ITEM_BYTES)
TORCH_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}

_BIAS = 0.25  # biases are drawn between minus and plus this: large enough to be missed, small beside what they join


@dataclass
class Trace:
    """The activations at the wanted points of a forward."""

    wanted: frozenset[int] = frozenset()
    kept: dict[int, torch.Tensor] = field(default_factory=dict)

    def keep(self, point: int, x: torch.Tensor) -> None:
        if point in self.wanted:
            self.kept[point] = x


@dataclass(frozen=True)
class Norm:
    weight: torch.Tensor  # [D]
    bias: torch.Tensor  # [D]
    eps: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Draw:
    """Random weights and inputs, drawn on the device that they are for."""

    def __init__(self, dtype: str, device: str, seed: int) -> None:
        import torch

        self._torch = torch
        self.dtype: torch.dtype = getattr(torch, TORCH_NAMES[dtype])
        self._device = device
        self._generator = torch.Generator(device).manual_seed(seed)

    def _empty(self, *sizes: int) -> torch.Tensor:
        return self._torch.empty(sizes, dtype=self.dtype, device=self._device)

    def normal(self, *sizes: int) -> torch.Tensor:
        return self._empty(*sizes).normal_(generator=self._generator)

    def tokens(self, vocabulary: int, *sizes: int) -> torch.Tensor:
        return self._torch.randint(vocabulary, sizes, device=self._device, generator=self._generator)

    def matrix(self, rows: int, columns: int) -> torch.Tensor:
        """Variance 1/columns: what it multiplies keeps its size, at any width and depth."""
        return self._empty(rows, columns).normal_(0.0, columns**-0.5, generator=self._generator)

    def bias(self, size: int) -> torch.Tensor:
        return self._empty(size).uniform_(-_BIAS, _BIAS, generator=self._generator)

    def linear(self, rows: int, columns: int, gelu: bool = False) -> Biased:
        return Biased(Linear(self.matrix(rows, columns)), self.bias(rows), gelu)

    def norm(self, width: int, eps: float) -> Norm:
        return Norm(self._empty(width).uniform_(0.5, 1.5, generator=self._generator), self.bias(width), eps)

"""The parts that an encoder's stem and its layers are built of: linear product, layer norm, and what draws weights.

K and N are what a product takes and gives, D is the width of what is normalised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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


class Linear:
    """``x_…K -> x_…K @ weight_NK.T + bias_N``, through GELU where asked for.

    A CPU gets the weight in oneDNN's own blocked layout, and GELU done while a product's results are still in
    registers, as ``torch.compile`` does when it freezes a model. Where oneDNN has no such layout for the dtype, the
    weight stays as it is.
    """

    def __init__(self, weight_NK: torch.Tensor, bias_N: torch.Tensor, gelu: bool = False) -> None:
        import torch

        self.bias_N, self.gelu = bias_N, gelu
        self._weight = weight_NK
        linear, activate = torch.nn.functional.linear, torch.nn.functional.gelu
        self._apply: Any = lambda x: linear(x, weight_NK, bias_N)
        if gelu:
            self._apply = lambda x: activate(linear(x, weight_NK, bias_N))
        if weight_NK.device.type == "cpu" and torch.backends.mkldnn.is_available():
            try:
                packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK)
            except (RuntimeError, AttributeError):  # not for this dtype; not in this torch
                return
            pointwise, after = torch.ops.mkldnn._linear_pointwise.default, "gelu" if gelu else "none"
            self._weight = packed
            self._apply = lambda x: pointwise(x, packed, bias_N, after, [], "none")  # GELU by erf, not by tanh

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self._apply(x)
        return y

    def dense(self) -> torch.Tensor:
        """The weight, row by row again."""
        return self._weight.to_dense() if self._weight.is_mkldnn else self._weight


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

    def linear(self, rows: int, columns: int, gelu: bool = False) -> Linear:
        return Linear(self.matrix(rows, columns), self.bias(rows), gelu)

    def norm(self, width: int, eps: float) -> Norm:
        return Norm(self._empty(width).uniform_(0.5, 1.5, generator=self._generator), self.bias(width), eps)

"""``Linear``: a weight matrix and its product with activations, in the layout that its device reads fastest.

Letters of the shapes: K what goes in, N what comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Linear:
    """``x_…K -> x_…K @ weight_NK.T``.

    A CPU gets the weight in oneDNN's own blocked layout, as ``torch.compile`` does when it freezes a model: read row
    by row, a weight streams at little more than half the speed for a single token. Where oneDNN has no such layout
    for the dtype, the weight stays as it is.
    """

    def __init__(self, weight_NK: torch.Tensor) -> None:
        import torch

        self._weight = weight_NK
        self._apply: Any = lambda x: torch.nn.functional.linear(x, weight_NK)
        if weight_NK.device.type == "cpu" and torch.backends.mkldnn.is_available():
            try:
                packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK)
            except (RuntimeError, AttributeError):  # not for this dtype; not in this torch
                return
            linear = torch.ops.mkldnn._linear_pointwise.default
            self._weight = packed
            self._apply = lambda x: linear(x, packed, None, "none", [], "")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self._apply(x)
        return y

    def dense(self) -> torch.Tensor:
        """The weight, row by row again."""
        return self._weight.to_dense() if self._weight.is_mkldnn else self._weight

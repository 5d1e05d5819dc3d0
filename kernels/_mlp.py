"""The half of a layer behind attention: one MLP, or several of which each token takes a few.

Letters as in ``_decoder_shape``; N = B·T tokens; M = N·k, each token once for each of its experts; R rows of some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from kernels._biased import Biased
from kernels._linear import Linear

if TYPE_CHECKING:
    import torch

Matrix: TypeAlias = Linear | Biased


class Mlp:
    """``down(silu(gate(x)) · up(x))`` (SwiGLU; Shazeer 2020, arXiv 2002.05202), or ungated ``down(gelu(up(x)))``.

    The rows of ``up`` are F of the gate, where there is one, and F of up itself.
    """

    def __init__(self, up: Matrix, down: Matrix, gated: bool) -> None:
        self.up = up
        self.down = down
        self.gated = gated

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(activated(self.up(x), self.gated))


def activated(up: torch.Tensor, gated: bool) -> torch.Tensor:
    import torch

    if not gated:
        return torch.nn.functional.gelu(up)
    gate, up = up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


class Experts:
    """The X MLPs of a layer. A token goes through the k with the largest router logits, and the softmax of those logits
    weights what they add (Jiang et al. 2024, arXiv 2401.04088, section 2.1). No token is dropped.

    A CPU takes one expert after another with its tokens. A GPU takes all in one grouped product, whose groups are on
    the device as well, so that nothing waits for them.
    """

    def __init__(
        self, router_XD: torch.Tensor, up_XRD: torch.Tensor, down_XDF: torch.Tensor, per_token: int, gated: bool
    ) -> None:
        import torch

        self.router_XD = router_XD
        self.mlps: Sequence[Mlp] = [
            Mlp(Linear(up_RD), Linear(down_DF), gated) for up_RD, down_DF in zip(up_XRD, down_XDF, strict=True)
        ]
        self._per_token = per_token
        self._gated = gated
        self._stacked = (up_XRD, down_XDF) if router_XD.is_cuda else None  # the same memory as in the MLPs
        self._numbers_X = torch.arange(len(router_XD), device=router_XD.device)

    def __call__(self, x_BTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the experts add, and which they were: [B, T, D] and [B, T, k]."""
        import torch

        x_ND = x_BTD.flatten(0, 1)
        logits_NX = torch.nn.functional.linear(x_ND, self.router_XD)
        largest_Nk, chosen_Nk = logits_NX.topk(self._per_token, dim=-1)
        share_Nk = largest_Nk.softmax(dim=-1, dtype=torch.float32).to(x_ND.dtype)
        if self._stacked is None:
            added_ND = self._one_by_one(x_ND, chosen_Nk, share_Nk)
        else:
            added_ND = grouped(x_ND, chosen_Nk, share_Nk, self._numbers_X, self._stacked, self._gated)
        return added_ND.view_as(x_BTD), chosen_Nk.view(*x_BTD.shape[:2], -1)

    def _one_by_one(self, x_ND: torch.Tensor, chosen_Nk: torch.Tensor, share_Nk: torch.Tensor) -> torch.Tensor:
        import torch

        added_ND = torch.zeros_like(x_ND)
        for expert in chosen_Nk.unique().tolist():
            rows_R, places_R = (chosen_Nk == expert).nonzero(as_tuple=True)
            y_RD = self.mlps[expert](x_ND[rows_R])
            added_ND.index_add_(0, rows_R, y_RD * share_Nk[rows_R, places_R, None])
        return added_ND


def grouped(
    x_ND: torch.Tensor,
    chosen_Nk: torch.Tensor,
    share_Nk: torch.Tensor,
    numbers_X: torch.Tensor,
    stacked: tuple[torch.Tensor, torch.Tensor],
    gated: bool,
) -> torch.Tensor:
    """What the experts add, by products over groups of tokens in the order of their experts.

    Raises:
        RuntimeError: this torch has no grouped product for the device or dtype.
    """
    import torch

    up_XRD, down_XDF = stacked
    expert_M = chosen_Nk.flatten()
    order_M = expert_M.argsort(stable=True)
    ends_X = torch.searchsorted(expert_M[order_M], numbers_X, right=True, out_int32=True)
    up_MR = torch._grouped_mm(x_ND[order_M // chosen_Nk.shape[1]], up_XRD.transpose(1, 2), offs=ends_X)
    y_MD = torch._grouped_mm(activated(up_MR, gated), down_XDF.transpose(1, 2), offs=ends_X)
    added_MD = torch.empty_like(y_MD)
    added_MD[order_M] = y_MD * share_Nk.flatten()[order_M, None]
    added_ND: torch.Tensor = added_MD.view(*chosen_Nk.shape, -1).sum(dim=1)
    return added_ND

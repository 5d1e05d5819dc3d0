"""``Float64``: what each half of a layer computes, again in float64.

It shares no arithmetic with ``_decoder``: separate projections, one head and one expert at a time, angles by ``cos``
and ``sin``, a mask over distances instead of a table of biases. Letters as in ``_decoder_shape``; R of the T tokens are
looked at; P = E/2 pairs of a head.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from kernels._biased import Biased
from kernels._decoder import Layer, Norm
from kernels._decoder_shape import Shape, alibi_slopes, rope_frequencies
from kernels._mlp import Matrix, Mlp

if TYPE_CHECKING:
    import torch


# A weight, and a bias where there is one.
Parts: TypeAlias = "tuple[torch.Tensor, torch.Tensor | None]"


class Float64:
    def __init__(self, shape: Shape, dtype: torch.dtype) -> None:
        self._shape = shape
        self._dtype = dtype

    def normed(self, x: torch.Tensor, norm: Norm) -> torch.Tensor:
        if self._shape.centred:
            x = x - x.mean(dim=-1, keepdim=True)
        mean_square = x.square().mean(dim=-1, keepdim=True)
        normed: torch.Tensor = x / (mean_square + self._shape.norm_eps).sqrt() * norm.weight.double()
        return normed if norm.bias is None else normed + norm.bias.double()

    def keys_values(
        self, layer: Layer, normed_TD: torch.Tensor, positions_T: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each head at these positions: [G, T, E] both."""
        import torch

        _, keys, values = self._projections(layer.qkv)
        kv_heads = self._shape.kv_heads
        k_TE = [self._rotated(_product(normed_TD, *head), positions_T) for head in _chunks(keys, kv_heads)]
        v_TE = [_product(normed_TD, *head) for head in _chunks(values, kv_heads)]
        return torch.stack(k_TE), torch.stack(v_TE)

    def attention(
        self,
        layer: Layer,
        normed_RD: torch.Tensor,
        positions_R: torch.Tensor,
        k_GSE: torch.Tensor,
        v_GSE: torch.Tensor,
    ) -> torch.Tensor:
        """What attention adds to x at these positions."""
        import torch

        shape = self._shape
        queries, _, _ = self._projections(layer.qkv)
        distance_RS = positions_R[:, None] - torch.arange(k_GSE.shape[1], device=k_GSE.device)
        slopes = alibi_slopes(shape.heads) if shape.rope_theta is None else None
        heads_RE = []
        for head, projection in enumerate(_chunks(queries, shape.heads)):
            kv = head // (shape.heads // shape.kv_heads)
            q_RE = self._rotated(_product(normed_RD, *projection), positions_R)
            scores_RS = q_RE @ k_GSE[kv].T / math.sqrt(shape.head_width)
            if slopes is not None:  # a model's biases have its own dtype, as MPT's have
                scores_RS = scores_RS - (slopes[head] * distance_RS.double()).to(self._dtype).double()
            heads_RE.append(scores_RS.masked_fill(distance_RS < 0, -math.inf).softmax(dim=-1) @ v_GSE[kv])
        return _product(layer.out.seen(torch.cat(heads_RE, dim=-1)), *_parts(layer.out))

    def mlp(self, layer: Layer, normed_RD: torch.Tensor, chosen_Rk: torch.Tensor | None) -> torch.Tensor:
        """What the MLP adds to x; where there are several, those that were chosen."""
        import torch

        if isinstance(layer.mlp, Mlp):
            return self._one_mlp(layer.mlp, normed_RD)
        assert chosen_Rk is not None
        share_Rk = self.router_logits(layer, normed_RD).gather(-1, chosen_Rk).softmax(dim=-1)
        added_RD = torch.zeros_like(normed_RD)
        for expert, mlp in enumerate(layer.mlp.mlps):
            share_R = torch.where(chosen_Rk == expert, share_Rk, 0.0).sum(dim=-1)
            if share_R.any():
                added_RD += share_R[:, None] * self._one_mlp(mlp, normed_RD)
        return added_RD

    def router_logits(self, layer: Layer, normed_RD: torch.Tensor) -> torch.Tensor:
        """What each expert is chosen by: [R, X]."""
        assert not isinstance(layer.mlp, Mlp)
        return normed_RD @ layer.mlp.router_XD.double().T

    def _one_mlp(self, mlp: Mlp, normed_RD: torch.Tensor) -> torch.Tensor:
        import torch

        normed_RD = mlp.up.seen(normed_RD)
        weight, bias = _parts(mlp.up)
        if mlp.gated:
            gate_RF, up_RF = (_product(normed_RD, *half) for half in _chunks((weight, bias), 2))
            hidden_RF = gate_RF * torch.sigmoid(gate_RF) * up_RF
        else:
            up_RF = _product(normed_RD, weight, bias)
            hidden_RF = up_RF * (1 + torch.erf(up_RF / math.sqrt(2))) / 2
        return _product(mlp.down.seen(hidden_RF), *_parts(mlp.down))

    def _projections(self, qkv: Matrix) -> list[Parts]:
        shape = self._shape
        rows = [heads * shape.head_width for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
        weight, bias = _parts(qkv)
        biases = [None] * 3 if bias is None else bias.split(rows)
        return list(zip(weight.split(rows), biases, strict=True))

    def _rotated(self, x_RE: torch.Tensor, positions_R: torch.Tensor) -> torch.Tensor:
        """Each pair of neighbours as a point in the plane, turned by its angle."""
        import torch

        if self._shape.rope_theta is None:
            return x_RE
        frequencies_P = torch.tensor(rope_frequencies(self._shape), dtype=torch.float64, device=x_RE.device)
        angles_RP = torch.outer(positions_R.double(), frequencies_P)
        cos, sin = angles_RP.cos(), angles_RP.sin()
        even, odd = x_RE[:, 0::2], x_RE[:, 1::2]
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


def _parts(matrix: Matrix) -> Parts:
    return matrix.dense().double(), matrix.bias_N.double() if isinstance(matrix, Biased) else None


def _chunks(parts: Parts, count: int) -> list[Parts]:
    weight, bias = parts
    biases = [None] * count if bias is None else bias.chunk(count)
    return list(zip(weight.chunk(count), biases, strict=True))


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product = x @ weight.T
    return product if bias is None else product + bias

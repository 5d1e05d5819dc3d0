"""``Reference``: a run of the decoder held against float64.

A forward is checked link by link. The traced run keeps the residual stream x between the half-layers; every half-layer
is then recomputed in float64 from the x that it got, and so are the logits from the last one. Links are held apart
because errors add up along a chain: after thirty layers of bf16 they are of the size that one wrong head would make.
Here each link has the rounding of that link alone to hide behind, at any depth, and together the links are the model.

What is chosen among many, a token or the experts of a token, may differ where two are as good as equal. So the model's
choice is taken, and none that was left out may lie above it by more than rounding explains.

Of a model above ``_SMALL_PARAMETERS`` a check takes one layer and a sample of the logits; of a long run a sample of its
positions, the first and the last among them; of a batch a sample of its sequences. Each check of each process draws
anew, so that the replicates of a run look at different layers.
Letters as in ``_decoder_shape``; R of the T tokens are sampled, C of the V logits.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from bench.types import Check
from kernels._decoder import SCORE_SPREAD, Decoder, KvCache, Layer, Trace
from kernels._decoder_float64 import Float64
from kernels._decoder_shape import Shape
from kernels._output import taken

if TYPE_CHECKING:
    import torch

_SMALL_PARAMETERS = 100_000_000
_SEQUENCES = 2
_POSITIONS = 64
_LOGITS = 4096

# Tolerance: c·u of the size of what was added, u the unit roundoff of the dtype. Roundings are taken as independent and
# of mean zero, so R of them in a row make an error of u·sqrt(R) with overwhelming probability (Higham and Mary 2019,
# "A new approach to probabilistic rounding error analysis", theorem 2.4, where c is their lambda).
_C = 4.0
# Where activations are rounded coarsely, sums of few steps have longer tails (Bernstein's inequality).
_COARSE_C = 8.0
_UNIT_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}


def memory_bytes(shape: Shape, batch: int, tokens: int, slots: int, item_bytes: int) -> int:
    """At most: weights and cache of a model, and a check's run and comparison over all ``slots`` positions.

    ``tokens`` are those of one forward.
    """
    small = shape.parameters <= _SMALL_PARAMETERS
    table = shape.vocabulary * shape.width
    points = 2 * shape.layers + 1 if small else 5
    kv_slot = 2 * shape.layers * shape.kv_heads * shape.head_width
    weights = shape.parameters + (2 if shape.tied else 1) * table  # a CPU keeps a tied head twice, and packs a copy
    if shape.experts > 1:
        weights += shape.experts * shape.mlp_parameters  # packed from a copy as well
    traced = 2 * batch * slots * points * shape.width
    forward = batch * (
        tokens * (8 * shape.width + 3 * shape.experts_per_token * shape.mlp_width) + 2 * shape.vocabulary
    )
    if item_bytes == 4:  # a GPU has no fused attention for grouped heads in fp32: whole matrices of scores
        forward += 3 * batch * shape.heads * tokens * slots
    if shape.rope_theta is None and tokens > 1:  # the matrices of biases, and the distances behind them
        forward += (shape.heads + 4) * tokens * slots
    float64 = 2 * shape.layer_matrix_parameters + (table if small else _LOGITS * shape.width)
    float64 += slots * (points * shape.width + kv_slot // shape.layers) + 2 * _POSITIONS * (slots + shape.vocabulary)
    return (weights + batch * slots * kv_slot + traced) * item_bytes + 4 * forward + 8 * float64


class Reference:
    def __init__(self, model: Decoder) -> None:
        self._shape = model.shape
        self._exact = Float64(model.shape, model.dtype)
        self._layers: tuple[Layer, ...] = tuple(model.layers)
        self._embedding_VD = model.embedding_VD
        self._norm = model.norm
        self._head = model.head
        self._small = model.shape.parameters <= _SMALL_PARAMETERS
        self._random = random.Random()
        dtype = str(model.dtype).removeprefix("torch.")
        self._unit_roundoff = _UNIT_ROUNDOFF[dtype]
        # Sums of K products are accumulated in fp32: K roundings of that, in proportion to the dtype's own.
        self._per_product = (_UNIT_ROUNDOFF["float32"] / self._unit_roundoff) ** 2

    def new_trace(self) -> Trace:
        """Empty, with the points that this check wants: a small model's all, else the ends and one layer's."""
        layers = range(len(self._layers)) if self._small else [self._random.randrange(len(self._layers))]
        points = {0, 2 * len(self._layers)} | {2 * layer + step for layer in layers for step in range(3)}
        if self._shape.experts > 1:
            points |= {-1 - layer for layer in layers}
        return {point: [] for point in sorted(points)}

    def check(
        self,
        trace: Trace,
        tokens_BT: torch.Tensor,
        start: int,
        cache: KvCache,
        logits_BV: torch.Tensor,
        chosen_BT: torch.Tensor | None = None,
    ) -> Check:
        """Hold a traced run against float64.

        Args:
            tokens_BT: what went in, at positions ``start``, ``start + 1``, …
            cache: of which the positions before ``start`` were given.
            logits_BV: what came out at the last position.
            chosen_BT: the tokens that the model says have the largest logits after each of ``tokens_BT``.
        """
        import torch

        traced_BT = {point: torch.cat(parts, dim=1) for point, parts in trace.items()}
        errors = [(0.0 if logits_BV.isfinite().all() else math.inf, "logits")]
        for sequence in self._random.sample(range(len(tokens_BT)), min(_SEQUENCES, len(tokens_BT))):
            x_TD = {point: x[sequence].double() for point, x in traced_BT.items() if point >= 0}
            embedded_TD = self._embedding_VD[tokens_BT[sequence]].double()
            errors.append((0.0 if x_TD[0].equal(embedded_TD) else math.inf, "embedding"))
            rows_R = self._rows(tokens_BT.shape[1], tokens_BT.device)
            for index in range(len(self._layers)):
                if 2 * index + 1 in x_TD:
                    kv_GSE = [kv_BGSE[sequence].double() for kv_BGSE in cache[index]]
                    errors += self._attention_errors(index, x_TD, rows_R, start, *kv_GSE)
                    experts_BTk = traced_BT.get(-1 - index)
                    experts_Rk = None if experts_BTk is None else experts_BTk[sequence, rows_R]
                    errors += self._mlp_errors(index, x_TD, rows_R, experts_Rk)
            chosen_R = None if chosen_BT is None else chosen_BT[sequence, rows_R]
            last_RD = x_TD[2 * len(self._layers)][rows_R]
            errors += self._logit_errors(last_RD, logits_BV[sequence], chosen_R)
        # A NaN is no number to be found by max.
        error, place = max((math.inf if math.isnan(error) else error, place) for error, place in errors)
        c = _COARSE_C if self._head.seen_roundoff else _C
        return Check(error, c * self._unit_roundoff, taken(logits_BV), f"largest in {place}")

    def _rows(self, tokens: int, device: torch.device) -> torch.Tensor:
        import torch

        sampled = {0, tokens - 1, *self._random.sample(range(tokens), min(_POSITIONS, tokens))}
        return torch.tensor(sorted(sampled), device=device)

    def _attention_errors(
        self,
        index: int,
        x_TD: dict[int, torch.Tensor],
        rows_R: torch.Tensor,
        start: int,
        k_GSE: torch.Tensor,
        v_GSE: torch.Tensor,
    ) -> list[tuple[float, str]]:
        """Of one layer: the keys and values it left in the cache, and what attention added."""
        import torch

        layer = self._layers[index]
        before_RD, after_RD = (x_TD[2 * index + step][rows_R] for step in range(2))
        normed_TD = layer.qkv.seen(self._exact.normed(x_TD[2 * index], layer.attention_norm))
        end = start + len(normed_TD)
        positions_T = torch.arange(start, end, device=normed_TD.device)
        exact_k_GTE, exact_v_GTE = self._exact.keys_values(layer, normed_TD, positions_T)
        new_R = start + rows_R
        roundings = 2 + self._shape.biases + self._per_product * self._shape.width + self._flips(1)
        k_error = _error(k_GSE[:, new_R], 0.0, exact_k_GTE[:, rows_R], roundings + 1)
        v_error = _error(v_GSE[:, new_R], 0.0, exact_v_GTE[:, rows_R], roundings)
        exact_k_GSE = torch.cat([k_GSE[:, :start], exact_k_GTE], dim=1)
        exact_v_GSE = torch.cat([v_GSE[:, :start], exact_v_GTE], dim=1)
        added_RD = self._exact.attention(layer, normed_TD[rows_R], new_R, exact_k_GSE, exact_v_GSE)
        return [
            (k_error, f"keys of layer {index}"),
            (v_error, f"values of layer {index}"),
            (_error(after_RD, before_RD, added_RD, self._attention_roundings(end)), f"attention of layer {index}"),
        ]

    def _mlp_errors(
        self, index: int, x_TD: dict[int, torch.Tensor], rows_R: torch.Tensor, experts_Rk: torch.Tensor | None
    ) -> list[tuple[float, str]]:
        """Of one layer: the choice of experts, where there is one, and what the MLP added."""
        layer = self._layers[index]
        before_RD, after_RD = (x_TD[2 * index + step][rows_R] for step in (1, 2))
        normed_RD = self._exact.normed(before_RD, layer.mlp_norm)
        added_RD = self._exact.mlp(layer, normed_RD, experts_Rk)
        errors = [(_error(after_RD, before_RD, added_RD, self._mlp_roundings()), f"MLP of layer {index}")]
        if experts_Rk is not None:
            logits_RX = self._exact.router_logits(layer, normed_RD)
            errors.append((self._excess(logits_RX, experts_Rk), f"experts of layer {index}"))
        return errors

    def _logit_errors(
        self, x_RD: torch.Tensor, logits_V: torch.Tensor, chosen_R: torch.Tensor | None
    ) -> list[tuple[float, str]]:
        """The logits at the last row against float64; and how far any token lies above the chosen ones."""
        import torch

        vocabulary = len(logits_V)
        wanted = range(vocabulary) if self._small else sorted(self._random.sample(range(vocabulary), _LOGITS))
        wanted_C = torch.tensor(wanted, device=x_RD.device)
        if chosen_R is None:
            x_RD = x_RD[-1:]
        else:
            wanted_C = torch.cat([wanted_C, chosen_R])
        exact_RC = self._head.seen(self._exact.normed(x_RD, self._norm)) @ self._head.dense()[wanted_C].double().T
        errors = [(_error(logits_V[wanted_C].double(), 0.0, exact_RC[-1], self._logit_roundings()), "logits")]
        if chosen_R is not None:
            places_R1 = len(wanted) + torch.arange(len(chosen_R), device=x_RD.device)[:, None]
            errors.append((self._excess(exact_RC, places_R1), "chosen tokens"))
            if logits_V[chosen_R[-1]] != logits_V.max():  # several may share the largest
                errors.append((math.inf, "last chosen token"))
        return errors

    def _excess(self, exact_RC: torch.Tensor, chosen_Rk: torch.Tensor) -> float:
        """How far any logit that was left out lies above the least of those that were chosen."""
        least_R1 = exact_RC.gather(-1, chosen_Rk).min(dim=-1, keepdim=True).values
        # Both logits of a pair carry an error, so the wrong one may win by twice that.
        excess_RC = ((exact_RC - least_R1).clamp(min=0) / 2).scatter(-1, chosen_Rk, 0.0)
        scale_RC = exact_RC.abs() + math.sqrt(self._logit_roundings()) * _size(exact_RC)
        excess: float = (excess_RC / scale_RC).max().item()
        return excess

    def _logit_roundings(self) -> float:
        """Norm and product."""
        return 2 + self._per_product * self._shape.width + self._flips(1)

    def _attention_roundings(self, positions: int) -> float:
        """Roundings between x and what attention adds to it.

        A query's or key's relative error moves the scores by their spread, and the probabilities with them; each sees
        norm, projection, bias or rotation: 2 · 3 · spread². Scores that are not kept in fp32 are rounded themselves:
        spread². The probabilities are rounded once, values twice (norm, projection), the heads' output and its
        projection once each, and with biases values and output once more.
        """
        shape = self._shape
        products = (2 * SCORE_SPREAD**2 + 1) * shape.width + positions + shape.heads * shape.head_width
        products += 2 * SCORE_SPREAD**2 * shape.head_width
        roundings = 7 * SCORE_SPREAD**2 + 5 + 2 * shape.biases + (2 * SCORE_SPREAD**2 + 1) * self._flips(1)
        return roundings + self._flips(roundings) + self._per_product * products

    def _mlp_roundings(self) -> float:
        """Roundings between x and what the MLP adds: norm (felt by gate and up), gate, up, silu, product, down.

        Without a gate there are fewer, but two biases. With experts the router's logits have two each, norm and
        product, and the softmax feels the difference of two that lie some way from zero, as the largest of several of
        spread 1 do: 2 · 2 · 2 covers it; then the share, its product, and the sum over the experts.
        """
        shape = self._shape
        routing = 8 + 2 + shape.experts_per_token if shape.experts > 1 else 0
        roundings = 7 + routing + 2 * self._flips(1)
        return roundings + self._flips(roundings) + self._per_product * (2 * shape.width + shape.mlp_width)

    def _flips(self, roundings: float) -> float:
        """Roundings that a product adds which rounds its activations once more, to a coarse dtype (fp8); else none.

        The reference rounds its own. Roundings before have moved an activation by d = u·sqrt(roundings) of its size,
        and d/s of them land on the other side of a coarse step s, where they are wrong by all of s: an error of the
        variance s·d, where s is at most twice the coarse unit roundoff.
        """
        return 2 * self._head.seen_roundoff / self._unit_roundoff * math.sqrt(roundings)


def _error(after: torch.Tensor, before: torch.Tensor | float, update: torch.Tensor, roundings: float) -> float:
    """The largest deviation of an element from ``before + update``, relative to what rounding may leave there.

    The addition rounds the sum once; the update carries ``roundings`` of its size before.
    """
    exact = before + update
    error: float = ((after - exact).abs() / (exact.abs() + math.sqrt(roundings) * _size(update))).max().item()
    return error


def _size(rows: torch.Tensor) -> torch.Tensor:
    """Of each element, and no less than is usual in its row: what a sum went through on its way to a small result."""
    square = rows.square()
    return (square + square.mean(dim=-1, keepdim=True)).sqrt()

"""What ``_encoder`` computes, again in float64, and the comparison of the two.

A forward is checked link by link. The traced run keeps the activations x between the half-layers; the stem is then
recomputed in float64 from the inputs, every half-layer from the x that it got, and the output from the last one. Links
are held apart because errors add up along a chain: after a dozen layers of bf16 they are of the size that one wrong
head would make. Here each link has the rounding of that link alone to hide behind, at any depth, and together the
links are the model.

The reference shares no arithmetic with the model: convolutions where the model has products of patches and windows,
separate projections, one head at a time, GELU by its definition.

Of a model above ``_SMALL_PARAMETERS`` a check takes one layer; of a long input a sample of its positions behind the
stem, the first and the last among them; of a batch a sample of its inputs. Each check of each process draws anew, so
that the replicates of a run look at different parts.
Letters as in ``_encoder``; S of the B inputs and R of the T positions are sampled.
"""

from __future__ import annotations

import copy
import math
import random
from typing import TYPE_CHECKING

from bench.types import Check
from kernels._biased import Biased
from kernels._encoder import SCORE_SPREAD, Encoder, Shape
from kernels._encoder_parts import Norm, Trace
from kernels._encoder_stems import HIDDEN, TAPS, RobertaStem, VitStem, WhisperStem
from kernels._output import taken

if TYPE_CHECKING:
    import torch

_SMALL_PARAMETERS = 100_000_000
_INPUTS = 2
_POSITIONS = 64

# Tolerance: c·u of the size of what was added, u the unit roundoff of the dtype. Roundings are taken as independent and
# of mean zero, so R of them in a row make an error of u·sqrt(R) with overwhelming probability (Higham and Mary 2019,
# "A new approach to probabilistic rounding error analysis", theorem 2.4, where c is their lambda).
_C = 4.0
_UNIT_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}

Errors = list[tuple[float, str]]


def _is_small(shape: Shape) -> bool:
    return shape.layers * shape.layer_matrix_parameters <= _SMALL_PARAMETERS


def memory_bytes(shape: Shape, batch: int, item_bytes: int) -> int:
    """At most: weights, inputs and outputs of a model, a traced forward, and the comparison in float64."""
    width, positions = shape.width, shape.positions
    points = 2 * shape.layers + 1 if _is_small(shape) else 5
    weights = shape.parameters + 2 * shape.layer_matrix_parameters  # a CPU packs copies, one matrix at a time
    forward = positions * (9 * width + 2 * shape.mlp_width) + shape.stem.widest(width)
    traced = positions * points * width + shape.stem.widest(width)
    float64 = 2 * shape.layer_matrix_parameters + shape.stem.streamed_parameters(width)
    float64 += _INPUTS * (traced + forward + 3 * _POSITIONS * positions)
    held = weights + batch * (2 * positions * width + forward + traced)
    return held * item_bytes + batch * shape.stem.input_bytes(item_bytes) + 8 * float64


class Reference:
    def __init__(self, model: Encoder) -> None:
        self._shape = model.shape
        self._stem = copy.copy(model.stem)
        self._layers = tuple(model.layers)
        self._norm = model.norm
        self._random = random.Random()
        self._unit_roundoff = _UNIT_ROUNDOFF[str(model.dtype).removeprefix("torch.")]
        # Sums of K products are accumulated in fp32: K roundings of that, in proportion to the dtype's own.
        self._per_product = (_UNIT_ROUNDOFF["float32"] / self._unit_roundoff) ** 2

    def new_trace(self) -> Trace:
        """Empty, with the points that this check wants: a small model's all, else the ends and one layer's."""
        layers = range(len(self._layers)) if _is_small(self._shape) else [self._random.randrange(len(self._layers))]
        points = {2 * layer + step for layer in layers for step in range(3)}
        return Trace(frozenset(points | {HIDDEN, 0, 2 * len(self._layers)}))

    def check(self, trace: Trace, inputs: torch.Tensor, out_BTD: torch.Tensor) -> Check:
        """Hold a traced run over these inputs, and what came out of it, against float64."""
        import torch

        chosen = self._random.sample(range(len(inputs)), min(_INPUTS, len(inputs)))
        x_STD = {point: x[chosen].double() for point, x in trace.kept.items()}
        errors = [(0.0 if out_BTD.isfinite().all() else math.inf, "output")]
        errors += self._stem_errors(inputs[chosen], x_STD)
        positions = self._shape.positions
        sampled = {0, positions - 1, *self._random.sample(range(positions), min(_POSITIONS, positions))}
        rows_R = torch.tensor(sorted(sampled), device=inputs.device)
        for index in range(len(self._layers)):
            if 2 * index + 1 in x_STD:
                errors += self._layer_errors(index, x_STD, rows_R)
        errors.append((self._output_error(x_STD[2 * len(self._layers)], out_BTD[chosen].double()), "output"))
        # A NaN is no number to be found by max.
        error, place = max((math.inf if math.isnan(error) else error, place) for error, place in errors)
        return Check(error, _C * self._unit_roundoff, taken(out_BTD), f"largest in {place}")

    # ---------------------------------------------------------------- the stem, at every position

    def _stem_errors(self, inputs_S: torch.Tensor, x_STD: dict[int, torch.Tensor]) -> Errors:
        if isinstance(self._stem, RobertaStem):
            return [(self._text_error(self._stem, inputs_S, x_STD[0]), "embedding")]
        if isinstance(self._stem, VitStem):
            return [(self._image_error(self._stem, inputs_S.double(), x_STD[0]), "patches")]
        return self._speech_errors(self._stem, inputs_S.double(), x_STD[HIDDEN], x_STD[0])

    def _text_error(self, stem: RobertaStem, tokens_ST: torch.Tensor, x_STD: torch.Tensor) -> float:
        sum_STD = stem.embedding_VD[tokens_ST].double() + stem.positions_TD.double()
        return self._normed_sum_error(stem.norm, x_STD, sum_STD, sum_STD.abs())

    def _image_error(self, stem: VitStem, images_SCHW: torch.Tensor, x_STD: torch.Tensor) -> float:
        """One rounding of each product, one of its sum with the position."""
        import torch

        size = stem.facts.patch
        weight_DCHW = stem.patches.dense().double().unflatten(1, (-1, size, size))
        update_SDHW = torch.nn.functional.conv2d(images_SCHW, weight_DCHW, stem.patches.bias_N.double(), stride=size)
        class_S1D = stem.class_D.double().expand(len(x_STD), 1, -1)
        update_STD = torch.cat([class_S1D, update_SDHW.flatten(2).transpose(1, 2)], dim=1)
        return _error(x_STD, stem.positions_TD.double(), update_STD, 1 + self._per_product * stem.facts.patch_elements)

    def _speech_errors(
        self, stem: WhisperStem, mel_SMF: torch.Tensor, hidden_SFD: torch.Tensor, x_STD: torch.Tensor
    ) -> Errors:
        """One rounding of each product before GELU, one of GELU, and the sum's."""
        exact_SFD = _convolved(stem.convolution_1, mel_SMF, stride=1)
        update_STD = _convolved(stem.convolution_2, hidden_SFD.transpose(1, 2), stride=2)
        products = self._per_product * TAPS * stem.facts.mel_bins, self._per_product * TAPS * self._shape.width
        return [
            (_error(hidden_SFD, 0.0, exact_SFD, 1 + products[0]), "first convolution"),
            (_error(x_STD, stem.positions_TD.double(), update_STD, 2 + products[1]), "second convolution"),
        ]

    # ---------------------------------------------------------------- the layers, at sampled positions

    def _layer_errors(self, index: int, x_STD: dict[int, torch.Tensor], rows_R: torch.Tensor) -> Errors:
        """What attention made of x, and what the MLP made of that."""
        layer = self._layers[index]
        before_STD = x_STD[2 * index]
        before_SRD, middle_SRD, after_SRD = (x_STD[2 * index + step][:, rows_R] for step in range(3))
        read_STD = self._read(layer.attention_norm, before_STD)
        attended_SRD = self._attention(layer.qkv, layer.out, read_STD, rows_R)
        hidden_SRN = _gelu(_product(layer.up, self._read(layer.mlp_norm, middle_SRD)))
        mlp_SRD = _product(layer.down, hidden_SRN)
        halves = [
            (layer.attention_norm, before_SRD, attended_SRD, middle_SRD, self._attention_roundings(), "attention"),
            (layer.mlp_norm, middle_SRD, mlp_SRD, after_SRD, self._mlp_roundings(), "MLP"),
        ]
        return [(self._half_error(*half), f"{part} of layer {index}") for *half, part in halves]

    def _read(self, norm: Norm, x: torch.Tensor) -> torch.Tensor:
        """What a half-layer reads of x."""
        return _normed(norm, x) if self._shape.stem.norms_first else x

    def _attention(self, qkv: Biased, out: Biased, read_STD: torch.Tensor, rows_R: torch.Tensor) -> torch.Tensor:
        """What attention adds to x at these positions."""
        import torch

        weights_D, biases_D = qkv.dense().double().chunk(3), qkv.bias_N.double().chunk(3)
        head_width = self._shape.width // self._shape.heads
        heads_SRE = []
        for first in range(0, self._shape.width, head_width):
            head = slice(first, first + head_width)
            q_STE, k_STE, v_STE = (read_STD @ w[head].T + b[head] for w, b in zip(weights_D, biases_D, strict=True))
            scores_SRT = q_STE[:, rows_R] @ k_STE.transpose(1, 2) / math.sqrt(head_width)
            heads_SRE.append(scores_SRT.softmax(dim=-1) @ v_STE)
        return _product(out, torch.cat(heads_SRE, dim=-1))

    def _half_error(
        self, norm: Norm, before: torch.Tensor, update: torch.Tensor, after: torch.Tensor, roundings: float
    ) -> float:
        if self._shape.stem.norms_first:
            return _error(after, before, update, roundings)
        return self._normed_sum_error(norm, after, before + update, _allowed(before, update, roundings))

    def _normed_sum_error(self, norm: Norm, after: torch.Tensor, sum_: torch.Tensor, allowed: torch.Tensor) -> float:
        """As ``_error``, of a sum that was normalised.

        Its deviations grow as its elements do; by the row's mean and spread each has a share in all. The norm rounds
        once.
        """
        exact = _normed(norm, sum_)
        grown = _size(allowed) * norm.weight.double().abs() / _deviation(norm, sum_)
        error: float = ((after - exact).abs() / (exact.abs() + grown)).max().item()
        return error

    def _output_error(self, last_STD: torch.Tensor, out_STD: torch.Tensor) -> float:
        if self._norm is None:
            return 0.0 if out_STD.equal(last_STD) else math.inf
        return _error(out_STD, 0.0, _normed(self._norm, last_STD), self._per_product * self._shape.width)

    def _attention_roundings(self) -> float:
        """Roundings between x and what attention adds to it.

        A query's or key's relative error moves the scores by their spread, and the probabilities with them; each sees
        the projection and, where that comes first, the norm: 2 · (1 or 2) · spread². Scores that are not kept in fp32
        are rounded themselves: spread². The probabilities are rounded once, values as often as keys, the heads' output
        and its projection once each.
        """
        shape, steps = self._shape, 2 if self._shape.stem.norms_first else 1
        products = (2 * SCORE_SPREAD**2 + 1) * shape.width + shape.positions + shape.width
        products += 2 * SCORE_SPREAD**2 * shape.width // shape.heads
        return (2 * steps + 1) * SCORE_SPREAD**2 + 3 + steps + self._per_product * products

    def _mlp_roundings(self) -> float:
        """Roundings between x and what the MLP adds: norm where it comes first, up, GELU, down."""
        steps = 4 if self._shape.stem.norms_first else 3
        return steps + self._per_product * (self._shape.width + self._shape.mlp_width)


# ---------------------------------------------------------------- in float64


def _product(linear: Biased, x: torch.Tensor) -> torch.Tensor:
    return x @ linear.dense().double().T + linear.bias_N.double()


def _convolved(convolution: Biased, x_SNF: torch.Tensor, stride: int) -> torch.Tensor:
    """[S, F/stride, D], through GELU."""
    import torch

    weight_DNK = convolution.dense().double().unflatten(1, (TAPS, -1)).transpose(1, 2)
    bias_D = convolution.bias_N.double()
    return _gelu(torch.nn.functional.conv1d(x_SNF, weight_DNK, bias_D, stride, padding=1).transpose(1, 2))


def _gelu(x: torch.Tensor) -> torch.Tensor:
    """x·Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    import torch

    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def _normed(norm: Norm, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / _deviation(norm, x) * norm.weight.double() + norm.bias.double()


def _deviation(norm: Norm, x: torch.Tensor) -> torch.Tensor:
    """What layer norm divides by (Ba et al. 2016, arXiv 1607.06450)."""
    return (x.var(dim=-1, correction=0, keepdim=True) + norm.eps).sqrt()


def _error(after: torch.Tensor, before: torch.Tensor | float, update: torch.Tensor, roundings: float) -> float:
    """The largest deviation of an element from ``before + update``, relative to what rounding may leave there."""
    error: float = ((after - before - update).abs() / _allowed(before, update, roundings)).max().item()
    return error


def _allowed(before: torch.Tensor | float, update: torch.Tensor, roundings: float) -> torch.Tensor:
    """The addition rounds the sum once; the update carries ``roundings`` of its size before."""
    return (before + update).abs() + math.sqrt(roundings) * _size(update)


def _size(rows: torch.Tensor) -> torch.Tensor:
    """Of each element, and no less than is usual in its row: what a sum went through on its way to a small result."""
    square = rows.square()
    return (square + square.mean(dim=-1, keepdim=True)).sqrt()

"""A training step again in float64, forward and backward, and the comparison of the two.

A step is checked link by link, as ``_decoder_reference`` checks a forward: the traced step keeps the residual stream x
between the layers and its gradient. A layer is then recomputed in float64 from the x that it got, and differentiated
there by torch's autograd from the gradient that it got: its output, the gradients of its six parameters and the
gradient that it hands on must agree. So must those of the final norm and the head, from the derivative of the
cross-entropy as it is written down, and the embedding's. Each link has the rounding of that link alone to hide behind,
at any depth.

The reference shares no arithmetic with the model: angles by ``cos`` and ``sin``, scores in full with a mask, the loss
by its sums. The parameters are those that the model rounded to its dtype. Of a model above ``_SMALL_PARAMETERS`` a
check takes one layer, drawn anew each time; of every parameter of any model it asks for a gradient that is finite and
not zero.

Errors are in units of u·sqrt(roundings) of what was rounded, u the unit roundoff of the dtype. Letters as in
``_train_model``; N = B·T rows, C of them at a time, X heads of any kind, P = E/2 pairs of a head.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from kernels._decoder_shape import Shape, rope_frequencies
from kernels._train_model import Layer, Model, Trace

if TYPE_CHECKING:
    import torch

_SMALL_PARAMETERS = 10_000_000
_CHUNK = 256  # rows whose logits are held in float64 at a time
_TABLE_CHUNK = 8192  # rows of a table that are compared at a time
_UNIT_ROUNDOFF = {"bfloat16": 2.0**-8, "float32": 2.0**-24}


def check_bytes(shape: Shape, tokens: int, rows: int) -> int:
    """What a check takes beside the state, at most: a layer and its gradients over a sequence, or a head with its."""
    sequence = tokens * (24 * shape.width + 8 * shape.mlp_width + 6 * shape.heads * shape.head_width)
    layer = 2 * shape.layer_matrix_parameters + 8 * shape.mlp_width * shape.width
    layer += sequence + 6 * shape.heads * tokens * tokens
    head = 2 * shape.vocabulary * shape.width + 4 * _CHUNK * shape.vocabulary
    head += 4 * _TABLE_CHUNK * shape.width + 6 * rows * shape.width
    return 8 * max(layer, head)


class Reference:
    def __init__(self, model: Model) -> None:
        import torch

        self._model = model
        self._shape = model.shape
        dtype = str(model.dtype).removeprefix("torch.")
        self._unit_roundoff = _UNIT_ROUNDOFF[dtype]
        # Sums of K products are accumulated in fp32: K roundings of that, in proportion to the dtype's own.
        self._per_product = (_UNIT_ROUNDOFF["float32"] / self._unit_roundoff) ** 2
        self._frequencies_P = torch.tensor(
            rope_frequencies(model.shape), dtype=torch.float64, device=model.norm_D.device
        )

    def new_trace(self) -> Trace:
        """With the points that this check wants: a small model's all, else the ends and those around one layer."""
        layers = len(self._model.layers)
        if self._shape.parameters <= _SMALL_PARAMETERS:
            return Trace(frozenset(range(layers + 1)))
        layer = random.randrange(layers)
        return Trace(frozenset({0, layer, layer + 1, layers}))

    def errors(self, trace: Trace, tokens_BS: torch.Tensor, loss: torch.Tensor) -> list[tuple[float, str]]:
        """Each link's error. To be asked for between the backward and the update."""
        gradients = {name: parameter.grad for name, parameter in self._model.parameters.items()}
        errors = [(_absence(gradient), f"gradient of {name}") for name, gradient in gradients.items()]
        if any(math.isinf(error) for error, _ in errors):
            return errors
        errors += self._head_errors(trace, tokens_BS, loss)
        for index in range(len(self._model.layers)):
            if {index, index + 1} <= trace.points:
                links = self._layer_errors(self._model.layers[index], trace.stream[index], trace.stream[index + 1])
                errors += [(error / self._unit_roundoff, f"{name} of layer {index}") for error, name in links]
        return errors

    # ------------------------------------------------------------ a layer

    def _layer_errors(self, layer: Layer, x_BTD: torch.Tensor, y_BTD: torch.Tensor) -> list[tuple[float, str]]:
        exact = Layer(**{name: self._exact(parameter) for name, parameter in vars(layer).items()})
        links, roundings = [], 0.0
        for x_TD, y_TD, x_gradient_TD, y_gradient_TD in zip(
            x_BTD.detach(), y_BTD.detach(), x_BTD.grad, y_BTD.grad, strict=True
        ):
            exact_x_TD = x_TD.double().requires_grad_()
            exact_y_TD, spread = self._layer(exact, exact_x_TD)
            exact_y_TD.backward(y_gradient_TD.double())
            roundings = max(roundings, self._layer_roundings(spread, x_BTD.shape[0] * x_BTD.shape[1]))
            links += [
                (_error(y_TD, exact_y_TD.detach(), roundings, before=x_TD), "output"),
                (_error(x_gradient_TD, exact_x_TD.grad, roundings, before=y_gradient_TD), "gradient of the input"),
            ]
        for name, parameter in vars(layer).items():
            exact_gradient = vars(exact)[name].grad
            if name == "qkv":
                links += [
                    (error, f"gradient of {name}")
                    for error in self._qkv_errors(parameter.grad, exact_gradient, roundings)
                ]
            else:
                links.append((_error(parameter.grad, exact_gradient, roundings), f"gradient of {name}"))
        return links

    def _exact(self, parameter: torch.Tensor) -> torch.Tensor:
        exact: torch.Tensor = parameter.detach().to(self._model.dtype).double().requires_grad_()
        return exact

    def _qkv_errors(self, gradient: torch.Tensor, exact: torch.Tensor, roundings: float) -> list[float]:
        """Of q, k and v. All heads together give the size: one that attends to a single position has next to no
        gradient, which rounding then is large beside."""
        heads = (self._shape.heads, self._shape.kv_heads, self._shape.kv_heads)
        rows = [number * self._shape.head_width for number in heads]
        pairs = zip(gradient.split(rows), exact.split(rows), strict=True)
        return [_error(part.flatten(), exact_part.flatten(), roundings) for part, exact_part in pairs]

    def _layer(self, weights: Layer, x_TD: torch.Tensor) -> tuple[torch.Tensor, float]:
        """What leaves the layer, and the root mean square of its attention scores, as attention weighs them."""
        import torch

        shape = self._shape
        tokens, groups = len(x_TD), shape.heads // shape.kv_heads
        normed_TD = self._normed(x_TD, weights.attention_norm)
        heads_XTE = (normed_TD @ weights.qkv.T).view(tokens, -1, shape.head_width).transpose(0, 1)
        q_HTE, k_GTE, v_GTE = heads_XTE.split((shape.heads, shape.kv_heads, shape.kv_heads))
        k_HTE = self._rotated(k_GTE).repeat_interleave(groups, dim=0)
        scores_HTT = self._rotated(q_HTE) @ k_HTE.transpose(1, 2) / math.sqrt(shape.head_width)
        hidden_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=x_TD.device).triu(1)
        seen_HTT = scores_HTT.masked_fill(hidden_TT, -math.inf).softmax(dim=-1)
        attended_HTE = seen_HTT @ v_GTE.repeat_interleave(groups, dim=0)
        x_TD = x_TD + attended_HTE.transpose(0, 1).flatten(1) @ weights.out.T
        gate_TF, up_TF = (self._normed(x_TD, weights.mlp_norm) @ weights.gate_up.T).chunk(2, dim=-1)
        x_TD = x_TD + (gate_TF * torch.sigmoid(gate_TF) * up_TF) @ weights.down.T
        attended_to = (seen_HTT * scores_HTT.square()).detach().sum(dim=-1)
        return x_TD, float(attended_to.mean().sqrt())

    def _rotated(self, x_XTE: torch.Tensor) -> torch.Tensor:
        """Each pair of neighbours as a point in the plane, turned by its angle."""
        import torch

        positions_T = torch.arange(x_XTE.shape[1], dtype=torch.float64, device=x_XTE.device)
        angles_TP = torch.outer(positions_T, self._frequencies_P)
        cos, sin = angles_TP.cos(), angles_TP.sin()
        even, odd = x_XTE[..., 0::2], x_XTE[..., 1::2]
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)

    def _normed(self, x: torch.Tensor, weight_D: torch.Tensor) -> torch.Tensor:
        mean_square = x.square().mean(dim=-1, keepdim=True)
        normed: torch.Tensor = x / (mean_square + self._shape.norm_eps).sqrt() * weight_D
        return normed

    def _layer_roundings(self, spread: float, rows: int) -> float:
        """Roundings that a gradient of a layer has behind it, at most.

        Forward: a query's or key's relative error moves a score in proportion to it, and the probability with it;
        each sees norm, projection and rotation: 6·spread², of the scores that count. Probabilities, values (norm,
        projection), heads' output and projection make 5, the MLP 7: norm (felt by gate and up), gate, up, silu,
        product, down. Backward each product becomes two, which feel the errors of what they multiply: three times the
        forward. The sums have these lengths.
        """
        steps = 6 * spread**2 + 5 + 7
        products = (2 * spread**2 + 3) * self._shape.width + 2 * spread**2 * self._shape.head_width
        products += self._shape.heads * self._shape.head_width + self._shape.mlp_width + 2 * rows
        return 3 * (steps + self._per_product * products)

    # ------------------------------------------------------------ norm, head and loss; the embedding

    def _head_errors(self, trace: Trace, tokens_BS: torch.Tensor, loss: torch.Tensor) -> list[tuple[float, str]]:
        import torch

        model = self._model
        first_BTD, last_BTD = trace.stream[0], trace.stream[len(model.layers)]
        inputs_N, targets_N = tokens_BS[:, :-1].flatten(), tokens_BS[:, 1:].flatten()
        x_ND = last_BTD.detach().flatten(0, 1).double().requires_grad_()
        norm_D, head_VD = self._exact(model.norm_D), self._exact(model.head_VD).detach()
        normed_ND = self._normed(x_ND, norm_D)
        exact_loss, spread, normed_gradient_ND, head_gradient_VD = _cross_entropy(
            normed_ND.detach(), head_VD, targets_N
        )
        normed_ND.backward(normed_gradient_ND)
        # Norm twice, logits felt by their spread, their gradient, its two products, the norm's gradient twice.
        products = (1 + spread**2) * self._shape.width + self._shape.vocabulary + len(x_ND)
        roundings = 8 + 2 * spread**2 + self._per_product * products
        links = [
            (_error(loss[None], torch.full_like(loss[None], exact_loss, dtype=x_ND.dtype), roundings), "loss"),
            (_error(last_BTD.grad.flatten(0, 1), x_ND.grad, roundings), "gradient of the last x"),
            (_error(model.norm_D.grad, norm_D.grad, roundings), "gradient of norm"),
        ]
        if not self._shape.tied:
            links.append((_table_error(model.head_VD.grad, head_gradient_VD, roundings), "gradient of head"))
            head_gradient_VD.zero_()  # what follows is the embedding's own
        head_gradient_VD.index_add_(0, inputs_N, first_BTD.grad.flatten(0, 1).double())
        links.append((_table_error(model.embedding_VD.grad, head_gradient_VD, roundings), "gradient of embedding"))
        embedded_ND = model.embedding_VD.detach()[inputs_N].to(model.dtype)
        is_embedded = torch.equal(first_BTD.detach().flatten(0, 1), embedded_ND)
        errors = [(error / self._unit_roundoff, name) for error, name in links]
        return [*errors, (0.0 if is_embedded else math.inf, "embedding")]


def _cross_entropy(
    x_ND: torch.Tensor, head_VD: torch.Tensor, targets_N: torch.Tensor
) -> tuple[float, float, torch.Tensor, torch.Tensor]:
    """The mean cross-entropy, the logits' root mean square, and the gradients of x_ND and head_VD.

    That of a row's logits is their softmax, less one at the target (Bishop 2006, Pattern Recognition and Machine
    Learning, section 4.3.4).
    """
    import torch

    loss, squares = 0.0, 0.0
    x_gradient_ND, head_gradient_VD = torch.empty_like(x_ND), torch.zeros_like(head_VD)
    for begin in range(0, len(x_ND), _CHUNK):
        x_CD, targets_C1 = x_ND[begin : begin + _CHUNK], targets_N[begin : begin + _CHUNK, None]
        logits_CV = x_CD @ head_VD.T
        squares += float(logits_CV.square().mean(dim=1).sum())
        log_CV = logits_CV.log_softmax(dim=1)
        loss -= float(log_CV.gather(1, targets_C1).sum())
        gradient_CV = log_CV.exp_().scatter_add_(1, targets_C1, -torch.ones_like(targets_C1, dtype=x_ND.dtype))
        gradient_CV /= len(x_ND)
        x_gradient_ND[begin : begin + _CHUNK] = gradient_CV @ head_VD
        head_gradient_VD.addmm_(gradient_CV.T, x_CD)
    return loss / len(x_ND), math.sqrt(squares / len(x_ND)), x_gradient_ND, head_gradient_VD


def _absence(gradient: torch.Tensor | None) -> float:
    """Infinite where there is no gradient, or none but zeros, or not everywhere a number."""
    size = 0.0 if gradient is None else float(gradient.norm())
    return 0.0 if 0 < size < math.inf else math.inf


def _error(actual: torch.Tensor, exact: torch.Tensor, roundings: float, before: torch.Tensor | float = 0.0) -> float:
    """The largest error of an element, relative to what its roundings together leave: as squares, for errors that are
    independent and of mean zero add up so.

    What was added to ``before`` has ``roundings`` of its size behind it, and of no less than is usual in its row. The
    sum is rounded once on its way and once at its end.
    """
    before = before if isinstance(before, float) else before.double()
    added_square = (exact - before).square()
    usual_square = added_square.mean(dim=-1, keepdim=True)
    size = (exact.square() + before**2 + roundings * (added_square + usual_square)).sqrt()
    error = float(((actual.double() - exact).abs() / size).max())
    return math.inf if math.isnan(error) else error


def _table_error(actual_VD: torch.Tensor, exact_VD: torch.Tensor, roundings: float) -> float:
    """The same for a table, some rows at a time. The row of a token that does not occur must have no gradient."""
    worst = 0.0
    for actual, exact in zip(actual_VD.split(_TABLE_CHUNK), exact_VD.split(_TABLE_CHUNK), strict=True):
        is_used = exact.any(dim=1)
        if actual[~is_used].any():
            return math.inf
        if is_used.any():
            worst = max(worst, _error(actual[is_used], exact[is_used], roundings))
    return worst

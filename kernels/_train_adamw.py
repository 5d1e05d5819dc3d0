"""``AdamW``: the optimiser's state, its update in one fused pass, and the same update in float64 for some elements.

AdamW after Loshchilov & Hutter (2019, arXiv 1711.05101, algorithm 2), with the betas and decay that Llama 2 was
trained with and the rate of its fine-tuning (Touvron et al. 2023, arXiv 2307.09288, sections 2.2 and 3.1), held
constant; the gradient is not clipped. Parameters, gradients and both moments are fp32.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RATE = 2e-5
BETA1, BETA2 = 0.9, 0.95
EPS = 1e-8
DECAY = 0.1

# A moment's roundings, or those of the step that a parameter takes: eight of its own, and those of beta1 and beta2,
# which 1 - beta feels ten and twenty times. As squares, for independent errors of mean zero add up so.
_ROUNDINGS = 8 + 10**2 + 20**2
_ROUNDINGS_OF_VALUE = 2  # of the parameter itself: its decay, and the sum
_UNIT_ROUNDOFF = 2.0**-24
_SAMPLED = 1 << 16  # elements of a parameter that a check looks at; the smaller parameters whole
_NOTHING = 1e-30  # below it, a moment is of no consequence


@dataclass(frozen=True)
class Seen:
    """Some elements of a parameter before an update, in float64."""

    name: str
    at: torch.Tensor  # their places in the flattened parameter
    value: torch.Tensor
    gradient: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


class AdamW:
    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        import torch

        self._names = list(parameters)
        self._parameters = list(parameters.values())
        self._firsts = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._seconds = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self._parameters]
        self._updates = 0

    def update(self) -> None:
        """One step of all parameters along the gradients that they hold."""
        import torch
        from torch.optim.adamw import adamw

        with torch.no_grad():
            adamw(
                self._parameters,
                [parameter.grad for parameter in self._parameters],
                self._firsts,
                self._seconds,
                [],
                self._steps,
                fused=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=RATE,
                weight_decay=DECAY,
                eps=EPS,
                maximize=False,
            )
        self._updates += 1

    def look(self) -> list[Seen]:
        """Elements drawn anew from each parameter, to be held against the next update."""
        return [self._seen(index) for index in range(len(self._names))]

    def _seen(self, index: int) -> Seen:
        import torch

        parameter = self._parameters[index]
        size = parameter.numel()
        if size <= _SAMPLED:
            at = torch.arange(size, device=parameter.device)
        else:
            generator = torch.Generator(parameter.device).manual_seed(random.getrandbits(63))
            at = torch.randint(size, (_SAMPLED,), device=parameter.device, generator=generator)
        kept = (parameter.detach(), parameter.grad, self._firsts[index], self._seconds[index])
        return Seen(self._names[index], at, *(tensor.flatten()[at].double() for tensor in kept))

    def errors(self, seen: list[Seen]) -> list[tuple[float, str]]:
        """How far the update since ``look`` is from float64, for each parameter.

        In units of what rounding may leave there: u·sqrt(roundings) of the sizes that went in.
        """
        return [(self._error(index, before), f"update of {before.name}") for index, before in enumerate(seen)]

    def _error(self, index: int, before: Seen) -> float:
        step = self._updates  # counted here: the optimiser's own count is under test
        first = BETA1 * before.first + (1 - BETA1) * before.gradient
        second = BETA2 * before.second + (1 - BETA2) * before.gradient.square()
        reached = BETA1 * before.first.abs() + (1 - BETA1) * before.gradient.abs()  # before the two cancel
        rate = RATE / (1 - BETA1**step) / ((second / (1 - BETA2**step)).sqrt() + EPS)
        value = before.value * (1 - RATE * DECAY) - rate * first
        value_square = _ROUNDINGS_OF_VALUE * value.square() + _ROUNDINGS * (rate * reached).square()
        squares = (
            (self._parameters[index].detach(), value, value_square),
            (self._firsts[index], first, _ROUNDINGS * reached.square()),
            (self._seconds[index], second, _ROUNDINGS * second.square()),
        )
        worst = 0.0
        for tensor, exact, square in squares:
            deviation = (tensor.flatten()[before.at].double() - exact).abs() / (square.sqrt() + _NOTHING)
            error = float(deviation.max())
            worst = max(worst, math.inf if math.isnan(error) else error)
        return worst / _UNIT_ROUNDOFF

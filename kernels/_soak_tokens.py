"""``Tokens``: steps of decoding as one part of a launch among others, whose outcome is checked after it.

A burst is traced and held against float64, as `kernels.decode` does; then the launch under test, in which other parts
may run at the same time, has to leave the same tokens, keys, values and logits behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.types import Check, Work
from kernels import _decoder_reference
from kernels._decoder import Decoder, Trace
from kernels._decoder_shape import SHAPES, forward_work

if TYPE_CHECKING:
    import torch

CONTEXT = 512  # positions that are cached before the first step
_DTYPE, _ITEM_BYTES = "bf16", 2


def work(model: str, steps: int) -> Work:
    """Of so many steps for one sequence."""
    return forward_work(SHAPES[model], 1, range(CONTEXT, CONTEXT + steps), 1, _ITEM_BYTES)


def memory_bytes(model: str, steps: int) -> int:
    """At most: the model, its cache and the check."""
    return _decoder_reference.memory_bytes(SHAPES[model], 1, 1, CONTEXT + steps, _ITEM_BYTES)


class Tokens:
    """A decoder with random weights, and the tokens that it chooses greedily from position ``CONTEXT`` on."""

    def __init__(self, model: str, steps: int, torch_device: str, seed: int) -> None:
        import torch

        shape = SHAPES[model]
        self._steps = steps
        self._model = Decoder(shape, _DTYPE, torch_device, seed, CONTEXT + steps)
        self._reference = _decoder_reference.Reference(self._model)
        self._cache = self._model.new_cache(1, CONTEXT + steps)
        self._first_B1 = self._model.random_tokens(1, 1)
        self._chosen_BT = torch.empty(1, steps, dtype=torch.int64, device=torch_device)
        self._logits_BV = torch.empty(1, shape.vocabulary, dtype=self._model.dtype, device=torch_device)

    def launch(self, trace: Trace | None = None) -> None:
        """Decode the burst; with a trace, keep in it what its points are to see."""
        import torch

        with torch.inference_mode():
            for step in range(self._steps):
                token_B1 = self._chosen_BT[:, step - 1 : step] if step else self._first_B1
                logits_BV = self._model.forward(token_B1, CONTEXT + step, self._cache, trace)
                # max, for argmax alone takes six times as long over a row of bf16 on a CPU.
                self._chosen_BT[:, step : step + 1].copy_(logits_BV.max(dim=-1, keepdim=True).indices)
            self._logits_BV.copy_(logits_BV)

    def poison(self) -> None:
        """Leave nothing of an earlier burst."""
        for keys_BGSE, values_BGSE in self._cache:
            keys_BGSE[:, :, CONTEXT:] = float("nan")
            values_BGSE[:, :, CONTEXT:] = float("nan")
        self._logits_BV.fill_(float("nan"))
        self._chosen_BT.fill_(-1)  # no token

    def traced(self) -> tuple[Trace, torch.Tensor]:
        """What a burst did on its way, and the tokens that went in."""
        import torch

        trace = self._reference.new_trace()
        self.launch(trace)
        return trace, torch.cat([self._first_B1, self._chosen_BT[:, :-1]], dim=1)

    def check(self, trace: Trace, tokens_BT: torch.Tensor) -> Check:
        """What is there now against float64, from the inputs of each half-layer that the traced burst kept."""
        return self._reference.check(trace, tokens_BT, CONTEXT, self._cache, self._logits_BV, self._chosen_BT)

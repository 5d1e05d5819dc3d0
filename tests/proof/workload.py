"""The work that is timed, and the same slowed down by a known share: so many rounds more of the same small product."""

from __future__ import annotations

import numpy as np

_A_NN = np.random.Generator(np.random.Philox(0)).random((64, 64), dtype=np.float32)
_OUT_NN = np.empty_like(_A_NN)
ROUNDS = 100


def _rounds(count: int) -> None:
    for _ in range(count):
        np.matmul(_A_NN, _A_NN, out=_OUT_NN)


def as_it_is() -> None:
    _rounds(ROUNDS)


def slower_1() -> None:
    _rounds(ROUNDS + 1)


def slower_2() -> None:
    _rounds(ROUNDS + 2)


def slower_5() -> None:
    _rounds(ROUNDS + 5)


def slower_10() -> None:
    _rounds(ROUNDS + 10)

"""What the mutation tests of several kernels share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

SDPA = (torch.nn.functional, "scaled_dot_product_attention")


def alter_calls(
    monkeypatch: pytest.MonkeyPatch,
    function: tuple[Any, str],
    is_wrong: Callable[[int], bool],
    alter: Callable[..., Any],
) -> None:
    """Of a function's calls, those with a wrong number go to ``alter``, which gets the function before its arguments.

    Args:
        function: what it is an attribute of, and its name.
    """
    call, numbers = getattr(*function), itertools.count()

    def altered(*args: Any, **kwargs: Any) -> Any:
        return alter(call, *args, **kwargs) if is_wrong(next(numbers)) else call(*args, **kwargs)

    monkeypatch.setattr(*function, altered)


def heads_mixed(attend: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    """One head gets another's output."""
    y_BHTE = attend(*args, **kwargs).clone()
    y_BHTE[:, 3] = y_BHTE[:, 2]
    return y_BHTE

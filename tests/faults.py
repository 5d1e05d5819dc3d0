"""Faults of a device that computes: what each does to a tensor, in place, a few elements or a single bit at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def flip_a_bit(tensor: torch.Tensor, bit: int = 0, element: int = 17) -> None:
    """The lowest bit of one element, unless said: the smallest error there is."""
    bits = tensor.view(_BITS[tensor.element_size()]).view(-1)
    bits[element] ^= 1 << bit


def put_nan(tensor: torch.Tensor) -> None:
    tensor.view(-1)[17] = math.nan


def stick_a_lane(tensor: torch.Tensor, lanes: int = 8) -> None:
    """Every eighth element of a row keeps the value of the first of them."""
    lane = tensor[..., 3::lanes]
    lane.copy_(lane[..., :1].expand_as(lane).clone())


OF_AN_OUTPUT: Mapping[str, Callable[[torch.Tensor], None]] = {
    "flipped bit": flip_a_bit,
    "NaN": put_nan,
    "stuck lane": stick_a_lane,
}

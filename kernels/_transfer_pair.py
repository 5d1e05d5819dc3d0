"""``Pair``: both ends of a copy, poisoned before it and compared after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 22  # words of int64 that are compared at a time
CHECK_BYTES = (8 + 1) * _CHUNK  # what that takes: a chunk from the other end, and which words differ


class Pair:
    """What is to be copied, and where to: int64 of one shape."""

    def __init__(self, source: torch.Tensor, target: torch.Tensor) -> None:
        self.source = source
        self.target = target

    def poison(self) -> None:
        """Make every bit of the target wrong."""
        self.target.copy_(self.source)
        self.target.bitwise_not_()

    def wrong(self) -> int:
        """How many words of the target are not the source's."""
        rows = max(1, _CHUNK * len(self.source) // self.source.numel())
        chunks = zip(self.source.split(rows), self.target.split(rows), strict=True)
        return sum(int((target != source.to(target.device)).sum()) for source, target in chunks)

"""``torchs_stream``: where cupy is to enqueue, so that the harness's events see its work."""

from __future__ import annotations

import contextlib
import functools
import warnings
from typing import Any


def torchs_stream() -> contextlib.AbstractContextManager[object]:
    """Within it cupy launches on the stream that is torch's current one at this moment."""
    import torch

    stream: contextlib.AbstractContextManager[object] = _external(torch.cuda.current_stream().cuda_stream)
    return stream


@functools.cache
def _external(pointer: int) -> Any:
    import cupy

    with warnings.catch_warnings():
        # CuPy 14 prefers Stream.from_external; CuPy 13 does not have it, nor older streams of torch its protocol.
        warnings.simplefilter("ignore", DeprecationWarning)
        return cupy.cuda.ExternalStream(pointer)

"""The token file: its seeded content, the order in which an epoch reads it, and the writing of it.

The file is raw uint16, as nanoGPT and its kin keep it: batches of 32 windows of 2049 tokens, one after the other.

Letters of the shapes, here and where it is read: S batches of the file, B windows of a batch, W windows of the file,
T tokens of a window.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BATCH = 32  # windows
WINDOW = 2049  # tokens: 2048 to read and one more, so that each has a target
TOKEN_BYTES = 2
WINDOW_BYTES = WINDOW * TOKEN_BYTES
VOCABULARY = 50_257  # GPT-2's; any below 65,535 would do, which is left to poison buffers with

_ORDER_STREAM = 1 << 32  # of the random generator; the tokens of batch b come from stream b
_PROOF_BLOCKS = 16  # of a file found in place, compared with what they should hold


def _raw_bits(seed: int, stream: int, count: int) -> npt.NDArray[np.uint64]:
    """Raw output of Philox4x64: NumPy keeps a bit generator's stream for ever, distributions it may change (NEP 19)."""
    import numpy as np

    bits: npt.NDArray[np.uint64] = np.random.Philox(key=stream << 64 | seed).random_raw(count)
    return bits


def token_block(seed: int, block: int) -> npt.NDArray[np.uint16]:
    """Windows ``32 * block`` to ``32 * block + 31`` of the file, ``[32, 2049]``.

    Sixteen random bits x become the token ``x * VOCABULARY >> 16`` (Lemire, "Fast random integer generation in an
    interval", 2019, without the rejection: how likely a token is does not matter here).
    """
    import numpy as np

    bits = _raw_bits(seed, block, BATCH * WINDOW // 4).view(np.uint16)
    tokens = bits.astype(np.uint32) * np.uint32(VOCABULARY) >> np.uint32(16)
    return tokens.astype(np.uint16).reshape(BATCH, WINDOW)


def epoch_order(seed: int, windows: int) -> npt.NDArray[np.int64]:
    """A permutation of the windows, ``[windows]``."""
    import numpy as np

    return np.argsort(_raw_bits(seed, _ORDER_STREAM, windows), kind="stable").astype(np.int64)


def ensure_file(path: Path, blocks: int, seed: int) -> None:
    """Write the token file, unless it is there with the right size and, in sampled blocks, the right content.

    Raises:
        OSError: it could not be written, for instance on a full disk. No part of it is left.
    """
    if _is_complete(path, blocks, seed):
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for block in range(blocks):
                file.write(token_block(seed, block).data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _is_complete(path: Path, blocks: int, seed: int) -> bool:
    block_bytes = BATCH * WINDOW_BYTES
    if not path.exists() or path.stat().st_size != blocks * block_bytes:
        return False
    with path.open("rb") as file:
        for block in range(0, blocks, -(-blocks // _PROOF_BLOCKS)):
            file.seek(block * block_bytes)
            if file.read(block_bytes) != token_block(seed, block).tobytes():
                return False
    return True

"""The token file: tokens and order that never change, and a file that is complete or not there."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from bench.spec import SEED
from kernels._token_file import BATCH, VOCABULARY, WINDOW, ensure_file, epoch_order, token_block


def test_tokens_and_order_never_change() -> None:
    """These come from raw bits, which NumPy keeps; other numbers here are another workload."""
    block_BT = token_block(SEED, 0)
    assert block_BT.shape == (BATCH, WINDOW)
    assert block_BT[0, :4].tolist() == [42523, 1745, 36591, 579]
    assert int(token_block(SEED, 1).sum(dtype=np.int64)) == 1645784857
    assert epoch_order(SEED, 64)[:4].tolist() == [54, 25, 3, 35]


def test_tokens_cover_the_vocabulary_evenly() -> None:
    tokens = np.concatenate([token_block(SEED, block).ravel() for block in range(8)])
    assert tokens.max() < VOCABULARY
    counts, _ = np.histogram(tokens, bins=16, range=(0, VOCABULARY))
    assert np.abs(counts / counts.mean() - 1).max() < 0.03  # five standard deviations of a multinomial's bins


def test_seeds_and_blocks_differ() -> None:
    blocks = [token_block(seed, block).tobytes() for seed in (0, 1) for block in (0, 1)]
    assert len(set(blocks)) == 4


@pytest.mark.parametrize("windows", [1, 32, 1000])
def test_an_order_holds_every_window_once(windows: int) -> None:
    assert sorted(epoch_order(SEED, windows).tolist()) == list(range(windows))


def test_a_complete_file_is_kept_and_a_wrong_one_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    ensure_file(path, 2, SEED)
    content, written = path.read_bytes(), path.stat().st_mtime_ns
    assert np.array_equal(
        np.frombuffer(content, np.uint16), np.concatenate([token_block(SEED, b) for b in (0, 1)]).ravel()
    )
    ensure_file(path, 2, SEED)
    assert path.stat().st_mtime_ns == written
    for wrong in (content[:-2], content[2:] + content[:2], bytes(len(content))):
        path.write_bytes(wrong)
        ensure_file(path, 2, SEED)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_takes_no_more_is_the_systems_error(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: the same write fails, halfway."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            ensure_file(tmp_path / "tokens", 2, SEED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())

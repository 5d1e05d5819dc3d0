"""``bench.seal.bundle``: a bundle is written once, whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bench.errors import OutputNotWritable, UsageError
from bench.seal import bundle
from tests.seal.bundles import FILES, OPERATOR, RUN, sealed


def test_a_bundle_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    bundle.write(tmp_path / "b", sealed())
    with pytest.raises(UsageError, match="no bundle is ever replaced"):
        bundle.write(tmp_path / "b", sealed(nonce="another"))
    assert (tmp_path / "b").read_bytes() == sealed()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputNotWritable, match="No space left on device"):
        bundle.write(tmp_path / "b", sealed())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bundle.write(tmp_path / "b", sealed())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable, match="cannot write"):
        bundle.write(tmp_path / "none" / "b", sealed())


@pytest.mark.parametrize("name", ["../up.txt", "a/b", "manifest.dsse.json"])
def test_a_name_that_could_lead_elsewhere_is_not_sealed(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be sealed"):
        bundle.seal({**FILES, name: b""}, RUN, OPERATOR)

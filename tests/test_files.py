"""``bench.files``: a file is there whole, or as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import files
from bench.errors import OutputNotWritable


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    files.write_atomically(target, b"old")
    files.write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_fails_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.json"
    files.write_atomically(target, b"old")

    def full(file_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    words = r"cannot write .*a\.json: No space left on device.*--out"
    with pytest.raises(OutputNotWritable, match=words), files.writing(target):
        files.write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable, match=r"cannot write .*: No such file or directory.*another place"):
        files.write_report(tmp_path / "missing" / "a.xml", b"")
    files.write_report(tmp_path / "a.xml", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]


@pytest.mark.parametrize("place", ["missing/a.xml", "/proc/a.xml"])
def test_a_place_for_a_report_is_tried_and_nothing_is_left_there(tmp_path: Path, place: str) -> None:
    (tmp_path / "old.xml").write_text("old")
    files.expect_writable(tmp_path / "a.xml")
    files.expect_writable(tmp_path / "old.xml")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old.xml": "old"}
    with pytest.raises(OutputNotWritable, match=f"cannot write .*{place}"):
        files.expect_writable(tmp_path / place)

"""``bench.telemetry.files``: what cannot be read is None."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.telemetry import files
from bench.telemetry.files import KeptFile
from tests.checkout import wait_until
from tests.telemetry.trees import link_to_nowhere


@pytest.mark.parametrize(
    ("contents", "text", "number"), [("12\n", "12", 12), ("-3", "-3", -3), (" a b \n", "a b", None)]
)
def test_a_file_is_read_as_text_and_as_a_number(tmp_path: Path, contents: str, text: str, number: int | None) -> None:
    path = tmp_path / "file"
    path.write_text(contents)
    assert (files.text(path), files.number(path), KeptFile(path).number()) == (text, number, number)


@pytest.mark.parametrize("obstacle", ["absent", "folder", "unreadable", "binary"])
def test_what_cannot_be_read_is_none(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "file"
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "unreadable":
        link_to_nowhere(path)
    elif obstacle == "binary":
        path.write_bytes(b"\xff\xfe")
    assert (files.text(path), files.number(path), KeptFile(path).text()) == (None, None, None)
    assert files.kept([path]) == []


def test_numbers_are_of_the_files_that_hold_one(tmp_path: Path) -> None:
    for name, contents in {"a": "1", "b": "max", "c": "3"}.items():
        (tmp_path / name).write_text(contents)
    assert files.numbers(tmp_path / name for name in "abcd") == [1, 3]


def test_a_kept_file_shows_what_is_in_it_now(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_text("1\n")
    kept = KeptFile(path)
    found = [kept.number()]
    path.write_text("23\n")
    found.append(kept.number())
    kept.close()
    assert [*found, kept.number(), kept.is_open] == [1, 23, None, False]


def test_a_file_of_the_kernel_is_made_anew_at_each_reading() -> None:
    kept = KeptFile(Path("/proc/uptime"))
    first = kept.text()
    assert first
    wait_until(lambda: kept.text() != first, "another uptime")
    kept.close()

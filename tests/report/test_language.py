"""``bench.report.language``: every text is in each catalogue, and numbers and dates are those of the readers."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from bench.criteria.facts import FACTS, STATES
from bench.message import joined, say
from bench.report import language, panels
from bench.report.language import PLAIN
from tests.checkout import ROOT

CATALOGUES = sorted(language.FOLDER.glob("*.po"))
# Words that are kept in tables, and said by whoever looks them up.
TABLES = (
    *(one.words for one in FACTS.values()),
    *(one.words for one in STATES.values()),
    *(one.title for one in (*panels._GPU, *panels._CPU)),
    *("criterion", "worst device", "observed", "interval", "limit", "verdict"),  # the head of a table in Markdown
)


def collected() -> set[str]:
    """Every template that any file of ours says, and what is kept in tables."""
    found = set(TABLES)
    for path in (ROOT / "bench").rglob("*.py"):
        found |= _templates(path, "python", "say")
    for path in (ROOT / "bench" / "report" / "templates").glob("*.j2"):
        found |= _templates(path, "jinja2.ext:babel_extract", "_")
    # A template of nothing but placeholders and marks is the same in each language.
    return {
        one for one in found if any(part.isalpha() for literal, *_ in string.Formatter().parse(one) for part in literal)
    }


def _templates(path: Path, method: str, keyword: str) -> set[str]:
    found = extract_from_file(method, path, keywords={keyword: None})
    return {message for _, message, _, _ in found if isinstance(message, str)}


def entries(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        for one in read_po(file):
            if one.id:
                assert not one.fuzzy, one.id
                yield str(one.id), str(one.string)


def placeholders(template: str) -> list[tuple[str, str]]:
    return sorted((name, spec or "") for _, name, spec, _ in string.Formatter().parse(template) if name is not None)


def test_each_language_that_can_be_asked_for_has_its_catalogue() -> None:
    assert {path.stem for path in CATALOGUES} == set(language.LOCALES) - {"en"}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_has_every_text_and_no_other(path: Path) -> None:
    translated = [template for template, _ in entries(path)]
    assert len(translated) == len(set(translated))
    assert sorted(collected() - set(translated)) == []
    assert sorted(set(translated) - collected()) == []


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_translation_says_all_that_the_text_does(path: Path) -> None:
    for template, translation in entries(path):
        assert translation.strip(), template
        assert placeholders(translation) == placeholders(template), template


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_is_in_nfc(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "english", "vietnamese"),
    [
        ("755.0", "755.0", "755,0"),
        ("1234.5", "1,234.5", "1.234,5"),
        ("0.001234", "0.001234", "0,001234"),
        ("-12", "-12", "-12"),
        ("1e-07", "0.0000001", "0,0000001"),
        ("∞", "∞", "∞"),
        ("–", "–", "–"),
    ],
)
def test_numbers_have_the_marks_of_the_language(text: str, english: str, vietnamese: str) -> None:
    assert language.load("en").number(text) == english
    assert language.load("vi").number(text) == vietnamese
    assert PLAIN.number(text) == text


def test_units_are_the_same_everywhere() -> None:
    assert language.load("vi").figure(7.98e14, "FLOP/s") == "798,0 TFLOP/s"
    assert language.load("vi").figure(0.00712, "s") == "7,120 ms"
    assert language.load("vi").figure(None, "s") == "–"


def test_a_moment_is_written_as_readers_write_one() -> None:
    moment = "2026-11-22T05:15:00.000000+00:00"
    assert language.load("en").moment(moment) == "22 November 2026, 05:15:00 UTC"
    assert language.load("vi").moment(moment) == "05:15:00 UTC, 22 tháng 11, 2026"


def test_what_is_no_moment_is_shown_as_it_is_and_one_without_a_zone_is_in_utc() -> None:
    assert language.load("vi").moment("yesterday") == "yesterday"
    assert language.load("en").moment("2026-11-22T05:15:00") == "22 November 2026, 05:15:00 UTC"


def test_a_message_is_said_in_the_language_with_all_that_is_in_it() -> None:
    why = say("error {error:.6g}, where {tolerance:.6g} is tolerated", error=0.25, tolerance=0.01)
    message = say("wrong answer in replicate {replicate}: {why}", replicate=1234, why=why)
    assert message == "wrong answer in replicate 1234: error 0.25, where 0.01 is tolerated"
    found = language.load("vi").text(message)
    assert "1.234" in found and "0,25" in found and "tolerated" not in found


def test_others_words_stay_as_they_are() -> None:
    words = "CUDA error: {not} a template 1.5"
    assert language.load("vi").text(words) == words
    assert language.load("vi").text(say("replicate {replicate}: {why}", replicate=1, why=words)).endswith(words)


@given(st.lists(st.text()))
def test_what_is_joined_is_the_text_that_joining_makes(parts: list[str]) -> None:
    assert joined("; ", parts) == "; ".join(filter(None, parts))

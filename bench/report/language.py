"""``Language``: what a page says things in, its catalogue, and how its readers write numbers and dates.

A catalogue is a gettext file, ``languages/<code>.po``, from the English template to the other language's. English is
the language of the templates, so it has none. Names of workloads, devices and criteria, and what libraries said, are
others' words and stay as they are; so do the symbols of units.
"""

from __future__ import annotations

import datetime as dt
import functools
import string
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from bench import units
from bench.errors import UsageError
from bench.message import Message, say

FOLDER = Path(__file__).parent / "languages"
# The locale of each: English as much of the world writes it, with the day before the month.
LOCALES: Mapping[str, str] = {"en": "en_GB", "vi": "vi"}


@dataclass(frozen=True)
class Language:
    code: str
    catalogue: Mapping[str, str]
    locale: str | None = None  # of Unicode's CLDR; None: numbers as Python writes them, as on a terminal

    def say(self, template: str, **values: object) -> str:
        """A template of this program's in this language."""
        return self.text(say(template, **values))

    def text(self, words: str) -> str:
        """A message in this language; others' words as they are."""
        if not isinstance(words, Message) or self.locale is None:
            return str(words)
        template = self.catalogue.get(words.template, words.template)
        return _Formatter(self).vformat(template, (), words.values)

    def number(self, text: str) -> str:
        """A number as Python writes it, with the marks of this language; what is none (``∞``, ``–``) as it is."""
        try:
            number = Decimal(text)
        except InvalidOperation:
            return text
        exponent = number.as_tuple().exponent
        if self.locale is None or not isinstance(exponent, int):
            return text
        from babel.numbers import format_decimal

        pattern = "#,##0" + ("." + "0" * -exponent if exponent < 0 else "")
        return format_decimal(number, format=pattern, locale=self.locale)

    def figure(self, value: float | None, unit: str, digits: int = 4) -> str:
        """As `bench.units.show`, ``798,0 TFLOP/s``."""
        number, _, shown_unit = units.show(value, "" if unit == "1" else unit, digits).partition(" ")
        return f"{self.number(number)} {shown_unit}".strip()

    def moment(self, text: str) -> str:
        """An ISO 8601 time in UTC, to the second; what is none, as it is."""
        from babel.dates import format_date, format_time

        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            return text
        moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment
        locale = self.locale or LOCALES["en"]
        date, time = format_date(moment, "long", locale=locale), format_time(moment, "medium", locale=locale)
        return self.say("{date}, {time} UTC", date=date, time=time)


class _Formatter(string.Formatter):
    """Fills a template: with messages in the language, and with numbers in its marks."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, str):
            return self.language.text(value)
        found = format(value, format_spec)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return self.language.number(found) if is_number else found


PLAIN = Language("en", {})  # the terminal's, and that of files for programs


@functools.cache
def load(code: str) -> Language:
    """A language that pages can be had in, ``en`` or ``vi``.

    Raises:
        UsageError: Babel is not installed.
    """
    try:
        from babel.messages.pofile import read_po
    except ImportError:
        raise UsageError("a page needs Babel, which is not installed", "pip install babel") from None
    path = FOLDER / f"{code}.po"
    if not path.exists():
        return Language(code, {}, LOCALES[code])
    with path.open("rb") as file:
        entries = read_po(file, locale=code)
    return Language(code, {str(one.id): str(one.string) for one in entries if one.id}, LOCALES[code])

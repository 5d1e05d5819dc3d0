"""A value of a criteria file, checked: the whole of it, or one line that names file, criterion and key."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bench import registry, units
from bench.criteria.facts import LIMITS, Kind
from bench.criteria.model import Limit, is_version
from bench.errors import UsageError

SEE = "The format is described in docs/acceptance.md"
_LIMITS = ("at_least", "at_most", "equal", "one_of", "none_of")


class Values:
    """Reads values from the tables of one file; ``place`` is the criterion that an error names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def between(self, entry: Mapping[str, Any], place: str, key: str, least: float, most: float) -> float:
        if key not in entry:
            self.bad(place, key, "is missing")
        if not is_number(entry[key]) or not least <= entry[key] <= most:
            self.bad(place, key, f"is {shown(entry[key])}; it is a number from {least:g} to {most:g}")
        return float(entry[key])

    def workload(self, entry: Mapping[str, Any], place: str, key: str = "workload") -> str:
        text = self.text(entry, key, place)
        try:
            return registry.resolve(text).name
        except UsageError as error:
            self.bad(place, key, f"{error.what}. {error.remedy.partition('. ')[0]}")

    def unit(self, entry: Mapping[str, Any], place: str) -> tuple[float, str]:
        try:
            return units.base_unit(self.text(entry, "unit", place))
        except UsageError as error:
            self.bad(place, "unit", str(error))

    def factor(self, entry: Mapping[str, Any], place: str, unit: str) -> float:
        """What the file's unit is in the value's own; it may be left out where there is but one."""
        if "unit" not in entry:
            if unit == "B":
                self.bad(place, "unit", "is missing: GB or GiB")
            return 1.0
        if entry["unit"] == unit:
            return 1.0
        factor, base = self.unit(entry, place)
        if base != unit:
            self.bad(place, "unit", f"is {shown(entry['unit'])}; the value is in {unit}")
        return factor

    def limit(
        self, entry: Mapping[str, Any], place: str, kind: Kind, factor: float, allowed: Sequence[str] = _LIMITS
    ) -> Limit:
        allowed = [name for name in LIMITS[kind] if name in allowed]
        stated = [name for name in _LIMITS if name in entry]
        for name in stated:
            if name not in allowed:
                self.bad(place, name, f"is no limit of this; there are: {', '.join(allowed)}")
        if not stated:
            self.bad(place, " or ".join(allowed), "is missing: the limit")
        if len(stated) > 1 and set(stated) != {"at_least", "at_most"}:
            self.bad(place, stated[1], f"cannot stand beside {stated[0]!r}")
        limit = Limit(**{name: self.value(entry[name], name, place, kind, factor) for name in stated})
        if len(stated) == 2 and not _rises(limit):
            self.bad(place, "at_least", "is above 'at_most': nothing can meet both")
        return limit

    def value(self, value: Any, name: str, place: str, kind: Kind, factor: float) -> Any:
        """A limit's value in base units."""
        if name in ("one_of", "none_of"):
            if not isinstance(value, list) or not value or not all(is_text(each) for each in value):
                self.bad(place, name, f"is {shown(value)}; it is a list of texts")
            return tuple(value)
        if kind == "number":
            if not is_number(value):
                self.bad(place, name, f"is {shown(value)}; it must be a finite number")
            return value if factor == 1.0 else value * factor
        if kind == "yes-no" and type(value) is not bool:
            self.bad(place, name, f"is {shown(value)}; it must be true or false")
        if kind in ("text", "version") and not is_text(value):
            self.bad(place, name, f"is {shown(value)}; it must be a text")
        if kind == "version" and not is_version(value):
            self.bad(place, name, f'is {shown(value)}; it must be a version such as "580.95"')
        return value

    def positive_and_alone(self, limit: Limit, place: str) -> None:
        stated = limit.stated
        if len(stated) > 1:
            self.bad(place, "at_most", "cannot stand beside 'at_least': write two criteria")
        ((name, value),) = stated.items()
        if not 0 < value < 1e30:
            self.bad(place, name, f"is {shown(value)}; it must be above 0 and below 1e30")

    def one_of(self, entry: Mapping[str, Any], key: str, known: Any, place: str) -> str:
        text = self.text(entry, key, place)
        if text not in known:
            self.bad(place, key, f"is {shown(text)}; there are: {', '.join(known)}")
        return text

    def text(self, entry: Mapping[str, Any], key: str, place: str) -> str:
        if key not in entry:
            self.bad(place, key, "is missing")
        if not is_text(entry[key]):
            self.bad(place, key, f"is {shown(entry[key])}; it must be a text")
        found: str = entry[key]
        return found

    def check_keys(self, data: Mapping[str, Any], known: Sequence[str], place: str) -> None:
        for key in data:
            if key not in known:
                self.bad(place, key, f"is not a key here; there are: {', '.join(known)}")

    def bad(self, place: str, key: str, what: str) -> NoReturn:
        raise UsageError(f"{self.path}{f', {place}' if place else ''}: {key!r} {what}", SEE)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30 and math.isfinite(value)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _rises(limit: Limit) -> bool:
    low, high = limit.at_least, limit.at_most
    if isinstance(low, str) and isinstance(high, str):
        return Limit(at_most=high).holds(low)
    return not isinstance(low, str) and not isinstance(high, str) and (low or 0) <= (high or 0)


def shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python shows
        return "a number beyond all measure"
    return text if len(text) <= 40 else f"{text[:20]}…"

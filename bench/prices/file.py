"""``Prices``: a TOML file of what machines and power cost, checked key by key.

currency = "VND"                     # what amounts are shown in; needed only where the file names both
vnd_per_usd = 26_000                 # needed only where both are named, and then with its date
vnd_per_usd_date = 2026-11-20

[defaults]                           # for every machine that does not say otherwise
lifetime_years = 4
utilisation = 0.6                    # share of its life in which it does useful work
power_price_vnd_per_kwh = 2_500
pue = 1.4                            # power usage effectiveness: the facility's power over the machines'

[[machine]]                          # as many as there are prices
match = "vendor-a*"                  # the name of a side, node or device; globs, or a list of them
price_usd = 250_000
devices = 8                          # that share the price, the yearly cost and the host's power
kind = "cuda"                        # of devices that this is the price of; of any, unless said

[vary]                               # factors between which an assumption is varied; 0.5 to 2 unless said
power_price = [0.5, 3]
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import UsageError

Currency = Literal["VND", "USD"]

ASSUMPTIONS = ("price", "lifetime", "utilisation", "power_price", "pue")
_CURRENCIES: tuple[Currency, ...] = ("VND", "USD")
_AMOUNTS = ("price_{}", "yearly_cost_{}", "power_price_{}_per_kwh")
_KINDS = ("cuda", "cpu", "fake")
_NUMBER = (int, float)
# key -> (least, whether the least itself is allowed, greatest)
_RANGES: dict[str, tuple[float, bool, float]] = {
    "lifetime_years": (0, False, 100),
    "utilisation": (0, False, 1),
    "pue": (1, True, 10),
    "devices": (1, True, 1e6),
    "power_w": (0, False, 1e9),
    "host_power_w": (0, True, 1e9),
}
_FORMAT = "The format is described in docs/prices.md"


@dataclass(frozen=True)
class Machine:
    """What is assumed of one kind of machine; every figure is per device, amounts are in the file's currency."""

    match: tuple[str, ...]
    price: float
    lifetime_years: float
    utilisation: float
    power_price_per_kwh: float
    pue: float
    kind: str | None = None  # of device: "cuda", "cpu", "fake"; None for any
    yearly_cost: float = 0.0
    power_w: float | None = None  # of the device, for where it was not measured
    host_power_w: float = 0.0  # of what serves the device and is not in its own power

    def is_for(self, name: str) -> bool:
        return any(pattern == name or fnmatch.fnmatchcase(name, pattern) for pattern in self.match)


@dataclass(frozen=True)
class Prices:
    """A file of prices."""

    path: Path
    currency: Currency
    machines: tuple[Machine, ...]
    vary: Mapping[str, tuple[float, float]]  # assumption -> least and greatest factor
    vnd_per_usd: float | None = None
    vnd_per_usd_date: dt.date | None = None

    def machine(self, kind: str, side: str, nodes: Sequence[str], devices: Sequence[str]) -> Machine | None:
        """The machine that a side's devices of a kind are: by the side's name, else its nodes', else its devices'.

        Returns:
            None where no machine is meant, or where the names lead to several.
        """
        machines = [one for one in self.machines if one.kind in (None, kind)]

        def of(names: Sequence[str]) -> list[Machine | None]:
            return [next((one for one in machines if one.is_for(name)), None) for name in dict.fromkeys(names)]

        # A device without a price may be of another kind; a node without one belongs to the side all the same.
        for found in (of([side]), of(nodes), [one for one in of(devices) if one is not None]):
            if any(found):
                return found[0] if all(one is found[0] for one in found) else None
        return None


def load(path: Path) -> Prices:
    """The prices in a TOML file.

    Raises:
        UsageError: the file cannot be read, or a key in it is wrong; the text says which and where.
    """
    try:
        source = path.read_text(encoding="utf-8-sig")
        return _Reader(path, source).prices(tomllib.loads(source))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}", "Name a readable TOML file") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deep", _FORMAT) from None
    except (ValueError, OverflowError) as error:  # TOML's own, or an integer beyond what Python takes in or shows
        raise UsageError(f"{path}: {error}", _FORMAT) from None


class _Reader:
    """Checks every key of a file of prices, and knows the line a key stands on."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.lines = source.splitlines()
        self.currency: Currency = "VND"
        self.vnd_per_usd: float | None = None

    def prices(self, data: Mapping[str, Any]) -> Prices:
        self.check_types(
            data,
            {
                "currency": str,
                "vnd_per_usd": _NUMBER,
                "vnd_per_usd_date": dt.date,
                "defaults": dict,
                "machine": list,
                "vary": dict,
            },
            _Place(),
        )
        defaults = data.get("defaults", {})
        entries = data.get("machine", [])
        self.check_terms(defaults, _Place(("defaults",)))
        if not entries:
            raise self.bad(_Place(), "machine", "is missing: without a price there is nothing to work out")
        for index, entry in enumerate(entries):
            place = _Place(("machine",), index)
            if not isinstance(entry, dict):
                raise self.bad(_Place(), "machine", "is a list of tables: write [[machine]]")
            self.check_terms(entry, place, extra={"match": (str, list), "kind": str})
        self.choose_currency(data, [defaults, *entries])
        return Prices(
            path=self.path,
            currency=self.currency,
            machines=tuple(self.machine(defaults, entry, index) for index, entry in enumerate(entries)),
            vary=self.vary(data.get("vary", {})),
            vnd_per_usd=self.vnd_per_usd,
            vnd_per_usd_date=data.get("vnd_per_usd_date"),
        )

    def check_terms(self, data: Mapping[str, Any], place: _Place, extra: Mapping[str, Any] | None = None) -> None:
        """The keys that a machine and the defaults have in common."""
        amounts = [amount.format(currency.lower()) for amount in _AMOUNTS for currency in _CURRENCIES]
        numbers: dict[str, Any] = dict.fromkeys([*amounts, *_RANGES], _NUMBER)
        self.check_types(data, {**(extra or {}), **numbers, "devices": int}, place)
        for key in amounts:
            self.check_range(data, key, place, (0, True, math.inf))
        for key, limits in _RANGES.items():
            self.check_range(data, key, place, limits)
        for amount in _AMOUNTS:
            named = [key for key in (amount.format(currency.lower()) for currency in _CURRENCIES) if key in data]
            if len(named) > 1:
                raise self.bad(place, named[1], f"and {named[0]!r} say the same thing twice; leave one out")

    def choose_currency(self, data: Mapping[str, Any], sections: Sequence[Mapping[str, Any]]) -> None:
        """What is shown, and the rate that it takes."""
        keys = [key for section in sections for key in section]
        named = [one for one in _CURRENCIES if any(one.lower() in key.split("_") for key in keys)]
        wanted = data.get("currency", named[0] if len(named) == 1 else None)
        if wanted is None:
            raise self.bad(_Place(), "currency", "is missing, and the file names both VND and USD")
        if wanted not in _CURRENCIES:
            raise self.bad(_Place(), "currency", f"is {wanted!r}; there are: {', '.join(_CURRENCIES)}")
        self.currency = wanted
        self.check_range(data, "vnd_per_usd", _Place(), (0, False, math.inf))
        self.vnd_per_usd = data.get("vnd_per_usd")
        if self.vnd_per_usd is None and any(one != wanted for one in named):
            raise self.bad(_Place(), "vnd_per_usd", "is missing, and both VND and USD are in use")
        if self.vnd_per_usd is not None and "vnd_per_usd_date" not in data:
            raise self.bad(_Place(), "vnd_per_usd_date", "is missing: a rate is known by its date", near="vnd_per_usd")

    def machine(self, defaults: Mapping[str, Any], entry: Mapping[str, Any], index: int) -> Machine:
        place = _Place(("machine",), index)
        patterns = entry.get("match", [])
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
            raise self.bad(place, "match", "names no side, node or device")
        if entry.get("kind") not in (None, *_KINDS):
            raise self.bad(place, "kind", f"is {entry['kind']!r}; there are: {', '.join(_KINDS)}")
        amounts = [self.amount(entry, defaults, amount) for amount in _AMOUNTS]
        terms = {**defaults, **entry}
        for key, value in [("price_vnd", amounts[0]), ("power_price_vnd_per_kwh", amounts[2])]:
            if value is None:
                either = f"{key} or {key.replace('vnd', 'usd')}"
                raise self.bad(place, either, "is missing; give it here or under [defaults]")
        for key in ("lifetime_years", "utilisation", "pue"):
            if key not in terms:
                raise self.bad(place, key, "is missing; give it here or under [defaults]")
        devices = terms.get("devices", 1)
        return Machine(
            match=tuple(patterns),
            kind=entry.get("kind"),
            price=(amounts[0] or 0.0) / devices,
            lifetime_years=float(terms["lifetime_years"]),
            utilisation=float(terms["utilisation"]),
            power_price_per_kwh=amounts[2] or 0.0,
            pue=float(terms["pue"]),
            yearly_cost=(amounts[1] or 0.0) / devices,
            power_w=terms.get("power_w"),
            host_power_w=terms.get("host_power_w", 0.0) / devices,
        )

    def amount(self, entry: Mapping[str, Any], defaults: Mapping[str, Any], key: str) -> float | None:
        """An amount in the file's currency: the machine's own, else the default."""
        for section in (entry, defaults):
            for currency in _CURRENCIES:
                value = section.get(key.format(currency.lower()))
                if value is None:
                    continue
                if currency == self.currency:
                    return float(value)
                rate = self.vnd_per_usd or math.nan  # choose_currency has seen to it
                return float(value) * rate if currency == "USD" else float(value) / rate
        return None

    def vary(self, data: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        place = _Place(("vary",))
        self.check_types(data, dict.fromkeys(ASSUMPTIONS, list), place)
        found = dict.fromkeys(ASSUMPTIONS, (0.5, 2.0))
        for key, ends in data.items():
            is_pair = len(ends) == 2 and all(isinstance(end, _NUMBER) and not isinstance(end, bool) for end in ends)
            if not (is_pair and 0 < ends[0] <= 1 <= ends[1] < math.inf):
                raise self.bad(place, key, "must be two factors around 1, such as [0.5, 2]")
            found[key] = (float(ends[0]), float(ends[1]))
        return found

    def check_types(self, data: Mapping[str, Any], known: Mapping[str, Any], place: _Place) -> None:
        for key, value in data.items():
            if key not in known:
                raise self.bad(place, key, f"is not a key here; there are: {', '.join(known)}")
            if not isinstance(value, known[key]) or isinstance(value, bool | dt.datetime):
                raise self.bad(place, key, f"has a value of the wrong kind: {_shown(value)}")

    def check_range(self, data: Mapping[str, Any], key: str, place: _Place, limits: tuple[float, bool, float]) -> None:
        least, may_be_least, greatest = limits
        value = data.get(key)
        if value is None:
            return
        is_inside = value <= greatest and (value >= least if may_be_least else value > least)
        if not (is_inside and value < 1e300):  # beyond any float's range too
            words = f"{'at least' if may_be_least else 'above'} {least:g}"
            words += f" and at most {greatest:g}" if math.isfinite(greatest) else " and finite"
            raise self.bad(place, key, f"is {_shown(value)}; it must be {words}")

    def bad(self, place: _Place, key: str, what: str, near: str = "") -> UsageError:
        """The error of a key, with the line it stands on, or that of its section where it is missing."""
        first, last = self.section(place)
        word = re.compile(rf"""(^|[\[{{,.])\s*["']?{re.escape(near or key)}["']?\s*[\].=]""")
        numbers = range(first, last + 1)
        line = next((number for number in numbers if word.search(self.lines[number - 1])), first)
        return UsageError(f"{self.path}, line {line}: {key!r} {what}", _FORMAT)

    def section(self, place: _Place) -> tuple[int, int]:
        """The first and the last line of a table; the whole file for one that is written inline."""
        header = re.compile(r"^\s*\[+\s*" + r"\s*\.\s*".join(place.keys) + r"\s*\]+") if place.keys else None
        heads = [number for number, line in enumerate(self.lines, 1) if re.match(r"\s*\[", line)]
        if header is None:
            return 1, len(self.lines)
        mine = [number for number in heads if header.match(self.lines[number - 1])]
        if place.index >= len(mine):
            return 1, len(self.lines)
        first = mine[place.index]
        return first, next((number - 1 for number in heads if number > first), len(self.lines))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:20]}…"


@dataclass(frozen=True)
class _Place:
    """A table of the file, and which of those that share its name."""

    keys: tuple[str, ...] = ()
    index: int = 0

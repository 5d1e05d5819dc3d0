"""Units: base units are stored, scaled ones are shown, and decimal and binary never mix.

Stored units are ``FLOP/s``, ``OP/s``, ``B/s``, ``token/s``, ``s``, ``ns``: no prefix. Showing picks the
decimal prefix; only memory sizes are ever shown in binary units, and then as GiB.
"""

from __future__ import annotations

import math
import re

from bench.errors import UsageError

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|min|h|d)?", re.ASCII)
_BASES = {
    "1": (1.0, "1"),
    "%": (0.01, "1"),
    "s": (1.0, "s"),
    "ms": (1e-3, "s"),
    "µs": (1e-6, "s"),
    "ns": (1e-9, "s"),
    **{f"{prefix}iB": (float(1024**power), "B") for power, prefix in enumerate("KMGT", 1)},
}
_RATE = re.compile(r"(?P<prefix>[PTGMk]?)(?P<base>(FLOP|OP|B|1|[a-z][a-z ]*)/s|B)")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def scaled(value: float, unit: str) -> tuple[float, str]:
    """The value under the decimal prefix that leaves at least one digit before the point."""
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return value / factor, prefix + unit
    return value, unit


def show(value: float | None, unit: str, digits: int = 4) -> str:
    """``show(7.98e14, "FLOP/s") == "798.0 TFLOP/s"``; an unknown value is a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    if unit == "s":
        return show_ns(value * 1e9)
    number, shown_unit = scaled(value, unit)
    return f"{significant(number, digits)} {shown_unit}"


def significant(number: float, digits: int) -> str:
    """The number rounded to significant digits, never in exponent form; "∞" beyond all numbers, a dash for none."""
    if not math.isfinite(number):
        return "–" if math.isnan(number) else "∞" if number > 0 else "-∞"
    if number == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(number))))
    return f"{number:.{decimals}f}"


def show_ns(elapsed_ns: float) -> str:
    """A time under the unit people would say: ns, µs, ms, s."""
    number, unit = scaled_ns(elapsed_ns)
    return f"{significant(number, 3 if unit == 'ns' else 4)} {unit}"


def scaled_ns(elapsed_ns: float) -> tuple[float, str]:
    """A time's number and unit as `show_ns` has them."""
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if abs(elapsed_ns) >= factor:
            return elapsed_ns / factor, unit
    return elapsed_ns, "ns"


def show_bytes(size: float) -> str:
    """A memory size in binary units: ``show_bytes(2**31) == "2.00 GiB"``."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(size) >= 2**power:
            return f"{size / 2**power:.2f} {unit}"
    return f"{size:.0f} B"


def show_duration(seconds: float) -> str:
    """Whole seconds as a clock would show them: ``1:05``, ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def parse_duration(text: str) -> float:
    """Seconds from ``90``, ``90s``, ``2m``, ``1.5h``, ``30d`` or ``500ms``.

    Raises:
        UsageError: the text is none of these, or not above zero.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a duration", "Write seconds or a unit: 90, 90s, 2m, 1.5h, 30d")
    seconds = float(match["number"]) * _SECONDS[match["unit"] or "s"]
    if seconds <= 0:
        raise UsageError(f"{text!r} is no time at all", "Give some: 90, 90s, 2m, 1.5h, 30d")
    return seconds


def base_unit(text: str) -> tuple[float, str]:
    """What one of a unit is in its base unit: ``base_unit("TFLOP/s") == (1e12, "FLOP/s")``.

    Raises:
        UsageError: it is no unit of a figure.
    """
    if text in _BASES:
        return _BASES[text]
    match = _RATE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no unit", "Write FLOP/s, B/s, token/s or s, with a prefix such as T or m, or 1")
    factors = {prefix: factor for factor, prefix in _PREFIXES}
    return factors.get(match["prefix"], 1.0), match["base"]

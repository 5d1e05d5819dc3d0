"""``bench.units``: what is shown is the stored value, under the right prefix."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import units
from bench.errors import UsageError

FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (7.98e14, "FLOP/s", "798.0 TFLOP/s"),
        (1e15, "OP/s", "1.000 POP/s"),
        (3.35e12, "B/s", "3.350 TB/s"),
        (999.4, "token/s", "999.4 token/s"),
        (0, "B/s", "0 B/s"),
        (12345678, "token/s", "12.35 Mtoken/s"),
        (1.5e-3, "s", "1.500 ms"),
    ],
)
def test_show(value: float, unit: str, shown: str) -> None:
    assert units.show(value, unit) == shown


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_unknown_is_a_dash(value: float | None) -> None:
    assert units.show(value, "B/s") == "–"


# Every decade as often as any other, so that every prefix is tried.
MAGNITUDES = st.builds(lambda digits, exponent: digits * 10.0**exponent, st.floats(1, 9.99), st.integers(0, 16))


@given(MAGNITUDES, st.sampled_from([-1, 1]))
def test_shown_value_is_the_stored_one(magnitude: float, sign: int) -> None:
    value = sign * magnitude
    match = re.fullmatch(r"(-?[\d.]+) ([kMGTP]?)B/s", units.show(value, "B/s"))
    assert match is not None
    assert float(match[1]) * FACTORS[match[2]] == pytest.approx(value, rel=5.1e-4)


@given(MAGNITUDES)
def test_scaled_leaves_a_digit_before_the_point(value: float) -> None:
    number, unit = units.scaled(value, "FLOP/s")
    assert 1 <= number < 1000
    assert number * FACTORS[unit.removesuffix("FLOP/s")] == pytest.approx(value, rel=1e-12)


@given(st.floats(min_value=1e-9, max_value=1e12), st.integers(1, 9))
def test_significant_digits(number: float, digits: int) -> None:
    shown = units.significant(number, digits)
    assert "e" not in shown
    assert float(shown) == pytest.approx(number, rel=0.51 * 10.0 ** (1 - digits))


@pytest.mark.parametrize(
    ("elapsed_ns", "shown"),
    [(1, "1.00 ns"), (999, "999 ns"), (1000, "1.000 µs"), (2_500_000, "2.500 ms"), (1.5e9, "1.500 s")],
)
def test_show_ns(elapsed_ns: float, shown: str) -> None:
    assert units.show_ns(elapsed_ns) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (2**31, "2.00 GiB"), (3 * 2**40, "3.00 TiB")],
)
def test_memory_sizes_are_binary(size: int, shown: str) -> None:
    assert units.show_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (65, "1:05"), (59.6, "1:00"), (3723, "1:02:03"), (-3, "0:00")]
)
def test_show_duration(seconds: float, shown: str) -> None:
    assert units.show_duration(seconds) == shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("2m", 120), ("2min", 120), ("1.5h", 5400), ("30d", 2592000), (" 500 ms ", 0.5)],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@given(
    st.integers(1, 10**6),
    st.sampled_from([("ms", 1e-3), ("s", 1), ("m", 60), ("min", 60), ("h", 3600), ("d", 86400)]),
)
def test_every_whole_duration_is_read(number: int, unit: tuple[str, float]) -> None:
    assert units.parse_duration(f"{number}{unit[0]}") == pytest.approx(number * unit[1])


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1e3", "1w", "s", "1 2", "nan", "٣"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a duration|no time at all"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "factor", "base"),
    [
        ("FLOP/s", 1.0, "FLOP/s"),
        ("TFLOP/s", 1e12, "FLOP/s"),
        ("POP/s", 1e15, "OP/s"),
        ("GB/s", 1e9, "B/s"),
        ("kB/s", 1e3, "B/s"),
        ("token/s", 1.0, "token/s"),
        ("Mtoken/s", 1e6, "token/s"),
        ("GB", 1e9, "B"),
        ("GiB", 2.0**30, "B"),
        ("ms", 1e-3, "s"),
        ("ns", 1e-9, "s"),
        ("1", 1.0, "1"),
        ("%", 0.01, "1"),
    ],
)
def test_a_unit_has_a_factor_and_a_base(text: str, factor: float, base: str) -> None:
    assert units.base_unit(text) == (factor, base)


@pytest.mark.parametrize("text", ["", "tflop/S", "GB/h", "GFLOPS", "TiFLOP/s", "m/s²", "T1"])
def test_what_is_no_unit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no unit"):
        units.base_unit(text)

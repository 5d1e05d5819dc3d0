"""The pictures of a comparison: round scales, text that is text, and colours that are the page's."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from bench.report import plots
from bench.report.plots import Bar, Point, Roof, Row, Strip

SIDES = ["alpha", "beta"]
ROWS = [Row(f"matmul/bf16/{2**power}", [Bar(1, 1.1, 1.05, 1.15)]) for power in range(4)]
POINTS = [Point(0, "alpha", 100.0, 1.0, None, None, True), Point(1, "beta", 120.0, 1.2, 1.1, 1.3, True)]


def drawn() -> dict[str, str]:
    return {
        "intervals": plots.intervals(ROWS, SIDES, "× alpha"),
        "roofline": plots.roofline(
            [Roof(0, {"bf16": 8e14}, 3e12)], [Point(0, "decode", 1.0, 2e12), Point(1, "matmul", 900.0, 7e14)], SIDES
        ),
        "pareto": plots.pareto(POINTS, SIDES, "W"),
        "leads": plots.leads([Strip("PUE, stated 1.4", [(0.8, 1.2, 0, True), (1.2, 2.0, 1, False)])], SIDES),
    }


@pytest.fixture(scope="module")
def pictures() -> dict[str, str]:
    return drawn()


def texts(svg: str) -> list[str]:
    return [re.sub("<[^>]*>", "", one) for one in re.findall(r"<text.*?</text>", svg, flags=re.DOTALL)]


def test_they_are_whole_elements_as_wide_as_there_is_room(pictures: dict[str, str]) -> None:
    for svg in pictures.values():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "viewBox" in root.attrib
        assert not {"width", "height"} & set(root.attrib)


def test_every_colour_is_the_pages(pictures: dict[str, str]) -> None:
    for name, svg in pictures.items():
        assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000"}, name  # matplotlib's own, of what is not seen
        assert "var(--ink)" in svg
        assert "var(--side-1)" in svg


def test_text_says_what_is_shown(pictures: dict[str, str]) -> None:
    assert {"matmul/bf16/8", "beta", "1×", "× alpha"} <= set(texts(pictures["intervals"]))
    assert {"alpha", "bf16", "decode", "matmul", "1 PFLOP/s"} <= set(texts(pictures["roofline"]))
    assert {"alpha", "beta", "W"} <= set(texts(pictures["pareto"]))
    assert {"PUE, stated 1.4", "alpha", "beta"} <= set(texts(pictures["leads"]))


def test_the_same_picture_has_the_same_bytes(pictures: dict[str, str]) -> None:
    assert drawn() == pictures


def test_an_interval_that_is_not_known_is_an_open_mark() -> None:
    svg = plots.intervals([Row("x", [Bar(1, 1.1, None, None)])], SIDES, "")
    known = plots.intervals([Row("x", [Bar(1, 1.1, 1.0, 1.2)])], SIDES, "")
    assert svg.count("var(--side-1)") < known.count("var(--side-1)")


def test_names_never_lie_on_each_other() -> None:
    crowd = [Point(0, f"workload-{index}", 100.0 * (1 + index / 1e6), 1.0 + index / 1e6) for index in range(50)]
    ends = [Point(1, "low", 50.0, 0.5), Point(1, "high", 200.0, 1.5)]
    names = [text for text in texts(plots.pareto([*crowd, *ends], SIDES, "W")) if text.startswith("workload")]
    assert 1 <= len(names) <= 2  # one to either side


def test_a_long_name_keeps_both_ends() -> None:
    name = "decode/llama-3.2-70b-instruct/b128/ctx131072@backend=torch,compile=max-autotune"
    short = plots.short(name)
    assert len(short) <= 48
    assert short.startswith("decode/llama")
    assert short.endswith("max-autotune")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.95, 1.05, [0.96, 0.98, 1.0, 1.02, 1.04]),
        (0.5, 2.0, [0.5, 1.0, 1.5, 2.0]),
        (0.9, 3.0, [1.0, 1.5, 2.0, 2.5, 3.0]),
        (0.1, 30.0, [0.1, 0.3, 1.0, 3.0, 10.0, 30.0]),
        (0.001, 1000.0, [0.01, 1.0, 100.0]),
    ],
)
def test_ratios_on_a_scale_are_round(low: float, high: float, expected: list[float]) -> None:
    assert plots.ratio_ticks(low, high) == expected


@pytest.mark.parametrize("spread", [1.0001, 1.02, 1.3, 2.0, 5.9, 6.0, 50.0, 1e4, 1e12])
@pytest.mark.parametrize("low", [1e-6, 0.03, 0.949])
def test_a_scale_has_few_ticks_and_one_is_among_them_if_it_is_inside(low: float, spread: float) -> None:
    low, high = min(low, 0.95), max(low * spread, 1.05)
    ticks = plots.ratio_ticks(low, high)
    assert len(ticks) <= 7
    assert 1.0 in ticks
    assert all(low <= tick <= high and math.isfinite(tick) for tick in ticks)

"""``bench.report.compare`` and ``compare_text``: the same figures in every shape, and others' words are only words."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from bench.comparison.model import Comparison, EnvironmentDifference
from bench.report import compare as report
from bench.report import compare_text, page
from bench.stats import Interval, RatioTest
from tests.comparisons import WORKLOADS, make_cell
from tests.fleet import A, B, cell, compared, write

SLOW, FAST = [10.0, 10.1, 9.9], [12.0, 12.2, 11.9]


def shown(comparison: Comparison, width: int = 80) -> str:
    text = io.StringIO()
    report.show(Console(file=text, width=width, markup=False, emoji=False, highlight=False), comparison)
    return text.getvalue()


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return compared(write(tmp_path, {A: SLOW, B: SLOW}, label="x"), write(tmp_path, {A: FAST, B: SLOW}, label="y"))


def test_figures_are_those_of_the_comparison(comparison: Comparison) -> None:
    found = cell(comparison)
    assert found.ratio is not None
    assert report.ratio(found.ratio, None) == "1.203"
    assert report.ratio_interval(found.ratio) == "1.172–1.236"
    assert report.value_interval(found) == "11.66–12.42"
    assert "1.203" in shown(comparison)
    assert "1.172–1.236" in compare_text.markdown(comparison)


def test_a_ratio_without_an_interval_is_in_brackets(tmp_path: Path) -> None:
    text = shown(compared(write(tmp_path, {A: [1.0]}, label="x"), write(tmp_path, {A: [2.0]}, label="y")))
    assert "(2.000)" in text
    assert "too few replicates" in text


def test_what_an_interval_of_few_nodes_leaves_out_is_said_in_every_shape(tmp_path: Path) -> None:
    for label, values, count in (("one", SLOW, 1), ("three", SLOW, 3), ("others", FAST, 3)):
        for i in range(count):
            write(tmp_path, {A: values}, node=f"{label}-{i}", label=label)
    for reference, is_said in (("one", True), ("three", False)):
        found = compared(reference, "others", out=tmp_path)
        shapes = (shown(found), compare_text.markdown(found), compare_text.to_json(found), page.render(found))
        assert ["from hour to hour" in " ".join(text.split()) for text in shapes] == [is_said] * 4


def test_infinite_ends_are_shown_and_are_null_in_json(comparison: Comparison) -> None:
    wide = RatioTest(1.0, Interval(0.0, math.inf, 3), 0.5, 0.5)
    assert report.ratio_interval(wide) == "0–∞"
    spread = dataclasses.replace(comparison, cells=[dataclasses.replace(cell(comparison), ratio=wide)])
    (found,) = json.loads(compare_text.to_json(spread))["cells"]
    assert found["ratio"]["interval"]["high"] is None


def test_long_names_and_many_digits_stay_within_80_columns(comparison: Comparison) -> None:
    name = "a-vendor-with-a-name-of-note"
    side = dataclasses.replace(comparison.sides[1], name=name)
    cells = [make_cell(name, workload, 123.4, verdict="incomparable", is_open=True) for workload in WORKLOADS]
    text = shown(dataclasses.replace(comparison, sides=(comparison.sides[0], side), cells=cells))
    assert max(map(len, text.splitlines())) <= 80
    assert "incomparable !" in text


def test_every_workload_is_named_whole(comparison: Comparison) -> None:
    name = "prefill/llama-3.2-1b/b1/ctx512@backend=some-library"
    text = shown(dataclasses.replace(comparison, cells=[make_cell("y", name, 1.1)]))
    assert name in text.splitlines()


def test_words_of_others_are_no_markup(tmp_path: Path) -> None:
    label = "a|b*c [x](y) <i>"
    found = compared(write(tmp_path, {A: SLOW}, label=label), write(tmp_path, {A: FAST}, label="[red]z"))
    assert "[red]z" in shown(found)
    row = next(line for line in compare_text.markdown(found).splitlines() if line.startswith(f"| {A}"))
    assert row.count("|") - row.count("\\|") == 9
    assert "\\<i\\>" in row


def test_many_values_of_a_key_are_cut(comparison: Comparison) -> None:
    many = tuple(f'"{i}"' for i in range(50))
    found = dataclasses.replace(
        comparison, differences=(EnvironmentDifference("software", "driver", (many, ('"1"',))),)
    )
    lines = report.differences(found)
    assert '  driver: x "0" | "1" | "2" and 47 more; y "1"' in lines


def test_the_csv_of_a_cell_is_as_wide_as_its_heading(comparison: Comparison) -> None:
    lines = list(compare_text.csv_lines(comparison))
    assert len({line.count(",") for line in lines}) == 1
    assert len(lines) == 1 + len(comparison.cells)


def test_an_interval_of_seconds_is_under_the_unit_of_its_value() -> None:
    found = make_cell("a", value=0.0012, unit="s", interval=Interval(0.0011, 0.0013, 3))
    assert report.value_interval(found) == "1.100–1.300"


def test_no_figure_is_cut_short(comparison: Comparison) -> None:
    cells = [
        dataclasses.replace(one, value=1e12, interval=Interval(0.9981e12, 0.99912e12, 3)) for one in comparison.cells
    ]
    assert "0.9981–0.9991" in shown(dataclasses.replace(comparison, cells=cells))


def test_names_of_any_length_take_one_line_in_the_heading(tmp_path: Path) -> None:
    labels = ("x" * 200, "two\nlines\x1b[31m")
    for label in labels:
        write(tmp_path, {A: SLOW}, label=label)
    text = shown(compared(*(f"label:{label}" for label in labels), out=tmp_path))
    assert "\x1b" not in text
    assert "x" * 60 not in text.replace("\n", "")
    assert "two lines" in text

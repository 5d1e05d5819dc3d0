"""Energy and money as text: 80 columns on a terminal, tables in Markdown, and others' words in both."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.comparison.model import Comparison
from bench.prices import assess as prices
from bench.prices.model import Economics
from bench.report import prices as report
from bench.report.table import console
from tests.comparisons import changed, make_cell, make_comparison, make_side, make_whole

PRICES = """
vnd_per_usd = 26_000
vnd_per_usd_date = 2026-11-20
currency = "VND"
[defaults]
lifetime_years = 4
utilisation = 0.6
power_price_vnd_per_kwh = 2_500
pue = 1.4
power_w = 700
[[machine]]
match = "alpha"
price_usd = 250_000
devices = 8
[[machine]]
match = "*"
price_usd = 236_000
devices = 8
"""


def assessed(tmp_path: Path, comparison: Comparison | None = None) -> Economics:
    path = tmp_path / "prices.toml"
    path.write_text(PRICES)
    return prices.assess(comparison or make_whole("alpha", "beta"), prices.load(path))


def shown(economics: Economics) -> str:
    out: Console = console()
    out.file = io.StringIO()
    report.show(out, economics)
    return out.file.getvalue()


def test_the_terminal_shows_it_within_80_columns(tmp_path: Path) -> None:
    text = shown(assessed(tmp_path))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Energy and money, amounts in VND, by prices.toml (26,000 VND per USD on "
    assert any(line.split() == ["alpha", "(cuda)", "812.5", "M", "4", "0.6", "2,500", "1.4", "700"] for line in lines)
    at = lines.index("decode/llama-3.2-1b/b1/ctx512 on cuda: work for energy and money")
    assert re.split("  +", lines[at + 1]) == [
        "side",
        "power",
        "token/J",
        "with PUE",
        "VND/h",
        "VND/Mtoken",
        "ratio",
        "95 % CI",
    ]
    assert lines[at + 2].split() == ["alpha", "640", "W", "0.2812", "0.2009", "40,886", "63,096", "–", "–"]


def test_long_names_stay_within_80_columns(tmp_path: Path) -> None:
    names = "alpha", "delta-with-a-rather-long-name-2026-11-20-second-try"
    comparison = make_whole(*names, workloads=[f"matmul/bf16/4096@backend={'x' * 60}"])
    text = shown(assessed(tmp_path, comparison))
    assert max(map(len, text.splitlines())) <= 80
    assert "rather" in "".join(text.split())


def test_who_leads_says_where_it_changes_and_what_is_undecided(tmp_path: Path) -> None:
    (grid, *_) = report.sheet(assessed(tmp_path)).leads
    assert grid.title == "matmul/bf16/4096 on cuda: beta leads"
    assert grid.rows[0][:2] == ("price of beta", "767 M VND")
    words = grid.rows[0][2].split(" → ")
    assert words[::2] == ["beta", "beta?", "alpha?", "alpha"]
    assert [float(word.removesuffix(" M")) for word in words[1::2]] == sorted(
        float(word.removesuffix(" M")) for word in words[1::2]
    )
    assert grid.rows[-1][2] == "no change"


def test_an_undecided_lead_is_marked(tmp_path: Path) -> None:
    cells = [make_cell("alpha"), make_cell("beta", ratio=0.945)]
    comparison = make_comparison([make_side("alpha"), make_side("beta")], cells)
    (grid,) = report.sheet(assessed(tmp_path, comparison)).leads
    assert "? leads" in grid.title


def test_assumed_power_and_what_is_missing_are_said(tmp_path: Path) -> None:
    found = assessed(tmp_path, changed(make_whole("alpha", "beta"), 1, power_w=None))
    assert "700 W*" in shown(found)
    assert "beta: the power of its cuda is assumed, not measured, where marked" in shown(found)


def test_markdown_is_made_of_tables(tmp_path: Path) -> None:
    text = report.markdown(assessed(tmp_path))
    assert text.startswith("## Energy and money, amounts in VND")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 3
    for rows in tables:
        assert len({row.count("|") for row in rows}) == 1
        assert set(rows[1]) <= set("|-: ")


def test_others_words_stay_words_in_markdown(tmp_path: Path) -> None:
    hostile = "a|b<script>[x](http://y)*\n# z"
    cells = [make_cell("alpha", hostile), make_cell(hostile, hostile, 1.1)]
    comparison = make_comparison([make_side("alpha"), make_side(hostile)], cells)
    text = report.markdown(assessed(tmp_path, comparison))
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "\n# z" not in text
    assert "a\\|b" in text


def test_a_long_list_of_leads_is_cut_and_says_so(tmp_path: Path) -> None:
    comparison = make_whole("alpha", "beta", workloads=[f"matmul/bf16/{index + 1}" for index in range(60)])
    found = report.sheet(assessed(tmp_path, comparison))
    assert len(found.leads) == report.MOST_LEADS
    assert found.notes[-1].startswith("of 60 workloads, 40 are listed")


def test_only_the_sides_and_workloads_that_are_asked_for(tmp_path: Path) -> None:
    economics = assessed(tmp_path, make_whole("alpha", "beta", "gamma"))
    found = report.sheet(economics, {"beta"}, {("matmul/bf16/4096", "cuda")})
    assert [row[0] for row in found.assumptions.rows] == ["beta (cuda)"]
    assert [[row[0] for row in grid.rows] for grid in found.worths] == [["beta"]]
    assert len(found.leads) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.12345, "0.1235"), (999.96, "1000"), (40_886.4, "40,886"), (812.5e6, "812.5 M")],
)
def test_amounts_have_four_digits(value: float | None, text: str) -> None:
    assert report.number(value) == text


def test_nothing_assumed_makes_no_column(tmp_path: Path) -> None:
    economics = assessed(tmp_path)
    plain = {key: dataclasses.replace(one, power_w=None) for key, one in economics.machines.items()}
    columns = report.sheet(dataclasses.replace(economics, machines=plain)).assumptions.columns
    assert columns == ["side", "price", "years", "use", "per kWh", "PUE"]

"""The page of a comparison: in a real browser, without a network, with others' words in it, and what it leaves out."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import pytest

from bench.comparison.model import Cell, Comparison, Refusal
from bench.errors import OutputNotWritable
from bench.prices import assess as prices
from bench.report import page, page_pictures, plots
from bench.stats import Interval, RatioTest
from tests.checkout import ROOT
from tests.comparisons import WORKLOADS, changed, make_cell, make_comparison, make_side, make_whole
from tests.report.conftest import Browser, Opened

HOSTILE = "<script>alert(1)</script>\"'--><img src=x onerror=alert(2)>{{ 7 * 7 }}$x^2$"

PRICES = """
[defaults]
lifetime_years = 4
utilisation = 0.6
power_price_vnd_per_kwh = 2500
pue = 1.4
[[machine]]
match = "alpha"
price_vnd = 800_000_000
[[machine]]
match = "*"
price_vnd = 790_000_000
"""


def priced(tmp_path: Path, comparison: Comparison) -> prices.Economics:
    path = tmp_path / "prices.toml"
    path.write_text(PRICES)
    return prices.assess(comparison, prices.load(path))


def written(tmp_path: Path, comparison: Comparison, *, with_prices: bool = False) -> Path:
    path = tmp_path / "page.html"
    page.write(path, comparison, priced(tmp_path, comparison) if with_prices else None)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sides with everything that a page can show."""
    comparison = make_whole("alpha", "beta", "gamma")
    comparison = changed(comparison, 4, verdict="failed", value=None, ratio=None, ratio_of_values=None)
    comparison = changed(comparison, 5, is_open=True, validity=(("unfit:steal", 2),))
    comparison = dataclasses.replace(comparison, warnings=("UNFIT: 1 of 27 figures",))
    comparison = changed(comparison, 7, ratio=None, interval=None, verdict="undecided", note="one replicate")
    return written(tmp_path_factory.mktemp("whole"), comparison, with_prices=True)


# ---------------------------------------------------------------- in a browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_without_a_network_an_error_or_a_sideways_scroll(
    browser: Browser, whole: Path, width: int, scheme: str
) -> None:
    opened = browser.open(whole, width=width, scheme=scheme)
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 28)"
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_every_picture_is_there_and_its_text_can_be_read(browser: Browser, whole: Path, width: int) -> None:
    opened = browser.open(whole, width=width)
    pictures = opened.page.locator("svg[role=img]")
    assert pictures.count() >= 5  # ratios, a roofline, two Pareto fronts, and who leads
    boxes = [pictures.nth(index).bounding_box() for index in range(pictures.count())]
    assert all(box["width"] > 250 and box["height"] > 120 for box in boxes)
    # In CSS pixels, as it is seen: a telephone shrinks the pictures.
    heights = opened.page.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert min(heights) > 8
    outside = opened.page.evaluate(
        """[...document.querySelectorAll('svg')].flatMap(s => { const box = s.getBoundingClientRect();
        return [...s.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect();
        return b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1 })
        .map(t => t.textContent) })"""
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(browser: Browser, whole: Path, scheme: str) -> None:
    # WCAG 2.2, success criterion 1.4.3: a contrast of at least 4.5; 1.4.11: 3 for what is drawn.
    opened = browser.open(whole, scheme=scheme)
    text, lines = opened.page.evaluate(CONTRASTS)
    assert min(text) >= 4.5
    assert min(lines) >= 3


# The least contrasts: of each text colour on the colour behind it, and of each side's colour on a picture's card.
CONTRASTS = """() => {
  const shine = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const contrast = (a, b) => { const [x, y] = [shine(a), shine(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05) };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!c.endsWith(', 0)')) return c } };
  const words = [...document.querySelectorAll('p, th, td, dt, dd, a, h1, h2, h3, figcaption, caption')];
  const text = words.map(e => contrast(getComputedStyle(e).color, behind(e)));
  const probe = document.querySelector('figure').appendChild(document.createElement('i'));
  const lines = [...Array(8).keys()].map(i => { probe.style.color = `var(--side-${i})`;
    return contrast(getComputedStyle(probe).color, behind(probe)) });
  return [text, lines] }"""


def test_the_tables_say_what_was_found(browser: Browser, whole: Path) -> None:
    opened = browser.open(whole)
    rows = [row.split("\t") for row in opened.text("section[aria-labelledby=workloads] tr")]
    assert rows[0] == ["workload and side", "value", "95 % CI", "ratio", "95 % CI", "verdict", "of roof", "remarks"]
    assert rows[1] == ["matmul/bf16/4096 on cuda"]
    assert rows[2] == ["alpha", "700.0 TFLOP/s", "689.5–710.5", "–", "–", "reference", "81 %", ""]
    assert rows[3] == ["beta", "748.7 TFLOP/s", "737.5–760.0", "1.070×", "1.048–1.091", "better", "81 %", ""]
    by_verdict = {row[5]: row for row in rows if len(row) == 8}
    assert by_verdict["failed"][1] == "–"
    assert any("open; unfit:steal (2)" in row[-1] for row in rows)
    single = next(row for row in rows if row[-1] == "one replicate")
    assert single[3] != "–"
    assert single[2] == single[4] == "–"
    (summary,) = [row for row in opened.text("section[aria-labelledby=summary] tbody tr") if row.startswith("beta")]
    assert re.fullmatch(r"beta\t[\d.]+×\t[\d.]+–[\d.]+\t9\t5\t3\t1\t0\t.*\tsuch nodes", summary), summary


def test_warnings_come_before_any_figure(browser: Browser, whole: Path) -> None:
    opened = browser.open(whole)
    warnings = opened.page.locator(".warning")
    assert [text.partition(":")[0] for text in warnings.all_inner_texts()] == ["OPEN", "UNFIT", "FAILED"]
    first_table = opened.page.locator("table").first.bounding_box()
    assert warnings.last.bounding_box()["y"] < first_table["y"]


def test_a_simulation_is_called_one(browser: Browser, tmp_path: Path) -> None:
    comparison = changed(make_whole("alpha", "beta"), 3, validity=(("simulated", 15),))
    assert browser.open(written(tmp_path, comparison)).text(".warning") == [
        "SIMULATED: figures come from a script and measure nothing."
    ]


def test_others_words_are_text_and_nothing_else(browser: Browser, tmp_path: Path) -> None:
    side = make_side(f"b{HOSTILE}", nodes=(HOSTILE,), devices=(HOSTILE,), labels=(HOSTILE,), suites=(HOSTILE,))
    name = f"matmul/{HOSTILE}"
    cells = [
        make_cell("a", name),
        make_cell(side.name, name, 1.1, note=HOSTILE, validity=((HOSTILE, 1),)),
    ]
    comparison = make_comparison([make_side("a"), side], cells, notes=(HOSTILE,))
    opened = browser.open(written(tmp_path, comparison, with_prices=True))
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == []
    assert opened.page.locator("script, img").count() == 0
    assert opened.text("section[aria-labelledby=sides] tbody tr")[1].startswith(f"b{HOSTILE}\t{HOSTILE}")
    drawn = "".join(opened.page.locator("svg text").all_text_contents())
    assert "<script>" in drawn


def test_links_lead_within_the_page_and_names_are_unique(browser: Browser, whole: Path) -> None:
    opened = browser.open(whole)
    broken, twice = opened.page.evaluate(
        """() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
        const links = [...document.querySelectorAll('a, use')]
          .map(e => e.getAttribute('href') || e.getAttribute('xlink:href'));
        return [links.filter(l => !l.startsWith('#') || !ids.includes(l.slice(1))),
                ids.filter((id, index) => ids.indexOf(id) != index)] }"""
    )
    assert broken == []
    assert twice == []


def test_who_cannot_see_it_is_told(browser: Browser, whole: Path) -> None:
    opened: Opened = browser.open(whole)
    assert opened.page.locator("html").get_attribute("lang") == "en"
    labels = [one.get_attribute("aria-label") for one in opened.page.locator("svg").all()]
    assert all(labels)
    assert opened.page.locator("thead th:not([scope=col])").count() == 0
    assert opened.page.locator("tbody th:not([scope])").count() == 0
    assert opened.page.locator(".wide:not([tabindex])").count() == 0


def test_it_can_be_printed(browser: Browser, whole: Path) -> None:
    opened = browser.open(whole, scheme="dark")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.page.pdf().startswith(b"%PDF")


# ---------------------------------------------------------------- without one


def test_nothing_in_it_lies_elsewhere(whole: Path) -> None:
    text = whole.read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import', text)
    assert {one for pair in links for one in pair if one and not one.startswith(("#", "data:,"))} == set()
    assert "<script" not in text


def test_the_same_comparison_makes_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    comparison = make_whole("alpha", "beta", workloads=WORKLOADS[:4])
    script = (
        "import sys; from pathlib import Path; from bench.report import page; from tests.comparisons import *;"
        "page.write(Path(sys.argv[1]), make_whole('alpha', 'beta', workloads=WORKLOADS[:4]))"
    )
    path = tmp_path / "page.html"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, env=environment, check=True, timeout=120)
    assert path.read_text() == page.render(comparison)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "page.html"
    with pytest.raises(OutputNotWritable, match=re.escape(str(path))):
        page.write(path, make_whole("alpha", "beta"))


def test_refusals_are_said_at_the_top(tmp_path: Path) -> None:
    comparison = changed(make_whole("alpha", "beta"), 1, verdict="incomparable", ratio=None, ratio_of_values=None)
    refusal = Refusal(WORKLOADS[0], "beta", "spec_id", "aaaa", "bbbb")
    text = page.render(dataclasses.replace(comparison, refusals=(refusal,)))
    assert "Not compared: matmul/bf16/4096: spec_id of beta is aaaa, of the reference bbbb" in text


def test_a_comparison_without_any_ratio_still_makes_a_page() -> None:
    cells = [make_cell("a"), make_cell("b", verdict="missing", value=None, interval=None, unit=None, statuses=())]
    text = page.render(make_comparison([make_side("a"), make_side("b")], cells))
    assert "missing" in text
    assert "Ratios and their intervals" not in text


@pytest.mark.parametrize("value", [float("inf"), 1e300, 1e-300])
def test_figures_beyond_any_picture_are_left_out_of_it(value: float) -> None:
    comparison = changed(make_whole("a", "b"), 1, ratio_of_values=value, ratio=None, interval=None, value=value)
    assert page.render(comparison).count("<svg") >= 2


def test_infinite_ends_are_shown_in_the_tables_and_not_in_pictures(tmp_path: Path) -> None:
    ends = Interval(0.0, float("inf"), 3)
    ratio = RatioTest(1.0, ends, 0.5, 0.5)
    comparison = changed(make_whole("alpha", "beta"), 1, interval=ends, ratio=ratio)
    suite = dataclasses.replace(comparison.suite_ratios[0], ratio=ratio)
    comparison = dataclasses.replace(comparison, suite_ratios=(suite,))
    text = page.render(comparison, priced(tmp_path, comparison))
    assert text.count(">0–∞<") >= 3
    assert "inf" not in re.sub(r"[a-z]*inf[a-z]+", "", text)


def test_control_characters_are_no_part_of_a_page() -> None:
    cells = [make_cell("a"), make_cell("b", ratio=1.5, note="bell\x07 and \x1b[31m red\x00")]
    text = page.render(make_comparison([make_side("a"), make_side("b")], cells))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


class Many(Sequence[Cell]):
    """Cells that are made when they are asked for, and counted."""

    def __init__(self, sides: Sequence[str], workloads: int) -> None:
        self.sides, self.workloads, self.made = sides, workloads, 0

    def __len__(self) -> int:
        return len(self.sides) * self.workloads

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Cell]: ...
    def __getitem__(self, index: Any) -> Any:
        self.made += 1
        workload, place = divmod(index, len(self.sides))
        ratio = None if place == 0 else 1 + place / 1e5
        return make_cell(self.sides[place], f"matmul/bf16/{workload + 1}", ratio)


def test_a_fleet_makes_a_page_of_bounded_size_that_says_what_is_left_out() -> None:
    names = [f"node{index}" for index in range(400)]
    few = make_comparison([make_side(name) for name in names], [make_cell(name, ratio=1.0) for name in names])
    ratios = tuple(
        dataclasses.replace(one, ratio_of_values=1 + index / 1e5) for index, one in enumerate(few.suite_ratios)
    )
    cells = Many(names, 110)
    text = page.render(dataclasses.replace(few, cells=cells, suite_ratios=ratios))
    assert len(text) < 2_000_000
    assert cells.made <= 110 * plots.MOST_SIDES
    assert f"{plots.MOST_SIDES} of 400 sides are shown" in text
    assert f"{page_pictures.MOST_WORKLOADS} of 110 workloads are shown" in text
    assert all(f"node{index}" in text for index in (0, 1, 399))
    assert "node200" not in text

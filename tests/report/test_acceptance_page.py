"""The report that people sign: in a real browser, in both languages, on paper, with others' words in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.acceptance.dossier import Dossier
from bench.acceptance.model import Outcome
from bench.message import Message
from bench.report import acceptance_page
from bench.report.language import load
from tests.checkout import ROOT
from tests.report import dossiers
from tests.report.conftest import Browser

HOSTILE = "<script>alert(1)</script>'--><img src=x onerror=alert(2)>{{ 7 * 7 }} {0} $x^2$"
LANGUAGES = ("en", "vi")


def written(folder: Path, dossier: Dossier, lang: str = "en") -> Path:
    path = folder / f"{lang}.html"
    path.write_text(acceptance_page.render(dossier, load(lang)), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=LANGUAGES)
def failing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failing")
    return written(folder, dossiers.failing(folder), request.param)


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("english")
    return written(folder, dossiers.failing(folder))


# ---------------------------------------------------------------- in a browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_without_a_network_an_error_or_a_sideways_scroll(
    browser: Browser, failing: Path, width: int, scheme: str
) -> None:
    opened = browser.open(failing, width=width, scheme=scheme)
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.locator("html").get_attribute("lang") == failing.stem


@pytest.mark.parametrize("width", [390, 1280])
def test_no_text_is_cut_or_lies_on_another(browser: Browser, failing: Path, width: int) -> None:
    opened = browser.open(failing, width=width)
    cut = opened.page.evaluate(
        """() => [...document.querySelectorAll('h1, h2, h3, p, li, dd, dt, figcaption')]
        .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != 'inline')
        .map(e => e.textContent)"""
    )
    assert cut == []
    heights, outside, overlapping = opened.page.evaluate(TEXTS)
    assert min(heights) > 8
    assert outside == []
    assert overlapping == []


# Of the pictures' texts: their heights, those that leave their picture, and those that lie on each other.
TEXTS = """() => { const heights = [], outside = [], overlapping = [];
  for (const s of document.querySelectorAll('svg')) { const box = s.getBoundingClientRect();
    const boxes = [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    for (const [text, b] of boxes) { heights.push(b.height);
      if (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1)
        outside.push(text);
      for (const [other, c] of boxes) if (c !== b && b.left < c.right - 2 && c.left < b.right - 2
        && b.top < c.bottom - 3 && c.top < b.bottom - 3) overlapping.push([text, other]) } }
  return [heights, outside, overlapping] }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(browser: Browser, english: Path, scheme: str) -> None:
    # WCAG 2.2, success criterion 1.4.3.
    assert min(browser.open(english, scheme=scheme).page.evaluate(CONTRASTS)) >= 4.5


CONTRASTS = """() => {
  const shine = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!c.endsWith(', 0)')) return c } };
  return [...document.querySelectorAll('p, th, td, dt, dd, a, b, strong, li, h1, h2, h3, figcaption, code, span')]
    .map(e => { const [x, y] = [shine(getComputedStyle(e).color), shine(behind(e))].sort((p, q) => q - p);
      return (x + 0.05) / (y + 0.05) }) }"""


def test_the_verdict_comes_first_and_then_why(browser: Browser, english: Path) -> None:
    opened = browser.open(english)
    assert opened.text(".verdict strong") == ["FAIL"]
    reasons = opened.text("header li")
    assert reasons[0] == "FAIL: bf16, alike on cuda:2: the whole interval misses the limit"
    assert "FAIL: throttled, temperature, causes on cuda:5: worst in matmul/bf16/8192, replicate 0" in reasons
    assert "INCONCLUSIVE: row-remap-failed on cuda:6: not read in 5 of 5 measurements: no permission" in reasons
    first = opened.page.locator("table").first.bounding_box()
    assert opened.page.locator(".verdict").bounding_box()["y"] < first["y"]


def test_each_criterion_has_its_devices_side_by_side(browser: Browser, english: Path) -> None:
    opened = browser.open(english)
    rows = [row.split("\t") for row in opened.text("section[aria-labelledby=summary] tr")]
    assert rows[5] == ["bf16", "FAIL", "cuda:2", "160.0 TFLOP/s", "158.1–161.9", "at least 190.0 TFLOP/s"]
    drawn = opened.page.locator("svg#limit-5 text").all_text_contents()
    assert [f"cuda:{index}" for index in range(8)] == [text for text in drawn if text.startswith("cuda")]
    article = opened.page.locator("article").nth(4).inner_text()
    assert "INCONCLUSIVE cuda:3: the interval holds the limit; the next look is after 8 replicates" in article
    assert "PASS cuda:0–1, cuda:4–7: the whole interval meets the limit" in article
    assert opened.page.locator("article").count() == 12
    assert opened.page.locator("article svg, article .tiles").count() == 12


def test_the_state_over_time_marks_who_was_throttled(browser: Browser, english: Path) -> None:
    opened = browser.open(english)
    state = opened.page.locator("section[aria-labelledby=state]").inner_text()
    assert "throttled by hw_thermal_slowdown: cuda:5 2.0 s" in state
    labels = [one.get_attribute("aria-label") for one in opened.page.locator("svg").all()]
    assert all(labels)
    assert any(label.startswith("SM clock of 8 devices") for label in labels if label)


def test_it_is_printed_on_a4_in_few_pages(browser: Browser, failing: Path) -> None:
    opened = browser.open(failing, width=688, scheme="dark")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 688  # 182 mm between the margins
    pdf = opened.page.pdf(prefer_css_page_size=True)
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", pdf)
    assert {(round(float(width)), round(float(height))) for width, height in boxes} == {(595, 842)}
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 9


def test_a_simulation_is_stamped_on_screen_and_on_each_sheet(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(written(tmp_path, dossiers.simulated(tmp_path)))
    assert opened.text(".verdict strong")[0].startswith("SIMULATED ")
    assert opened.text(".warning") == ["SIMULATED: these figures come from a script and say nothing of a machine"]
    stamp = opened.page.locator(".stamp")
    assert not stamp.is_visible()
    opened.page.emulate_media(media="print")
    assert stamp.is_visible()
    # What is fixed is printed on each sheet.
    assert stamp.evaluate("e => getComputedStyle(e).position") == "fixed"


def test_others_words_are_text_and_nothing_else(browser: Browser, tmp_path: Path) -> None:
    hostile = dossiers.dossier(
        tmp_path,
        title=HOSTILE,
        changes={0: {"status": "failed", "value": None, "reason": HOSTILE, "driver": HOSTILE}},
    )
    for lang in LANGUAGES:
        opened = browser.open(written(tmp_path, hostile, lang))
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith("data:")] == []
        assert opened.page.locator("script, img").count() == 0
        assert opened.text("header > p")[0] == HOSTILE
        assert HOSTILE in opened.page.locator("main").inner_text()


def test_links_lead_within_the_page_and_names_are_unique(browser: Browser, failing: Path) -> None:
    broken, twice = browser.open(failing).page.evaluate(
        """() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
        const links = [...document.querySelectorAll('a, use')]
          .map(e => e.getAttribute('href') || e.getAttribute('xlink:href'));
        return [links.filter(l => !l.startsWith('#') || !ids.includes(l.slice(1))),
                ids.filter((id, index) => ids.indexOf(id) != index)] }"""
    )
    assert (broken, twice) == ([], [])


# ---------------------------------------------------------------- without one


@pytest.mark.parametrize(
    ("make", "outcome", "english", "vietnamese"),
    [
        (dossiers.dossier, "PASS", "It is shown that every limit is met.", "ĐẠT"),
        (dossiers.failing, "FAIL", "What speaks against a PASS", "KHÔNG ĐẠT"),
        (dossiers.errored, "ERROR", "CUDA out of memory", "LỖI"),
        (dossiers.undecided, "INCONCLUSIVE", "3 more fit replicates bring its next look", "CHƯA KẾT LUẬN ĐƯỢC"),
    ],
)
def test_every_outcome_is_said_in_both_languages(
    tmp_path: Path, make: Callable[[Path], Dossier], outcome: Outcome, english: str, vietnamese: str
) -> None:
    dossier = make(tmp_path)
    assert dossier.verdict.outcome == outcome
    assert english in acceptance_page.render(dossier, load("en"))
    assert f"<strong>{vietnamese}</strong>" in acceptance_page.render(dossier, load("vi"))


def test_a_vietnamese_page_has_no_english_sentence_and_vietnamese_numbers(tmp_path: Path) -> None:
    text = acceptance_page.render(dossiers.failing(tmp_path), load("vi"))
    assert "160,0 TFLOP/s" in text and "158,1–161,9" in text and "tối đa 0,1 s" in text
    seen = re.sub(r"<style.*?</style>|<code>.*?</code>|<[^>]*>", " ", text, flags=re.DOTALL)
    assert not re.search(r"\b(the|must|misses|replicate|measurements|verdict|limit)\b", seen)


def test_all_that_is_said_of_a_device_can_be_said_in_another_language(tmp_path: Path) -> None:
    for make in (dossiers.dossier, dossiers.failing, dossiers.errored, dossiers.undecided, dossiers.simulated):
        found = [each.words for one in make(tmp_path).verdict.criteria for each in one.findings]
        assert all(isinstance(words, Message) for words in found)


def test_a_result_without_a_series_makes_a_page(tmp_path: Path) -> None:
    text = acceptance_page.render(dossiers.dossier(tmp_path, readings=()), load("en"))
    assert "This run has no time series of its devices&#39; state." in text


def test_a_page_of_many_devices_stays_small(tmp_path: Path) -> None:
    text = acceptance_page.render(dossiers.dossier(tmp_path, count=16), load("en"))
    assert "cuda:0–15" in text
    assert len(text.encode()) < 1_000_000


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (["cuda:0", "cuda:1", "cuda:2", "cuda:4"], "cuda:0–2, cuda:4"),
        (["cuda:9", "cuda:10"], "cuda:9–10"),
        (["cuda:0", "fake:1"], "cuda:0, fake:1"),
        (["cpu"], "cpu"),
        (["node"], "nút tính toán"),
    ],
)
def test_neighbours_are_named_together(devices: list[str], expected: str) -> None:
    assert acceptance_page.names(devices, load("vi")) == expected


def test_an_unsealed_result_says_so_and_how_to_seal_it(tmp_path: Path) -> None:
    text = acceptance_page.render(dossiers.dossier(tmp_path), load("en"))
    assert "Not sealed." in text
    assert "vnbench seal 5f0c2a91be --key NAME.key --criteria contract.toml" in text


def test_nothing_in_it_lies_elsewhere(tmp_path: Path) -> None:
    text = acceptance_page.render(dossiers.failing(tmp_path), load("vi"))
    links = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import', text)
    assert {one for pair in links for one in pair if one and not one.startswith(("#", "data:,"))} == set()
    assert "<script" not in text


def test_the_same_dossier_makes_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from bench.report import acceptance_page;"
        "from bench.report.language import load; from tests.report import dossiers; folder = Path(sys.argv[1]);"
        "(folder / 'x').write_text(acceptance_page.render(dossiers.failing(folder), load('vi')))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", script, tmp_path], cwd=ROOT, env=environment, check=True, timeout=120)
    assert (tmp_path / "x").read_text() == acceptance_page.render(dossiers.failing(tmp_path), load("vi"))

"""A verdict as Markdown and JUnit."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from bench.report.acceptance_files import to_junit, to_markdown
from bench.report.language import load
from tests.report import dossiers


def test_markdown_has_the_verdict_first_then_a_line_for_each_criterion_then_why(tmp_path: Path) -> None:
    lines = to_markdown(dossiers.failing(tmp_path), load("en")).splitlines()
    assert lines[0] == "### ❌ FAIL: Node of 8 H100, contract 7/2026"
    assert "| `bf16` | cuda:2 | 160.0 TFLOP/s | 158.1–161.9 | at least 190.0 TFLOP/s | ❌ FAIL |" in lines
    assert "- FAIL: bf16, alike on cuda:2: the whole interval misses the limit" in lines
    assert sum(line.startswith("| `") for line in lines) == 12


def test_markdown_is_said_in_vietnamese_too(tmp_path: Path) -> None:
    text = to_markdown(dossiers.failing(tmp_path), load("vi"))
    assert "| `bf16` | cuda:2 | 160,0 TFLOP/s | 158,1–161,9 | tối thiểu 190,0 TFLOP/s | ❌ KHÔNG ĐẠT |" in text


def test_others_words_in_markdown_are_no_markup(tmp_path: Path) -> None:
    text = to_markdown(dossiers.dossier(tmp_path, title="<img src=x> [a](http://x) @all"), load("en"))
    assert "<img" not in text and "[a](http" not in text and "@all" not in text


def test_junit_has_a_test_case_per_criterion_and_device(tmp_path: Path) -> None:
    root = ElementTree.fromstring(to_junit(dossiers.failing(tmp_path)))
    (suite,) = root
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.get("tests", 0)) == 1 + 11 * 8
    assert (suite.get("failures"), suite.get("errors")) == ("5", "0")
    assert cases[0].find("failure") is not None, "the worst come first"
    (slow,) = [one for one in cases if (one.get("classname"), one.get("name")) == ("vnbench.cuda:2", "bf16")]
    failure = slow.find("failure")
    assert failure is not None
    assert failure.get("message") == (
        "FAIL: observed 160.0 TFLOP/s, limit at least 190.0 TFLOP/s: the whole interval misses the limit"
    )


def test_an_error_is_one_in_junit_and_what_is_open_is_skipped(tmp_path: Path) -> None:
    assert ElementTree.fromstring(to_junit(dossiers.errored(tmp_path))).findall(".//error")
    assert ElementTree.fromstring(to_junit(dossiers.undecided(tmp_path))).findall(".//skipped")


def test_a_simulation_says_so_in_both(tmp_path: Path) -> None:
    made = dossiers.simulated(tmp_path)
    assert "SIMULATED FAIL" in to_markdown(made, load("en")).splitlines()[0]
    suite = ElementTree.fromstring(to_junit(made))[0]
    assert (suite.get("name") or "").startswith("SIMULATED FAIL: ")

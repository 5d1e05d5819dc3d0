"""The comment on a pull request: short, the worst in sight, and others' words as text."""

from __future__ import annotations

import dataclasses
import re

from bench.report import markdown
from bench.report.judgements import Report
from tests.report.test_judgements import BROKEN, MISSING, OPEN, PASS, SLOW, WHOLE


def rows(text: str) -> list[list[str]]:
    """The cells of the tables' rows, split as GitHub does: not at an escaped bar."""
    found = [line for line in text.splitlines() if line.startswith("|") and not re.match(r"\| (workload|---) ", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found]


def test_what_needs_a_look_is_in_sight_and_the_rest_is_folded() -> None:
    text = markdown.render(WHOLE)
    in_sight, _, folded = text.partition("<details>")
    assert [row[-1] for row in rows(in_sight)] == [
        "❌ REGRESSED",
        "💥 ERROR",
        "❔ INCOMPARABLE",
        "❔ missing",
        "❔ INCONCLUSIVE",
    ]
    assert [row[-1] for row in rows(folded)] == ["✅ PASS", "🚀 IMPROVED"]
    assert text.count("<details>") == text.count("</details>") == 2


def test_a_row_has_all_figures() -> None:
    first = rows(markdown.render(WHOLE))[0]
    assert first == ["`matmul/bf16/4096`", "cuda:0", "1.050", "1.040–1.060", "3.1%", "5", "❌ REGRESSED"]


def test_counts_warnings_and_simulation_are_on_top() -> None:
    text = markdown.render(WHOLE)
    head = text.partition("| workload")[0]
    assert head.startswith("### gate against baseline main\n\n**1 REGRESSED, 1 ERROR, ")
    assert "SIMULATED" in head and "unfit:steal (baseline, current)" in head and "note: another node" in head


def test_if_all_is_well_no_table_is_in_sight() -> None:
    in_sight, _, folded = markdown.render(Report("t", [PASS])).partition("<details>")
    assert rows(in_sight) == [] and len(rows(folded)) == 1
    assert "<summary>1 workload</summary>" in folded


def test_others_words_break_no_table_and_are_no_markup() -> None:
    evil = dataclasses.replace(
        BROKEN,
        workload="a|b`c\n@steps=4",
        device="x|y<script>",
        reason="line\n| a | b |\n<img src=x> **bold** [l](http://x.y) @someone #12 \x1b[31m </details> `c` \\",
    )
    text = markdown.render(Report("t <b> @all", [evil], notes=["</details> @me"]))
    (row,) = rows(text)
    assert len(row) == 7 and row[0] == "`a\\|b'c @steps=4`" and row[1] == "x\\|y&lt;script&gt;"
    assert "<script" not in text and "<img" not in text and "\x1b" not in text
    assert text.count("</details>") == 1
    assert not re.search(r"@(all|someone|me)|#12|http://", text)
    assert "\\*\\*bold\\*\\*" in text and "\\[l\\]" in text


def test_many_open_ones_are_folded_after_the_first_twenty() -> None:
    many = [dataclasses.replace(OPEN, workload=f"w{index:03d}") for index in range(50)]
    in_sight, _, folded = markdown.render(Report("t", many)).partition("<details>")
    assert len(rows(in_sight)) == 20 and len(rows(folded)) == 50


def test_a_comment_is_never_longer_than_github_takes() -> None:
    many = [dataclasses.replace(OPEN, workload=f"{'w' * 60}{index}", reason=f"why {index}") for index in range(2000)]
    text = markdown.render(Report("t", [SLOW, MISSING, *many]))
    assert 50_000 < len(text) <= markdown.LONGEST
    assert text.count("<details>") == text.count("</details>")
    assert "Cut here" in text and "❌ REGRESSED" in text
    assert all(len(row) == 7 for row in rows(text))

"""Judgements on a terminal and as JSON: the worst first, every reason once, 80 columns."""

from __future__ import annotations

import dataclasses
import io
import json
import math

from rich.console import Console

from bench.judgement import Judgement
from bench.report import judgements as report
from bench.report.judgements import Report
from bench.stats import Interval

SLOW = Judgement(
    "matmul/bf16/4096",
    "cuda:0",
    "REGRESSED",
    "confirmed by a second measurement",
    ratio=1.05,
    interval=Interval(1.04, 1.06, 5),
    n=5,
    tolerance=0.02,
    p=0.001,
    detectable=1.031,
    log_sd=0.006,
)
PASS = dataclasses.replace(SLOW, workload="matmul/fp32/1024", verdict="PASS", reason="", ratio=1.001)
FAST = dataclasses.replace(PASS, workload="roof/memory/read", verdict="IMPROVED", ratio=0.9, reason="one measurement")
BLANK = Judgement("decode/llama-3.2-1b/b1/ctx512@steps=4", "cuda:15", "INCONCLUSIVE", tolerance=0.02)
MISSING = dataclasses.replace(BLANK, is_missing=True, reason="not in the baseline")
OPEN = dataclasses.replace(SLOW, workload="open", verdict="INCONCLUSIVE", reason="across the limit", ratio=1.03)
UNLIKE = dataclasses.replace(BLANK, verdict="INCOMPARABLE", reason="driver differs: [570] in the baseline, :580: now")
BROKEN = dataclasses.replace(BLANK, workload="a", verdict="ERROR", reason="failed: [/x] |<b>")
ALL = [PASS, FAST, MISSING, OPEN, UNLIKE, BROKEN, SLOW]
WHOLE = Report("gate against baseline main", ALL, {"unfit:steal": ("baseline", "current")}, ["another node"], True)


def shown(whole: Report = WHOLE, width: int = 80) -> str:
    out = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    report.show(out, whole)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_the_worst_comes_first() -> None:
    assert [one.verdict for one in report.worst_first(ALL)] == [
        "REGRESSED",
        "ERROR",
        "INCOMPARABLE",
        "INCONCLUSIVE",
        "INCONCLUSIVE",
        "PASS",
        "IMPROVED",
    ]
    assert report.worst_first(ALL)[3] == MISSING
    worse = dataclasses.replace(PASS, workload="z", ratio=1.01)
    assert report.worst_first([PASS, worse]) == [worse, PASS]


def test_a_line_has_the_ratio_its_interval_what_it_could_find_and_n() -> None:
    (row,) = [row for row in shown().splitlines() if row.startswith("matmul/bf16/4096")]
    assert row.split() == ["matmul/bf16/4096", "cuda:0", "1.050", "1.040–1.060", "3.1%", "5", "REGRESSED"]


def test_what_is_unknown_is_a_dash_and_what_is_missing_says_so() -> None:
    row = next(row for row in shown().splitlines() if "missing" in row and "cuda:15" in row)
    assert row.split()[-6:] == ["cuda:15", "–", "–", "–", "–", "missing"]


def test_it_fits_80_columns_and_others_words_are_no_markup() -> None:
    text = shown()
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())
    assert "driver differs: [570] in the baseline, :580: now" in joined and "failed: [/x] |<b>" in joined


def test_a_long_table_in_a_narrow_terminal_loses_no_verdict() -> None:
    long = dataclasses.replace(BLANK, workload="x" * 200, verdict="INCOMPARABLE")
    text = shown(Report("t", [long]), 60)
    assert "INCOMPARABLE" in text and text.count("x") >= 200


def test_a_reason_stands_once_for_all_that_have_it() -> None:
    many = [dataclasses.replace(UNLIKE, workload=f"w{index}") for index in range(5)]
    (line,) = report.reasons(many)
    assert line.startswith("INCOMPARABLE: w0 on cuda:15, w1 on cuda:15, w2 on cuda:15 and 2 more: driver differs")


def test_what_makes_the_machine_unfit_is_named_with_its_remedy() -> None:
    joined = " ".join(shown().split())
    assert "unfit:steal (baseline, current): the hypervisor gave CPU time to others; measure on a dedicated" in joined
    assert "note: another node" in joined
    assert report.asides(Report("t", [], {"unfit:new": ("current",)}))[0].endswith(
        "a flag of another version of vnbench"
    )


def test_simulated_figures_are_marked_loudly_and_only_they() -> None:
    assert "SIMULATED" in shown()
    assert "SIMULATED" not in shown(Report("t", [PASS]))


def test_the_header_names_every_level_of_the_intervals() -> None:
    def level(confidence: float) -> Judgement:
        return dataclasses.replace(SLOW, interval=Interval(1.04, 1.06, 5, confidence))

    assert report.confidence([]) == "95 %"
    assert report.confidence([BLANK, level(1 - 0.05 / 3)]) == "98.3 %"
    assert report.confidence([level(1 - 0.05 / 3), level(0.95), BLANK]) == "95–98.3 %"
    assert "95–98.3 % CI" in shown(Report("t", [level(1 - 0.05 / 3), level(0.95)]))


def test_the_counts_end_it() -> None:
    expected = "1 REGRESSED, 1 ERROR, 1 INCOMPARABLE, 1 missing, 1 INCONCLUSIVE, 1 PASS, 1 IMPROVED"
    assert " ".join(shown().split()).endswith(f"tolerance 2 % {expected}")


def test_a_ratio_without_bounds_is_shown_and_is_null_in_the_json() -> None:
    odd = dataclasses.replace(OPEN, ratio=1e9, interval=Interval(0.5, math.inf, 3), detectable=math.inf)
    assert "0.500–inf" in shown(Report("t", [odd]))
    (one,) = json.loads(report.to_json(Report("t", [odd])))["judgements"]
    assert one["interval"]["high"] is None and one["detectable"] is None and one["ratio"] == 1e9


def test_the_json_has_every_figure_unrounded() -> None:
    data = json.loads(report.to_json(WHOLE, baseline="main", exit_code=5))
    assert (data["baseline"], data["exit_code"], data["simulated"]) == ("main", 5, True)
    assert data["unfit"] == {"unfit:steal": ["baseline", "current"]}
    assert data["judgements"][0] == json.loads(json.dumps(dataclasses.asdict(SLOW)))

"""``bench.report.noise``: what an A/A test says, in 80 columns, for scripts, and in a line."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

from rich.console import Console

from bench.judgement import Judgement
from bench.report import noise
from bench.report.judgements import Report
from bench.sessions import Noise
from bench.stats import Interval
from bench.types import Arm, Trial
from tests.results import make_plan

PLAN = make_plan(suite="aa", arms=(Arm("A"), Arm("B")), trial=Trial(looks=(60,), tolerance=0.02))
KNOWN = Noise("matmul/fp32/64", "cpu", 60, 0.0123, 1.0346, 12, Interval(0.002, 0.385, 12, 0.95), 1, 10)
UNKNOWN = Noise("call/some/long/path/to/my_code.py:encode", "cpu", 2, None, None, 0, None, 0, 0)


def shown(*found: Noise, report: Report | None = None) -> list[str]:
    out = Console(file=io.StringIO(), width=80, highlight=False, markup=False, emoji=False)
    noise.show(out, PLAN, found, report or Report("an A/A test", ()))
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_a_line_says_how_noisy_a_workload_is_and_what_can_be_found() -> None:
    title, head, line, *_ = shown(KNOWN)
    assert title == "an A/A test"
    assert head.split() == ["workload", "sessions", "noise", "finds", "trials", "alarms", "95", "%", "CI"]
    assert line.split() == ["matmul/fp32/64", "60", "1.23%", "3.5%", "12", "1", "0%–38%"]


def test_what_is_unknown_is_a_dash() -> None:
    lines = shown(UNKNOWN)
    assert lines[2].split()[1:] == ["2", "–", "–", "0", "0", "–"]
    endless = dataclasses.replace(KNOWN, detectable=1e9)
    assert shown(endless)[2].split()[3] == "–"


def test_the_legend_explains_every_column_and_names_the_tolerance() -> None:
    legend = " ".join(shown(KNOWN))
    for word in ("noise:", "finds:", "trials:", "alarms:", "tolerance 2 %"):
        assert word in legend


def test_what_makes_the_machine_unfit_is_said_with_its_remedy() -> None:
    report = Report("", (), {"unfit:steal": ["3 of 120 rows"], "unfit:later": ["1 of 120 rows"]})
    text = " ".join(shown(KNOWN, report=report))
    assert "unfit:steal (3 of 120 rows): " in text
    assert "unfit:later (1 of 120 rows): a flag of another version of vnbench" in text


def test_what_could_not_be_measured_is_said_with_its_reason() -> None:
    failed = Judgement("matmul/fp32/64", "cpu", "ERROR", "arm A: failed: [/this] is why")
    assert "ERROR: matmul/fp32/64 on cpu: arm A: failed: [/this] is why" in shown(KNOWN, report=Report("", [failed]))
    assert json.loads(noise.to_json(PLAN, Path("x"), [], Report("", [failed])))["judgements"][0]["verdict"] == "ERROR"


def test_figures_of_a_script_are_marked() -> None:
    marked = Report("an A/A test", (), is_simulated=True)
    assert shown(KNOWN, report=marked)[1] == "SIMULATED: these figures come from a script and measure nothing"
    assert "SIMULATED" not in " ".join(shown(KNOWN))
    assert [json.loads(noise.to_json(PLAN, Path("x"), [], one))["simulated"] for one in (marked, Report("", ()))] == [
        True,
        False,
    ]


def test_json_is_one_line_with_unrounded_figures_and_null_for_unknown() -> None:
    text = noise.to_json(PLAN, Path("results/x.parquet"), [KNOWN, UNKNOWN], Report("", ()))
    assert "\n" not in text
    value = json.loads(text)
    assert (value["run_id"], value["node"], value["tolerance"]) == (PLAN.run_id, "node7", 0.02)
    known, unknown = value["noise"]
    assert (known["log_sd"], known["detectable"], known["false_alarms"]["high"]) == (0.0123, 1.0346, 0.385)
    assert (unknown["log_sd"], unknown["false_alarms"]) == (None, None)


def test_in_a_line() -> None:
    assert noise.words(KNOWN, "5f0c") == (
        "A/A noise of this machine for matmul/fp32/64: 1.23% a session, 1 false alarms in 12 trials "
        "(95 % CI 0%–38%), run 5f0c"
    )
    assert "– a session, 0 false alarms in 0 trials, run" in noise.words(UNKNOWN, "5f0c")

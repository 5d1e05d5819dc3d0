"""``vnbench baseline`` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli.baseline import baseline
from tests.cli.test_gate import answer
from tests.results import WORKLOAD
from tests.stored import stored


def test_the_life_of_a_baseline(tmp_path: Path) -> None:
    out = "--out", tmp_path
    assert "no baselines; make one with: vnbench baseline set" in answer(baseline, "list", *out).stdout
    stored(tmp_path, run_id="aaaaaaaaaa", plan={"source_commit": "0123456789abcdef"})
    made = answer(baseline, "set", "main", *out)
    assert made.stdout == "baseline main: 1 run of 1 node, 1 workload on cpu, 5 processes each\n"
    assert made.stderr == ""
    listed = answer(baseline, "list", *out).stdout
    assert "main" in listed and "node7" in listed and "2026-11-22T05:15Z" in listed and "012345678" in listed
    assert max(map(len, listed.splitlines())) <= 80
    (data,) = json.loads(answer(baseline, "list", "--json", *out).stdout)
    assert (data["name"], data["run_ids"], data["workloads"]) == ("main", ["aaaaaaaaaa"], 1)
    shown = answer(baseline, "show", "main", *out).stdout
    assert "run aaaaaaaaaa" in shown and WORKLOAD in shown
    assert answer(baseline, "rm", "main", *out).stdout == "removed baseline main\n"
    assert json.loads(answer(baseline, "list", "--json", *out).stdout) == []


def test_several_runs_make_one_baseline(tmp_path: Path) -> None:
    stored(tmp_path, run_id="aaaaaaaaaa", node="n1")
    stored(tmp_path, [1.0, 1.0], run_id="bbbbbbbbbb", node="n2")
    made = answer(baseline, "set", "main", "aaaa", "bbbb", "--out", tmp_path)
    assert made.stdout == "baseline main: 2 runs of 2 nodes, 1 workload on cpu, 7 processes each\n"


def test_what_will_trouble_a_gate_is_said_beside_the_result(tmp_path: Path) -> None:
    stored(tmp_path, [1.0, 1.0], validity=["unfit:steal"])
    made = answer(baseline, "set", "main", "--out", tmp_path)
    assert made.exit_code == 0
    assert "note: matmul/fp32/64 on cpu: fewer than 5 processes" in made.stderr
    assert "note: the machine was not fit (unfit:steal)" in made.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "a/b"], "'a/b' is no name for a baseline"),
        (["set", "main"], "there is a baseline 'main' already. Use --replace"),
        (["set", "new", "nothing"], "no result at 'nothing'"),
        (["show", "other"], "no baseline 'other' in"),
        (["rm", "other"], "There are: main; make one with: vnbench baseline set other RUN"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    stored(tmp_path)
    answer(baseline, "set", "main", "--out", tmp_path)
    found = answer(baseline, *arguments, "--out", tmp_path)
    assert found.exit_code == 2
    assert words in str(found.exception) and "\n" not in str(found.exception)

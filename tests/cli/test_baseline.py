"""``vnbench baseline`` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli.baseline import baseline
from bench.cli.gate import gate
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


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A results folder with the baselines ``bad``, of two files of which one is cut, ``empty`` and ``main``."""
    runs = [stored(tmp_path, run_id=each * 10) for each in "ab"]
    for name in ("bad", "main"):
        answer(baseline, "set", name, *runs, "--out", tmp_path)
    cut = tmp_path / "baselines" / "bad" / runs[0].name
    cut.write_bytes(cut.read_bytes()[:1000])
    (tmp_path / "baselines" / "empty").mkdir()
    return tmp_path


def test_a_damaged_and_an_empty_baseline_are_listed_with_the_others(damaged: Path) -> None:
    listed = answer(baseline, "list", "--out", damaged)
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["bad", "empty", "main"]
    assert "unreadable" in lines[1] and "unreadable" in lines[2] and "node7" in lines[3]
    words = " ".join(listed.stdout.split())
    assert "bad: " in words and "not a readable Parquet file" in words and "empty: there is no result in" in words
    assert listed.exit_code == 2
    assert "2 of 3 baselines cannot be read: bad, empty. Take each away" in str(listed.exception)
    scripted = answer(baseline, "list", "--json", "--out", damaged)
    bad, empty, main = json.loads(scripted.stdout)
    assert scripted.exit_code == 2
    assert "not a readable Parquet file" in bad["error"] and "no result" in empty["error"]
    assert bad["run_ids"] is empty["run_ids"] is None
    assert (main["run_ids"], main["error"]) == (["a" * 10, "b" * 10], None)


def test_what_is_damaged_or_empty_can_be_removed(damaged: Path) -> None:
    for name in ("bad", "empty"):
        assert answer(baseline, "rm", name, "--out", damaged).stdout == f"removed baseline {name}\n"
    listed = answer(baseline, "list", "--json", "--out", damaged)
    assert [one["name"] for one in json.loads(listed.stdout)] == ["main"] and listed.exit_code == 0


def test_an_empty_folder_is_free_for_a_baseline(damaged: Path) -> None:
    assert answer(baseline, "set", "empty", "aaaa", "--out", damaged).exit_code == 0
    assert answer(baseline, "show", "empty", "--out", damaged).exit_code == 0
    (damaged / "baselines" / "notes").mkdir()
    (damaged / "baselines" / "notes" / "why.txt").write_text("kept by somebody")
    assert "--replace" in str(answer(baseline, "set", "notes", "aaaa", "--out", damaged).exception)


def test_an_empty_baseline_is_none_to_compare_with(damaged: Path) -> None:
    for found in (
        answer(gate, "--baseline", "empty", "--out", damaged),
        answer(baseline, "show", "empty", "--out", damaged),
    ):
        words = str(found.exception)
        assert found.exit_code == 2 and "\n" not in words
        assert "there is no result in the baseline" in words and "There are: bad, main; make one" in words

"""``vnbench criteria`` and ``vnbench judge`` as their users meet them: a table, one line for an error, an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import errors, store
from bench.__main__ import main
from bench.schema import Row
from bench.types import DeviceInfo, Plan
from tests.acceptance.results import FIRST_LOOK, FLOOR, WORKLOAD, criteria, healthy
from tests.results import make_plan, make_row

DEVICES = '[[inventory]]\nid = "gpus"\nwhat = "devices"\nequal = 2\nsource = "clause 2"\n'
XIDS = '[[state]]\nid = "xid"\ncolumn = "xids"\nat_most = 0\nsource = "clause 6"\n'


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Program = Callable[..., Answer]


@pytest.fixture
def vnbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Program:
    """The program in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["vnbench", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code or 0
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


def commit(tmp_path: Path, plan: Plan, rows: list[Row]) -> Path:
    folder = store.begin(tmp_path / "results", plan)
    try:
        return folder.commit(rows)
    finally:
        folder.release()


def contract(tmp_path: Path, *tables: str) -> Path:
    return criteria(tmp_path, *tables).path


def test_a_node_that_meets_its_contract_passes_with_exit_0(vnbench: Program, tmp_path: Path) -> None:
    commit(tmp_path, *healthy(2))
    answer = vnbench("judge", "5f0c", "--criteria", contract(tmp_path, DEVICES, FLOOR, XIDS))
    assert (answer.code, answer.err) == (errors.OK, "")
    lines = answer.out.splitlines()
    assert lines[0] == "PASS"
    assert lines[-1] == "3 PASS"
    assert "200.0 TFLOP/s" in answer.out and "≥ 100.0 TFLOP/s" in answer.out
    assert all(len(line) <= 80 for line in lines if "contract.toml" not in line)


def test_both_ends_of_an_interval_have_the_prefix_of_the_value(vnbench: Program, tmp_path: Path) -> None:
    plan, rows = healthy(spread=[value * 5 for value in (0.9, 1.1, 0.95, 1.05, 1.0)])
    commit(tmp_path, plan, rows)
    out = vnbench("judge", "5f0c", "--criteria", contract(tmp_path, FLOOR)).out
    (line,) = (line for line in out.splitlines() if line.startswith("floor"))
    assert line.split()[2:6] == ["997.5", "TFLOP/s", "883.8–1126", "≥"]


def test_what_it_misses_is_named_first_with_device_and_reason(vnbench: Program, tmp_path: Path) -> None:
    plan, rows = healthy(2)
    rows = [row | {"value": row["value"] * (0.3 if row["device_index"] else 1)} for row in rows]
    rows[0]["xids"] = None
    commit(tmp_path, plan, rows)
    answer = vnbench("judge", "5f0c", "--criteria", contract(tmp_path, DEVICES, FLOOR, XIDS))
    assert answer.code == errors.REGRESSED
    assert answer.out.splitlines()[0] == "FAIL"
    assert "FAIL: floor on cuda:1: the whole interval misses the limit" in answer.out
    assert "INCONCLUSIVE: xid on cuda:0: not read in 1 of 5 measurements" in answer.out
    assert answer.out.splitlines()[-1] == "1 FAIL, 1 INCONCLUSIVE, 1 PASS"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"status": "oom", "value": None, "reason": "out of memory"}, errors.FAILED),
        ({"validity": ["unfit:steal"]}, errors.UNFIT),
    ],
)
def test_an_error_is_exit_3_and_no_clear_answer_6(
    vnbench: Program, tmp_path: Path, change: dict[str, Any], code: int
) -> None:
    plan, rows = healthy()
    rows[2] |= change
    commit(tmp_path, plan, rows)
    assert vnbench("judge", "5f0c", "--criteria", contract(tmp_path, FLOOR)).code == code


def test_a_simulated_verdict_says_so_in_every_form(vnbench: Program, tmp_path: Path) -> None:
    plan = make_plan(WORKLOAD, devices=(DeviceInfo("fake", 0, "fake", scenario="steady"),), replicates=5)
    rows = [make_row(plan, WORKLOAD, replicate=number, value=2e14 * factor) for number, factor in enumerate(FIRST_LOOK)]
    commit(tmp_path, plan, rows)
    arguments = ("judge", "5f0c", "--criteria", contract(tmp_path, FLOOR))
    assert vnbench(*arguments).out.splitlines()[:2] == [
        "SIMULATED PASS",
        "SIMULATED: these figures come from a script and say nothing of a machine",
    ]
    assert json.loads(vnbench(*arguments, "--json").out)["simulated"] is True


def test_the_verdict_is_written_as_a_page_markdown_and_junit_too(vnbench: Program, tmp_path: Path) -> None:
    commit(tmp_path, *healthy(2))
    files = ("--html", "a.html", "--markdown", "a.md", "--junit", "a.xml", "--lang", "vi")
    plain = ("judge", "5f0c", "--criteria", contract(tmp_path, DEVICES, FLOOR, XIDS))
    answer = vnbench(*plain, *files)
    assert (answer.code, answer.out) == (errors.OK, vnbench(*plain).out)
    assert '<html lang="vi">' in (tmp_path / "a.html").read_text()
    assert "<strong>ĐẠT</strong>" in (tmp_path / "a.html").read_text()
    assert (tmp_path / "a.md").read_text().startswith("### ✅ ĐẠT: a test\n")
    assert 'tests="5" failures="0"' in (tmp_path / "a.xml").read_text()


def test_a_page_that_cannot_be_written_is_told_before_anything_is_measured(vnbench: Program, tmp_path: Path) -> None:
    criteria_file = contract(tmp_path, DEVICES)
    for command in (("judge", "5f0c"), ("accept", "--device", "fake:steady")):
        answer = vnbench(*command, "--criteria", criteria_file, "--html", "none/a.html")
        assert (answer.code, answer.out) == (errors.NOT_WRITABLE, "")
        assert answer.err.startswith("vnbench: cannot write none/a.html: No such file or directory")
    assert not (tmp_path / "results").exists()


def test_words_of_a_result_do_not_command_the_terminal(vnbench: Program, tmp_path: Path) -> None:
    plan, rows = healthy()
    rows[0] |= {"status": "failed", "value": None, "reason": "\x1b[2J[bold]boo[/bold]"}
    commit(tmp_path, plan, rows)
    answer = vnbench("judge", "5f0c", "--criteria", contract(tmp_path, FLOOR))
    assert "\x1b" not in answer.out
    assert "[bold]boo[/bold]" in answer.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("judge", "5f0c", "--criteria", "contract.toml"), "no result at '5f0c'"),
        (("judge", "5f0c", "--criteria", "h300"), "h300: No such file or directory"),
        (("criteria", "check", "h300"), "h300: No such file or directory"),
        (("criteria", "explain", "bad.toml"), "bad.toml: 'format' is missing"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_exit_2(
    vnbench: Program, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    contract(tmp_path, FLOOR)
    (tmp_path / "bad.toml").write_text('title = "x"')
    answer = vnbench(*arguments)
    assert (answer.code, answer.out) == (errors.USAGE, "")
    assert answer.err.startswith("vnbench: ") and answer.err.count("\n") == 1
    assert words in answer.err


def test_criteria_are_listed_checked_and_explained(vnbench: Program, tmp_path: Path) -> None:
    listed = vnbench("criteria", "list")
    assert (listed.code, "h100-sxm" in listed.out) == (0, True)
    assert {one["name"] for one in json.loads(vnbench("criteria", "list", "--json").out)} >= {"h200-sxm", "cpu-node"}
    path = contract(tmp_path, DEVICES, FLOOR, XIDS)
    assert "sound, 3 criteria" in vnbench("criteria", "check", path).out
    explained = vnbench("criteria", "explain", path).out
    assert "gpus: On the node, devices must be 2.\n  Source: clause 2" in explained
    assert "matmul/bf16/8192 must be at least 100.0 TFLOP/s." in explained.replace("\n", " ")
    found = json.loads(vnbench("criteria", "explain", path, "--json").out)
    assert [one["id"] for one in found["criteria"]] == ["gpus", "floor", "xid"]
    assert found["workloads"] == [WORKLOAD]

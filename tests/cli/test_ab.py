"""``vnbench ab`` and ``vnbench aa`` as their users meet them: one line for an error, a table, an exit code."""

from __future__ import annotations

import dataclasses
import json
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import errors, plan, store
from bench.__main__ import main
from bench.types import Plan, Trial
from tests.duets import SHORTEST, write_functions


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Program = Callable[..., Answer]


@pytest.fixture
def vnbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Program:
    """The program in this process, beside functions that sleep, in sessions as short as can be."""
    monkeypatch.chdir(tmp_path)
    write_functions(tmp_path)
    real = plan.make_ab_plan

    def short(*arguments: Any, **options: Any) -> Plan:
        return dataclasses.replace(real(*arguments, **options, telemetry_hz=0), duet=SHORTEST)

    monkeypatch.setattr(plan, "make_ab_plan", short)

    def call(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["vnbench", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit_:
            assert exit_.code is None or isinstance(exit_.code, int)
            code = exit_.code or 0
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


def one_line(answer: Answer) -> str:
    """What an error says, behind the notes."""
    *notes, last = answer.err.splitlines()
    assert all(line.startswith("note: ") for line in notes)
    assert answer.out == ""
    assert last.startswith("vnbench: ")
    return last


# ---------------------------------------------------------------- what cannot be done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["naps.py:nap"], "the arms are alike. Say with --a and --b what they are, or use vnbench aa"),
        (["naps.py:nap", "--a", "X=1", "--b", "X=1"], "the arms are alike"),
        (["naps.py:nap", "--a", "X=1", "--a", "Y=2", "--b", "Y=2", "--b", "X=1"], "the arms are alike"),
        (["naps.py:nap", "--b", "X"], "arm B: 'X' is not of the form key=value"),
        (["naps.py:nap", "--b", "X=1", "--b", "X=2"], "arm B: 'X=2' is there twice"),
        (["naps.py:nap", "--b", "rev=main", "--b", "python=py"], "a revision has an interpreter of its own"),
        (["naps.py:nap", "--b", "python=nowhere"], "arm B: no interpreter 'nowhere'"),
        (["naps.py:nap", "--b", "python=/bin/true"], "arm B: /bin/true is no Python: exit code 0"),
        (["--b", "workload=matmul/fp32/64"], "a workload is named for one arm only"),
        (
            ["naps.py:nap", "--a", "workload=matmul/fp32/64", "--b", "workload=matmul/fp32/65"],
            "a workload is named for one arm only, or beside those of the arms",
        ),
        (
            ["--a", "workload=matmul/fp32/64", "--b", "workload=matmull/fp32/64"],
            "no workload or suite 'matmull/fp32/64'",
        ),
        (["--b", "X=1"], "suite 'ab' has no workload for cpu"),
        (["matmull/fp32/64", "--b", "X=1"], "no workload or suite 'matmull/fp32/64'"),
        (["naps.py:nap", "--b", "X=1", "--vary", "torches"], "--vary torches: 'torches' is no key"),
        (["naps.py:nap", "--b", "X=1", "--vary", "cpu_model"], "'cpu_model' is of the hardware"),
        (["naps.py:nap", "--b", "X=1", "--budget", "soon"], "'soon' is not a duration"),
        (["naps.py:nap", "--b", "X=1", "--budget", "0s"], "'0s' is no time at all"),
        (["naps.py:nap", "--b", "rev=main"], "Name a revision of the repository in this folder"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2_and_leaves_nothing(
    vnbench: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    answer = vnbench("ab", *arguments, "--device", "cpu")
    assert answer.code == errors.USAGE
    assert words in one_line(answer)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", [("--sessions", "2"), ("--tolerance", "200%"), ("--tolerance", "-1%")])
def test_options_out_of_range_are_refused(vnbench: Program, option: tuple[str, str]) -> None:
    answer = vnbench("ab", "naps.py:nap", "--b", "X=1", *option)
    assert answer.code == errors.USAGE
    assert option[0] in answer.err


@pytest.mark.parametrize("command", [["ab", "--b", "X=1"], ["aa"]])
def test_a_folder_that_cannot_be_written_is_exit_7(vnbench: Program, command: list[str]) -> None:
    answer = vnbench(*command, "naps.py:nap", "--device", "cpu", "--out", "/proc/here")
    assert answer.code == errors.NOT_WRITABLE
    assert one_line(answer).startswith("vnbench: cannot write /proc/here")


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_report_that_cannot_be_written_is_told_before_anything_is_measured(
    vnbench: Program, tmp_path: Path, option: str
) -> None:
    answer = vnbench("ab", "naps.py:nap", "--b", "X=1", option, "missing/file")
    assert answer.code == errors.NOT_WRITABLE
    assert "cannot write missing/file: No such file or directory" in one_line(answer)
    assert not (tmp_path / "results").exists()


def test_arms_that_differ_in_a_library_are_exit_6_and_the_remedy_works(vnbench: Program, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    test = ["ab", "naps.py:nap", "--b", "python=bare", "--device", "cpu", "--sessions", "3", "--tolerance", "50%"]
    answer = vnbench(*test)
    assert answer.code == errors.INCONCLUSIVE
    line = one_line(answer)
    assert line.startswith("vnbench: the arms differ in ")
    assert list((tmp_path / "results" / ".incomplete").iterdir()) == []
    remedy = line.partition("that it is meant: ")[2].split()
    again = vnbench(*test, *remedy)
    assert again.code in (errors.OK, errors.INCONCLUSIVE)
    assert f"B: python={tmp_path / 'bare' / 'bin' / 'python'}" in again.out.replace("\n", "")
    assert "the arms differ" not in again.err


# ---------------------------------------------------------------- what it says


def test_a_slower_arm_is_exit_5_and_all_its_reports_agree(vnbench: Program, tmp_path: Path) -> None:
    answer = vnbench(
        *("ab", "naps.py:nap", "--a", "NAP_S=0.001", "--b", "NAP_S=0.005", "--tolerance", "20%"),
        *("--device", "cpu", "--junit", "junit.xml", "--markdown", "comment.md", "--sessions", "4", "--tag", "why=so"),
    )
    assert answer.code == errors.REGRESSED
    assert answer.out.startswith("A: NAP_S=0.001\nB: NAP_S=0.005\n")
    (line,) = (line for line in answer.out.splitlines() if line.startswith("call/naps.py:nap"))
    assert (line.split()[-2:], "1 REGRESSED" in answer.out) == (["4", "REGRESSED"], True)
    assert "no A/A test of this on this machine yet" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    (case,) = ElementTree.parse(tmp_path / "junit.xml").iter("testcase")
    assert case.find("failure") is not None
    assert "REGRESSED" in (tmp_path / "comment.md").read_text()

    (path,) = store.find(Path("results"), "results")
    kept, rows = store.read(path)
    assert (kept.trial, kept.tags, len(rows)) == (Trial(looks=(4,), tolerance=0.2), {"why": "so"}, 8)
    shown = vnbench("show", kept.run_id)
    assert (shown.code, shown.out) == (0, answer.out)
    value = json.loads(vnbench("show", kept.run_id, "--json").out)
    assert (value["run_id"], value["exit_code"]) == (kept.run_id, 5)
    assert [one["verdict"] for one in value["judgements"]] == ["REGRESSED"]


def test_json_is_one_line_on_stdout_and_nothing_else(vnbench: Program) -> None:
    answer = vnbench("ab", "naps.py:wrong", "--b", "X=1", "--device", "cpu", "--json")
    assert answer.code == errors.FAILED
    assert answer.out.count("\n") == 1
    (one,) = json.loads(answer.out)["judgements"]
    assert (one["verdict"], one["ratio"]) == ("ERROR", None)
    assert one["reason"].startswith("arm ")


def test_a_spent_budget_is_exit_6(vnbench: Program) -> None:
    answer = vnbench("ab", "naps.py:nap", "--b", "X=1", "--device", "cpu", "--budget", "0.01s")
    assert answer.code == errors.INCONCLUSIVE
    assert "1 sessions, where the first look is after" in " ".join(answer.out.split())


def test_a_fake_device_is_marked_wherever_its_figures_are_shown(vnbench: Program) -> None:
    answer = vnbench("ab", "naps.py:longer_nap", "--b", "X=1", "--device", "fake:steady", "--sessions", "3")
    assert answer.code == errors.OK
    assert "SIMULATED: these figures come from a script and measure nothing" in answer.out
    again = vnbench("aa", "naps.py:longer_nap", "--device", "fake:steady", "--sessions", "5")
    assert again.code == errors.OK
    assert "SIMULATED" in again.out


def test_aa_says_what_this_machine_can_tell_apart_and_ab_repeats_it(vnbench: Program) -> None:
    answer = vnbench("aa", "naps.py:nap", "--device", "cpu", "--sessions", "5", "--tolerance", "50%")
    assert answer.code == errors.OK
    (line,) = (line for line in answer.out.splitlines() if line.startswith("call/naps.py:nap"))
    assert line.split()[1] == "5"
    assert max(map(len, answer.out.splitlines())) <= 80
    (path,) = store.find(Path("results"), "results")
    run_id = store.read(path)[0].run_id
    assert f"A/A test {run_id}  node " in answer.out
    value = json.loads(vnbench("show", run_id, "--json").out)
    assert (value["run_id"], value["noise"][0]["sessions"]) == (run_id, 5)

    tested = vnbench("ab", "naps.py:nap", "--b", "X=1", "--device", "cpu", "--sessions", "3", "--tolerance", "50%")
    assert "A/A noise of this machine for call/naps.py:nap: " in tested.out
    assert f"run {run_id}" in tested.out
    assert "no A/A test" not in tested.out


@pytest.mark.slow
def test_a_function_can_be_run_by_itself_as_well(vnbench: Program) -> None:
    answer = vnbench("run", "call/naps.py:nap", "--device", "cpu", "--replicates", "1")
    assert answer.code == errors.OK
    assert "call/naps.py:nap" in answer.out
    (path,) = store.find(Path("results"), "results")
    (row,) = store.read(path)[1]
    assert (row["status"], row["unit"], row["kernel"]) == ("ok", "call/s", "call")
    assert row["value"] < 1000


def test_aa_of_what_fails_is_exit_3_and_says_why(vnbench: Program) -> None:
    answer = vnbench("aa", "naps.py:fails", "--device", "cpu")
    assert answer.code == errors.FAILED
    assert "ValueError: it would not [/as code does]" in " ".join(answer.out.split())

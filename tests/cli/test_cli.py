"""The command line as its users meet it: help at once, an error in one line, figures on stdout."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from bench import errors, info, run, store
from bench.__main__ import main
from bench.cli import cli
from bench.device import select
from bench.schema import Row
from bench.types import Plan
from tests.checkout import ROOT
from tests.results import WORKLOAD, make_plan, make_row

COMMANDS = sorted(cli.commands)
HEAVY = ("torch", "numpy", "pandas", "scipy", "pyarrow", "psutil", "rich", "cryptography")


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Program = Callable[..., Answer]


@pytest.fixture
def vnbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Program:
    """The program in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

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


def result(out: Path, run_id: str = "5f0c2a91be", **changes: Any) -> Path:
    """A result of three replicates in that folder, without a run."""
    plan = make_plan(run_id=run_id)
    folder = store.begin(out, plan)
    rows: list[Row] = [make_row(plan, replicate=replicate, **changes) for replicate in range(3)]
    path = folder.commit(rows)
    folder.release()
    return path


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- help


SHOWS_HELP = """
import sys
from bench.__main__ import main
try:
    main()
except SystemExit as exit_:
    assert not exit_.code
print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    command = [sys.executable, "-c", SHOWS_HELP.format(heavy=HEAVY), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_command_has_help_with_examples_in_80_columns(vnbench: Program, name: str, flag: str) -> None:
    answer = vnbench(name, flag)
    assert answer.code == 0
    _, _, examples = answer.out.partition("Examples:\n")
    assert examples.startswith(f"    vnbench {name}"), answer.out
    assert max(len(line) for line in answer.out.splitlines()) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_is_a_command_that_can_be_parsed(name: str) -> None:
    command = cli.commands[name]
    assert command.help is not None
    lines = [line.strip() for line in command.help.splitlines() if line.strip().startswith("vnbench ")]
    assert lines
    for line in lines:
        program, called, *arguments = shlex.split(line)
        assert (program, called) == ("vnbench", name)
        command.make_context(name, arguments)  # raises where an option is unknown


def test_the_program_says_what_it_is_for_and_its_exit_codes(vnbench: Program) -> None:
    answer = vnbench("--help")
    for words in ("vnbench run quick", "Exit codes: 0 done", *COMMANDS):
        assert words in answer.out


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["run", "matmull/fp32/64", "--device", "cpu"],
            "no workload or suite 'matmull/fp32/64'. Nearest: matmul/fp32/",
        ),
        (["run", "large/*", "--device", "cpu"], "no workload or suite 'large/*'"),
        (["run", "matmul/fp32", "--device", "cpu"], "has 1 of 2 axes. Write matmul/<dtype>/<shape>"),
        (["run", "quick", "standard"], "two suites at once"),
        (["run", "missing.toml"], "missing.toml: No such file"),
        (["run", "wrong.toml"], "wrong.toml, line 2: 'replicate' is not a key here"),
        (["run", WORKLOAD, "--device", "tpu"], "no device 'tpu'. Choose one of: auto, cpu, cuda"),
        (["run", WORKLOAD, "--device", "cuda:0"], "--device cuda:0: no NVIDIA GPU on this machine. Use --device cpu"),
        (["run", WORKLOAD, "--device", "fake:fast"], "no fake scenario 'fast'"),
        (["run", WORKLOAD, "--budget", "soon"], "'soon' is not a duration"),
        (["run", "--resume", "5f0c", "--replicates", "3"], "--resume goes on with the plan of its run"),
        (["run", "--resume", "5f0c"], "no result at '5f0c'"),
        (["list", "large/*"], "no workload or suite 'large/*'"),
        (["list", "--device", "gpu"], "no device 'gpu'"),
        (["info", "--device", "gpu"], "no device 'gpu'"),
        (["show", "5f0c"], "no result at '5f0c', and no run of that id in results"),
        (["show", "truncated.parquet"], "truncated.parquet: not a readable Parquet file"),
        (["show", "notes.parquet"], "notes.parquet: not a readable Parquet file"),
        (["show", "truncated.parquet", "--json"], "truncated.parquet: not a readable Parquet file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(
    vnbench: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.setattr(select, "nvidia_hardware", lambda: None)
    (tmp_path / "wrong.toml").write_text('workloads = ["matmul/fp32/64"]\nreplicate = 3\n')
    (tmp_path / "notes.parquet").write_text("no table\n" * 50)
    whole = result(tmp_path / "elsewhere")
    (tmp_path / "truncated.parquet").write_bytes(whole.read_bytes()[:-30])
    before = files(tmp_path)
    answer = vnbench(*arguments)
    assert (answer.code, answer.out) == (errors.USAGE, "")
    assert answer.err.startswith("vnbench: ")
    assert answer.err.count("\n") == 1
    assert words in answer.err
    assert files(tmp_path) == before


def test_nvidia_hardware_that_does_not_work_is_exit_4(vnbench: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "nvidia_hardware", lambda: "/dev/nvidiactl")
    monkeypatch.setattr(select, "_ask_cuda", lambda: ((), "the driver is too old"))
    answer = vnbench("run", WORKLOAD)
    assert (answer.code, answer.out) == (errors.UNFIT, "")
    assert answer.err.count("\n") == 1
    assert "--device cpu measures the CPU instead" in answer.err


@pytest.mark.parametrize(
    "arguments", [["run", "--no-such"], ["run", "--replicates", "0"], ["run", "--tag", "rack"], ["nothing"], ["show"]]
)
def test_a_wrong_option_is_exit_2_and_points_to_the_help(vnbench: Program, arguments: list[str]) -> None:
    answer = vnbench(*arguments)
    assert (answer.code, answer.out) == (errors.USAGE, "")
    assert "Error: " in answer.err
    assert "help' for help" in answer.err


def test_an_interrupt_at_the_keyboard_is_exit_130(vnbench: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(selector: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(select, "find", interrupted)
    answer = vnbench("run", WORKLOAD)
    assert (answer.code, answer.out) == (130, "")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("arguments", [["list", "--no-probe", "--device", "cpu"], ["--help"]])
def test_a_reader_that_leaves_is_no_trouble(arguments: list[str]) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        stdout=write_fd,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write_fd)
    assert done.stderr == ""


# ---------------------------------------------------------------- run


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(vnbench: Program, tmp_path: Path) -> None:
    answer = vnbench("run", WORKLOAD, "--device", "cpu", "--replicates", "4", "--dry-run")
    assert answer.code == 0
    assert "suite custom: 4 replicates" in answer.out
    assert f"\n  {WORKLOAD}\n  roof/compute/fp32\n" in answer.out
    assert files(tmp_path) == []


def executed(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[Plan]:
    """Let a run be nothing but its result; the list will hold its plan."""
    plans: list[Plan] = []

    def execute(plan: Plan, *_: object, **__: object) -> Path:
        plans.append(plan)
        return path

    monkeypatch.setattr(run, "execute", execute)
    return plans


def test_results_are_on_stdout_and_progress_is_not(
    vnbench: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = result(tmp_path / "results")
    plans = executed(monkeypatch, path)
    answer = vnbench("run", WORKLOAD, "--device", "cpu", "--label", "first", "--tag", "rack=b4", "--tag", "a=b=c")
    assert answer.code == 0
    assert f"\nresults: {path}\n" in answer.out
    assert answer.err == "note: asked for with --device cpu\n"
    (plan,) = plans
    assert (plan.label, plan.tags) == ("first", {"rack": "b4", "a": "b=c"})


@pytest.mark.parametrize(
    ("changes", "options", "code"),
    [
        ({}, [], errors.OK),
        ({"status": "failed", "reason": "x"}, [], errors.FAILED),
        ({"status": "unsupported", "reason": "x"}, [], errors.OK),
        ({"validity": ["unfit:steal"]}, [], errors.OK),
        ({"validity": ["unfit:steal"]}, ["--strict"], errors.UNFIT),
    ],
)
def test_the_exit_code_is_the_outcome(
    vnbench: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    options: list[str],
    code: int,
) -> None:
    executed(monkeypatch, result(tmp_path / "results", **changes))
    assert vnbench("run", WORKLOAD, "--device", "cpu", "--json", *options).code == code


# ---------------------------------------------------------------- JSON


def test_the_json_of_a_run_is_what_its_table_says(
    vnbench: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = result(tmp_path / "results")
    executed(monkeypatch, path)
    ran = json.loads(vnbench("run", WORKLOAD, "--device", "cpu", "--json").out)
    shown = json.loads(vnbench("show", path, "--json").out)
    assert ran == shown
    assert ran["run_id"] == "5f0c2a91be"
    (one,) = ran["results"]
    assert (one["workload"], one["value"], one["unit"], one["status"]) == (WORKLOAD, pytest.approx(2.0), "FLOP/s", "ok")
    assert one["interval"].keys() == {"low", "high", "n", "confidence"}


def test_the_json_of_several_runs_is_a_line_each(vnbench: Program, tmp_path: Path) -> None:
    result(tmp_path / "results", "aa11111111")
    result(tmp_path / "results", "bb22222222")
    answer = vnbench("show", "results", "--json")
    assert [json.loads(line)["run_id"] for line in answer.out.splitlines()] == ["aa11111111", "bb22222222"]


def test_the_json_of_the_list_names_what_can_be_run(vnbench: Program) -> None:
    answer = vnbench("list", "matmul/fp32/*", "--device", "cpu", "--no-probe", "--json")
    found = json.loads(answer.out)
    assert {one["name"].rpartition("/")[0] for one in found["workloads"]} == {"matmul/fp32"}
    assert {one["runs_here"] for one in found["workloads"]} == {None}, "nothing was tried"
    assert "quick" in found["suites"]


def test_the_json_of_the_node(vnbench: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "_WATCH_S", 0.01)
    found = json.loads(vnbench("info", "--device", "cpu", "--json").out)
    assert found["devices"][0]["kind"] == "cpu"
    assert found["environment"]["python"].startswith("3.")
    assert found["roofs"] == []


# ---------------------------------------------------------------- show


def test_a_table_is_shown_again_from_its_file_alone(vnbench: Program, tmp_path: Path) -> None:
    result(tmp_path / "results")
    by_id, by_folder = vnbench("show", "5f0c"), vnbench("show", "results")
    assert by_id.code == 0
    assert by_id.out == by_folder.out
    assert "run 5f0c2a91be  suite smoke  node node7" in by_id.out
    assert "2.000 FLOP/s" in by_id.out


def test_what_is_shown_was_decided_when_it_was_run(vnbench: Program, tmp_path: Path) -> None:
    result(tmp_path / "results", status="failed", reason="x", validity=["unfit:steal"])
    assert vnbench("show", "5f0c").code == 0


def test_the_commands_are_those_that_are_documented() -> None:
    measuring, comparing = (
        ["aa", "ab", "gate", "info", "list", "run", "watch"],
        ["baseline", "compare", "history", "show"],
    )
    judging = ["plan", "accept", "soak", "criteria", "golden", "judge", "seal", "countersign", "verify", "keygen"]
    assert sorted([*measuring, *comparing, *judging, "import", "pack"]) == COMMANDS
    assert all(isinstance(command, click.Command) for command in cli.commands.values())

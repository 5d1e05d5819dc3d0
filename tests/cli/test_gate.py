"""``vnbench gate`` as its users meet it: exit codes, files, errors in one line, and a measurement of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner, Result

from bench import errors, pack, run
from bench.cli import cli
from bench.cli.baseline import baseline as baseline_command
from bench.cli.gate import gate
from bench.cli.history import history
from bench.device import select
from bench.errors import VnbenchError
from bench.gate import baseline, source
from bench.importing.files import import_files
from bench.types import Plan
from tests.checkout import ROOT, Checkout
from tests.results import CPU, WORKLOAD
from tests.stored import OTHER, STEADY, stored

Call = Callable[..., Result]


def answer(command: Any, *arguments: str | Path) -> Result:
    """A command's answer; an error of ours as the program would show it."""
    result = CliRunner().invoke(command, list(map(str, arguments)))
    if isinstance(result.exception, VnbenchError):
        result.exit_code = result.exception.exit_code
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A results folder with the baseline ``main``."""
    baseline.keep(tmp_path, "main", [stored(tmp_path)])
    return tmp_path


def judged(out: Path, *arguments: str | Path) -> Result:
    return answer(gate, "--baseline", "main", "--out", out, *arguments)


def test_each_verdict_has_its_exit_code(out: Path) -> None:
    slow, again = stored(out, slower=1.05), stored(out, slower=1.05)
    for expected, arguments in (
        (errors.OK, [stored(out)]),
        (errors.OK, [stored(out, slower=0.9)]),
        (errors.REGRESSED, [slow, "--confirm", again]),
        (errors.INCONCLUSIVE, [slow]),
        (errors.INCONCLUSIVE, [stored(out, torch="2.14")]),
        (errors.OK, [stored(out, torch="2.14"), "--vary", "torch"]),
        (errors.OK, [slow, "--tolerance", "10%"]),
        (errors.FAILED, [stored(out, {WORKLOAD: [*STEADY, None]})]),
        (errors.UNFIT, [stored(out, validity=["unfit:steal"])]),
        (errors.REGRESSED, [stored(out, slower=1.05, validity=["unfit:steal"]), "--confirm", again]),
    ):
        found = judged(out, "--current", *arguments)
        assert found.exit_code == expected, found.output


def test_a_run_may_be_named_by_the_beginning_of_its_id_and_a_baseline_by_its_path(out: Path) -> None:
    stored(out, run_id="aaaaaaaaaa")
    assert judged(out, "--current", "aaaa").exit_code == errors.OK
    path = out / "baselines" / "main"
    assert answer(gate, "--baseline", path, "--current", "aaaa", "--out", out).exit_code == errors.OK


def test_a_run_is_the_same_one_by_itself_and_packed_with_others(out: Path) -> None:
    paths = [stored(out, run_id="aaaaaaaaaa"), stored(out, run_id="bbbbbbbbbb", slower=1.1, plan={"label": "b"})]

    def ratios(baseline: str = "main") -> list[float]:
        found = [judged(out, "--baseline", baseline, "--current", text, "--json") for text in ("aaaa", "bbbb")]
        return [json.loads(each.stdout)["judgements"][0]["ratio"] for each in found]

    before = ratios()
    pack.pack(paths, out / "runs", remove_originals=True)
    assert ratios() == before == pytest.approx([1.0, 1.1])
    assert answer(baseline_command, "set", "of-a-label", "label:b", "--out", out).exit_code == 0
    (kept,) = baseline.plans(baseline.files(out, "of-a-label"))
    assert kept.run_id == "bbbbbbbbbb"
    found = answer(gate, "--baseline", "bbbb", "--current", "aaaa", "--out", out, "--json")
    assert json.loads(found.stdout)["judgements"][0]["ratio"] == pytest.approx(1 / 1.1)


def test_what_is_said_with_a_path_beside_a_run_is_all_of_the_path_and_the_run(tmp_path: Path) -> None:
    packed = pack.pack([stored(tmp_path / "x", run_id=each * 10) for each in "ab"], tmp_path / "out").files
    single = stored(tmp_path / "y", run_id="cccccccccc")
    assert source.find(tmp_path / "out", ["aaaa", str(single)]) == source.Source(
        (*packed, single), frozenset({"aaaaaaaaaa", "cccccccccc"})
    )


def test_a_reader_that_has_had_enough_changes_neither_exit_code_nor_files(out: Path) -> None:
    slow, again = (str(stored(out, slower=1.05)) for _ in range(2))
    for form in ("--json", "--tolerance=2%"):
        reading_fd, writing_fd = os.pipe()
        os.close(reading_fd)
        command = ["gate", "--baseline", "main", "--out", str(out), "--current", slow, "--confirm", again, form]
        found = subprocess.run(
            [sys.executable, "-m", "bench", *command, "--markdown", str(out / f"{form}.md")],
            cwd=ROOT,
            stdout=writing_fd,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writing_fd)
        assert (found.returncode, found.stderr) == (errors.REGRESSED, "")
        assert "REGRESSED" in (out / f"{form}.md").read_text()


def test_the_reports_say_the_same_as_the_json(out: Path) -> None:
    files = "--junit", out / "gate.xml", "--markdown", out / "gate.md"
    found = judged(out, "--current", stored(out, slower=1.05), "--confirm", stored(out, slower=1.05), *files, "--json")
    data = json.loads(found.stdout)
    (one,) = data["judgements"]
    assert (data["baseline"], data["exit_code"], one["verdict"]) == ("main", 5, "REGRESSED")
    (case,) = ElementTree.parse(out / "gate.xml").getroot().iter("testcase")
    assert case.find("failure") is not None
    assert float(case.findall("properties/property[@name='ratio']")[0].attrib["value"]) == one["ratio"]
    assert "| `matmul/fp32/64` | cpu | 1.050 | 1.049–1.051 |" in (out / "gate.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--current", "nothing"], 2, "no result at 'nothing'"),
        (["--current", "RUN", "--vary", "drivers"], 2, "'drivers' is no key. There are: driver"),
        (["--current", "RUN", "--replicates", "5"], 2, "--current judges stored results"),
        (["--confirm", "RUN"], 2, "--confirm is a second measurement beside --current"),
        (["--current", "RUN", "--confirm", "RUN"], 2, "is in the current and in the confirmation"),
        (["--current", "RUN", "--junit", "missing/gate.xml"], 7, "cannot write missing/gate.xml"),
        (
            ["--current", "RUN", "--junit", "gate.it", "--markdown", "./gate.it"],
            2,
            "--junit and --markdown name the same",
        ),
        (["--baseline", "mian", "--current", "RUN"], 2, "no baseline 'mian'"),
        (["--current", "TRUNCATED"], 2, "not a readable Parquet file"),
    ],
)
def test_a_mistake_is_one_line(out: Path, arguments: list[str], code: int, words: str) -> None:
    path = stored(out)
    truncated = out / "telemetry" / "truncated.parquet"  # where no run is looked for
    truncated.parent.mkdir(exist_ok=True)
    truncated.write_bytes(path.read_bytes()[:500])
    paths = {"RUN": str(path), "TRUNCATED": str(truncated)}
    found = judged(out, *[paths.get(one, one) for one in arguments])
    assert found.exit_code == code
    assert words in str(found.exception) and "\n" not in str(found.exception)
    assert found.stdout == ""  # what is wrong is told before anything is judged


@pytest.mark.parametrize("arguments", [["--tolerance", "much"], ["--tolerance", "200%"], ["--replicates", "4"]])
def test_a_value_out_of_range_is_a_usage_error(out: Path, arguments: list[str]) -> None:
    assert judged(out, *arguments).exit_code == errors.USAGE


# ---------------------------------------------------------------- it measures by itself


class Measured:
    """Stands in for ``run.execute``: the workloads' values of each measurement are scripted."""

    def __init__(self) -> None:
        self.slower: Iterator[dict[str, float]] = iter(())
        self.plans: list[Plan] = []

    def execute(self, plan: Plan, out: Path, **_: Any) -> Path:
        self.plans.append(plan)
        slower = next(self.slower)
        values = {
            name: [value / slower.get(name, 1.0) for value in STEADY]
            for name in plan.workloads["cpu"]
            if name in slower
        }
        return stored(out, values, plan={"run_id": plan.run_id, "suite": plan.suite})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    script = Measured()
    monkeypatch.setattr(run, "execute", script.execute)
    monkeypatch.setattr(select, "find", lambda selector: (CPU,))
    return script


def verdicts(found: Result) -> dict[str, str]:
    return {one["workload"]: one["verdict"] for one in json.loads(found.stdout)["judgements"]}


def both(out: Path) -> None:
    baseline.keep(out, "main", [stored(out, {WORKLOAD: STEADY, OTHER: STEADY})], replace=True)


def test_without_results_it_measures_and_what_looks_worse_twice(out: Path, measured: Measured) -> None:
    both(out)
    measured.slower = iter([{WORKLOAD: 1.0, OTHER: 1.05}, {OTHER: 1.05}])
    found = judged(out, "--json")
    assert verdicts(found) == {WORKLOAD: "PASS", OTHER: "REGRESSED"}
    assert found.exit_code == errors.REGRESSED
    first, second = measured.plans
    assert first.workloads["cpu"][:2] == (WORKLOAD, OTHER) and WORKLOAD not in second.workloads["cpu"]
    assert (first.replicates, second.replicates) == (5, 5)
    assert "1 of 2 look worse or better: they are measured a second time" in found.stderr


def test_what_was_slow_once_only_is_no_regression(out: Path, measured: Measured) -> None:
    both(out)
    measured.slower = iter([{WORKLOAD: 1.0, OTHER: 1.05}, {OTHER: 1.0}])
    found = judged(out, "--json")
    assert verdicts(found) == {WORKLOAD: "PASS", OTHER: "INCONCLUSIVE"}
    assert found.exit_code == errors.INCONCLUSIVE


def test_a_baseline_of_another_program_is_judged_by_named_results_alone(out: Path, measured: Measured) -> None:
    summary = out / "results-summary.jsonl"
    summary.write_text(json.dumps({"node": "n1", "kernel-launch/event_time:0": 0.0058, "kernel-launch/return_code": 0}))
    (imported,) = import_files([summary], out)
    baseline.keep(out, "theirs", [imported.path])
    for name in ("theirs", imported.path):
        found = answer(gate, "--baseline", name, "--out", out)
        assert found.exit_code == errors.USAGE
        assert "these are another program's workloads. Name new results with --current (and --confirm)" in str(
            found.exception
        )
    assert not measured.plans


def test_without_a_suspect_it_measures_once_with_as_many_processes_as_asked(out: Path, measured: Measured) -> None:
    measured.slower = iter([{WORKLOAD: 1.0}])
    assert judged(out, "--replicates", "8").exit_code == errors.OK
    assert [plan.replicates for plan in measured.plans] == [8]


REGISTERED = """
import sys
from bench.__main__ import main
from bench.cli import cli
from bench.cli.baseline import baseline
from bench.cli.gate import gate
cli.add_command(gate)
cli.add_command(baseline)
main()
"""


def vnbench(checkout: Checkout, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, "-c", REGISTERED, *map(str, arguments), "--out", str(checkout.out)]
    return subprocess.run(
        command, cwd=checkout.root, env=checkout.environment(), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_a_real_slowdown_is_found_in_real_processes(tmp_path: Path) -> None:
    """The launch of 50 ms becomes one of 100: no machine is so noisy."""
    checkout = Checkout(tmp_path)
    assert checkout.run(checkout.suite("fault/slow", replicates=5), "--telemetry-hz", "0").returncode == 0
    assert vnbench(checkout, "baseline", "set", "main").returncode == 0
    checkout.edit("kernels/fault.py", "time.sleep(0.05)", "time.sleep(0.1)")
    found = vnbench(checkout, "gate", "--baseline", "main", "--json")
    data = json.loads(found.stdout)
    (one,) = data["judgements"]
    if one["verdict"] in ("INCOMPARABLE", "INCONCLUSIVE"):
        # The machine's state has changed meanwhile, before the first measurement or the second: the right answer.
        assert "the calibration workload took" in one["reason"] and found.returncode in (4, 6), one
        return
    assert one["verdict"] == "REGRESSED", found.stderr
    assert 1.8 < one["ratio"] < 2.2 and one["n"] == 5
    assert found.returncode == errors.REGRESSED
    assert len(checkout.files()) == 3  # the baseline's run, the first measurement, the second


COMMANDS = {**cli.commands, "gate": gate, "baseline": baseline_command, "history": history}


@pytest.mark.parametrize("line", sorted(set(re.findall(r"vnbench [a-z].*", (ROOT / "docs" / "ci.md").read_text()))))
def test_every_command_of_the_page_can_be_parsed(line: str) -> None:
    if "`" in line:  # within a sentence
        line = line.partition("`")[0]
    _, name, *arguments = shlex.split(line.partition("||")[0], comments=True)
    command = COMMANDS[name]
    if isinstance(command, click.Group) and arguments[:1] and arguments[0] in command.commands:
        name, *arguments = arguments
        command = command.commands[name]
    if arguments:
        command.make_context(name, arguments)  # raises where an option is unknown


@pytest.mark.parametrize("command", [gate, history, *baseline_command.commands.values()])
def test_help_has_examples_that_can_be_parsed_in_80_columns(command: click.Command) -> None:
    text = CliRunner().invoke(command, ["--help"], terminal_width=80).output
    lines = [line.strip() for line in text.partition("Examples:")[2].splitlines() if "vnbench " in line]
    assert lines and max(map(len, text.splitlines())) <= 80
    for line in lines:
        arguments = shlex.split(line)[2:]
        own = arguments[1:] if arguments[:1] == [command.name] else arguments
        command.make_context(command.name, own)

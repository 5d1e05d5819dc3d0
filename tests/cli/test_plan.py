"""``vnbench plan`` as its users meet it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from bench import store, suite
from bench.cli.plan import plan
from bench.device import select
from bench.plan import make_plan
from tests.checkout import ROOT
from tests.cli.test_gate import answer
from tests.results import make_row

DOCUMENT = (ROOT / "docs" / "inspection.md").read_text()


def said(*arguments: str | Path) -> str:
    found = answer(plan, *arguments)
    assert found.exit_code == 0, found.output
    assert max(map(len, found.stdout.splitlines())) <= 80
    return " ".join(found.stdout.split())


def test_how_many_nodes_of_any_number() -> None:
    words = said("--bad-rate", "2%")
    assert "Inspect 149, drawn at random. If none fails, at most 2 % of the nodes are bad." in words
    assert "passes so with a chance of 5 % at most" in words


def test_how_many_nodes_of_a_delivery() -> None:
    words = said("--nodes", "400", "--bad-rate", "0.02")
    data = json.loads(answer(plan, "--nodes", "400", "--bad-rate", "0.02", "--json").stdout)["inspection"]
    assert f"Inspect {data['inspected']} of the 400, drawn at random. If none fails, at most 8 are bad." in words
    assert data["inspected"] < 149
    assert data["outcomes"][0]["bad_nodes_at_most"] == data["bad_nodes"] == 8
    assert data["outcomes"][0]["to_inspect_of_any"] == 149


def test_a_test_that_misses_too_many_is_told() -> None:
    words = said("--nodes", "40", "--bad-rate", "2%", "--sensitivity", "90%")
    assert "Inspecting all 40 once does not show that at most 0 are bad: the test misses 10 % of the bad ones" in words
    assert "more than all" in words


def test_what_a_soak_shows_and_does_not() -> None:
    words = said("--bad-rate", "5%", "--soak-hours", "24")
    assert "soak of 24 h without a failure" in words and "59 nodes" in words
    assert "at most, at 95 % confidence 125 2.12" in words  # in 1000 node-hours: 3 / 24, and that over 59 nodes
    assert "It does not show that rarer failures are absent" in words


def test_how_long_it_takes_is_known_from_past_runs_alone(tmp_path: Path) -> None:
    arguments = ("--bad-rate", "5%", "--suite", "smoke", "--device", "fake:steady", "--out", tmp_path)
    assert "not known here: run it once, vnbench run smoke" in said(*arguments)
    made = make_plan(suite.choose(["smoke"]), select.find("fake:steady"))
    started = dt.datetime.fromisoformat(made.started_at)
    names = made.workloads["fake"]
    rows = [make_row(made, name, replicate=i) for name in names for i in range(made.replicates)]
    folder = store.begin(tmp_path, made)
    folder.commit([row | {"timed_until": started + dt.timedelta(minutes=10)} for row in rows])
    folder.release()
    words = said(*arguments)
    assert "10:00, the median of 1 run" in words
    assert "59 nodes one after another: 9:50:00" in words
    data = json.loads(answer(plan, *arguments, "--json").stdout)
    assert data["durations"]["median_s"] == 600 and data["suite"] == "smoke"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bad-rate", "0"), "--bad-rate '0': not a share above 0 and below 100%. Write 2% or 0.02"),
        (("--bad-rate", "1"), "--bad-rate '1': not a share"),
        (("--bad-rate", "nan"), "--bad-rate 'nan': not a share"),
        (("--bad-rate", "2"), "--bad-rate '2': not a share"),
        (("--bad-rate", "2%", "--confidence", "1"), "--confidence '1': not a share above 0 and below 100%"),
        (("--bad-rate", "2%", "--sensitivity", "0"), "--sensitivity '0': not a share above 0 and up to 100%"),
        (("--bad-rate", "2%", "--nodes", "0"), "--nodes '0': not a number from 1 to 100000"),
        (("--bad-rate", "2%", "--nodes", "many"), "--nodes 'many': not a number"),
        (("--bad-rate", "2%", "--nodes", "100001"), "--nodes '100001': not a number"),
        (("--bad-rate", "2%", "--soak-hours", "0"), "--soak-hours '0': not a number of hours above 0"),
        (("--bad-rate", "2%", "--soak-hours", "inf"), "--soak-hours 'inf': not a number of hours"),
        (("--bad-rate", "2%", "--suite", "none-such"), "none-such"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    found = answer(plan, *arguments)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert words in str(found.exception) and "\n" not in str(found.exception)


def test_the_document_shows_what_is_said(tmp_path: Path) -> None:
    command = ("--nodes", "400", "--bad-rate", "2%", "--soak-hours", "24", "--suite", "standard")
    assert f"vnbench plan {' '.join(command)}\n" in DOCUMENT
    answered = answer(plan, *command, "--device", "fake:steady", "--out", tmp_path).stdout
    assert "\n".join(line.rstrip() for line in answered.splitlines()) in DOCUMENT

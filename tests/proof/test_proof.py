"""The recorded experiment, judged again: the figures of docs/proof.md are what the rules of today say of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from bench.telemetry import host
from tests.proof import record, recordings, report, rules
from tests.proof.record import ROOT, SLOWDOWNS
from tests.proof.recordings import Block, Process, Session

WANTED = {"quiet": (300, 40), "contended": (100, 1)}  # trials with nothing changed, and of each slowdown
DOCUMENT = ROOT / "docs" / "proof.md"


@pytest.fixture(scope="module")
def quiet() -> list[Block]:
    return recordings.load(0, "quiet")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("tables", report.markdown),
        ("times", report.times_markdown),
        ("readings", report.readings_markdown),
        ("unmoved", report.unmoved_markdown),
    ],
)
def test_the_tables_of_the_document_are_what_the_recordings_say(name: str, table: Callable[[], str]) -> None:
    shown = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", DOCUMENT.read_text(), flags=re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == table().strip()


def test_who_contends_is_foreign_to_the_run_and_ends_with_it() -> None:
    before = host.read()
    with record.hogs(2):
        time.sleep(1.0)
        state = host.window(before, host.read())
    assert state.foreign_cpu_fraction is not None
    assert state.foreign_cpu_fraction > recordings.QUIET_UP_TO


def test_a_rule_sees_what_was_put_in_and_nothing_where_nothing_was() -> None:
    """Of sessions whose truth is known exactly."""
    alike = [[Session(0.0, _process(1000), _process(1000)) for _ in range(30)]]
    slower = [[Session(0.05, _process(1000), _process(1100)) for _ in range(30)]]
    assert rules.tally_ab(alike).slower == 0
    assert rules.tally_ab(slower).slower == rules.tally_ab(slower).trials == 6
    for name in rules.STORED:
        assert rules.tally_stored(name, alike, are_alike=True).slower == 0, name
        found = rules.tally_stored(name, slower, are_alike=False)
        needs = rules.STORED[name].processes * (3 if rules.STORED[name].confirms else 2)
        assert found.slower == found.trials == 30 // needs, name


@pytest.mark.parametrize(
    ("says", "verdict", "sessions"),
    [
        (["slower", "slower"], "slower", 6),
        (["slower", "no slower"], "unclear", 6),
        (["faster", "faster"], "faster", 6),
        (["faster", "slower"], "no slower", 6),
        (["no slower"], "no slower", 4),
    ],
)
def test_what_a_rule_finds_it_confirms_with_further_processes(says: list[str], verdict: str, sessions: int) -> None:
    left = iter(says * 2)
    rule = rules.Rule(lambda baseline, current: next(left), processes=2, confirms=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rules.STORED, "scripted", rule)
        alike = [[Session(0.0, _process(1000), _process(1000)) for _ in range(sessions + 1)]]
        tally = rules.tally_stored("scripted", alike, are_alike=False)
    assert (tally.trials, tally.sessions) == (1, sessions)
    assert (tally.slower, tally.faster, tally.unclear) == tuple(
        verdict == one for one in ("slower", "faster", "unclear")
    )


def test_trials_share_no_session(quiet: list[Block]) -> None:
    seen: list[int] = []

    def judge(baseline: rules.Side, current: rules.Side) -> str:
        seen.extend(id(one) for side in (baseline, current) for one in side)
        return "unclear"

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rules.STORED, "watched", rules.Rule(judge))
        tally = rules.tally_stored("watched", quiet, are_alike=True)
    assert len(seen) == len(set(seen)) == tally.sessions == tally.trials * 10


def test_the_plan_was_recorded() -> None:
    """The counts that the document speaks of; what is rare in them is what the bounds are about."""
    for condition in report.CONDITIONS:
        for slowdown in SLOWDOWNS:
            blocks = recordings.load(slowdown, condition)
            both = (rules.tally_ab(blocks), rules.tally_stored("gate", blocks, are_alike=slowdown == 0))
            wanted = (
                {"quiet": 40, "contended": 1}[condition] if slowdown else {"quiet": 300, "contended": 100}[condition]
            )
            assert min(one.trials for one in both) >= wanted, (condition, slowdown)


def _process(elapsed_ns: int) -> Process:
    return Process(tuple(elapsed_ns + i % 3 for i in range(100)))

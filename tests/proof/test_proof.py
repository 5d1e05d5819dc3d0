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

DOCUMENT = ROOT / "docs" / "proof.md"


@pytest.fixture(scope="module")
def quiet() -> list[Block]:
    return recordings.load(0, "quiet")


@pytest.mark.parametrize(
    ("name", "table"),
    [("tables", report.markdown), ("readings", report.readings_markdown), ("unmoved", report.unmoved_markdown)],
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
        assert (found.slower, found.trials) == (2, 2), name


def test_trials_share_no_session(quiet: list[Block]) -> None:
    seen: list[int] = []

    def rule(baseline: rules.Side, current: rules.Side, confirmation: rules.Side) -> str:
        seen.extend(id(one) for side in (baseline, current, confirmation) for one in side)
        return "unclear"

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rules.STORED, "watched", rule)
        tally = rules.tally_stored("watched", quiet, are_alike=True)
    assert len(seen) == len(set(seen)) == tally.trials * 15


def test_every_truth_was_recorded() -> None:
    assert all(recordings.load(slowdown, one) for slowdown in SLOWDOWNS for one in report.CONDITIONS[1:])


def _process(elapsed_ns: int) -> Process:
    return Process(tuple(elapsed_ns + i % 3 for i in range(100)))

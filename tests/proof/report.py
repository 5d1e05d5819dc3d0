"""What the recordings say, as the table of docs/proof.md: ``python -m tests.proof.report`` prints it."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from bench import stats
from tests.proof import recordings, rules
from tests.proof.record import SLOWDOWNS
from tests.proof.recordings import Block, Condition, Session
from tests.proof.rules import Tally

CONDITIONS: tuple[Condition, ...] = ("quiet", "contended")


def tallies(blocks: Sequence[Block], slowdown: int) -> list[Tally]:
    """Every rule on the same sessions."""
    stored = [rules.tally_stored(name, blocks, are_alike=slowdown == 0) for name in rules.STORED]
    return [rules.tally_ab(blocks), *stored]


def markdown() -> str:
    """A table for each condition: the share of trials that found something, its bounds, and the share decided."""
    lines: list[str] = []
    for condition in CONDITIONS:
        blocks = {slowdown: recordings.load(slowdown, condition) for slowdown in SLOWDOWNS}
        found = {slowdown: tallies(blocks[slowdown], slowdown) for slowdown in SLOWDOWNS}
        sessions = {slowdown: sum(map(len, blocks[slowdown])) for slowdown in SLOWDOWNS}
        lines += [f"### {condition.capitalize()}", ""]
        lines += ["| rule | " + " | ".join(f"{_truth(one)}, {sessions[one]} sessions" for one in SLOWDOWNS) + " |"]
        lines += ["| --- |" + " --- |" * len(SLOWDOWNS)]
        for index, first in enumerate(found[0]):
            cells = [_cell(found[slowdown][index], slowdown) for slowdown in SLOWDOWNS]
            lines.append(f"| {first.rule} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def times_markdown() -> str:
    """How long `ab` takes: the sessions of a trial, and the time from the start of one to that of the next."""
    lines = ["| sessions of a trial, mean | " + " | ".join(map(_truth, SLOWDOWNS)) + " | seconds a session, median |"]
    lines += ["| --- |" + " --- |" * (len(SLOWDOWNS) + 1)]
    for condition in CONDITIONS:
        blocks = {slowdown: recordings.load(slowdown, condition) for slowdown in SLOWDOWNS}
        of_ab = [rules.tally_ab(blocks[slowdown]) for slowdown in SLOWDOWNS]
        gaps_s = [
            after.started_at_s - before.started_at_s
            for block in (one for of_truth in blocks.values() for one in of_truth)
            for before, after in itertools.pairwise(block)
        ]
        cells = [f"{one.sessions / one.trials:.1f}" if one.trials else "–" for one in of_ab]
        lines.append(f"| {condition} | {' | '.join(cells)} | {statistics.median(gaps_s):.2f} |")
    return "\n".join(lines)


def readings_markdown() -> str:
    """How far sessions with nothing changed spread, by how a burst is read."""
    lines = ["| a burst is read by its | " + " | ".join(CONDITIONS) + " |", "| --- |" + " --- |" * len(CONDITIONS)]
    found = {condition: recordings.readings(recordings.load(0, condition)) for condition in CONDITIONS}
    for name in recordings.READINGS:
        cells = [_spread(found[condition][name]) for condition in CONDITIONS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def unmoved_markdown() -> str:
    """How many sessions with nothing changed differed by more than 3 %, before and after bursts began on one CPU."""
    lines = ["| condition | each arm where it slept | both bursts of a pair begin on one CPU |", "| --- | --- | --- |"]
    for condition in CONDITIONS:
        cells = [_far(recordings.sessions_of(condition, one)) for one in (recordings.UNMOVED, recordings.RUNS)]
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _far(sessions: Sequence[Session]) -> str:
    return f"{sum(abs(one.log_ratio) > 0.03 for one in sessions)} of {len(sessions)}"


def _spread(log_ratios: Sequence[float]) -> str:
    """The standard deviation, and that which the middle half of normal values would have: heavy tails part the two."""
    quartiles = stats.quantile(log_ratios, 0.75) - stats.quantile(log_ratios, 0.25)
    return f"{statistics.stdev(log_ratios):.2%} ({quartiles / 1.349:.2%})"


def _truth(slowdown: int) -> str:
    return f"{slowdown} % slower" if slowdown else "alike"


def _cell(one: Tally, slowdown: int) -> str:
    """Of arms that are alike, ``faster`` is as false as ``slower``."""
    if not one.trials:
        return "–"
    hits = one.slower if slowdown else one.slower + one.faster
    share = stats.clopper_pearson(hits, one.trials)
    decided = 1 - one.unclear / one.trials
    return f"{hits}/{one.trials} ({share.low:.1%}–{share.high:.1%}), decided {decided:.0%}"


if __name__ == "__main__":
    for table in (markdown, times_markdown, readings_markdown, unmoved_markdown):
        print(table(), end="\n\n")

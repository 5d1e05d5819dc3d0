"""What the recordings say, as the table of docs/proof.md: ``python -m tests.proof.report`` prints it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.proof import recordings, rules
from tests.proof.record import SLOWDOWNS
from tests.proof.recordings import Condition, Session
from tests.proof.rules import Tally

CONDITIONS: tuple[Condition, ...] = ("quiet", "contended")


def tallies(sessions: Sequence[Session], slowdown: int) -> list[Tally]:
    """Every rule on the same sessions."""
    stored = [rules.tally_stored(name, sessions, both_ways=slowdown == 0) for name in rules.STORED]
    return [rules.tally_ab(sessions), *stored]


def markdown() -> str:
    """A table for each condition: the share of trials that say ``slower``, with its bounds and the share decided."""
    lines: list[str] = []
    for condition in CONDITIONS:
        found = {slowdown: tallies(recordings.load(slowdown, condition), slowdown) for slowdown in SLOWDOWNS}
        lines += [f"### {condition}", "", "| rule | " + " | ".join(f"{_truth(one)}" for one in SLOWDOWNS) + " |"]
        lines += ["| --- |" + " --- |" * len(SLOWDOWNS)]
        for index, first in enumerate(found[0]):
            cells = [_cell(found[slowdown][index]) for slowdown in SLOWDOWNS]
            lines.append(f"| {first.rule} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _truth(slowdown: int) -> str:
    return f"{slowdown} % slower" if slowdown else "alike (false alarms)"


def _cell(one: Tally) -> str:
    if not one.trials:
        return "–"
    share = one.share
    return (
        f"{one.slower / one.trials:.1%} ({share.low:.1%}–{share.high:.1%}) of {one.trials}, "
        f"decided {one.decided / one.trials:.0%}"
    )


if __name__ == "__main__":
    print(markdown())

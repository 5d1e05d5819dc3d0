"""What the recordings say, as the table of docs/proof.md: ``python -m tests.proof.report`` prints it."""

from __future__ import annotations

from collections.abc import Sequence

from bench import stats
from tests.proof import recordings, rules
from tests.proof.record import SLOWDOWNS
from tests.proof.recordings import Block, Condition
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
    print(markdown())

"""``Verdict``: what a result says of its criteria, device by device; and what several verdicts are together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench import errors
from bench.criteria.facts import FACTS, STATES
from bench.criteria.model import Criterion, Inventory, Performance, Soak, State
from bench.message import Message
from bench.stats import Interval

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]

FORMAT = 1  # of a verdict's JSON; raised when a key is given another meaning
NODE = "node"  # in a device's place, for what is of the host or of all devices together

WORST_FIRST: tuple[Outcome, ...] = ("FAIL", "ERROR", "INCONCLUSIVE", "PASS")
_CODES: dict[Outcome, int] = {
    "FAIL": errors.REGRESSED,
    "ERROR": errors.FAILED,
    "INCONCLUSIVE": errors.INCONCLUSIVE,
    "PASS": errors.OK,
}

Observed = float | int | bool | str | tuple[str, ...] | None


@dataclass(frozen=True)
class Finding:
    """One criterion on one device. ``observed`` is in the criterion's base unit; None where it is not known."""

    device: str  # "cuda:0", "cpu", or "node"
    outcome: Outcome
    words: Message  # why, in a few words
    observed: Observed = None
    interval: Interval | None = None
    n: int = 0  # replicates behind a figure, rows behind a count
    badness: float = 0.0  # the higher, the worse, among equal outcomes
    wants: int = 0  # fit replicates that the next look waits for; 0 where more would not help, or need not
    is_unfit: bool = False  # undecided, and flags of what is unfit to be measured have a part in that


@dataclass(frozen=True)
class Judged:
    """One criterion, on every device that it is judged on."""

    criterion: Criterion
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        """The worst device's; of several alike, the first."""
        return min(self.findings, key=lambda one: (WORST_FIRST.index(one.outcome), -one.badness))

    @property
    def outcome(self) -> Outcome:
        return self.worst.outcome

    @property
    def unit(self) -> str:
        return unit_of(self.criterion)


@dataclass(frozen=True)
class Verdict:
    """All criteria of a file, in its order, judged by one result."""

    run_id: str
    node: str
    simulated: bool  # figures of it come from a script: it says nothing of a machine
    criteria_sha256: str
    criteria: tuple[Judged, ...]

    @property
    def outcome(self) -> Outcome:
        return worst(one.outcome for one in self.criteria)

    @property
    def exit_code(self) -> int:
        findings = (finding for one in self.criteria for finding in one.findings)
        if self.outcome == "INCONCLUSIVE" and any(one.is_unfit for one in findings):
            return errors.UNFIT
        return _CODES[self.outcome]


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of several, in the order FAIL, ERROR, INCONCLUSIVE, PASS."""
    return min(outcomes, key=WORST_FIRST.index)


def unit_of(criterion: Criterion) -> str:
    """The base unit of what is observed and of the limit; ``1`` for counts, fractions and what is no number."""
    if isinstance(criterion, Performance):
        return criterion.unit
    if isinstance(criterion, Soak):
        return "h"
    if isinstance(criterion, Inventory):
        return FACTS[criterion.what].unit
    return STATES[criterion.column].unit if isinstance(criterion, State) else "1"

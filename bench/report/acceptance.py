"""A verdict on a terminal: the node's first, then each criterion, then why it is not a PASS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import units
from bench.acceptance.model import WORST_FIRST, Finding, Outcome, Verdict, unit_of
from bench.criteria.model import Criteria, Criterion
from bench.message import say
from bench.report import criteria as words
from bench.report.language import PLAIN, Language

SIMULATED = say("SIMULATED: these figures come from a script and say nothing of a machine")
OUTCOMES: Mapping[Outcome, str] = {
    "PASS": say("PASS"),
    "FAIL": say("FAIL"),
    "INCONCLUSIVE": say("INCONCLUSIVE"),
    "ERROR": say("ERROR"),
}
_STYLES = {"PASS": "green", "FAIL": "bold red", "ERROR": "bold red", "INCONCLUSIVE": "yellow"}


def show(out: Console, verdict: Verdict, criteria: Criteria, name: str) -> None:
    """The verdict, the table and the reasons.

    Args:
        name: by which the criteria were asked for.
    """
    simulated = "SIMULATED " if verdict.simulated else ""
    out.print(f"{simulated}{verdict.outcome}", style=_STYLES[verdict.outcome])
    if verdict.simulated:
        out.print(SIMULATED, style="bold red")
    out.print(f"run {verdict.run_id}  node {verdict.node}  {criteria.title}", style="bold")
    out.print(_table(verdict, criteria, out.width))
    for line in reasons(verdict):
        out.print(line)
    out.print(f"who says so: vnbench criteria explain {name}", style="dim")
    counts = Counter(one.outcome for one in verdict.criteria)
    out.print(", ".join(f"{counts[name]} {name}" for name in WORST_FIRST if counts[name]), style="bold")


def reasons(verdict: Verdict, language: Language = PLAIN) -> list[str]:
    """Why criteria do not PASS, the worst first: ``FAIL: bf16 on cuda:3 and 2 more: the whole interval misses …``"""
    grouped: dict[tuple[Outcome, str], list[str]] = {}
    for one in sorted(verdict.criteria, key=lambda one: WORST_FIRST.index(one.outcome)):
        if one.outcome != "PASS":
            alike = sum(each.outcome == one.outcome for each in one.findings) - 1
            where = say("{device} and {n} more", device=one.worst.device, n=alike) if alike else one.worst.device
            why = language.say("on {where}: {why}", where=where, why=one.worst.words)
            grouped.setdefault((one.outcome, why), []).append(one.criterion.id)
    return [f"{language.say(OUTCOMES[outcome])}: {', '.join(ids)} {why}" for (outcome, why), ids in grouped.items()]


def _table(verdict: Verdict, criteria: Criteria, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), width=width)
    table.add_column("criterion", overflow="fold", ratio=1)
    table.add_column("worst", no_wrap=True)
    table.add_column("observed", justify="right", overflow="fold", max_width=14)
    table.add_column(f"{criteria.confidence * 100:g} % CI", justify="right", no_wrap=True)
    table.add_column("limit", overflow="fold", max_width=18)
    table.add_column("verdict", no_wrap=True)
    for one in verdict.criteria:
        worst = one.worst
        table.add_row(
            one.criterion.id,
            worst.device,
            words.value_words(one.criterion, worst.observed),
            interval_words(one.criterion, worst),
            words.limit(one.criterion).replace("at least", "≥").replace("at most", "≤"),
            Text(one.outcome, style=_STYLES[one.outcome]),
        )
    return table


def interval_words(criterion: Criterion, one: Finding, language: Language = PLAIN) -> str:
    """Both ends, under the prefix of the value beside them."""
    if one.interval is None or not isinstance(one.observed, float):
        return "–"
    scale = shown(criterion, one.observed)[0] / one.observed
    ends = (one.interval.low, one.interval.high)
    return "–".join(language.number(units.significant(end * scale, 4)) for end in ends)


def shown(criterion: Criterion, value: float) -> tuple[float, str]:
    """The number and the unit that a value is shown under."""
    if words.is_fraction(criterion):
        return 100 * value, "%"
    unit = unit_of(criterion)
    return units.scaled_ns(value * 1e9) if unit == "s" else units.scaled(value, "" if unit == "1" else unit)

"""A verdict on a terminal: the node's first, then each criterion, then why it is not a PASS."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import units
from bench.acceptance.model import WORST_FIRST, Finding, Verdict, unit_of
from bench.criteria.model import Criteria, Criterion, Performance, Uniformity
from bench.report import criteria as words

SIMULATED = "SIMULATED: these figures come from a script and say nothing of a machine"
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


def reasons(verdict: Verdict) -> list[str]:
    """Why criteria do not PASS, the worst first: ``FAIL: bf16 on cuda:3 and 2 more: the whole interval misses …``"""
    grouped: dict[tuple[str, str], list[str]] = {}
    for one in sorted(verdict.criteria, key=lambda one: WORST_FIRST.index(one.outcome)):
        if one.outcome != "PASS":
            alike = sum(each.outcome == one.outcome for each in one.findings) - 1
            more = f" and {alike} more" if alike else ""
            grouped.setdefault((one.outcome, f"{one.worst.device}{more}: {one.worst.words}"), []).append(
                one.criterion.id
            )
    return [f"{outcome}: {', '.join(ids)} on {why}" for (outcome, why), ids in grouped.items()]


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
            _interval(one.criterion, worst),
            words.limit(one.criterion).replace("at least", "≥").replace("at most", "≤"),
            Text(one.outcome, style=_STYLES[one.outcome]),
        )
    return table


def _interval(criterion: Criterion, worst: Finding) -> str:
    """Both ends, under the prefix of the value beside them."""
    if worst.interval is None or not isinstance(worst.observed, float):
        return "–"
    scale = _shown(criterion, worst.observed) / worst.observed
    return "–".join(units.significant(end * scale, 4) for end in (worst.interval.low, worst.interval.high))


def _shown(criterion: Criterion, value: float) -> float:
    """The number before the unit that a value is shown under."""
    if isinstance(criterion, Uniformity) or (isinstance(criterion, Performance) and criterion.of is not None):
        return 100 * value  # in percent
    unit = unit_of(criterion)
    return units.scaled_ns(value * 1e9)[0] if unit == "s" else units.scaled(value, unit)[0]

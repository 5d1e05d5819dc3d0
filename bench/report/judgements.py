"""Judgements as a table on a terminal and as JSON: of a gate or an A/B test, the worst first."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import fitness
from bench.judgement import Judgement, Verdict

SIMULATED = "SIMULATED: these figures come from a script and measure nothing"
LEGEND = (
    "ratio: time for the same work over the other side's, above 1 is worse; finds: the slowdown that would have been "
    "found 80 % of the time; n: independent observations of the smaller side"
)
_NAME_WIDTH = 26
NAMED = 3  # workloads that share a reason and are named with it

_WORST_FIRST: tuple[Verdict, ...] = ("REGRESSED", "ERROR", "INCOMPARABLE", "INCONCLUSIVE", "PASS", "IMPROVED")
_STYLES: Mapping[Verdict, str] = {
    "REGRESSED": "bold red",
    "ERROR": "bold red",
    "INCOMPARABLE": "yellow",
    "INCONCLUSIVE": "yellow",
    "PASS": "green",
    "IMPROVED": "bold green",
}


@dataclass(frozen=True)
class Report:
    """What is to be shown of a gate or an A/B test, in every form."""

    title: str
    judgements: Sequence[Judgement]
    unfit: Mapping[str, Sequence[str]] = field(default_factory=dict)  # flag → where it was seen
    notes: Sequence[str] = ()
    is_simulated: bool = False


def worst_first(judgements: Iterable[Judgement]) -> list[Judgement]:
    """By verdict, and among equal verdicts the largest ratio first; what is missing comes before what is not."""

    def key(one: Judgement) -> tuple[int, bool, float, str, str]:
        ratio = -math.inf if one.ratio is None else -one.ratio
        return _WORST_FIRST.index(one.verdict), not one.is_missing, ratio, one.workload, one.device

    return sorted(judgements, key=key)


def show(out: Console, report: Report) -> None:
    """The table, the reasons, and what makes the machine unfit."""
    out.print(report.title, style="bold")
    if report.is_simulated:
        out.print(SIMULATED, style="bold red")
    out.print(_table(worst_first(report.judgements), out.width))
    for line in (*reasons(report.judgements), *asides(report)):
        out.print(line)
    out.print(f"{LEGEND}; {tolerance_words(report.judgements)}", style="dim")
    out.print(counts(report.judgements), style="bold")


def _table(judgements: Sequence[Judgement], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), width=width)
    table.add_column("workload", overflow="fold", ratio=1)
    table.add_column("device", no_wrap=True)
    for name in ("ratio", f"{confidence(judgements)} CI", "finds", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in judgements:
        verdict = Text("missing" if one.is_missing else one.verdict, style=_STYLES[one.verdict])
        n = str(one.n) if one.n else "–"
        table.add_row(_name(one.workload), one.device, ratio(one), interval(one), detectable(one), n, verdict)
    return table


def _name(workload: str) -> str:
    """A long name breaks where its options begin, if it has to break."""
    return workload if len(workload) <= _NAME_WIDTH else workload.replace("@", "\n@", 1)


# ---------------------------------------------------------------- the same words in every report


def ratio(one: Judgement) -> str:
    """``1.034``; a dash where it is unknown."""
    return "–" if one.ratio is None else _figure(one.ratio)


def interval(one: Judgement) -> str:
    """``1.010–1.058``"""
    return "–" if one.interval is None else f"{_figure(one.interval.low)}–{_figure(one.interval.high)}"


def detectable(one: Judgement) -> str:
    """``4.1%``: by how much worse it would have to be."""
    return "–" if one.detectable is None or not one.detectable < 1000 else f"{one.detectable - 1:.1%}"


def _figure(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"


def confidence(judgements: Iterable[Judgement]) -> str:
    """``95 %``; ``95–98.3 %`` where the intervals differ in it."""
    levels = {one.interval.confidence for one in judgements if one.interval} or {0.95}
    return f"{'–'.join(dict.fromkeys(f'{level * 100:.3g}' for level in (min(levels), max(levels))))} %"


def tolerance_words(judgements: Iterable[Judgement]) -> str:
    return f"tolerance {', '.join(sorted({f'{one.tolerance * 100:g} %' for one in judgements}))}"


def counts(judgements: Sequence[Judgement]) -> str:
    """``1 REGRESSED, 7 PASS, 1 missing``: how many there are of each verdict, the worst first."""
    found = Counter("missing" if one.is_missing else one.verdict for one in worst_first(judgements))
    return ", ".join(f"{count} {verdict}" for verdict, count in found.items())


def reasons(judgements: Sequence[Judgement]) -> list[str]:
    """Each reason once, the worst first, with the workloads that it is of."""
    grouped: dict[tuple[str, str], list[Judgement]] = {}
    for one in worst_first(judgements):
        if one.reason:
            grouped.setdefault(("missing" if one.is_missing else one.verdict, one.reason), []).append(one)
    lines = []
    for (verdict, reason), group in grouped.items():
        named = ", ".join(f"{one.workload} on {one.device}" for one in group[:NAMED])
        more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
        lines.append(f"{verdict}: {named}{more}: {reason}")
    return lines


def asides(report: Report) -> list[str]:
    """What each flag of an unfit machine means and what to do about it, then the notes."""
    lines = []
    for flag, sides in report.unfit.items():
        rule = fitness.RULES.get(flag)
        meaning = f"{rule.meaning}; {rule.remedy}" if rule else "a flag of another version of vnbench"
        lines.append(f"{flag} ({', '.join(sides)}): {meaning}")
    return [*lines, *(f"note: {note}" for note in report.notes)]


def to_json(report: Report, **more: Any) -> str:
    """One line; floats are unrounded, and one that is infinite or no number is null."""
    found = {
        **more,
        "simulated": report.is_simulated,
        "unfit": report.unfit,
        "notes": report.notes,
        "judgements": [dataclasses.asdict(one) for one in worst_first(report.judgements)],
    }
    return json.dumps(_finite(found), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

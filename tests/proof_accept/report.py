"""What the recordings say, as the tables of docs/proof-accept.md.

``python -m tests.proof_accept.report`` prints them; with ``--write`` it puts them into the document as well.
"""

from __future__ import annotations

import functools
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench import stats, units
from bench.acceptance.judge import judge
from bench.acceptance.model import Verdict
from bench.criteria.model import Criteria
from tests.proof_accept import criteria as of_criteria
from tests.proof_accept import faults, record, recordings, scripted, sessions
from tests.proof_accept.criteria import FIGURE, PRODUCTS
from tests.proof_accept.faults import Fault
from tests.proof_accept.recordings import HEALTHY, Acceptance
from tests.proof_accept.repeatability import repeatability

DOCUMENT = record.ROOT / "docs" / "proof-accept.md"
CALIBRATIONS = (1, 2, 4, 10, 20)  # acceptances that set a floor, to see how many it takes


@dataclass(frozen=True)
class Judged:
    """Acceptances of one kind, each with what was said of it."""

    taken: Sequence[Acceptance]
    verdicts: Sequence[Verdict]

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(one.outcome for one in self.verdicts)

    @property
    def decided(self) -> int:
        return self.outcomes["PASS"] + self.outcomes["FAIL"]


@functools.cache
def recorded() -> Sequence[Acceptance]:
    return recordings.load()


def live(truth: str = HEALTHY) -> Judged:
    """Acceptances as they were taken, by the criteria that a calibration set."""
    found, taken = of_criteria.load(), recordings.of(truth, recorded())
    return Judged(taken, [judge(one.plan, one.rows, found) for one in taken] if found else [])


@functools.cache
def from_sessions(calibrations: int) -> tuple[Criteria, Judged, Judged]:
    """The criteria that so many quiet ones set, and the judgements of the later quiet and of the contended."""
    quiet, contended = sessions.halves("quiet"), sessions.halves("contended")
    found = sessions.criteria(sessions.floor_of(quiet[:calibrations]))
    groups = []
    for halves in (quiet[calibrations:], contended):
        pairs = [sessions.accepted(one, found) for one in halves]
        groups.append(Judged([taken for taken, _ in pairs], [verdict for _, verdict in pairs]))
    return found, groups[0], groups[1]


# ---------------------------------------------------------------- tables


def counts_markdown() -> str:
    """How much there is, and how long it took."""
    lines = ["| recorded | acceptances | replicates | seconds each, median |", "| --- | --- | --- | --- |"]
    for truth in dict.fromkeys([recordings.CALIBRATION, *record.WANTED, *scripted.SCRIPTS]):
        found = recordings.of(truth, recorded())
        seconds = f"{statistics.median(one.seconds for one in found):.0f}" if found else "–"
        lines.append(f"| {truth} | {len(found)} | {sum(one.replicates for one in found)} | {seconds} |")
    return "\n".join(lines)


def healthy_markdown() -> str:
    """What was said of a sound machine."""
    lines = ["| sound | judgements | FAIL | decided | undecided because |", "| --- | --- | --- | --- | --- |"]
    lines.append(_healthy("live", live()))
    for count in CALIBRATIONS:
        lines.append(_healthy(f"sessions, quiet, calibrated by {count}", from_sessions(count)[1]))
    lines.append(_healthy("sessions, contended, by the same", from_sessions(CALIBRATIONS[-1])[2]))
    return "\n".join(lines)


def faults_markdown() -> str:
    """What was said of a machine with a fault."""
    lines = ["| fault | how it was made | judgements | FAIL that names it | PASS |", "| --- " * 5 + "|"]
    for truth, name in record.NAMED_BY.items():
        judged = live(truth)
        factors = {one.plan.tags["slowdown"] for one in judged.taken}
        by = f", {_range(factors)} times as long" if name == FIGURE and factors else ""
        lines.append(_fault(f"{truth}{by}", "in its code; accepted live", judged.verdicts, name))
    lines += [*_slowed_live(), *_slowed_sessions()]
    found, sound = of_criteria.load(), live().taken if of_criteria.load() else ()
    for words, (fault, name) in EXACT.items():
        verdicts = [judge(each.plan, each.rows, found) for each in map(fault, sound)] if found else []
        lines.append(_exact(words, "in each sound live result", verdicts, name))
    return "\n".join([*lines, *_scripted_lines()])


def repeatability_markdown() -> str:
    """How far sound acceptances agree on the figure of each criterion."""
    lines = ["| figure | acceptances | geometric mean | least to most | repeatability |", "| --- " * 5 + "|"]
    lines.append(_repeated(f"live: `{PRODUCTS}`", _observed(live(), FIGURE), "FLOP/s"))
    quiet = from_sessions(CALIBRATIONS[-1])[1]
    lines.append(_repeated("sessions, quiet: calls a second", _observed(quiet, sessions.RATE), "call/s"))
    return "\n".join(lines)


# Faults that are exact: nothing is estimated, so each has to be found each time, and be all that is found.
EXACT: Mapping[str, tuple[Fault, str]] = {
    "one wrong answer": (faults.wrong_once, "answers"),
    "less memory, by one sixteenth": (faults.less_memory, "memory"),
    "a core that is missing": (faults.fewer_cores, "cores"),
    "64 MB swapped in one measurement": (faults.swapping, "swap"),
}


# ---------------------------------------------------------------- lines


def _healthy(words: str, judged: Judged) -> str:
    n = len(judged.verdicts)
    if not n:
        return f"| {words} | 0 | – | – | – |"
    causes = Counter(cause for one in judged.verdicts for cause in [_cause(one)] if cause)
    because = ", ".join(f"{cause}: {count}" for cause, count in causes.most_common()) or "–"
    return f"| {words} | {n} | {_share(judged.outcomes['FAIL'], n)} | {judged.decided / n:.0%} | {because} |"


def _cause(verdict: Verdict) -> str | None:
    """Why an acceptance was not decided, in a few words."""
    if verdict.outcome not in ("INCONCLUSIVE", "ERROR"):
        return None
    words = next(one.worst.words for one in verdict.criteria if one.outcome == verdict.outcome)
    if "disturbed" in words:
        return "most replicates were disturbed"
    if "roof-too-low" in words:
        return "faster than its roof"
    return "interval holds the limit" if "holds the limit" in words else words


def _fault(fault: str, how: str, verdicts: Sequence[Verdict], name: str) -> str:
    """A rate, with its bounds."""
    n, found = len(verdicts), [_outcome(one, name) for one in verdicts]
    share = _share(found.count("FAIL"), n) if n else "–"
    return f"| {fault} | {how} | {n} | {share}, `{name}` | {found.count('PASS')} |"


def _exact(fault: str, how: str, verdicts: Sequence[Verdict], name: str) -> str:
    """Where nothing is estimated there is no bound: it is found each time, or the rule is broken."""
    found = [_outcome(one, name) for one in verdicts]
    share = f"{found.count('FAIL')}/{len(found)}" if found else "–"
    return f"| {fault} | {how} | {len(found)} | {share}, `{name}` | {found.count('PASS')} |"


def _outcome(verdict: Verdict, name: str) -> str:
    (outcome,) = (one.outcome for one in verdict.criteria if one.criterion.id == name)
    return outcome


_OWN, _CALIBRATIONS = "scaled by its own margin and half-widths", "scaled by those of the calibration"


def _slowed_live() -> list[str]:
    """Sound live results whose times are scaled."""
    found, slower = of_criteria.load(), "the product slower"
    if found is None:
        return [_exact(slower, f"live, {_OWN}", [], FIGURE), _fault(slower, f"live, {_CALIBRATIONS}", [], FIGURE)]
    sound = [one for one in live().taken if faults.finding_of(one, found, FIGURE).interval is not None]
    own = [faults.slowed(PRODUCTS, faults.needed_slowdown([one], found, FIGURE))(one) for one in sound]
    uncalibrated = of_criteria.before_calibration(recordings.FOLDER)
    calibrations = record.usable(recordings.of(recordings.CALIBRATION, recorded()), uncalibrated)
    factor = faults.needed_slowdown(calibrations, found, FIGURE)
    alike = map(faults.slowed(PRODUCTS, factor), live().taken)
    verdicts, others = ([judge(one.plan, one.rows, found) for one in made] for made in (own, alike))
    return [
        _exact(slower, f"live, {_OWN}", verdicts, FIGURE),
        _fault(f"{slower}, {factor:.2f} times as long", f"live, {_CALIBRATIONS}", others, FIGURE),
    ]


def _slowed_sessions() -> list[str]:
    """The quiet sessions, likewise."""
    count, name = CALIBRATIONS[-1], sessions.RATE
    found, judged, _ = from_sessions(count)
    quiet = sessions.halves("quiet")
    sound = [
        (half, taken)
        for half, taken in zip(quiet[count:], judged.taken, strict=True)
        if faults.finding_of(taken, found, name).interval is not None
    ]
    own = [
        faults.slowed(sessions.WORKLOAD, faults.needed_slowdown([taken], found, name))(half) for half, taken in sound
    ]
    factor = faults.needed_slowdown([sessions.accepted(one, found)[0] for one in quiet[:count]], found, name)
    alike = map(faults.slowed(sessions.WORKLOAD, factor), quiet[count:])
    verdicts, others = ([sessions.accepted(one, found)[1] for one in made] for made in (own, alike))
    return [
        _exact("sessions slower", f"quiet, {_OWN}", verdicts, name),
        _fault(f"sessions slower, {factor:.2f} times as long", f"quiet, {_CALIBRATIONS}", others, name),
    ]


def _scripted_lines() -> list[str]:
    found = scripted.criteria()
    sound, sick = (recordings.of(truth, recorded()) for truth in scripted.SCRIPTS)
    verdicts = [judge(one.plan, one.rows, found) for one in map(faults.missing_device, sound)]
    lines = [_exact("one GPU of eight is missing", "in a scripted result", verdicts, "gpus")]
    verdicts = [judge(one.plan, one.rows, found) for one in sick]
    for name, (device, words) in scripted.FOUND.items():
        assert all(faults.failed(one).get(name) == device for one in verdicts), name
        lines.append(_exact(f"{words}, on {device} of eight GPUs", "scripted NVML library", verdicts, name))
    return lines


def _observed(judged: Judged, name: str) -> list[float]:
    found = [one.worst.observed for verdict in judged.verdicts for one in verdict.criteria if one.criterion.id == name]
    return [float(one) for one in found if isinstance(one, float)]


def _repeated(words: str, values: Sequence[float], unit: str) -> str:
    if len(values) < 2:
        return f"| {words} | {len(values)} | – | – | – |"
    spread = f"{units.show(min(values), unit)} – {units.show(max(values), unit)}"
    mean = units.show(stats.geometric_mean(values), unit)
    return f"| {words} | {len(values)} | {mean} | {spread} | {repeatability(values):.2%} |"


def _share(count: int, n: int) -> str:
    bounds = stats.clopper_pearson(count, n)
    return f"{count}/{n} ({bounds.low:.1%}–{bounds.high:.1%})"


def _range(factors: set[str]) -> str:
    return " – ".join(sorted({f"{float(min(factors)):.2f}", f"{float(max(factors)):.2f}"}))


TABLES: Mapping[str, Callable[[], str]] = {
    "counts": counts_markdown,
    "healthy": healthy_markdown,
    "faults": faults_markdown,
    "repeatability": repeatability_markdown,
}


def write() -> None:
    """Put the tables between their markers in the document."""
    text = DOCUMENT.read_text()
    for name, table in TABLES.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{begin}{table()}\n{end}{after}"
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    for table in TABLES.values():
        print(table(), end="\n\n")

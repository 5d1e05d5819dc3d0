"""The gate: results against a baseline, judged by workload and device.

The ratio is of badness: time for a unit of work over that in the baseline. REGRESSED: its whole interval lies beyond
1 + tolerance, with at least `MIN_PROCESSES` fresh processes on each side; so it does under Holm's correction for the
number of workloads; and a second measurement, in fresh processes against the same baseline, says all of that again.
IMPROVED: the whole interval lies below 1 / (1 + tolerance), under the same conditions but without a second measurement.
PASS: it lies below 1 + tolerance. All else is INCONCLUSIVE and says why; what is not alike is INCOMPARABLE.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from bench import errors, estimates, judgement, stats
from bench.errors import UsageError
from bench.fitness import is_unfit
from bench.gate import alike
from bench.gate.side import Cell, Key, Side
from bench.judgement import Judgement, Verdict
from bench.stats import RatioTest

MIN_PROCESSES = 5
TOLERANCE = 0.02
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rule:
    """What is asked for: how much worse is no regression, and which keys of the environment may differ."""

    tolerance: float = TOLERANCE
    vary: frozenset[str] = frozenset()

    @property
    def limit(self) -> float:
        return 1 + self.tolerance


@dataclass(frozen=True)
class Outcome:
    """What a gate says: of each workload, and of the machine behind the sides."""

    judgements: Sequence[Judgement]
    unfit: Mapping[str, tuple[str, ...]]  # flag → the sides that have it
    notes: tuple[str, ...] = ()
    is_simulated: bool = False

    @property
    def exit_code(self) -> int:
        return errors.worst([judgement.exit_code(self.judgements), errors.UNFIT if self.unfit else errors.OK])


def judge(baseline: Side, current: Side, rule: Rule, confirmation: Side | None = None) -> Outcome:
    """Hold results against a baseline; ``confirmation`` is a second measurement, in other runs, of what looks worse.

    Raises:
        UsageError: two of the sides have a run in common, or there is nothing to judge.
    """
    sides = {"baseline": baseline, "current": current, **({"confirmation": confirmation} if confirmation else {})}
    for (one, a), (other, b) in combinations(sides.items(), 2):
        for run_id in sorted(a.run_ids & b.run_ids):
            raise UsageError(f"run {run_id} is in the {one} and in the {other}", "Name the results of different runs")
    judged = confirmed(looks(baseline, current, rule), baseline, confirmation, rule)
    if not judged:
        raise UsageError("no workload could run on either side: there is nothing to judge", "Name other results")
    keys = [key_of(one) for one in judged]
    is_simulated = any(side.is_simulated for side in sides.values())
    return Outcome(judged, _unfit(sides, keys), alike.notes(baseline, current), is_simulated)


_CHANGES: tuple[Verdict, ...] = ("REGRESSED", "IMPROVED")


def key_of(one: Judgement) -> Key:
    return one.workload, one.device


def suspects(judgements: Iterable[Judgement]) -> list[Key]:
    """What looks worse or better after a first measurement, and has to be measured again."""
    return [key_of(one) for one in judgements if one.verdict in _CHANGES]


# ---------------------------------------------------------------- one measurement


def looks(baseline: Side, current: Side, rule: Rule, only: Collection[Key] | None = None) -> list[Judgement]:
    """The judgements after one measurement, by name; REGRESSED and IMPROVED are still to be confirmed.

    What could run on neither side is left out.
    """
    keys = sorted(baseline.cells.keys() | current.cells.keys() if only is None else only)
    unlike = {
        device: alike.machines(baseline.machines.get(device), current.machines.get(device), rule.vary)
        for device in {device for _, device in keys}
    }
    found: dict[Key, Judgement] = {}
    tests: dict[Key, tuple[RatioTest, float]] = {}
    for key in keys:
        cells = baseline.cells.get(key), current.cells.get(key)
        if all(cell is None or cell.statuses == {"unsupported"} for cell in cells):
            continue
        look = _look(key, *cells, unlike[key[1]], rule)
        if isinstance(look, Judgement):
            found[key] = look
        else:
            tests[key] = look
    for (key, (test, _)), p in zip(tests.items(), stats.holm([p for _, p in tests.values()]), strict=True):
        processes = min(side.cells[key].processes for side in (baseline, current))
        found[key] = _judged(key, test, p, processes, rule)
    return [found[key] for key in keys if key in found]


def _look(
    key: Key, baseline: Cell | None, current: Cell | None, unlike: Sequence[str], rule: Rule
) -> Judgement | tuple[RatioTest, float]:
    """The test of one workload and its two-sided p-value; or, where there is none, the judgement."""
    blank = Judgement(*key, "INCONCLUSIVE", tolerance=rule.tolerance)
    if current is not None and current.has_failed:
        return dataclasses.replace(blank, verdict="ERROR", reason=_failure(current))
    for side, cell in (("current results", current), ("baseline", baseline)):
        if cell is None or not cell.processes:
            return dataclasses.replace(blank, is_missing=True, reason=_absence(cell, side))
    assert baseline is not None and current is not None
    blank = dataclasses.replace(blank, n=min(baseline.processes, current.processes))
    if baseline.has_failed:
        return dataclasses.replace(blank, reason=f"in the baseline, {_failure(baseline)}: set a new baseline")
    reasons = [*alike.work(baseline, current), *unlike]
    if reasons:
        return dataclasses.replace(blank, verdict="INCOMPARABLE", reason=" · ".join(reasons))
    return _test(baseline, current, rule) or dataclasses.replace(blank, reason=_no_test(baseline, current))


def _test(baseline: Cell, current: Cell, rule: Rule) -> tuple[RatioTest, float] | None:
    """The ratio against the limit, and the two-sided p-value of no change beyond the tolerance in either direction.

    The test is `bench.stats.two_level_ratio`, on arrays.
    """
    by_node = min(baseline.nodes, current.nodes) >= stats.MIN_OBSERVATIONS
    ratio = current.estimate(by_node=by_node) - baseline.estimate(by_node=by_node)
    worse = stats.ratio_test_at(estimates.t_tests(ratio, rule.limit, CONFIDENCE), 0, CONFIDENCE)
    better = stats.ratio_test_at(estimates.t_tests(ratio, 1 / rule.limit, CONFIDENCE), 0, CONFIDENCE)
    if worse is None or better is None:
        return None
    return worse, min(1.0, 2 * worse.p_above, 2 * better.p_below)


def _judged(key: Key, test: RatioTest, p: float, processes: int, rule: Rule) -> Judgement:
    interval = test.interval
    log_sd, detectable = _sensitivity(test, rule)
    judged = Judgement(
        *key,
        "INCONCLUSIVE",
        ratio=test.ratio,
        interval=interval,
        n=interval.n,
        tolerance=rule.tolerance,
        p=p,
        detectable=detectable,
        log_sd=log_sd,
    )
    is_better, is_worse = interval.high < 1 / rule.limit, interval.low > rule.limit
    if not is_worse and interval.high >= rule.limit:
        return dataclasses.replace(judged, reason=f"the interval reaches across the limit of {rule.limit:.4g}")
    look = "worse" if is_worse else "better" if is_better else "no worse"
    if processes < MIN_PROCESSES:
        few = f"{processes} processes on one side, and it takes {MIN_PROCESSES} on each"
        return dataclasses.replace(judged, reason=f"looks {look}: {few}")
    if not is_worse and not is_better:
        return dataclasses.replace(judged, verdict="PASS")
    if p > 1 - CONFIDENCE:
        holm = f"not beyond the tolerance once corrected for the number of workloads (Holm: p = {p:.2g})"
        reason = f"looks {look}: {holm}"
        return dataclasses.replace(judged, verdict="PASS" if is_better else "INCONCLUSIVE", reason=reason)
    return dataclasses.replace(judged, verdict="IMPROVED" if is_better else "REGRESSED")


def _sensitivity(test: RatioTest, rule: Rule) -> tuple[float | None, float | None]:
    """The standard deviation of one observation's log-ratio, and the ratio that would have been found 80 % of the time.

    The interval is read as that of ``n`` paired observations, n of the smaller side. Welch's has up to twice the
    degrees of freedom: if the spread is as it was seen, a little more than 80 % is found.
    """
    from scipy.special import stdtrit

    n = test.interval.n
    if not 0 < test.ratio < math.inf or not test.interval.high < math.inf:
        return None, None
    half = math.log(test.interval.high / test.ratio)
    log_sd = max(0.0, half) * math.sqrt(n) / float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    ratio = stats.detectable_ratio(log_sd, n, CONFIDENCE)
    return log_sd, None if ratio is None else rule.limit * ratio


# ---------------------------------------------------------------- the second measurement


def confirmed(
    judgements: Sequence[Judgement], baseline: Side, confirmation: Side | None, rule: Rule
) -> list[Judgement]:
    """The same, where REGRESSED and IMPROVED stand only if a second measurement says so too."""
    keys = suspects(judgements)
    seconds = {key_of(one): one for one in looks(baseline, confirmation, rule, keys)} if confirmation else {}
    return [_confirmed(one, seconds.get(key_of(one))) if one.verdict in _CHANGES else one for one in judgements]


def _confirmed(first: Judgement, second: Judgement | None) -> Judgement:
    # What looks better and is not confirmed is no worse, and that is what a gate asks.
    without: Verdict
    look, without = ("worse", "INCONCLUSIVE") if first.verdict == "REGRESSED" else ("better", "PASS")
    if second is None or second.is_missing:
        reason = f"looks {look}: not confirmed by a second measurement, which is missing"
        return dataclasses.replace(first, verdict=without, reason=reason)
    seen = "" if second.interval is None else f", {_shown(second)}"
    if second.verdict == first.verdict:
        return dataclasses.replace(first, reason=f"confirmed by a second measurement{seen}")
    if second.verdict == "ERROR":
        return dataclasses.replace(first, verdict="ERROR", reason=f"in the second measurement, {second.reason}")
    why = f": {second.reason}" if second.reason else ""
    return dataclasses.replace(
        first,
        verdict="INCONCLUSIVE" if second.verdict == "REGRESSED" else without,
        reason=f"looks {look}: not confirmed by a second measurement, {second.verdict}{seen}{why}",
    )


# ---------------------------------------------------------------- words


def _shown(one: Judgement) -> str:
    assert one.interval is not None
    return f"{one.ratio:.3f} ({one.interval.low:.3f}–{one.interval.high:.3f}, n = {one.n})"


def _failure(cell: Cell) -> str:
    return f"{', '.join(sorted(cell.statuses - {'ok'}))}: {cell.reason or 'no reason given'}"


def _absence(cell: Cell | None, side: str) -> str:
    return f"not in the {side}" if cell is None else f"no figure in the {side}: {_failure(cell)}"


def _no_test(baseline: Cell, current: Cell) -> str:
    processes = min(baseline.processes, current.processes)
    if processes < stats.MIN_OBSERVATIONS:
        return (
            f"{processes} processes on one side: an interval takes {stats.MIN_OBSERVATIONS}, a verdict {MIN_PROCESSES}"
        )
    for side, cell in (("baseline", baseline), ("current results", current)):
        bad = [value for value in cell.badness if not 0 < value < math.inf]
        if bad:
            return f"no interval: in the {side}, a value is no positive number ({_bad(bad[0])})"
    return "no interval: a node has fewer than 3 processes"


def _bad(badness: float) -> str:
    """In words that fit a rate and a time alike: the badness of a rate is its reciprocal."""
    if math.isnan(badness):
        return "not a number"
    return "negative" if badness < 0 else "zero, infinite, or beyond what a reciprocal can be had of"


def _unfit(sides: Mapping[str, Side], keys: Collection[Key]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, side in sides.items():
        flags = {flag for key in keys if key in side.cells for flag in side.cells[key].flags}
        for flag in sorted(filter(is_unfit, flags)):
            found.setdefault(flag, []).append(name)
    return {flag: tuple(names) for flag, names in sorted(found.items())}

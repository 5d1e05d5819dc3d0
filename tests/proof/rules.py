"""The rules that are held against each other, each a judge of disjoint trials of the same recorded sessions.

Every rule takes sessions in the order they were recorded, as many as it needs to come to an end, and the next trial
begins where it stopped. `ab` takes them until it is clear. All others compare stored processes: some sessions are the
baseline, the next ones the current measurement, and where the rule asks for a confirmation, more follow. They are ours
(`gate`), and what people use: pytest-benchmark's --benchmark-compare-fail on one process a side, and tests of the
pooled samples. The processes are those of the sessions, so they ran in bursts, and a baseline is seconds old; but for
that, all rules see the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from bench import sequential, stats
from bench.sequential import Design
from bench.stats import Interval
from bench.types import Trial
from tests.proof.recordings import Block, Process, Session

PROCESSES = 5  # on each side of a comparison with a baseline
GATE_TOLERANCE = 0.02
ALPHA = 0.05

Side = Sequence[Process]
Test = Callable[[np.ndarray, np.ndarray], float]  # the one-sided p-value of the new samples against the old


@dataclass(frozen=True)
class Rule:
    """What it says of a baseline and a current side: ``slower``, ``faster``, ``no slower`` or ``unclear``."""

    judge: Callable[[Side, Side], str]
    processes: int = PROCESSES  # on each side
    confirms: bool = False  # what it found must show in a second measurement


@dataclass(frozen=True)
class Tally:
    """How often a rule said ``slower`` or ``faster``, and how often anything at all."""

    rule: str
    trials: int
    slower: int
    faster: int
    unclear: int
    sessions: int  # that it took, all trials together


def tally_ab(blocks: Sequence[Block]) -> Tally:
    """`vnbench ab`, each trial as long as it would have been; a last one that is cut short is left out."""
    trial = Trial()
    design = Design(trial.looks, trial.alpha)
    ended = sequential.trials([one.log_ratio for block in blocks for one in block], trial.tolerance, design)
    verdicts = Counter(one.verdict for one in ended)
    used = sum(design.looks[one.look - 1] for one in ended)
    return Tally("ab", len(ended), verdicts["REGRESSED"], verdicts["IMPROVED"], verdicts["INCONCLUSIVE"], used)


def tally_stored(name: str, blocks: Sequence[Block], *, are_alike: bool) -> Tally:
    """A rule for stored baselines.

    Args:
        are_alike: the arms are, so that every other trial may take them the other way round.
    """
    sessions = [one for block in blocks for one in block]
    says: Counter[str] = Counter()
    used = 0
    while (ended := _trial(STORED[name], sessions[used:], turned=are_alike and says.total() % 2 == 1)) is not None:
        says[ended[0]] += 1
        used += ended[1]
    return Tally(name, says.total(), says["slower"], says["faster"], says["unclear"], used)


def _trial(rule: Rule, sessions: Sequence[Session], *, turned: bool) -> tuple[str, int] | None:
    """What the rule says of the first sessions and how many it took, or None where they end before it does."""
    old, new = ([s.a for s in sessions], [s.b for s in sessions])[:: -1 if turned else 1]
    sides = [old[: rule.processes], *(new[i * rule.processes :][: rule.processes] for i in (1, 2))]
    if len(sides[1]) < rule.processes:
        return None
    said = rule.judge(sides[0], sides[1])
    if not rule.confirms or said not in ("slower", "faster"):
        return said, 2 * rule.processes
    if len(sides[2]) < rule.processes:
        return None
    unconfirmed = "unclear" if said == "slower" else "no slower"
    return said if rule.judge(sides[0], sides[2]) == said else unconfirmed, 3 * rule.processes


def _gate(of: Callable[[Process], float]) -> Rule:
    """`vnbench gate` on a figure of each process: Welch's interval, and a change only if it is confirmed."""

    def judge(baseline: Side, current: Side) -> str:
        ratio = _interval(list(map(of, current)), list(map(of, baseline)))
        if ratio.low > 1 + GATE_TOLERANCE:
            return "slower"
        if ratio.high < 1 / (1 + GATE_TOLERANCE):
            return "faster"
        return "no slower" if ratio.high < 1 + GATE_TOLERANCE else "unclear"

    return Rule(judge, confirms=True)


def _interval(new: Sequence[float], old: Sequence[float]) -> Interval:
    test = stats.welch_ratio_test(new, old)
    assert test is not None
    return test.interval


def _fails_at(of: Callable[[Process], float], share: float) -> Rule:
    """pytest-benchmark's ``--benchmark-compare-fail=<figure>:<share>``, on a process a side."""

    def judge(baseline: Side, current: Side) -> str:
        return "slower" if of(current[0]) / of(baseline[0]) - 1 > share else "no slower"

    return Rule(judge, processes=1)


def _pooled(test: Test) -> Rule:
    """A two-sample test on all samples of all processes, as if they were independent."""

    def judge(baseline: Side, current: Side) -> str:
        old, new = (np.concatenate([one.elapsed_ns for one in side]).astype(float) for side in (baseline, current))
        return "slower" if test(new, old) < ALPHA else "no slower"

    return Rule(judge)


def _beyond(test: Test, margin: float) -> Test:
    """The same test, at half the level and only where the medians differ by a margin."""

    def p(new: np.ndarray, old: np.ndarray) -> float:
        return 2 * test(new, old) if np.median(new) > np.median(old) * (1 + margin) else 1.0

    return p


def _of_medians(baseline: Side, current: Side) -> str:
    """Welch's t on a median a process, one-sided at 2.5 %, without a margin."""
    return "slower" if _interval([s.median_ns for s in current], [s.median_ns for s in baseline]).low > 1 else "unclear"


def _u_test(new: np.ndarray, old: np.ndarray) -> float:
    return float(scipy_stats.mannwhitneyu(new, old, alternative="greater").pvalue)


def _welch(new: np.ndarray, old: np.ndarray) -> float:
    return float(scipy_stats.ttest_ind(new, old, equal_var=False, alternative="greater").pvalue)


STORED: dict[str, Rule] = {
    "gate": _gate(lambda one: one.median_ns),
    "gate on minima": _gate(lambda one: one.min_ns),
    "pytest-benchmark mean:5%": _fails_at(lambda one: one.mean_ns, 0.05),
    "pytest-benchmark min:5%": _fails_at(lambda one: one.min_ns, 0.05),
    "pytest-benchmark median:5%": _fails_at(lambda one: one.median_ns, 0.05),
    "pytest-benchmark min:2%": _fails_at(lambda one: one.min_ns, 0.02),
    "U test, samples pooled": _pooled(_u_test),
    "U test, samples pooled, 2.5 % level, 2 % margin": _pooled(_beyond(_u_test, 0.02)),
    "Welch, samples pooled": _pooled(_welch),
    "Welch, a median a process": Rule(_of_medians),
}

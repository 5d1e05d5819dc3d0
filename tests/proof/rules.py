"""The rules that are held against each other, each a judge of disjoint trials of the same recorded sessions.

`ab` takes sessions as they come until it is clear. All others compare stored processes: a baseline of five sessions,
the next five as the current ones, and five more to confirm, all of one block. They are ours (`gate`), and what people
use: pytest-benchmark's --benchmark-compare-fail on one process a side, and tests of the pooled samples. The processes
are those of the sessions, so they ran in bursts; but for that, all rules see the same.
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
from tests.proof.recordings import Block, Process

PROCESSES = 5  # on each side of a comparison with a baseline
GATE_TOLERANCE = 0.02
ALPHA = 0.05

Side = Sequence[Process]
Rule = Callable[[Side, Side, Side], str]
Test = Callable[[np.ndarray, np.ndarray], float]  # the one-sided p-value of the new samples against the old


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
    """A rule for stored baselines, on disjoint trials of fifteen sessions.

    Args:
        are_alike: the arms are, so that every other trial may take them the other way round.
    """
    rule = STORED[name]
    says: Counter[str] = Counter()
    for block in blocks:
        for begin in range(0, len(block) - 3 * PROCESSES + 1, 3 * PROCESSES):
            first, second, third = (block[begin + i * PROCESSES :][:PROCESSES] for i in range(3))
            if are_alike and says.total() % 2:
                says[rule([s.b for s in first], [s.a for s in second], [s.a for s in third])] += 1
            else:
                says[rule([s.a for s in first], [s.b for s in second], [s.b for s in third])] += 1
    total = says.total()
    return Tally(name, total, says["slower"], says["faster"], says["unclear"], total * 2 * PROCESSES)


def _gate(of: Callable[[Process], float]) -> Rule:
    """`vnbench gate` on a figure of each process: Welch's interval, and a change only if it is confirmed."""

    def judge(baseline: Side, current: Side, confirmation: Side) -> str:
        (now, again) = (_interval(list(map(of, side)), list(map(of, baseline))) for side in (current, confirmation))
        if now.low > 1 + GATE_TOLERANCE:
            return "slower" if again.low > 1 + GATE_TOLERANCE else "unclear"
        if now.high < 1 / (1 + GATE_TOLERANCE):
            return "faster" if again.high < 1 / (1 + GATE_TOLERANCE) else "no slower"
        return "no slower" if now.high < 1 + GATE_TOLERANCE else "unclear"

    return judge


def _interval(new: Sequence[float], old: Sequence[float]) -> Interval:
    test = stats.welch_ratio_test(new, old)
    assert test is not None
    return test.interval


def _fails_at(of: Callable[[Process], float], share: float) -> Rule:
    """pytest-benchmark's ``--benchmark-compare-fail=<figure>:<share>``, on a process a side."""

    def judge(baseline: Side, current: Side, confirmation: Side) -> str:
        return "slower" if of(current[0]) / of(baseline[0]) - 1 > share else "no slower"

    return judge


def _pooled(test: Test) -> Rule:
    """A two-sample test on all samples of all processes, as if they were independent."""

    def judge(baseline: Side, current: Side, confirmation: Side) -> str:
        old, new = (np.concatenate([one.elapsed_ns for one in side]).astype(float) for side in (baseline, current))
        return "slower" if test(new, old) < ALPHA else "no slower"

    return judge


def _beyond(test: Test, margin: float) -> Test:
    """The same test, at half the level and only where the medians differ by a margin."""

    def p(new: np.ndarray, old: np.ndarray) -> float:
        return 2 * test(new, old) if np.median(new) > np.median(old) * (1 + margin) else 1.0

    return p


def _of_medians(baseline: Side, current: Side, confirmation: Side) -> str:
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
    "Welch, a median a process": _of_medians,
}

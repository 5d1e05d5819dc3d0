"""The rules that are held against each other, each a judge of disjoint trials of the same recorded sessions.

`ab` takes sessions as they come until it is clear. All others compare stored processes: a baseline of the first five
sessions of a trial, the next five as the current ones, and five more to confirm. They are ours (`gate`), and what
people use: pytest-benchmark's --benchmark-compare-fail on one process a side, and tests that pool the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from bench import sequential, stats
from bench.sequential import Design
from bench.stats import Interval
from bench.types import Trial
from tests.proof.recordings import Process, Session

PROCESSES = 5  # on each side of a comparison with a baseline
GATE_TOLERANCE = 0.02
ALPHA = 0.05

Side = Sequence[Process]


@dataclass(frozen=True)
class Tally:
    """How often a rule said ``slower``, and how often it said anything at all."""

    rule: str
    trials: int
    slower: int
    decided: int  # slower, faster or no slower; the others were inconclusive
    sessions: int

    @property
    def share(self) -> Interval:
        return stats.clopper_pearson(self.slower, self.trials)


def tally_ab(sessions: Sequence[Session]) -> Tally:
    """`vnbench ab`, each trial as long as it would have been."""
    trial = Trial()
    design = Design(trial.looks, trial.alpha)
    ended = sequential.trials([one.log_ratio for one in sessions], trial.tolerance, design)
    slower = sum(one.verdict == "REGRESSED" for one in ended)
    decided = sum(one.verdict != "INCONCLUSIVE" for one in ended)
    used = sum(design.looks[one.look - 1] for one in ended)
    return Tally("ab", len(ended), slower, decided, used)


def tally_stored(name: str, sessions: Sequence[Session], *, both_ways: bool) -> Tally:
    """A rule for stored baselines, on disjoint trials of fifteen sessions.

    Args:
        both_ways: the arms are alike, so a trial's other processes make a second one.
    """
    rule, slower, decided, trials = STORED[name], 0, 0, 0
    for begin in range(0, len(sessions) - 3 * PROCESSES + 1, 3 * PROCESSES):
        first, second, third = (sessions[begin + i * PROCESSES :][:PROCESSES] for i in range(3))
        streams = [([s.a for s in first], [s.b for s in second], [s.b for s in third])]
        if both_ways:
            streams.append(([s.b for s in first], [s.a for s in second], [s.a for s in third]))
        for baseline, current, confirmation in streams:
            says = rule(baseline, current, confirmation)
            trials += 1
            slower += says == "slower"
            decided += says != "unclear"
    return Tally(name, trials, slower, decided, trials * 2 * PROCESSES)


def _gate(of: Callable[[Process], float]) -> Callable[[Side, Side, Side], str]:
    def judge(baseline: Side, current: Side, confirmation: Side) -> str:
        test = stats.welch_ratio_test(list(map(of, current)), list(map(of, baseline)), 1 + GATE_TOLERANCE)
        again = stats.welch_ratio_test(list(map(of, confirmation)), list(map(of, baseline)), 1 + GATE_TOLERANCE)
        assert test is not None and again is not None
        if test.interval.low > 1 + GATE_TOLERANCE:
            return "slower" if again.interval.low > 1 + GATE_TOLERANCE else "unclear"
        return "no slower" if test.interval.high < 1 + GATE_TOLERANCE else "unclear"

    return judge


def _fails_at(of: Callable[[Process], float], share: float) -> Callable[[Side, Side, Side], str]:
    """pytest-benchmark's ``--benchmark-compare-fail=<figure>:<share>``, on a process a side."""

    def judge(baseline: Side, current: Side, confirmation: Side) -> str:
        return "slower" if of(current[0]) / of(baseline[0]) - 1 > share else "no slower"

    return judge


def _pooled(test: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Side, Side, Side], str]:
    """A two-sample test on all samples of all processes, as if they were independent."""

    def judge(baseline: Side, current: Side, confirmation: Side) -> str:
        old, new = (np.concatenate([one.elapsed_ns for one in side]).astype(float) for side in (baseline, current))
        return "slower" if test(new, old) < ALPHA else "no slower"

    return judge


def _u_test(new: np.ndarray, old: np.ndarray) -> float:
    return float(scipy_stats.mannwhitneyu(new, old, alternative="greater").pvalue)


def _welch(new: np.ndarray, old: np.ndarray) -> float:
    return float(scipy_stats.ttest_ind(new, old, equal_var=False, alternative="greater").pvalue)


STORED: dict[str, Callable[[Side, Side, Side], str]] = {
    "gate": _gate(lambda one: one.median_ns),
    "gate on minima": _gate(lambda one: one.min_ns),
    "pytest-benchmark mean:5%": _fails_at(lambda one: one.mean_ns, 0.05),
    "pytest-benchmark min:5%": _fails_at(lambda one: one.min_ns, 0.05),
    "pytest-benchmark median:5%": _fails_at(lambda one: one.median_ns, 0.05),
    "U test, samples pooled": _pooled(_u_test),
    "Welch, samples pooled": _pooled(_welch),
}

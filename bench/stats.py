"""Pure statistics; each function cites its source and says what it assumes.

Data that cannot bear an answer (fewer than three independent observations, or one that is NaN, infinite or, where a
logarithm is taken, not positive) get None; arguments that make no sense raise ValueError. Observations without any
spread are taken at their word: their interval is a point.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench import estimates
from bench.estimates import LARGEST_LOG, Tests

MIN_OBSERVATIONS = estimates.MIN_OBSERVATIONS


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval and the number of independent observations behind it."""

    low: float
    high: float
    n: int
    confidence: float = 0.95


@dataclass(frozen=True)
class RatioTest:
    """A ratio, its interval, and the p-values of the same t statistic against a limit, so that they always agree.

    ``interval.low > limit`` where ``p_above < (1 - confidence) / 2``; ``interval.high < limit`` where ``p_below`` is.
    """

    ratio: float
    interval: Interval
    p_above: float  # one-sided: how likely data like these are if the true ratio is the limit or less
    p_below: float  # the same, if the true ratio is the limit or more


@dataclass(frozen=True)
class TwoLevelRatio:
    """A ratio between two groups of nodes, and what its interval speaks of.

    ``node``: nodes of these kinds. ``replicate``: these very nodes and no others, for a group has too few
    of them to tell how its nodes differ.
    """

    test: RatioTest
    level: Literal["node", "replicate"]


def mser_truncation(series: Sequence[float]) -> int:
    """How many leading values of a series belong to its warm-up: the Marginal Standard Error Rule.

    The truncation point d minimises  sum((x_i - mean_d)^2 for i >= d) / (n - d)^2,  the squared standard error of the
    mean of what remains. A point in the series' second half means that no steady state has been seen yet.
    Source: K. P. White, "An effective truncation heuristic for bias reduction in simulation output",
    Simulation 69(6), 1997; the half-series criterion is from the same paper. Assumes an initial transient
    followed by a stationary process, which may be autocorrelated. Tails of fewer than five values are not
    considered, for a few neighbours are alike by chance too often (K. Hoad, S. Robinson and R. Davies, Journal of
    the Operational Research Society 61(9), 2010).

    Returns:
        The number of values to leave out; zero for a constant series or one of fewer than five values.
    """
    best, best_truncation = math.inf, 0
    mean, sum_of_squares = 0.0, 0.0
    for truncation in range(len(series) - 1, -1, -1):  # Welford's update, from the end
        count = len(series) - truncation
        delta = series[truncation] - mean
        mean += delta / count
        sum_of_squares += delta * (series[truncation] - mean)
        if count >= 5 and sum_of_squares / count**2 <= best:
            best, best_truncation = sum_of_squares / count**2, truncation
    return best_truncation


def mann_kendall_z(series: Sequence[float]) -> float:
    """The Mann-Kendall trend statistic: about standard normal without a trend, positive for a rising one.

    Source: H. B. Mann, "Nonparametric tests against trend", Econometrica 13(3), 1945; the variance and the continuity
    correction are M. G. Kendall's (Rank Correlation Methods, 1948). It looks at ranks, so single
    outliers do not sway it. Assumes independent values: positive autocorrelation makes a trend appear too
    often. Ties are not corrected for; they make one appear too seldom.

    Returns:
        Zero for a constant series or one of fewer than two values.
    """
    n = len(series)
    rises = sum((later > earlier) - (later < earlier) for i, earlier in enumerate(series) for later in series[i + 1 :])
    if rises == 0:
        return 0.0
    return (rises - math.copysign(1, rises)) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of positive ratios or rates (P. J. Fleming and J. J. Wallace, CACM 29(3), 1986)."""
    return math.exp(statistics.fmean(map(math.log, values)))


def log_t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Student's t interval for the geometric mean of independent, positive observations.

    The interval is taken on the logarithms and mapped back, so it is right for log-normal values and never reaches
    zero. Source: Student, Biometrika 6(1), 1908. The observations must be replicates from fresh
    processes, never samples of one process.

    Returns:
        None with fewer than three observations, or where one is not a positive finite number.
    """
    logs = _logs(values)
    test = None if logs is None else ratio_test(logs, confidence=confidence)
    return None if test is None else test.interval


def ratio_test(log_ratios: Sequence[float], limit: float = 1.0, confidence: float = 0.95) -> RatioTest | None:
    """Student's t on independent log-ratios, one per session: the geometric mean of the ratios against a limit.

    Source: Student, Biometrika 6(1), 1908. Assumes log-ratios that are about normal. Negated log-ratios (the arms
    swapped) give the reciprocal interval.

    Returns:
        None with fewer than three log-ratios, or where one is NaN, infinite or beyond 700 (its ratio is no float).

    Raises:
        ValueError: the limit is not positive, or the confidence not between 0 and 1.
    """
    return _contrast([(1.0, log_ratios)], limit, confidence)


def welch_ratio_test(
    values: Sequence[float], reference: Sequence[float], limit: float = 1.0, confidence: float = 0.95
) -> RatioTest | None:
    """Welch's t on the logarithms of two unpaired groups: the ratio of their geometric means against a limit.

    Source: B. L. Welch, Biometrika 34(1/2), 1947. The two spreads may differ. Assumes independent positive
    observations (a replicate each, or a node each) that are about log-normal.

    Returns:
        None with fewer than three values in a group, or where one is not a positive finite number. The interval's
        ``n`` is that of the smaller group.

    Raises:
        ValueError: as of `ratio_test`.
    """
    logs, reference_logs = _logs(values), _logs(reference)
    if logs is None or reference_logs is None:
        return None
    return _contrast([(1.0, logs), (-1.0, reference_logs)], limit, confidence)


def two_level_ratio(
    nodes: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]],
    limit: float = 1.0,
    confidence: float = 0.95,
) -> TwoLevelRatio | None:
    """The ratio of two groups of nodes, each node given by its replicates, against a limit.

    A node counts once, by the geometric mean of its replicates; the groups' node means are compared by Welch's t. A
    bootstrap that resamples nodes was the alternative, and covers less: of nominal 95 % intervals, with normal, skewed
    and two-humped nodes, its percentiles held the truth 79-82 % of the time at 3 nodes a side, 87-88 % at 5 and
    89-93 % at 15, its BCa form 80-82 %, 81-88 % and 84-93 %; Welch's 96-99 %, 96-98 % and 95-97 % (91-95 % at 3 nodes
    against 10). A test in ``tests/test_stats.py`` shows it again.

    With fewer than three nodes in a group, replicates take the nodes' place, by Welch's t on the mean of the
    nodes' means (F. E. Satterthwaite, Biometrics Bulletin 2(6), 1946); then every node needs three of them.

    Returns:
        None with too few replicates, or where a value is not a positive finite number.

    Raises:
        ValueError: as of `ratio_test`.
    """
    groups: list[tuple[float, list[float]]] = []
    level: Literal["node", "replicate"] = "node" if min(len(nodes), len(reference)) >= MIN_OBSERVATIONS else "replicate"
    for sign, side in ((1.0, nodes), (-1.0, reference)):
        logs = [_logs(replicates) for replicates in side]
        known = [values for values in logs if values]
        if not known or len(known) < len(logs):
            return None
        if level == "node":
            groups.append((sign, [statistics.fmean(values) for values in known]))
        else:
            groups += [(sign / len(known), values) for values in known]
    test = _contrast(groups, limit, confidence)
    return None if test is None else TwoLevelRatio(test, level)


def suite_ratio(
    nodes: Sequence[Sequence[Sequence[float]]],
    reference: Sequence[Sequence[Sequence[float]]],
    limit: float = 1.0,
    confidence: float = 0.95,
) -> TwoLevelRatio | None:
    """The geometric mean of the workloads' ratios between two groups of nodes, against a limit.

    Values are indexed by node, replicate and workload, and all of them better in one direction. Each replicate is
    first reduced to its geometric mean over the workloads, which equals the mean of the ratios (Fleming and Wallace,
    as above), and `two_level_ratio` does the rest: a state of the machine that sways all workloads of a replicate
    counts as the one thing it is. The workloads are these, not a sample of others.

    Returns:
        None as of `two_level_ratio`.

    Raises:
        ValueError: not every replicate has the same number of workloads, or as of `ratio_test`.
    """
    if len({len(workloads) for side in (nodes, reference) for node in side for workloads in node}) > 1:
        raise ValueError("replicates of different workloads have no common geometric mean")
    reduced = [[[_geometric_mean_or_nan(values) for values in node] for node in side] for side in (nodes, reference)]
    return two_level_ratio(reduced[0], reduced[1], limit, confidence)


def detectable_ratio(log_sd: float, n: int, confidence: float = 0.95, power: float = 0.8) -> float | None:
    """The smallest true ratio above 1 that a `ratio_test` against 1 finds with this power, from ``n`` sessions.

    Found means: the interval of this confidence lies above 1. Against another limit, multiply by it. Source: the
    noncentral t distribution (N. L. Johnson and B. L. Welch, Biometrika 31, 1940). Assumes normal log-ratios whose
    true standard deviation is ``log_sd``.

    Returns:
        None with fewer than three sessions; infinity where no float is large enough.

    Raises:
        ValueError: the standard deviation is negative or not finite, or confidence or power not between 0 and 1.
    """
    from scipy.special import nctdtrinc, stdtrit

    if not (0 <= log_sd < math.inf and 0 < confidence < 1 and 0 < power < 1):
        raise ValueError("needs a finite standard deviation, and a confidence and power between 0 and 1")
    if n < MIN_OBSERVATIONS:
        return None
    noncentrality = float(nctdtrinc(n - 1, 1 - power, stdtrit(n - 1, (1 + confidence) / 2)))
    return _exp(noncentrality * log_sd / math.sqrt(n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: those up to alpha are false at most alpha of the time.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
    6(2), 1979. Assumes nothing of how the tests depend on each other.

    Raises:
        ValueError: a p-value is not between 0 and 1.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError("a p-value lies between 0 and 1")
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Exact bounds of a binomial share: C. J. Clopper and E. S. Pearson, Biometrika 26(4), 1934.

    Assumes independent trials. Without a trial, the share can be anything.

    Raises:
        ValueError: more successes than trials or fewer than none, or the confidence not between 0 and 1.
    """
    from scipy.special import betaincinv

    if not (0 <= successes <= n and 0 < confidence < 1):
        raise ValueError("needs 0 <= successes <= n, and a confidence between 0 and 1")
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Interval(low, high, n, confidence)


def quantile(values: Sequence[float], p: float) -> float:
    """The p-quantile by linear interpolation: type 7 of R. J. Hyndman and Y. Fan, American Statistician 50, 1996."""
    if not values:
        raise ValueError("a quantile of no values")
    ordered = sorted(values)
    position = p * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def far_out_limit(values: Sequence[float]) -> float:
    """Tukey's upper outer fence: the third quartile plus 3 interquartile ranges (Exploratory Data Analysis, 1977)."""
    first, third = quantile(values, 0.25), quantile(values, 0.75)
    return third + 3 * (third - first)


def _contrast(groups: Sequence[tuple[float, Sequence[float]]], limit: float, confidence: float) -> RatioTest | None:
    """Student's t, or with several groups Welch's, on the weighted sum of the groups' means of logarithms."""
    import numpy as np

    sides = [list(logs) or [math.nan] for _, logs in groups]
    parts = estimates.of_groups(np.concatenate(sides), np.cumsum([0, *map(len, sides[:-1])]))
    whole = estimates.total(parts.scaled(np.array([weight for weight, _ in groups])))
    tests = estimates.t_tests(whole, limit, confidence)
    return ratio_test_at(tests, 0, confidence)


def ratio_test_at(tests: Tests, index: int, confidence: float) -> RatioTest | None:
    """One of many tests; None where there is no answer."""
    if tests.ratio[index] != tests.ratio[index]:
        return None
    interval = Interval(float(tests.low[index]), float(tests.high[index]), int(tests.n[index]), confidence)
    return RatioTest(float(tests.ratio[index]), interval, float(tests.p_above[index]), float(tests.p_below[index]))


def _logs(values: Sequence[float]) -> list[float] | None:
    try:
        logs = list(map(math.log, values))  # refuses what is not positive
    except ValueError:
        return None
    return logs if all(map(math.isfinite, logs)) else None


def _geometric_mean_or_nan(values: Sequence[float]) -> float:
    logs = _logs(values)
    return math.exp(statistics.fmean(logs)) if logs else math.nan


def _exp(log: float) -> float:
    return math.exp(log) if log < LARGEST_LOG else math.inf

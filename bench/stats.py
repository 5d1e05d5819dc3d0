"""Pure statistics; each function cites its source and says what it assumes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval and the number of independent observations behind it."""

    low: float
    high: float
    n: int
    confidence: float = 0.95


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
    from scipy.special import stdtrit

    n = len(values)
    if n < 3 or not all(math.isfinite(value) and value > 0 for value in values):
        return None
    logs = [math.log(value) for value in values]
    centre = statistics.fmean(logs)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * statistics.stdev(logs) / math.sqrt(n)
    return Interval(math.exp(centre - half), math.exp(centre + half), n, confidence)


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

"""``Estimates``: many means of logarithms at once, as arrays, and Student's t on them.

The core of the tests in ``bench/stats.py``, whose functions say what is assumed and where it is from; here for as many
groups as a fleet has nodes, without a loop. An estimate that cannot bear an answer is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

MIN_OBSERVATIONS = 3
LARGEST_LOG = 700.0  # the exponential of more is no float


@dataclass(frozen=True)
class Estimates:
    """Arrays of one shape: an element is the estimate of one mean.

    ``freedom`` holds the sum of (variance of a part)² / (its degrees of freedom): the variance squared over it are the
    degrees of freedom of the whole (F. E. Satterthwaite, Biometrics Bulletin 2(6), 1946).
    """

    mean: Array
    variance: Array  # of the mean
    freedom: Array
    n: Array  # independent observations; of several parts, those of the smallest

    def __getitem__(self, index: Any) -> Estimates:
        return Estimates(self.mean[index], self.variance[index], self.freedom[index], self.n[index])

    def __sub__(self, other: Estimates) -> Estimates:
        """The difference of independent estimates; the shapes are broadcast."""
        import numpy as np

        return Estimates(
            self.mean - other.mean,
            self.variance + other.variance,
            self.freedom + other.freedom,
            np.minimum(self.n, other.n),
        )

    def scaled(self, factor: float | Array) -> Estimates:
        return Estimates(self.mean * factor, self.variance * factor**2, self.freedom * factor**4, self.n)


@dataclass(frozen=True)
class Tests:
    """Arrays, NaN where there is no answer; the fields are those of ``stats.RatioTest``."""

    ratio: Array
    low: Array
    high: Array
    n: Array
    p_above: Array
    p_below: Array


def of_groups(logs: Array, starts: Array) -> Estimates:
    """The estimate of each group's mean from its observations; a group goes from one start to the next.

    NaN where an observation is not finite or beyond 700; the variance is NaN for a single observation.
    """
    import numpy as np

    n = np.diff(np.append(starts, len(logs)))
    logs = np.where(np.abs(logs) < LARGEST_LOG, logs, np.nan)
    first = logs[starts]
    shifted = logs - np.repeat(first, n)  # so that equal values have no spread, whatever rounding does
    mean = np.add.reduceat(shifted, starts) / n
    squares = np.add.reduceat((shifted - np.repeat(mean, n)) ** 2, starts)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = squares / (n - 1) / n
        return Estimates(first + mean, variance, variance**2 / (n - 1), n)


def averages(parts: Estimates, starts: Array) -> Estimates:
    """The mean of each group of independent estimates, all of equal weight."""
    import numpy as np

    k = np.diff(np.append(starts, len(parts.n)))
    return Estimates(
        of_groups(parts.mean, starts).mean,
        np.add.reduceat(parts.variance, starts) / k**2,
        np.add.reduceat(parts.freedom, starts) / k.astype(float) ** 4,
        np.minimum.reduceat(parts.n, starts),
    )


def total(parts: Estimates) -> Estimates:
    """The sum of independent estimates, as an array of one element."""
    import numpy as np

    whole = np.sum((parts.mean, parts.variance, parts.freedom), axis=1, keepdims=True)
    return Estimates(whole[0], whole[1], whole[2], np.min(parts.n, keepdims=True))


def t_tests(estimates: Estimates, limit: float = 1.0, confidence: float = 0.95) -> Tests:
    """The exponential of each mean against a limit, by Student's t.

    Raises:
        ValueError: the limit is not positive, or the confidence not between 0 and 1.
    """
    import numpy as np
    from scipy.special import stdtr, stdtrit

    if not (0 < limit < np.inf and 0 < confidence < 1):
        raise ValueError("needs a positive limit, and a confidence between 0 and 1")
    is_known = (estimates.n >= MIN_OBSERVATIONS) & np.isfinite(estimates.mean) & np.isfinite(estimates.variance)
    mean = np.where(is_known, estimates.mean, np.nan)
    distance = mean - np.log(limit)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error = np.sqrt(estimates.variance)
        # Without any spread the statistic is infinite or, on the limit itself, undefined: both p-values are 1 then.
        t = np.where(error > 0, distance / error, np.where(distance == 0, 0.0, np.copysign(np.inf, distance)))
        degrees = np.where(error > 0, estimates.variance**2 / estimates.freedom, 1.0)
        half = np.where(error > 0, stdtrit(degrees, (1 + confidence) / 2) * error, 0.0)
        is_point = (error == 0) & (distance == 0)
        p_above, p_below = (np.where(is_point, 1.0, stdtr(degrees, sign * t)) for sign in (-1, 1))
        ends = (mean, mean - half, mean + half)
        ratio, low, high = (np.where(end >= LARGEST_LOG, np.inf, np.exp(end)) for end in ends)
    unknown = np.where(is_known, 0.0, np.nan)
    return Tests(ratio, low, high, estimates.n, p_above + unknown, p_below + unknown)


def holm_rows(p_values: Array) -> Array:
    """``stats.holm`` of each row of a table; NaN stands for no test and stays."""
    import numpy as np

    order = np.argsort(p_values, axis=1)  # NaN comes last
    tests = np.isfinite(p_values).sum(axis=1, keepdims=True)
    steps = np.take_along_axis(p_values, order, axis=1) * np.maximum(tests - np.arange(p_values.shape[1]), 1)
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(np.minimum(steps, 1.0), axis=1), axis=1)
    return np.where(np.isfinite(p_values), adjusted, np.nan)


def where(condition: Array, one: Estimates, other: Estimates) -> Estimates:
    """The one's elements where the condition holds, else the other's."""
    import numpy as np

    return Estimates(
        np.where(condition, one.mean, other.mean),
        np.where(condition, one.variance, other.variance),
        np.where(condition, one.freedom, other.freedom),
        np.where(condition, one.n, other.n),
    )

"""Group-sequential testing of log-ratios: a few planned looks at growing data that together keep one error rate.

`Design` is the plan, `levels` what each look may spend of it, `decide` the answer. Test and interval are one
procedure: the verdict is read off the interval, and the p-value is the smallest alpha whose interval says so too.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.stats import MIN_OBSERVATIONS, Interval, ratio_test

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Spending = Literal["pocock", "obrien-fleming"]
Verdict = Literal["REGRESSED", "IMPROVED", "PASS", "INCONCLUSIVE", "GO_ON"]

# The recursion's grid over |z|: cells of half this width move a level by less than 1 %; beyond it lie 3e-12.
_CELL, _CELLS = 0.05, 140
_LEAST_SPENT = 1e-9  # less is left for a later look: the grid and the t quantiles are exact well above it


@dataclass(frozen=True)
class Design:
    """After how many sessions to look, and how the two-sided error rate ``alpha`` is spread over the looks.

    ``pocock`` spends about evenly and stops soonest on a large effect; ``obrien-fleming`` keeps nearly all for the last
    look. Raises ValueError where the looks do not rise from at least three sessions or alpha is not in [1e-6, 1).
    """

    looks: tuple[int, ...]
    alpha: float = 0.05
    spending: Spending = "pocock"

    def __post_init__(self) -> None:
        rising = all(earlier < later for earlier, later in itertools.pairwise(self.looks))
        if not self.looks or self.looks[0] < MIN_OBSERVATIONS or not rising:
            raise ValueError(f"looks rise from at least {MIN_OBSERVATIONS} sessions, unlike {self.looks}")
        if not 1e-6 <= self.alpha < 1:
            raise ValueError(f"alpha lies between 1e-6 and 1, unlike {self.alpha}")


@dataclass(frozen=True)
class Decision:
    """What the sessions say, at the look that settled it or else at the last one reached.

    ``interval`` is of the ratio of badness (above 1 is worse) and holds at all looks together with confidence 1 -
    alpha; ``interval.n`` is the sessions that it rests on. ``p`` is the repeated p-value of no change beyond
    the tolerance: ``p <= alpha`` where the verdict is REGRESSED or IMPROVED, and nowhere else; it holds at any look
    that the sessions end with, and `bench.stats.holm` adjusts it over a suite. Each is None before the first look,
    at one that may spend nothing, and where a log-ratio is no finite number. ``look`` counts from 1; 0 is before
    the first.
    """

    verdict: Verdict
    look: int
    ratio: float | None = None
    interval: Interval | None = None
    p: float | None = None


def decide(log_ratios: Sequence[float], tolerance: float, design: Design) -> Decision:
    """The verdict on sessions' log-ratios of badness (above 0 is worse) in the order in which they were measured.

    REGRESSED: the whole interval lies above ``1 + tolerance``; IMPROVED: below ``1 / (1 + tolerance)``; PASS: below
    ``1 + tolerance``. The first look with a clear answer decides, whatever came after it; GO_ON asks for the next
    look's sessions, and INCONCLUSIVE is the answer where none are left or a log-ratio is no finite number. Sessions
    beyond a look wait for the next one. The intervals are C. Jennison's and B. W. Turnbull's (Journal of the Royal
    Statistical Society B 51(3), 1989), by Student's t at each look's level. Assumes independent, about
    normal log-ratios: with a true ratio at the tolerance, REGRESSED comes at most alpha / 2 of the time. Heavy tails
    make it rarer (t with 3 degrees of freedom: 2 % of a nominal 2.5 %), skewness commoner on one side (exponential: up
    to 14 % on one, 0.3 % on the other), which is why the order of the arms within a session is drawn by lot.

    Raises:
        ValueError: the tolerance is negative or not finite, or there are more sessions than planned.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"a tolerance is at least 0, unlike {tolerance}")
    if len(log_ratios) > design.looks[-1]:
        raise ValueError(f"{len(log_ratios)} sessions, where the design ends at {design.looks[-1]}")
    decision = Decision("GO_ON", 0)
    for look, n in enumerate(design.looks, 1):
        if n > len(log_ratios) or decision.verdict != "GO_ON":
            break
        decision = _at_look(log_ratios[:n], 1 + tolerance, design, look)
    return decision


def trials(log_ratios: Sequence[float], tolerance: float, design: Design) -> list[Decision]:
    """The decisions of disjoint trials, one after the other, each as long as it would have been; a last one that the
    sessions do not suffice for is left out.
    """
    found: list[Decision] = []
    begin = 0
    while True:
        decision = decide(log_ratios[begin : begin + design.looks[-1]], tolerance, design)
        if decision.verdict == "GO_ON":
            return found
        found.append(decision)
        begin += design.looks[decision.look - 1]


def levels(design: Design) -> tuple[float, ...]:
    """The two-sided nominal level of each look, for a Student's t test of the sessions so far.

    Alpha spending by K. K. G. Lan and D. L. DeMets (Biometrika 70(3), 1983), of alpha / 2 on either side; a session
    is the unit of information. The usual way finds the levels for a known variance (P. Armitage, C. K. McPherson and
    B. C. Rowe, Journal of the Royal Statistical Society A 132(2), 1969) and takes t quantiles at them. With few
    sessions that alarms too often, for the t statistics of successive looks are less alike than normal ones: looks
    at 5, 8, 12, 16 and 20 gave 5.4 % instead of 5 % and 1.11 % instead of 1 % (Pocock-type), looks after each of 3 to
    10 sessions 5.9 % and 1.22 %. So the recursion here is over the t statistics' own distribution (as in C. Jennison
    and B. W. Turnbull, Biometrika 78(1), 1991); 1.2 million simulated series each gave 4.97, 0.99, 5.01 and 1.01 %.
    A level is 0 where the look may spend less than 1e-9: it then answers nothing.
    """
    return _levels(_kernels(design.looks), _spent(design))


def _at_look(log_ratios: Sequence[float], limit: float, design: Design, look: int) -> Decision:
    open_verdict: Verdict = "GO_ON" if look < len(design.looks) else "INCONCLUSIVE"
    level = levels(design)[look - 1]
    if level == 0:
        return Decision(open_verdict, look)
    worse = ratio_test(log_ratios, limit, 1 - level)
    better = ratio_test(log_ratios, 1 / limit, 1 - level)
    if worse is None or better is None:
        return Decision("INCONCLUSIVE", look)
    verdict = open_verdict
    if worse.interval.low > limit:
        verdict = "REGRESSED"
    elif worse.interval.high < 1 / limit:
        verdict = "IMPROVED"
    elif worse.interval.high < limit:
        verdict = "PASS"
    p = _repeated_p(min(1.0, 2 * worse.p_above, 2 * better.p_below), design, look)
    if verdict in ("REGRESSED", "IMPROVED"):
        p = min(p, design.alpha)  # it is rounded up, which must not part it from the interval
    interval = Interval(worse.interval.low, worse.interval.high, worse.interval.n, 1 - design.alpha)
    return Decision(verdict, look, worse.ratio, interval, p)


def _repeated_p(nominal_p: float, design: Design, look: int) -> float:
    """The smallest alpha at which this look's level reaches its p-value, within 1 in 10,000; at least 1e-9.

    Source: C. Jennison and B. W. Turnbull, Group Sequential Methods, 2000, chapter 9.
    """

    def level(alpha: float) -> float:
        return _levels(_kernels(design.looks), _spent(design, alpha))[look - 1]

    low, high = max(nominal_p, _LEAST_SPENT), 1.0
    if level(high) < nominal_p:
        return 1.0
    while high > low * 1.0001:
        middle = math.sqrt(low * high)
        if 0 < level(middle) >= nominal_p:
            high = middle
        else:
            low = middle
    return high


def _spent(design: Design, alpha: float | None = None) -> tuple[float, ...]:
    """How much of alpha, both sides together, is spent by each look: the two functions of Lan and DeMets."""
    from scipy.special import ndtr, ndtri

    alpha = design.alpha if alpha is None else alpha
    fractions = [n / design.looks[-1] for n in design.looks]
    if design.spending == "pocock":
        return tuple(alpha * math.log(1 + (math.e - 1) * fraction) for fraction in fractions)
    return tuple(4 * float(ndtr(ndtri(alpha / 4) / math.sqrt(fraction))) for fraction in fractions)


def _levels(kernels: Sequence[Floats], spent: Sequence[float]) -> tuple[float, ...]:
    """The recursion: carry the distribution of those that went on from look to look; cut off what may be spent."""
    import numpy as np
    from scipy.special import ndtr

    mass, found, total = _half_normal(), [], 0.0
    for look, target in enumerate(spent):
        if look:
            mass = mass @ kernels[look - 1]
        tail = np.append(mass[::-1].cumsum()[::-1], 0.0)  # what lies beyond each cell's lower edge
        increment = min(target - total, float(tail[0]))
        if increment < max(_LEAST_SPENT, tail[-2]):
            found.append(0.0)
            continue
        cell = int(np.flatnonzero(tail >= increment)[-1])
        part = math.log(tail[cell] / increment) / math.log(tail[cell] / tail[cell + 1])
        found.append(float(2 * ndtr(-_CELL * (cell + part))))
        mass[cell], mass[cell + 1 :] = tail[cell] - increment, 0.0
        total = target
    return tuple(found)


@functools.lru_cache(maxsize=32)
def _kernels(looks: tuple[int, ...]) -> tuple[Floats, ...]:
    """From each look to the next: where a |z| in one cell of the grid is likely to be, cell by cell."""
    import numpy as np

    steps = ([_one_session(n) for n in range(now, after)] for now, after in itertools.pairwise(looks))
    return tuple(functools.reduce(np.matmul, step) for step in steps)


def _one_session(n: int) -> Floats:
    """The step of |z| from ``n`` to ``n + 1`` sessions without an effect; z is the t statistic's normal deviate.

    Let u = sum / sqrt(n * sum of squares), a function of t. By Basu's theorem the u so far say nothing of the sum of
    squares, so they are a Markov chain. Let the new value be sqrt(sum of squares) * tan(phi): then sqrt(n) * tan(phi)
    has Student's t distribution with n degrees of freedom, and the next u is
    sqrt((1 + n u^2) / (n + 1)) * sin(phi + delta), where tan(delta) = sqrt(n) u. Hence the chance that it lies beyond
    an edge of the grid, without integration.
    """
    import numpy as np
    from scipy.special import stdtr

    def below(angle: Floats) -> Floats:
        return np.asarray(stdtr(n, math.sqrt(n) * np.tan(np.clip(angle, -math.pi / 2, math.pi / 2))))

    edges = np.asarray(_CELL * np.arange(_CELLS + 1), dtype=np.float64)
    now, after = _u_of(edges[:-1] + _CELL / 2, n)[:, None], _u_of(edges, n + 1)[None, :]
    delta = np.arctan(math.sqrt(n) * now)
    edge = np.arcsin(np.minimum(after * np.sqrt((n + 1) / (1 + n * now**2)), 1.0))
    upper = below(math.pi - edge - delta) - below(edge - delta)
    lower = below(-edge - delta) - below(edge - delta - math.pi)
    beyond = upper + lower
    step = beyond[:, :-1] - beyond[:, 1:]
    normal = _half_normal()  # known to hold at every n: so the grid's rounding does not add up over steps
    return np.asarray(step * (normal / (normal @ step)))


def _u_of(z: Floats, n: int) -> Floats:
    import numpy as np
    from scipy.special import ndtr, stdtrit

    t = -stdtrit(n - 1, ndtr(-z))
    return np.asarray(t / np.sqrt(t**2 + n - 1))


def _half_normal() -> Floats:
    """The chance of each cell of the grid under a standard normal's |z|."""
    import numpy as np
    from scipy.special import ndtr

    return np.asarray(-2 * np.diff(ndtr(-_CELL * np.arange(_CELLS + 1))))

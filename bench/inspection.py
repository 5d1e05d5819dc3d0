"""``Inspection`` and ``Soak``: what a sample of a delivery, or hours without a failure, show and do not show.

Pure statistics. Every bound is one-sided and exact: a claim that it lets pass is false at most as often as one less the
confidence. Assumed throughout: the nodes are drawn at random, a bad node stays bad, and no good node fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

LARGEST_DELIVERY = 100_000  # nodes, up to which the logarithms of binomial coefficients are as good as _TIE
MOST_FAILURES = 3  # that are told of

# A chance that equals its limit in exact arithmetic counts as within it, whichever way the last digits fall.
_TIE = 1e-8


@dataclass(frozen=True)
class Outcome:
    """What it means that so many of the inspected nodes failed."""

    failures: int
    to_inspect: int | None  # nodes of this delivery that still show the claim; None: all of them do not
    to_inspect_of_any: int  # the same, of a delivery of any size
    bad_nodes_at_most: int | None  # in this delivery, those that failed included; None: its size is unknown
    bad_share_at_most: float  # of a delivery of any size


@dataclass(frozen=True)
class Inspection:
    """How many nodes to inspect, and what to conclude from each number of failures among them."""

    nodes: int | None  # in the delivery; None: unknown
    bad_share: float  # what is to be shown: at most this share is bad
    confidence: float
    sensitivity: float  # share of the bad nodes that the test finds
    inspected: int  # nodes: as few as show it if none fails, or all where even they do not
    is_enough: bool
    outcomes: tuple[Outcome, ...]

    @property
    def bad_nodes(self) -> int | None:
        """As many bad nodes as the claim allows in this delivery."""
        return None if self.nodes is None else allowed(self.bad_share, self.nodes)


@dataclass(frozen=True)
class Soak:
    """What hours without a failure show, of one node or of several that run as long."""

    nodes: int
    node_hours: float
    rate_at_most: float  # failures per node-hour, at the confidence
    rate_caught_half: float  # that fails at least once with a chance of 50 %
    rate_caught_mostly: float  # with a chance of 95 %


def inspect(
    bad_share: float, confidence: float = 0.95, *, nodes: int | None = None, sensitivity: float = 1.0
) -> Inspection:
    """The smallest inspection that shows a share of bad nodes, and the meaning of 0, 1, … failures in it.

    Raises:
        ValueError: an argument is out of its range.
    """
    of_any = [nodes_to_inspect(bad_share, confidence, failures=x, sensitivity=sensitivity) for x in _FAILURES]
    of_these = [
        nodes_to_inspect(bad_share, confidence, nodes=nodes, failures=x, sensitivity=sensitivity) for x in _FAILURES
    ]
    inspected = of_these[0] or nodes or 0  # of a delivery of unknown size there are always enough
    outcomes = tuple(
        Outcome(
            failures,
            of_these[failures],
            of_any[failures] or 0,
            None if nodes is None else bad_nodes_at_most(failures, inspected, nodes, confidence, sensitivity),
            bad_share_at_most(failures, inspected, confidence, sensitivity),
        )
        for failures in _FAILURES
        if failures <= inspected
    )
    return Inspection(nodes, bad_share, confidence, sensitivity, inspected, of_these[0] is not None, outcomes)


def nodes_to_inspect(
    bad_share: float, confidence: float, *, nodes: int | None = None, failures: int = 0, sensitivity: float = 1.0
) -> int | None:
    """The fewest nodes to inspect so that with no more than these failures at most the share is bad.

    Of a delivery of unknown size, failures are binomial; for none of them and a perfect test this is the textbook's
    ceil(ln(1 - C) / ln(1 - p)): 59, 149 and 299 nodes for 5, 2 and 1 % at 95 %. Of N nodes, they are hypergeometric:
    it is enough to refute one bad node more than the share allows (W. C. Guenther, "Sampling Inspection in
    Statistical Quality Control", 1977). A test that finds each bad node with a chance below one thins them out
    (A. R. Cameron and F. C. Baldock, Preventive Veterinary Medicine 34(1), 1998, there for herds).

    Returns:
        None where inspecting every node once is not enough, for the test misses too many.

    Raises:
        ValueError: share and confidence are not between 0 and 1, the sensitivity not above 0 and up to 1, the
            failures negative, or the nodes none or more than LARGEST_DELIVERY.
    """
    _expect(failures, confidence, sensitivity, nodes)
    if not 0 < bad_share < 1:
        raise ValueError("a share of bad nodes lies between 0 and 1")
    if nodes is None:
        rate = bad_share * sensitivity
        highest = 1
        while not _refuted(_chance_of_any(failures, highest, rate), confidence):
            highest *= 2
        return _first(0, highest, lambda n: _refuted(_chance_of_any(failures, n, rate), confidence))
    bad = allowed(bad_share, nodes) + 1

    def is_enough(inspected: int) -> bool:
        return _refuted(_chance(failures, inspected, bad, nodes, sensitivity), confidence)

    return _first(0, nodes, is_enough) if is_enough(nodes) else None


def bad_nodes_at_most(
    failures: int, inspected: int, nodes: int, confidence: float = 0.95, sensitivity: float = 1.0
) -> int:
    """How many bad nodes a delivery has at most, those that failed included: the most that the sample does not refute.

    Source: T. Wright, "Exact Confidence Bounds when Sampling from Small Finite Universes", Lecture Notes in
    Statistics 66, 1991; with a sensitivity below one, as of `nodes_to_inspect`.

    Raises:
        ValueError: more failures than inspected nodes, or more of these than there are; or as of `nodes_to_inspect`.
    """
    _expect(failures, confidence, sensitivity, nodes)
    if not failures <= inspected <= nodes:
        raise ValueError("needs failures <= inspected <= nodes")

    def is_refuted(bad: int) -> bool:
        return bad > nodes or _refuted(_chance(failures, inspected, bad, nodes, sensitivity), confidence)

    return _first(failures, nodes + 1, is_refuted) - 1


def bad_share_at_most(failures: int, inspected: int, confidence: float = 0.95, sensitivity: float = 1.0) -> float:
    """The upper bound of the share of bad nodes in a delivery of any size.

    Source: C. J. Clopper and E. S. Pearson, Biometrika 26(4), 1934, one-sided. It bounds the share that fails, which
    a test that misses some bad nodes makes smaller by its sensitivity.

    Raises:
        ValueError: more failures than inspected nodes, or as of `nodes_to_inspect`.
    """
    from scipy.special import betaincinv

    _expect(failures, confidence, sensitivity, None)
    if failures > inspected:
        raise ValueError("needs failures <= inspected")
    if failures == inspected:
        return 1.0
    return min(1.0, float(betaincinv(failures + 1, inspected - failures, confidence)) / sensitivity)


def soak(hours: float, nodes: int = 1, confidence: float = 0.95) -> Soak:
    """What nodes show that run these hours each without a failure.

    Raises:
        ValueError: hours or nodes are not above zero and finite, or as of `failure_rate_at_most`.
    """
    if not (0 < hours < math.inf and nodes > 0):
        raise ValueError("a soak takes some hours, of a node at least")
    node_hours = hours * nodes
    bound = failure_rate_at_most(0, node_hours, confidence)
    return Soak(nodes, node_hours, bound, rate_caught(0.5, node_hours), rate_caught(0.95, node_hours))


def failure_rate_at_most(failures: int, node_hours: float, confidence: float = 0.95) -> float:
    """The upper bound of a failure rate, per node-hour, after that many failures.

    Source: F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28(3/4), 1936, one-sided. Without a
    failure it is -ln(1 - C) / T, at 95 % the rule of three, 3 / T (J. A. Hanley and A. Lippman-Hand, JAMA 249(13),
    1983). Assumes that failures come at a constant rate and independently, on all nodes alike.

    Raises:
        ValueError: failures below zero, time not above it, or a confidence not between 0 and 1.
    """
    from scipy.special import gammaincinv

    _expect(failures, confidence, 1.0, None)
    if not 0 < node_hours < math.inf:
        raise ValueError("needs some node-hours")
    return float(gammaincinv(failures + 1, confidence)) / node_hours


def rate_caught(chance: float, node_hours: float) -> float:
    """The failure rate, per node-hour, that shows itself at least once with this chance: 1 - exp(-rate T), Poisson."""
    return -math.log1p(-chance) / node_hours


def allowed(bad_share: float, nodes: int) -> int:
    """How many nodes the share is at most: of the number as it is written, so that 7 % of 100 are 7."""
    return math.floor(Fraction(str(bad_share)) * nodes)


_FAILURES = range(MOST_FAILURES + 1)


def _expect(failures: int, confidence: float, sensitivity: float, nodes: int | None) -> None:
    if not (failures >= 0 and 0 < confidence < 1 and 0 < sensitivity <= 1):
        raise ValueError("needs failures >= 0, a confidence between 0 and 1, a sensitivity above 0 and up to 1")
    if nodes is not None and not 1 <= nodes <= LARGEST_DELIVERY:
        raise ValueError(f"a delivery has 1 to {LARGEST_DELIVERY} nodes")


def _refuted(chance: float, confidence: float) -> bool:
    return chance <= (1 - confidence) * (1 + _TIE)


def _first(low: int, high: int, condition: Callable[[int], bool]) -> int:
    """The smallest number above ``low`` that meets a condition which every larger one meets, and ``high`` does."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if condition(middle) else (middle, high)
    return high


def _chance_of_any(failures: int, inspected: int, rate: float) -> float:
    """That no more than these failures are seen, each node failing by itself at that rate."""
    from scipy.special import betaincc

    return 1.0 if failures >= inspected else float(betaincc(failures + 1, inspected - failures, rate))


def _chance(failures: int, inspected: int, bad: int, nodes: int, sensitivity: float) -> float:
    """That no more than these failures are seen: of the k bad nodes drawn, hypergeometric, each with its chance."""
    import numpy as np
    from scipy.special import betaincc

    fewest, most = max(0, inspected + bad - nodes), min(bad, inspected)
    k = np.arange(fewest, (most if sensitivity < 1 else min(most, failures)) + 1)
    drawn = np.exp(_log_choose(bad, k) + _log_choose(nodes - bad, inspected - k) - _log_choose(nodes, inspected))
    seen_few = np.where(k <= failures, 1.0, betaincc(failures + 1, np.maximum(k - failures, 1), sensitivity))
    return float(np.sum(drawn * seen_few))


def _log_choose(n: Any, k: Any) -> Any:
    from scipy.special import gammaln

    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

"""``bench.inspection`` against scipy's distributions, the textbook's values, and counting every sample."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, chi2, hypergeom, poisson

from bench import inspection
from bench.inspection import bad_nodes_at_most, bad_share_at_most, failure_rate_at_most, nodes_to_inspect

SHARES = st.sampled_from((0.01, 0.02, 0.05, 0.1, 0.25, 0.5))
CONFIDENCES = st.sampled_from((0.5, 0.8, 0.9, 0.95, 0.99))


@pytest.mark.parametrize(("share", "nodes"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_the_textbooks_numbers_for_no_failure_at_95_percent(share: float, nodes: int) -> None:
    assert nodes_to_inspect(share, 0.95) == nodes == math.ceil(math.log(0.05) / math.log(1 - share))


@pytest.mark.parametrize(("failures", "nodes"), [(0, 59), (1, 93), (2, 124), (3, 153)])
def test_the_known_numbers_for_some_failures(failures: int, nodes: int) -> None:
    """S. S. Wilks' sample sizes for one-sided 95 %/95 % tolerance limits, Ann. Math. Statist. 12, 1941."""
    assert nodes_to_inspect(0.05, 0.95, failures=failures) == nodes


@settings(deadline=None)
@given(SHARES, CONFIDENCES, st.integers(0, 3))
def test_of_any_number_it_is_the_first_sample_that_the_binomial_refutes(
    share: float, confidence: float, failures: int
) -> None:
    found = nodes_to_inspect(share, confidence, failures=failures)
    assert found is not None
    limit = (1 - confidence) * (1 + 1e-7)
    assert binom.cdf(failures, found, share) <= limit
    assert binom.cdf(failures, found - 1, share) > (1 - confidence) * (1 - 1e-7)


@settings(deadline=None)
@given(st.integers(1, 2000), SHARES, CONFIDENCES, st.integers(0, 3))
def test_of_a_delivery_it_is_the_first_sample_that_the_hypergeometric_refutes(
    nodes: int, share: float, confidence: float, failures: int
) -> None:
    found = nodes_to_inspect(share, confidence, nodes=nodes, failures=failures)
    bad = inspection.allowed(share, nodes) + 1
    if found is None:  # even all of them show no more failures than that
        assert bad <= failures
        return
    limit = 1 - confidence
    assert hypergeom.cdf(failures, nodes, bad, found) <= limit * (1 + 1e-7)
    assert hypergeom.cdf(failures, nodes, bad, found - 1) > limit * (1 - 1e-7)


def chance_by_counting(failures: int, inspected: int, bad: int, nodes: int, sensitivity: Fraction) -> Fraction:
    """That no more than these failures are seen: every sample of the delivery, every subset of its bad nodes found."""
    total, samples = Fraction(0), list(itertools.combinations(range(nodes), inspected))
    for sample in samples:
        drawn = sum(node < bad for node in sample)
        for found in itertools.product((0, 1), repeat=drawn):
            if sum(found) <= failures:
                total += math.prod((sensitivity if one else 1 - sensitivity for one in found), start=Fraction(1))
    return total / len(samples)


@pytest.mark.parametrize("sensitivity", [Fraction(1), Fraction(4, 5), Fraction(1, 2)])
@pytest.mark.parametrize("confidence", [Fraction(3, 4), Fraction(9, 10)])
def test_small_deliveries_agree_with_counting_every_sample(sensitivity: Fraction, confidence: Fraction) -> None:
    nodes, share = 6, 0.2  # one bad node is allowed: 20 % of 6 is 1.2
    for failures in range(3):
        chances = [chance_by_counting(failures, inspected, 2, nodes, sensitivity) for inspected in range(1, nodes + 1)]
        enough = [i + 1 for i, chance in enumerate(chances) if chance <= 1 - confidence]
        found = nodes_to_inspect(
            share, float(confidence), nodes=nodes, failures=failures, sensitivity=float(sensitivity)
        )
        assert found == (enough[0] if enough else None)
    for failures, inspected in ((0, 3), (1, 3), (0, 6), (2, 5)):
        unrefuted = [
            bad
            for bad in range(failures, nodes + 1)
            if chance_by_counting(failures, inspected, bad, nodes, sensitivity) > 1 - confidence
        ]
        found = bad_nodes_at_most(failures, inspected, nodes, float(confidence), float(sensitivity))
        assert found == max(unrefuted)


def test_a_share_is_meant_as_it_is_written() -> None:
    assert 0.07 * 100 > 7 and 0.29 * 100 < 29  # which is why floats will not do
    assert inspection.allowed(0.07, 100) == 7
    assert inspection.allowed(0.29, 100) == 29
    assert inspection.allowed(0.02, 40) == 0


def test_a_tie_with_the_limit_counts_as_shown() -> None:
    # One bad node of 20 hides from 19 inspected ones with a chance of exactly 1/20.
    assert nodes_to_inspect(0.01, 0.95, nodes=20) == 19


@settings(deadline=None)
@given(st.integers(1, 500), SHARES, CONFIDENCES)
def test_a_known_size_never_needs_more_than_an_unknown_one(nodes: int, share: float, confidence: float) -> None:
    known, unknown = nodes_to_inspect(share, confidence, nodes=nodes), nodes_to_inspect(share, confidence)
    assert known is not None and unknown is not None
    # Both refute the next whole bad node, of which the known size has at least the share.
    assert known <= unknown


def test_of_a_great_delivery_as_many_as_of_any() -> None:
    found = nodes_to_inspect(0.05, 0.95, nodes=inspection.LARGEST_DELIVERY)
    assert found in (58, 59)


@settings(deadline=None)
@given(st.integers(2, 300), SHARES, CONFIDENCES, st.sampled_from((1.0, 0.9, 0.5)))
def test_more_confidence_fewer_bad_and_a_worse_test_need_more_nodes(
    nodes: int, share: float, confidence: float, sensitivity: float
) -> None:
    def needed(share: float, confidence: float, sensitivity: float, failures: int = 0) -> float:
        found = nodes_to_inspect(share, confidence, nodes=nodes, failures=failures, sensitivity=sensitivity)
        return math.inf if found is None else found

    here = needed(share, confidence, sensitivity)
    assert needed(share / 2, confidence, sensitivity) >= here
    assert needed(share, (1 + confidence) / 2, sensitivity) >= here
    assert needed(share, confidence, sensitivity / 2) >= here
    assert needed(share, confidence, sensitivity, failures=1) >= here


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_more_failures_or_fewer_inspected_bound_the_bad_nodes_higher(nodes: int, data: Any) -> None:
    inspected = data.draw(st.integers(1, nodes))
    failures = data.draw(st.integers(0, inspected))
    sensitivity = data.draw(st.sampled_from((1.0, 0.8)))
    bound = bad_nodes_at_most(failures, inspected, nodes, 0.95, sensitivity)
    assert failures <= bound <= nodes
    if failures < inspected:
        assert bad_nodes_at_most(failures + 1, inspected, nodes, 0.95, sensitivity) >= bound
        assert bad_nodes_at_most(failures, inspected - 1, nodes, 0.95, sensitivity) >= bound
    assert bad_nodes_at_most(failures, inspected, nodes, 0.99, sensitivity) >= bound


def test_when_all_are_inspected_by_a_perfect_test_the_bad_ones_are_those_that_failed() -> None:
    assert [bad_nodes_at_most(failures, 40, 40) for failures in (0, 1, 7)] == [0, 1, 7]
    assert nodes_to_inspect(0.02, 0.95, nodes=1) == 1


def test_a_test_that_misses_too_many_shows_nothing_however_many_are_inspected() -> None:
    assert nodes_to_inspect(0.02, 0.95, nodes=40, sensitivity=0.9) is None  # one bad node hides with 10 %
    found = inspection.inspect(0.02, nodes=40, sensitivity=0.9)
    assert (found.inspected, found.is_enough) == (40, False)
    assert found.outcomes[0].bad_nodes_at_most == 1


@pytest.mark.parametrize("failures", range(4))
@pytest.mark.parametrize("inspected", [4, 59, 1000])
def test_the_bound_of_the_share_is_clopper_and_pearsons(failures: int, inspected: int) -> None:
    expected = beta.ppf(0.95, failures + 1, inspected - failures)
    assert bad_share_at_most(failures, inspected) == pytest.approx(expected, rel=1e-9)
    assert bad_share_at_most(failures, inspected, sensitivity=0.9) == pytest.approx(min(1, expected / 0.9), rel=1e-9)


def test_where_all_failed_all_may_be_bad() -> None:
    assert bad_share_at_most(3, 3) == 1.0


@pytest.mark.parametrize("nodes", [None, 7, 400])
def test_an_inspection_shows_what_it_promises(nodes: int | None) -> None:
    found = inspection.inspect(0.02, nodes=nodes)
    assert [one.failures for one in found.outcomes] == [0, 1, 2, 3]
    assert found.outcomes[0].to_inspect == found.inspected
    if nodes is None:
        assert found.outcomes[0].bad_share_at_most <= 0.02
    else:
        assert found.outcomes[0].bad_nodes_at_most == found.bad_nodes == inspection.allowed(0.02, nodes)


@pytest.mark.parametrize("failures", range(4))
def test_the_bound_of_a_rate_is_garwoods(failures: int) -> None:
    bound = failure_rate_at_most(failures, 24.0, 0.9)
    assert bound == pytest.approx(chi2.ppf(0.9, 2 * (failures + 1)) / 2 / 24, rel=1e-9)
    assert poisson.cdf(failures, bound * 24) == pytest.approx(0.1, rel=1e-9)


def test_a_soak_follows_the_rule_of_three_and_catches_what_it_says() -> None:
    one, many = inspection.soak(24.0), inspection.soak(24.0, 59)
    assert one.rate_at_most == pytest.approx(-math.log(0.05) / 24) == pytest.approx(3 / 24, rel=0.002)
    assert many.node_hours == 24 * 59
    assert many.rate_at_most == pytest.approx(one.rate_at_most / 59)
    assert poisson.sf(0, one.rate_caught_half * one.node_hours) == pytest.approx(0.5)
    assert poisson.sf(0, many.rate_caught_mostly * many.node_hours) == pytest.approx(0.95)


@pytest.mark.parametrize(
    "call",
    [
        lambda: nodes_to_inspect(0.0, 0.95),
        lambda: nodes_to_inspect(1.0, 0.95),
        lambda: nodes_to_inspect(math.nan, 0.95),
        lambda: nodes_to_inspect(0.02, 1.0),
        lambda: nodes_to_inspect(0.02, math.nan),
        lambda: nodes_to_inspect(0.02, 0.95, sensitivity=0.0),
        lambda: nodes_to_inspect(0.02, 0.95, sensitivity=1.1),
        lambda: nodes_to_inspect(0.02, 0.95, nodes=0),
        lambda: nodes_to_inspect(0.02, 0.95, nodes=inspection.LARGEST_DELIVERY + 1),
        lambda: nodes_to_inspect(0.02, 0.95, failures=-1),
        lambda: bad_nodes_at_most(2, 1, 10),
        lambda: bad_nodes_at_most(0, 11, 10),
        lambda: bad_share_at_most(2, 1),
        lambda: inspection.soak(0.0),
        lambda: inspection.soak(math.inf),
        lambda: inspection.soak(math.nan),
        lambda: failure_rate_at_most(0, -1.0),
    ],
)
def test_arguments_without_sense_are_refused(call: Any) -> None:
    with pytest.raises(ValueError, match=r"needs|lies|delivery|takes"):
        call()

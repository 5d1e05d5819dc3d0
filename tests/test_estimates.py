"""``bench.estimates``: for many groups at once what ``bench.stats`` says of each by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import estimates, stats

GROUPS = st.lists(
    st.lists(st.integers(-300, 300).map(lambda i: i / 1000), min_size=1, max_size=6), min_size=1, max_size=6
)


def starts_of(groups: list[list[float]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.cumsum([0, *map(len, groups[:-1])])


@settings(deadline=None)
@given(GROUPS, st.sampled_from([0.98, 1.0, 1.1]))
def test_each_group_is_tested_as_by_itself(groups: list[list[float]], limit: float) -> None:
    tests = estimates.t_tests(estimates.of_groups(np.concatenate(groups), starts_of(groups)), limit)
    for i, group in enumerate(groups):
        assert stats.ratio_test_at(tests, i, 0.95) == stats.ratio_test(group, limit)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(3, 5), st.randoms(use_true_random=False))
def test_nodes_on_two_levels_are_tested_as_two_level_ratio_does(
    ours: int, theirs: int, replicates: int, random: object
) -> None:
    rng = np.random.default_rng(ours * 100 + theirs * 10 + replicates)
    sides = [[rng.lognormal(0, 0.1, replicates).tolist() for _ in range(count)] for count in (ours, theirs)]
    expected = stats.two_level_ratio(sides[0], sides[1])
    assert expected is not None
    found = []
    for side in sides:
        nodes = estimates.of_groups(np.log(np.concatenate(side)), starts_of(side))
        whole = np.zeros(1, dtype=int)
        by_node = estimates.of_groups(nodes.mean, whole)
        found.append(by_node if expected.level == "node" else estimates.averages(nodes, whole))
    test = stats.ratio_test_at(estimates.t_tests(found[0] - found[1]), 0, 0.95)
    assert test is not None
    assert (test.ratio, test.interval.low, test.p_above) == pytest.approx(
        (expected.test.ratio, expected.test.interval.low, expected.test.p_above), rel=1e-9
    )
    assert test.interval.n == expected.test.interval.n


@pytest.mark.parametrize("unfit", [math.nan, math.inf, -math.inf, 1e3])
def test_a_group_that_bears_no_answer_spoils_no_other(unfit: float) -> None:
    groups = [[0.1, 0.2, 0.3], [0.1, unfit, 0.3], [0.1, 0.2], [0.2, 0.2, 0.2]]
    tests = estimates.t_tests(estimates.of_groups(np.concatenate(groups), starts_of(groups)))
    assert np.isfinite(tests.low).tolist() == [True, False, False, True]
    assert tests.low[3] == tests.high[3] == pytest.approx(math.exp(0.2))


def test_a_swapped_difference_is_mirrored() -> None:
    both = estimates.of_groups(np.array([0.1, 0.2, 0.4, 0.3, 0.5, 0.9]), np.array([0, 3]))
    there, back = both[:1] - both[1:], (both[:1] - both[1:]).scaled(-1.0)
    tests, mirrored = estimates.t_tests(there), estimates.t_tests(back)
    assert mirrored.low[0] == pytest.approx(1 / tests.high[0])
    assert mirrored.p_above[0] == pytest.approx(tests.p_below[0])


@settings(deadline=None)
@given(
    st.lists(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=5, max_size=5), min_size=1, max_size=4)
)
def test_holm_of_each_row_is_that_of_its_tests(rows: list[list[float]]) -> None:
    adjusted = estimates.holm_rows(np.array(rows))
    for row, found in zip(rows, adjusted.tolist(), strict=True):
        assert [p for p in found if not math.isnan(p)] == pytest.approx(
            stats.holm([p for p in row if not math.isnan(p)])
        )
        assert [math.isnan(p) for p in found] == [math.isnan(p) for p in row]

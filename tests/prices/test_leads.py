"""Who leads while an assumption varies: exact ends, and the same answer as trying every value."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.prices.leads import Line, Stretch, stretches

A = Line("a", fixed=1.0, varied=2.0, work=1.0)  # 1 + 2 y
B = Line("b", fixed=3.0, varied=1.0, work=1.0)  # 3 + y: they cross at y = 2


def exact(_one: str, _other: str) -> float:
    return 1.0


def unknown(_one: str, _other: str) -> None:
    return None


def test_the_lead_changes_hands_where_the_costs_cross() -> None:
    assert stretches([A, B], 0.0, 5.0, exact) == [Stretch(0.0, 2.0, "a", True), Stretch(2.0, 5.0, "b", True)]


def test_twice_the_work_is_worth_twice_the_cost() -> None:
    twice = Line("b", fixed=6.0, varied=2.0, work=2.0)
    ratio = {("a", "b"): 0.5, ("b", "a"): 2.0}
    assert [one.leader for one in stretches([A, twice], 0.0, 5.0, lambda *pair: ratio[pair])] == ["a", "b"]
    assert stretches([A, twice], 0.0, 5.0, lambda *pair: ratio[pair])[0].high == 2.0


def test_it_is_sure_only_where_the_least_ratio_leads_too() -> None:
    # a leads surely while 0.9 (3 + y) > 1 + 2 y, up to y = 1.7 / 1.1;
    # b while 0.9 (1 + 2 y) > 3 + y, from y = 2.1 / 0.8.
    found = stretches([A, B], 0.0, 5.0, lambda *_: 0.9)
    assert [(one.leader, one.is_sure) for one in found] == [("a", True), ("a", False), ("b", False), ("b", True)]
    assert [one.high for one in found] == pytest.approx([1.7 / 1.1, 2.0, 2.1 / 0.8, 5.0])


def test_without_an_interval_nothing_is_sure() -> None:
    assert [one.is_sure for one in stretches([A, B], 0.0, 5.0, unknown)] == [False, False]


def test_whoever_is_cheaper_throughout_leads_throughout() -> None:
    assert stretches([B, Line("c", 4.0, 2.0, 1.0)], 0.5, 2.0, exact) == [Stretch(0.5, 2.0, "b", True)]


def test_equal_contenders_are_never_sure_and_the_first_leads() -> None:
    assert stretches([A, Line("twin", 1.0, 2.0, 1.0)], 0.5, 2.0, exact) == [Stretch(0.5, 2.0, "a", False)]


def test_three_that_cross_in_one_point_have_two_stretches() -> None:
    middle = Line("c", fixed=2.0, varied=1.5, work=1.0)
    assert [one.leader for one in stretches([B, middle, A], 0.0, 5.0, exact)] == ["a", "b"]


_COSTS = st.floats(0.01, 100.0)


@given(
    st.lists(st.tuples(_COSTS, _COSTS, st.floats(0.1, 10.0)), min_size=2, max_size=6),
    st.floats(0.5, 1.0),
    st.integers(0, 1000),
)
def test_it_agrees_with_trying_a_value(terms: list[tuple[float, float, float]], doubt: float, permille: int) -> None:
    lines = [Line(str(index), *term) for index, term in enumerate(terms)]
    by_name = {line.name: line for line in lines}

    def least(one: str, other: str) -> float:
        return doubt * by_name[one].work / by_name[other].work

    found = stretches(lines, 0.5, 2.0, least)
    assert (found[0].low, found[-1].high) == (0.5, 2.0)
    assert all(one.high == after.low for one, after in itertools.pairwise(found))
    y = 0.5 + 1.5 * permille / 1000
    costs = {line.name: (line.fixed + line.varied * y) / line.work for line in lines}
    here = [one for one in found if one.low <= y <= one.high]
    cheapest = min(costs.values())
    assert any(math.isclose(costs[one.leader], cheapest, rel_tol=1e-9) for one in here)
    for one in here:
        margin = min(doubt * cost / costs[one.leader] for name, cost in costs.items() if name != one.leader)
        if not math.isclose(margin, 1.0, rel_tol=1e-9) and one.low < y < one.high:
            assert one.is_sure == (margin > 1)

"""``bench.telemetry.total``: side by side, a second is a second."""

from __future__ import annotations

from bench.telemetry.total import LongestGrowth


def test_causes_that_hold_at_the_same_time_count_once() -> None:
    total = LongestGrowth()
    assert total.add({"heat": 1.0, "brake": 1.0}) == 1.0
    assert total.add({"heat": 2.0, "brake": 2.0}) == 2.0


def test_a_long_history_of_one_does_not_hide_the_growth_of_another() -> None:
    total = LongestGrowth()
    assert total.add({0: 0.0, 1: 600.0}) == 600.0
    assert total.add({0: 4.5, 1: 600.0}) == 604.5
    assert total.add({0: 4.5, 1: 601.0}) == 605.5


def test_one_that_was_set_back_or_has_just_come_has_not_grown() -> None:
    total = LongestGrowth()
    total.add({0: 5.0})
    assert total.add({0: 1.0, 1: 90.0}) == 5.0
    assert total.add({0: 1.5, 1: 90.0}) == 5.5


def test_without_counters_there_is_no_total() -> None:
    total = LongestGrowth()
    assert total.add({}) is None
    assert total.add({0: 1.0}) == 1.0
    assert total.add({}) is None

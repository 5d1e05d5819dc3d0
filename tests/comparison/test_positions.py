"""Where workloads and sides stand: intensities, roofs and Pareto fronts."""

from __future__ import annotations

from typing import Any

import pytest

from bench.comparison.positions import front, place, roofs, standings
from tests.comparisons import changed, make_cell, make_whole


def test_a_product_stands_at_its_intensity_and_speed() -> None:
    found = place(make_cell("a", "matmul/bf16/4096"))
    assert found is not None
    assert found.flop_per_byte == pytest.approx(2 * 4096**3 / (6 * 4096**2))
    assert found.flop_per_s == pytest.approx(7e14)


def test_tokens_become_operations_by_the_work_of_a_launch() -> None:
    found = place(make_cell("a", "decode/x/b8/ctx1", value=800.0, flops=16_000, bytes_moved=2_000, items=8))
    assert found is not None
    assert (found.flop_per_byte, found.flop_per_s) == (8.0, 800 / 8 * 16_000)


def test_bytes_become_operations_too() -> None:
    found = place(make_cell("a", "sum/x", unit="B/s", value=1e9, flops=500, bytes_moved=1000))
    assert found is not None
    assert found.flop_per_s == 5e8


@pytest.mark.parametrize(
    "changes",
    [{"flops": 0}, {"flops": None}, {"bytes_moved": None}, {"value": None}, {"unit": "image/s"}, {"unit": None}],
)
def test_what_is_unknown_has_no_place(changes: dict[str, Any]) -> None:
    assert place(make_cell("a", "matmul/bf16/4096", **changes)) is None


def test_roofs_are_the_measured_ones_of_the_device_itself() -> None:
    cells = [
        make_cell("a", "roof/compute/bf16", value=7e14),
        make_cell("a", "roof/compute/fp32", value=6e13),
        make_cell("a", "roof/memory/read", value=3e12),
        make_cell("a", "roof/memory/triad", value=2e12),
        make_cell("a", "roof/memory/read@where=host", value=5e12),
        make_cell("b", "roof/memory/read", value=None),
        make_cell("b", "matmul/bf16/4096"),
    ]
    (found,) = roofs(cells)
    assert (found.side, found.compute, found.memory_b_s) == ("a", {"bf16": 7e14, "fp32": 6e13}, 3e12)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 1), (2, 2), (3, 1.5)], [True, True, False]),
        ([(2, 1), (1, 1)], [False, True]),
        ([(1, 1), (1, 2)], [False, True]),
        ([], []),
    ],
)
def test_the_front_is_what_no_other_surpasses(points: list[tuple[float, float]], expected: list[bool]) -> None:
    assert front(points) == expected


def test_a_side_stands_by_its_suite_and_by_the_power_of_workloads_that_all_know() -> None:
    comparison = changed(make_whole("a", "b"), 1, power_w=None)
    first, second = standings(comparison, list(comparison.cells), None)
    assert (first.side, first.performance, first.interval) == ("a", 1.0, None)
    assert first.power_w == pytest.approx(640.0)
    assert second.power_w == pytest.approx(680.0)
    assert second.performance == comparison.suite_ratios[0].ratio_of_values
    assert first.cost_per_hour is None


def test_a_side_without_any_power_does_not_hide_the_others() -> None:
    comparison = make_whole("a", "b", "c")
    for index in range(2, len(comparison.cells), 3):
        comparison = changed(comparison, index, power_w=None)
    assert [one.power_w is None for one in standings(comparison, list(comparison.cells), None)] == [False, False, True]

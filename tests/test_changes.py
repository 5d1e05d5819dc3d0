"""``bench.changes``: simulated histories, with and without steps."""

from __future__ import annotations

import hashlib
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench import changes
from bench.changes import change_points

Series = NDArray[np.float64]


def indices(values: Series | list[float], alpha: float = 0.01) -> list[int]:
    found = change_points(list(values), alpha)
    assert found is not None
    return [change.index for change in found]


def noise(seed: int, n: int, sd: float = 0.02) -> Series:
    return np.random.default_rng(seed).normal(0, sd, n)


def test_a_step_is_found_with_its_levels() -> None:
    values = np.exp(noise(1, 40, 0.01))
    values[25:] *= 1.08
    found = change_points(values.tolist())
    assert found is not None
    assert [change.index for change in found] == [25]
    assert found[0].before == statistics.median(values[:25].tolist())
    assert found[0].after == statistics.median(values[25:].tolist())
    assert found[0].p == 1 / 500


def test_a_step_that_was_taken_back_is_two_changes() -> None:
    values = np.exp(noise(2, 60))
    values[30:40] *= 1.10
    assert indices(values) == [30, 40]


def test_a_staircase_is_found_step_by_step() -> None:
    values = np.exp(noise(3, 60, 0.01) + np.repeat([0, 0.1, 0.2, 0.05], 15))
    found = change_points(values.tolist())
    assert found is not None
    assert [change.index for change in found] == [15, 30, 45]
    assert [change.after for change in found[:-1]] == [change.before for change in found[1:]]


def test_one_or_two_outliers_are_no_change_and_hide_none() -> None:
    values = np.exp(noise(4, 40))
    values[[11, 30, 31]] *= 1.5
    assert indices(values) == []
    values[20:] *= 1.08
    assert indices(values) == [20]


def test_a_level_lasts_at_least_three_values() -> None:
    assert indices([1.0] * 40 + [2.0] * 2) == []
    assert indices([1.0] * 40 + [2.0] * 3) == [40]
    assert indices([1.0] * 2 + [2.0] * 40) == []


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 1.0, 1.0, 9.0, 9.0], [3.0] * 50])
def test_too_short_or_constant_a_series_has_no_change(values: list[float]) -> None:
    assert change_points(values) == []


def test_mostly_equal_values_have_no_spread_to_pull_outliers_in_by() -> None:
    assert indices([1.0] * 12 + [1.05] * 10) == [12]
    assert indices(([1.0] * 4 + [1.01]) * 6) == []


@pytest.mark.parametrize("unfit", [math.nan, math.inf, 0.0, -1.0])
def test_a_series_with_a_value_that_is_not_positive_and_finite_has_no_answer(unfit: float) -> None:
    assert change_points([1.0] * 10 + [unfit] + [2.0] * 10) is None


@pytest.mark.parametrize("alpha", [0.0, 0.001, 1.0, math.nan])
def test_an_alpha_that_the_permutations_cannot_show_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha lies"):
        change_points([1.0] * 10, alpha)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(6, 34), st.sampled_from([-10, -1, 3, 10]))
def test_neither_unit_nor_direction_matters(seed: int, position: int, exponent: int) -> None:
    logs = noise(seed, 40)
    logs[position:] += 0.15
    found = indices(np.exp(logs))
    assert position in found
    assert indices(np.exp(logs) * 2.0**exponent) == found
    assert indices(np.exp(-logs)) == found


def test_the_same_series_gives_the_same_changes_from_the_same_permutations() -> None:
    values = np.exp(noise(5, 50))
    values[20:] *= 1.05
    first = change_points(values.tolist())
    changes._permutations.cache_clear()
    assert change_points(values.tolist()) == first
    permutations = changes._permutations(50)
    assert (np.sort(permutations, axis=1) == np.arange(50)).all()
    golden = "02e8682c8aaf2d559f3777e7e9eb44ac00d4505d1e8ba1469cf6065de1d09976"
    assert hashlib.sha256(permutations.astype("<u2").tobytes()).hexdigest() == golden


def test_parts_of_parts_are_searched_and_counted_from_the_series_start() -> None:
    logs = noise(7, 120, 0.005) + np.repeat([0, 0.1, 0.2, 0.35, 0.1, 0.2], 20)
    found = changes._search(logs, 1000, 0.01)
    assert [round((index - 1000) / 20) * 20 for index in sorted(found)] == [20, 40, 60, 80, 100]


def test_a_change_that_does_not_stand_between_its_neighbours_falls() -> None:
    logs = noise(8, 60)
    logs[30:] += 0.1
    assert changes._confirmed(logs, {10: 0.002, 30: 0.002, 36: 0.004, 50: 0.002}, 0.01) == {30: 0.002}


def test_every_stretch_leaves_whole_levels() -> None:
    starts, ends = changes._stretches(9)
    expected = {(0, 3), (0, 4), (0, 5), (0, 6), (3, 6), (3, 9), (4, 9), (5, 9), (6, 9)}
    assert set(zip(starts.tolist(), ends.tolist(), strict=True)) == expected


def test_a_permutation_p_value_against_every_permutation() -> None:
    """Seven values in one fixed split: 35 splits, of which none but the true one differs as much."""
    logs = np.array([0.0, 0.01, 0.02, 0.5, 0.51, 0.52, 0.53])
    p, _ = changes._test(logs, np.array([0]), np.array([3]))
    assert p == pytest.approx(1 / 35, abs=0.023)  # within 3 standard errors of 499 draws


def autocorrelated(rng: np.random.Generator, n: int, correlation: float) -> Series:
    series = [rng.standard_normal()]
    for _ in range(n - 1):
        series.append(correlation * series[-1] + math.sqrt(1 - correlation**2) * rng.standard_normal())
    return 0.02 * np.array(series)


@pytest.mark.slow
def test_false_alarms_and_power_are_what_the_docstring_says() -> None:
    rng = np.random.default_rng(6)
    trials = 400

    def draw(n: int, kind: str) -> Series:
        if kind == "log-normal":
            return np.log1p(0.02 * rng.lognormal(0, 1, n))
        if kind == "autocorrelated":
            return autocorrelated(rng, n, 0.3)
        return rng.normal(0, 0.02, n) + (0.3 if kind == "outliers" else 0.0) * (rng.random(n) < 0.05)

    def alarms(n: int, kind: str) -> float:
        return sum(bool(indices(np.exp(draw(n, kind)))) for _ in range(trials)) / trials

    def power(n: int, steps: list[int]) -> float:
        found = 0
        for _ in range(trials):
            logs = rng.normal(0, 0.02, n)
            for step, sign in zip(steps, (1, -1), strict=False):
                logs[step:] += sign * math.log(1.05)
            at = indices(np.exp(logs))
            found += all(any(abs(index - step) <= 2 for index in at) for step in steps)
        return found / trials

    for n in (10, 30):
        for kind in ("normal", "log-normal", "outliers"):
            assert alarms(n, kind) <= 0.025  # 1 %, within 3 standard errors
    assert 0.04 <= alarms(30, "autocorrelated") <= 0.12
    for n, steps, share in ((20, [10], 0.79), (40, [20], 0.98), (40, [35], 0.64), (40, [15, 23], 0.92)):
        assert power(n, steps) == pytest.approx(share, abs=0.1)

"""``bench.stopping``: when warm-up and sampling end, measured on simulated series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stopping import WARMUP_RULES, count, launches_per_sample, mser, next_look, sampled_enough
from bench.types import Policy

LAUNCH_NS, NOISE = 1_000_000, 0.01
LONGEST = 200
TRIALS = 150

Series = Callable[[np.random.Generator], np.ndarray]


def steady_after(shape: Series, seed: int = 0) -> list[int]:
    """How many samples the rule asks for, trial by trial; ``LONGEST + 1`` where it is never content."""
    rng, needed = np.random.default_rng(seed), []
    for _ in range(TRIALS):
        warmup_ns = (LAUNCH_NS * (1 + NOISE * shape(rng))).astype(int).tolist()
        look = 5
        while look <= LONGEST and not mser(warmup_ns[:look]):
            look = next_look(look, 200)
        needed.append(min(look, LONGEST + 1))
    return sorted(needed)


def independent(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(LONGEST)


def autocorrelated(rng: np.random.Generator) -> np.ndarray:
    series = rng.standard_normal(LONGEST)
    for i in range(1, LONGEST):
        series[i] = 0.6 * series[i - 1] + 0.8 * series[i]
    return series


def ramp(slope: float) -> Series:
    """``slope``: noise standard deviations a sample."""
    return lambda rng: rng.standard_normal(LONGEST) + slope * np.arange(LONGEST)


def step(length: int, height: float) -> Series:
    return lambda rng: rng.standard_normal(LONGEST) + height * (np.arange(LONGEST) < length)


@pytest.mark.parametrize("shape", [independent, autocorrelated])
def test_mser_accepts_a_steady_series_soon(shape: Series) -> None:
    needed = steady_after(shape)
    assert needed[len(needed) // 2] <= 18
    assert needed[-1] <= LONGEST
    assert sum(n <= 33 for n in needed) > 0.85 * TRIALS


@pytest.mark.parametrize("slope", [0.5, -0.5, 1.0, -1.0])
def test_mser_seldom_accepts_a_ramp(slope: float) -> None:
    assert sum(n <= LONGEST for n in steady_after(ramp(slope))) < 0.1 * TRIALS


@pytest.mark.parametrize("length", [1, 3, 5])
def test_mser_accepts_after_a_short_step(length: int) -> None:
    needed = steady_after(step(length, 20.0))
    assert needed[len(needed) // 2] <= 18
    assert needed[-1] <= LONGEST


def test_mser_waits_until_a_step_is_in_the_first_half() -> None:
    assert steady_after(step(10, 20.0))[0] > 18


@pytest.mark.parametrize("value", [1, 10**9])
def test_mser_accepts_a_constant_series_but_not_a_handful(value: int) -> None:
    assert mser([value] * 15)
    assert not mser([value] * 14)


def test_mser_refuses_a_noiseless_ramp() -> None:
    assert not mser([LAUNCH_NS + 50 * i for i in range(100)])


def test_count_is_content_at_once() -> None:
    assert count([1])
    assert {"mser": mser, "count": count} == WARMUP_RULES


@given(st.integers(1, 10**4))
def test_next_look_is_a_quarter_later(samples: int) -> None:
    assert samples < next_look(samples, 10_000) <= samples + max(1, samples // 4)
    assert next_look(samples, 8) <= samples + 2


@pytest.mark.parametrize(
    ("samples", "spent_s", "enough"),
    [(9, 10.0, False), (10, 0.9, False), (10, 1.0, True), (99, 0.0, False), (100, 0.0, True), (101, 0.0, True)],
)
def test_sampled_enough_is_count_or_time(samples: int, spent_s: float, enough: bool) -> None:
    policy = Policy(min_samples=10, max_samples=100, max_s=1.0)
    assert sampled_enough(policy, samples, round(spent_s * 1e9)) is enough


@pytest.mark.parametrize(
    ("launch_ns", "min_sample_ns", "launches"),
    [(5, 0, 1), (10, 10, 1), (11, 10, 1), (10, 11, 2), (3, 10, 4), (3.4, 10, 4), (0, 10, 10), (1e6, 1_000_000, 1)],
)
def test_launches_per_sample(launch_ns: float, min_sample_ns: int, launches: int) -> None:
    assert launches_per_sample(launch_ns, min_sample_ns) == launches


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_launches_fill_the_shortest_sample_and_no_more(launch_ns: int, min_sample_ns: int) -> None:
    launches = launches_per_sample(launch_ns, min_sample_ns)
    assert launches * launch_ns >= min_sample_ns
    assert launches == 1 or (launches - 1) * launch_ns < min_sample_ns

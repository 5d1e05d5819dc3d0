"""When there are enough samples: the end of warm-up, the end of sampling, the launches in a sample.

Each rule is a pure function of what was seen so far, so that a policy can name it and a test can script it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.stats import mann_kendall_z, mser_truncation
from bench.types import Policy

# Below this, a truncation point in the first half and a missing trend say next to nothing.
_FEWEST_SAMPLES = 15
# Two-sided 20 %: a steady case that fails is only asked again, a ramp that passes is measured while it moves.
_TREND_Z = 1.28


def mser(warmup_ns: Sequence[int]) -> bool:
    """Steady once the MSER truncation point lies in the first half of what was seen, and the rest shows no trend.

    MSER alone takes a ramp for steady until it has climbed by some seven standard deviations; the
    Mann-Kendall test on what MSER keeps sees it earlier.
    """
    if len(warmup_ns) < _FEWEST_SAMPLES:
        return False
    truncation = mser_truncation(warmup_ns)
    return truncation <= len(warmup_ns) // 2 and abs(mann_kendall_z(warmup_ns[truncation:])) < _TREND_Z


def count(warmup_ns: Sequence[int]) -> bool:
    """Steady by decree: the policy's minimum is all the warm-up there is."""
    return True


WARMUP_RULES: dict[str, Callable[[Sequence[int]], bool]] = {"mser": mser, "count": count}


def next_look(samples: int, window: int) -> int:
    """The number of samples at which to ask the warm-up rule again: a quarter more, or a quarter of its window.

    Asking after every sample would find a steady state by chance sooner or later, and cost time between launches.
    """
    return samples + max(1, min(samples, window) // 4)


def sampled_enough(policy: Policy, samples: int, spent_ns: int) -> bool:
    """Count or time; nothing that looks at the values."""
    if samples >= policy.max_samples:
        return True
    return samples >= policy.min_samples and spent_ns >= policy.max_s * 1e9


def launches_per_sample(launch_ns: float, min_sample_ns: int) -> int:
    """How many launches make a sample long enough for the device's timer."""
    if min_sample_ns <= launch_ns:
        return 1
    return -(-min_sample_ns // max(1, round(launch_ns)))

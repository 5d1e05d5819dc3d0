"""The timing loop: the only place that times a kernel.

Warm up until the policy's rule sees a steady state; then reset, start, launch, stop, until the policy has enough.
Nothing between ``start`` and ``stop`` belongs to the harness but the call of the launch itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import stats
from bench.device.base import Device
from bench.kernel import Case
from bench.stopping import WARMUP_RULES, launches_per_sample, next_look, sampled_enough
from bench.types import Duet, Mark, Measurement, Policy, SampleFlag

_SIZING_ROUNDS = 4


def measure(case: Case, device: Device, policy: Policy, deadline_ns: int | None = None) -> Measurement:
    """Time a case.

    Args:
        deadline_ns: where the run's budget ends, on ``device.now_ns()``'s clock. One sample is taken in any case.

    Returns:
        Samples in the order they were taken, in ns per launch.
    """
    with _no_garbage_collection():
        launches = _launches_per_sample(case, device, device.min_sample_ns)
        take = functools.partial(_take_sample, case, device, device.repeat(case.launch, launches), launches)
        warmup_ns, steady = _warm_up(take, device, policy, deadline_ns)
        timed_from_ns = time.monotonic_ns()
        sampled = _sample(take, device, policy, deadline_ns)
        timed_until_ns = time.monotonic_ns()
    limit = stats.far_out_limit(sampled.elapsed_ns)
    return Measurement(
        elapsed_ns=tuple(sampled.elapsed_ns),
        warmup_ns=tuple(warmup_ns),
        sample_flags=tuple(int(SampleFlag.OUTLIER if ns > limit else SampleFlag.NONE) for ns in sampled.elapsed_ns),
        marks=tuple(sampled.marks),
        launches_per_sample=launches,
        steady=steady,
        cut_short=sampled.cut_short,
        timed_from_ns=timed_from_ns,
        timed_until_ns=timed_until_ns,
    )


@dataclass(frozen=True)
class Bursts:
    """A case that is warmed up, to be sampled a burst at a time: so many samples of so many launches."""

    case: Case
    device: Device
    samples: int
    launches_per_sample: int
    warmup_ns: tuple[int, ...] = ()

    @functools.cached_property
    def _take(self) -> Callable[[], int]:
        block = self.device.repeat(self.case.launch, self.launches_per_sample)
        return functools.partial(_take_sample, self.case, self.device, block, self.launches_per_sample)

    def warm_up(self, duet: Duet) -> Bursts:
        """The same after its warm-up, with as many samples as fill a burst's time."""
        with _no_garbage_collection():
            warmup_ns, _ = _warm_up(self._take, self.device, duet.warmup, None)
        usual_ns = stats.quantile(warmup_ns[len(warmup_ns) // 2 :], 0.5) * self.launches_per_sample
        samples = min(max(1, round(duet.burst_s * 1e9 / max(usual_ns, 1))), duet.burst_max_samples)
        return dataclasses.replace(self, samples=samples, warmup_ns=tuple(warmup_ns))

    def burst(self) -> list[int]:
        """The samples of one burst, in ns per launch."""
        with _no_garbage_collection():
            return [self._take() for _ in range(self.samples)]


def bursts(case: Case, device: Device, duet: Duet) -> Bursts:
    """A case with as many launches in a sample as the device's timer needs, and as leave a burst no more than the most
    samples."""
    min_sample_ns = max(device.min_sample_ns, round(duet.burst_s * 1e9 / duet.burst_max_samples))
    with _no_garbage_collection():
        return Bursts(case, device, 1, _launches_per_sample(case, device, min_sample_ns))


@dataclass
class _Sampled:
    elapsed_ns: list[int]
    marks: list[Mark]
    cut_short: bool = False


def _launches_per_sample(case: Case, device: Device, min_sample_ns: int) -> int:
    """How many launches fill a sample, from a few single ones: the first of all is slow."""
    if case.resets or not min_sample_ns:
        return 1
    launches = 1
    for _ in range(_SIZING_ROUNDS):  # a single launch is timed with the gap before it, so the first guess is too low
        take = functools.partial(_take_sample, case, device, device.repeat(case.launch, launches), launches)
        enough = launches_per_sample(min(take() for _ in range(3)), min_sample_ns)
        if enough <= launches:
            break
        launches = enough
    return launches


def _warm_up(
    take: Callable[[], int], device: Device, policy: Policy, deadline_ns: int | None
) -> tuple[list[int], bool]:
    """Samples until they are steady. Returns their times and whether a steady state was seen."""
    is_steady = WARMUP_RULES[policy.warmup_rule]
    began_ns = device.now_ns()
    least_ns, end_ns = (began_ns + round(s * 1e9) for s in (policy.warmup_min_s, policy.warmup_max_s))
    if deadline_ns is not None:
        end_ns = min(end_ns, deadline_ns)
    warmup_ns: list[int] = []
    look_at, most = policy.warmup_min_samples, policy.warmup_max_samples
    while True:
        warmup_ns.append(take())
        now_ns = device.now_ns()
        if now_ns < least_ns:
            most = len(warmup_ns) + policy.warmup_max_samples
        elif len(warmup_ns) >= look_at:
            if is_steady(warmup_ns[-policy.warmup_max_samples :]):
                return warmup_ns, True
            look_at = next_look(len(warmup_ns), policy.warmup_max_samples)
        if len(warmup_ns) >= most or now_ns >= end_ns:
            return warmup_ns, False


def _sample(take: Callable[[], int], device: Device, policy: Policy, deadline_ns: int | None) -> _Sampled:
    sampled = _Sampled([], [])
    elapsed_ns, marks = sampled.elapsed_ns, sampled.marks
    device.take_marks()  # those of the warm-up
    began_ns = device.now_ns()
    while True:
        elapsed_ns.append(take())
        marks.extend(device.take_marks())
        now_ns = device.now_ns()
        if sampled_enough(policy, len(elapsed_ns), now_ns - began_ns):
            return sampled
        if deadline_ns is not None and now_ns >= deadline_ns:
            sampled.cut_short = True
            return sampled


def _take_sample(case: Case, device: Device, block: Callable[[], None], launches: int) -> int:
    """The time of one sample, per launch."""
    if case.resets:
        case.reset()
    device.start()
    block()
    sample_ns = device.stop()
    return sample_ns if launches == 1 else round(sample_ns / launches)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Python's collector would run inside some samples and not in others."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

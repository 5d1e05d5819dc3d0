"""The best of a kernel's candidates: a coarse first choice, then the neighbours of the best, inside a time budget.

The winner of a search is flattered by its own luck, so the figure found here is never the
result: the run measures the winner again in a fresh process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.device.base import Device
from bench.errors import Unsupported, is_device_lost
from bench.kernel import Case
from bench.measure import measure
from bench.registry import Workload
from bench.spec import SEED, workload_name
from bench.stats import quantile
from bench.types import Policy
from bench.units import show_bytes

# Few samples: the search has to rank, the run will measure.
POLICY = Policy(
    warmup_rule="count",
    warmup_min_samples=2,
    warmup_max_samples=2,
    warmup_min_s=0.0,
    min_samples=3,
    max_samples=20,
    max_s=0.05,
)
# Of a candidate that takes longer than those samples together: its launches even themselves out.
_LONG = dataclasses.replace(POLICY, warmup_min_samples=1, warmup_max_samples=1, min_samples=1, max_samples=1)

_EXPLORING = 0.5  # of the budget; the rest is for the best of what was found
_SHARE = 1 / 6  # of the budget, that one candidate may take
_FINALISTS, _TURNS = 6, 10


@dataclass(frozen=True)
class Winner:
    """The workloads of the best two candidates, the best one's rate, and how many were tried, in how much time."""

    candidate: str
    runner_up: str | None
    rate: float
    tried: int
    spent_s: float
    budget_s: float


def search(workload: Workload, device: Device, budget_s: float) -> Winner:
    """Try candidates until the budget is spent or no neighbour is better, then let the best meet once more.

    A candidate is passed over when its work, at the best rate so far, would take more than a share of the budget.

    Raises:
        Unsupported: no candidate ran; with the words of the last one.
    """
    trial = _Trial(workload.kernel, device, budget_s)
    trial.visit(workload.kernel.candidates(workload.params))
    while trial.rates and trial.visit(workload.kernel.neighbours(trial.best)):
        pass
    if not trial.rates:
        raise trial.error or Unsupported(f"{workload.name}: no candidate fits into {budget_s} s")
    best, second = trial.meet_again()
    name = workload_name(workload.kernel.name, best)
    runner_up = None if second is None else workload_name(workload.kernel.name, second)
    return Winner(name, runner_up, trial.rate_of(best), len(trial.rates), trial.spent_s, budget_s)


class _Trial:
    def __init__(self, kernel: Any, device: Device, budget_s: float) -> None:
        self.kernel = kernel
        self.device = device
        self.began_ns = device.now_ns()
        self.budget_s = budget_s
        self.seen: set[Any] = set()
        self.rates: dict[Any, list[float]] = {}
        self.error: Exception | None = None

    @property
    def spent_s(self) -> float:
        return (self.device.now_ns() - self.began_ns) * 1e-9

    @property
    def best(self) -> Any:
        return max(self.rates, key=self.rate_of)

    def rate_of(self, params: Any) -> float:
        """The median of a candidate's visits, without the first once there are others: by its luck it was chosen."""
        rates = self.rates[params]
        return statistics.median(rates[1:] or rates)

    def visit(self, candidates: Iterable[Any]) -> bool:
        """Try those not seen yet; True if one of them is the new best."""
        before = self.best if self.rates else None
        for params in candidates:
            if params not in self.seen and self.spent_s < _EXPLORING * self.budget_s:
                self.seen.add(params)
                self.attempt(params)
        return bool(self.rates) and self.best != before

    def meet_again(self) -> tuple[Any, Any]:
        """The best few, prepared side by side and measured in turns; after every other turn half leave.

        Returns the best, and the second of those that met; None where no other did.
        """
        left = sorted(self.rates, key=self.rate_of, reverse=True)[:_FINALISTS]
        with contextlib.ExitStack() as stack:
            cases: dict[Any, Case] = {}
            for params in left:
                with self._passing_over():
                    cases[params] = stack.enter_context(self._prepared(params))
            for turn in range(_TURNS):
                for params in [one for one in left if one in cases]:
                    if self.spent_s < self.budget_s:
                        with self._passing_over():
                            self.rates[params].append(self._rate(params, cases[params]))
                if turn % 2:
                    left = sorted(left, key=self._standing, reverse=True)[: max(2, (len(left) + 1) // 2)]
        best, *others = sorted(left, key=self._standing, reverse=True)
        return best, next((one for one in others if len(self.rates[one]) > 1), None)

    def _standing(self, params: Any) -> tuple[bool, float]:
        """Who met the others stands before who was seen once."""
        return len(self.rates[params]) > 1, self.rate_of(params)

    def launch_s(self, params: Any) -> float:
        """What a launch will take at the best rate so far; 0 where that cannot be known."""
        work = self.kernel.work(params)
        return 0.0 if work is None or not self.rates else (work.flops or 0) / self.rate_of(self.best)

    def attempt(self, params: Any) -> None:
        policy = self._policy(params)
        launches = 1 + policy.warmup_max_samples + policy.min_samples  # one is the kernel's own, in prepare
        if launches * self.launch_s(params) > _SHARE * self.budget_s:
            return
        with self._passing_over(), self._prepared(params) as case:
            self.rates[params] = [self._rate(params, case)]

    @contextlib.contextmanager
    def _passing_over(self) -> Iterator[None]:
        """A candidate that does not run is passed over, and its words are kept."""
        try:
            yield
        except (Unsupported, RuntimeError, NotImplementedError, ImportError, MemoryError) as error:
            if is_device_lost(error):
                raise
            self.error = error

    def _prepared(self, params: Any) -> contextlib.closing[Case]:
        free_bytes, needed = self.device.free_bytes(), self.kernel.memory_bytes(params)
        if free_bytes is not None and needed > free_bytes:
            raise Unsupported(f"needs {show_bytes(needed)}, {show_bytes(free_bytes)} are free")
        return contextlib.closing(self.kernel.prepare(params, self.device, SEED))

    def _policy(self, params: Any) -> Policy:
        return _LONG if self.launch_s(params) > POLICY.max_s else POLICY

    def _rate(self, params: Any, case: Case) -> float:
        # The lower quartile: a candidate is not to lose by a disturbance.
        elapsed_ns = quantile(measure(case, self.device, self._policy(params)).elapsed_ns, 0.25)
        return case.work.rate(elapsed_ns) or 0.0

"""``Judgement``: what a gate or an A/B test says of one workload, with the evidence; and the exit code of several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench import errors
from bench.stats import Interval

Verdict = Literal["REGRESSED", "IMPROVED", "PASS", "INCONCLUSIVE", "INCOMPARABLE", "ERROR"]

_CODES: dict[Verdict, int] = {
    "REGRESSED": errors.REGRESSED,
    "IMPROVED": errors.OK,
    "PASS": errors.OK,
    "INCONCLUSIVE": errors.INCONCLUSIVE,
    "INCOMPARABLE": errors.INCONCLUSIVE,
    "ERROR": errors.FAILED,
}


@dataclass(frozen=True)
class Judgement:
    """One workload on one device.

    ``ratio`` and ``interval`` are of badness, above 1 is worse: 1.03 means 3 % slower. ``n`` is the independent
    observations behind them: sessions, or the processes of the smaller side.
    """

    workload: str
    device: str  # "cpu", "cuda:0"
    verdict: Verdict
    reason: str = ""  # why it is not a clear answer, or what makes it one
    ratio: float | None = None
    interval: Interval | None = None
    n: int = 0
    tolerance: float = 0.0
    p: float | None = None  # of no change beyond the tolerance, adjusted for the number of workloads
    detectable: float | None = None  # the smallest ratio that these ``n`` would have found 80 % of the time
    log_sd: float | None = None  # of one observation's log-ratio
    is_missing: bool = False  # on one side there is nothing to judge: reported, and never a pass


def exit_code(judgements: Iterable[Judgement]) -> int:
    """What several judgements mean for the caller of vnbench."""
    return errors.worst(_CODES[one.verdict] for one in judgements)

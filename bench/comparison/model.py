"""``Comparison``: what several sides delivered, each beside the one chosen as reference.

A side is any set of results: a run, a node, all nodes of a label. Only equal work is compared (``spec_id``) under equal
rules (``policy_id``); the environments may differ, and their differences are part of the answer. The figures are made
by ``bench/comparison/compare.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench import errors
from bench.stats import Interval, RatioTest

Verdict = Literal[
    "reference",  # the side that the others are compared with
    "better",  # the whole interval of the ratio is beyond the tolerance, also after Holm's correction
    "worse",
    "undecided",  # the interval is not on one side, or there is none: `note` says why
    "incomparable",  # unequal specs or policies: refused
    "failed",  # a measurement of this side failed or was wrong
    "unsupported",  # this side, or the reference, cannot do the work
    "missing",  # this side, or the reference, has no measurement of it
]

_CODES: dict[Verdict, int] = {
    "failed": errors.FAILED,
    "incomparable": errors.INCONCLUSIVE,
    "missing": errors.INCONCLUSIVE,
}


@dataclass(frozen=True)
class Side:
    """One of the things compared: some runs on some nodes."""

    name: str  # unique in its comparison, short enough for a table's heading
    text: str  # the argument that it came from
    nodes: tuple[str, ...]
    devices: tuple[str, ...]  # names of device models, "unknown model" where a row has none
    labels: tuple[str, ...]
    suites: tuple[str, ...]
    runs: int
    rows: int  # measurements, of any outcome


@dataclass(frozen=True)
class Cell:
    """One workload on one kind of device, on one side.

    ``ratio`` is to the reference and always reads "above 1 is better": side / reference where a higher value is better,
    reference / side where a lower one is. It is None on the reference itself and wherever there is no answer.
    """

    workload: str
    device: str  # the kind: "cpu", "cuda", "fake"
    side: str  # `Side.name`
    verdict: Verdict
    note: str  # why the verdict is not a plain one; "" where it is
    value: float | None  # geometric mean of the nodes' geometric means, in base units; of rows that are ok
    interval: Interval | None
    unit: str | None
    better: str | None  # "higher" or "lower"; None where nobody knows which way is good
    nodes: int  # with a value
    replicates: int  # with a value, all nodes together
    level: Literal["node", "replicate"] | None  # what the ratio's interval speaks of (`stats.TwoLevelRatio`)
    ratio: RatioTest | None
    # two-sided, of no difference beyond the tolerance; Holm-adjusted over the side's workloads, apart over its roofs
    p: float | None
    is_open: bool  # specs or policies differ, and --open compared all the same
    fraction_of_roof: float | None  # mean of the measurements
    flops: int | None  # of one launch, as the next three
    bytes_moved: int | None
    items: int | None
    item_unit: str | None
    power_w: float | None  # mean of the rows that know it, of all devices that a launch takes
    statuses: tuple[tuple[str, int], ...]  # outcomes and how many rows had each, most first
    validity: tuple[tuple[str, int], ...]  # flags and how many rows had each
    ratio_of_values: float | None = None  # as `ratio`; known also where there are too few replicates for an interval

    @property
    def energy_j_per_work(self) -> float | None:
        """Power over rate: J per FLOP, byte, token, …, whatever ``unit`` counts per second; else None."""
        if self.power_w is None or not self.value or not (self.unit or "").endswith("/s"):
            return None
        return self.power_w / self.value

    @property
    def is_simulated(self) -> bool:
        return any(flag == "simulated" for flag, _ in self.validity)


@dataclass(frozen=True)
class SuiteRatio:
    """All workloads of a side that have a ratio, together: never a mean of values, whose units differ.

    Roofs are not counted.
    """

    side: str
    ratio: RatioTest | None  # geometric mean of the ratios; above 1 is better
    level: Literal["node", "replicate"] | None
    workloads: int  # behind the ratio
    worst: str | None  # the workload with the lowest ratio
    worst_ratio: float | None
    better: int
    worse: int
    undecided: int
    other: int  # incomparable, failed, unsupported, missing, or without a ratio
    note: str  # why there is no ratio or no interval; "" where there is
    ratio_of_values: float | None = None  # known also where there are too few replicates for an interval


@dataclass(frozen=True)
class Refusal:
    """Work that is not alike, and so is not compared (or, with --open, only marked)."""

    workload: str
    side: str
    key: str  # spec_id or policy_id
    found: str  # on the side, "a and b" where it is not even alike in itself
    reference: str

    def __str__(self) -> str:
        return f"{self.workload}: {self.key} of {self.side} is {self.found}, of the reference {self.reference}"


@dataclass(frozen=True)
class EnvironmentDifference:
    """One key of the environment whose values are not the same on all sides."""

    kind: str  # hardware, software, settings or details
    key: str
    values: tuple[tuple[str, ...], ...]  # by side, in the order of `Comparison.sides`: distinct values as JSON


@dataclass(frozen=True)
class Comparison:
    """The whole answer. ``cells`` go workload by workload, and within one side by side; roofs come last."""

    sides: tuple[Side, ...]
    reference: str  # the name of a side
    tolerance: float
    confidence: float
    cells: Sequence[Cell]  # made when asked for: there may be millions
    suite_ratios: tuple[SuiteRatio, ...]  # one per side but the reference
    differences: tuple[EnvironmentDifference, ...]
    refusals: tuple[Refusal, ...]
    is_open: bool
    notes: tuple[str, ...]  # what the reader has to know of all of it, such as rows left out
    outcomes: frozenset[Verdict]  # all verdicts that occur
    is_simulated: bool = False  # some figure comes from a script and measures nothing
    warnings: tuple[str, ...] = ()  # what the reader has to know before any figure

    @property
    def exit_code(self) -> int:
        return errors.worst(_CODES.get(verdict, errors.OK) for verdict in self.outcomes)

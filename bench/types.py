"""The frozen data classes that the parts of vnbench hand to each other, and what derives from their fields.

Times are integer nanoseconds, rates are in base units (FLOP/s, B/s, token/s), sizes in bytes.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.spec import content_id

Better = Literal["higher", "lower"]
Status = Literal["ok", "failed", "wrong", "unsupported", "timeout", "crashed", "oom", "interrupted"]

# The reason of a row whose workload was not begun in the time that its run was given: nothing failed.
BUDGET_SPENT = "the budget was spent before this workload began"

# A row with one of these is an outcome that the user has to look at (exit code 3).
FAILURES: frozenset[Status] = frozenset({"failed", "wrong", "timeout", "crashed", "oom"})


class SampleFlag(enum.IntFlag):
    """What is known against a sample. Flagged samples are kept."""

    NONE = 0
    OUTLIER = 1  # above the third quartile by more than three interquartile ranges (Tukey's "far out")


# ---------------------------------------------------------------- what a kernel says of its work


@dataclass(frozen=True)
class Work:
    """What one launch does, worked out from the shapes, and which part of it makes the headline.

    ``unit`` is the headline's: ``FLOP/s`` and ``OP/s`` divide ``flops`` by the time, ``B/s`` divides
    ``bytes_moved``, any other divides ``items``.
    """

    unit: str
    flops: int | None = None
    bytes_moved: int | None = None
    items: int | None = None
    item_unit: str | None = None

    def rate(self, elapsed_ns: float, unit: str | None = None) -> float | None:
        """Work per second under ``unit`` (default: the headline's); None where that part is unknown."""
        unit = unit or self.unit
        amount = {"FLOP/s": self.flops, "OP/s": self.flops, "B/s": self.bytes_moved}.get(unit, self.items)
        return None if amount is None or elapsed_ns <= 0 else amount / (elapsed_ns * 1e-9)


@dataclass(frozen=True)
class Output:
    """What a checked launch computed, bit by bit, row after row."""

    dtype: str  # as torch names it
    shape: tuple[int, ...]
    data: memoryview  # on a CPU the output itself, which the next launch overwrites
    sha256: str  # of the data as they were when this was made


@dataclass(frozen=True)
class Check:
    """The result of holding an output against a higher-precision reference."""

    error: float
    tolerance: float
    output: Output | None = None  # where sound hardware gives the same bits each time
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # False for NaN

    @property
    def output_sha256(self) -> str | None:
        return None if self.output is None else self.output.sha256


@dataclass(frozen=True)
class Metric:
    """A further figure beside the headline; ``better`` is None where it only describes."""

    name: str
    value: float
    unit: str
    better: Better | None = None


@dataclass(frozen=True)
class Mark:
    """A named moment inside a sample, counted from the sample's start."""

    name: str
    ns: int


# ---------------------------------------------------------------- how it is measured


@dataclass(frozen=True)
class Policy:
    """Warm-up and sampling rules. All of them are hashed into ``policy_id``; nothing else is.

    Warm-up takes ``warmup_min_s`` at least, for clocks to rise, then goes on until ``warmup_rule`` sees a steady state
    in the last ``warmup_max_samples``, or so many more were taken, or ``warmup_max_s`` are over. Sampling ends with
    ``max_samples``, or after ``max_s`` once there are ``min_samples``: on count and time, never on an interval of its
    own samples.
    """

    warmup_rule: str = "mser"
    warmup_min_samples: int = 15
    warmup_max_samples: int = 200
    warmup_min_s: float = 0.1
    warmup_max_s: float = 8.0
    min_samples: int = 5
    max_samples: int = 1000
    max_s: float = 1.0

    @property
    def policy_id(self) -> str:
        return content_id(dataclasses.asdict(self))


@dataclass(frozen=True)
class Measurement:
    """The samples of one case in one process, in the order they were taken; ns are per launch."""

    elapsed_ns: tuple[int, ...]
    warmup_ns: tuple[int, ...]
    sample_flags: tuple[int, ...]
    marks: tuple[Mark, ...]  # sample after sample; each sample's marks count from its own start
    launches_per_sample: int
    steady: bool
    cut_short: bool  # the budget ended sampling before the policy's rules did
    # When the samples were taken, on the system-wide monotonic clock: what else was recorded then is joined by it.
    timed_from_ns: int = 0
    timed_until_ns: int = 0

    @property
    def marks_per_sample(self) -> int:
        return len(self.marks) // len(self.elapsed_ns) if self.elapsed_ns else 0


# ---------------------------------------------------------------- where it is measured

DeviceKind = Literal["cpu", "cuda", "fake"]


@dataclass(frozen=True)
class DeviceInfo:
    """One device of this node, as the run knows it before any process opens it."""

    kind: DeviceKind
    index: int
    name: str | None
    uuid: str | None = None
    memory_bytes: int | None = None
    reason: str = ""  # why this device was chosen
    scenario: str = ""  # the script of a fake device

    @property
    def label(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


# ---------------------------------------------------------------- what a run is to do


def _known(data_class: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in dataclasses.fields(data_class) if field.name in values}


@dataclass(frozen=True)
class Arm:
    """One side of an A/B test: what its processes run in. What is None or empty is as in the process that asks."""

    name: str  # "A" or "B"
    python: str | None = None  # the interpreter
    variables: Mapping[str, str] = field(default_factory=dict)
    workload: str | None = None  # in the place of the one that is asked for
    revision: str | None = None  # the git commit, where the arm is one
    tree: str | None = None  # the folder of that commit's files

    @property
    def words(self) -> str:
        """How people tell this arm from the other."""
        parts = [f"rev={self.revision[:12]}"] if self.revision else []
        if self.python and not self.revision:
            parts.append(f"python={self.python}")
        parts += [f"{key}={value}" for key, value in self.variables.items()]
        return " ".join([*parts, *([f"workload={self.workload}"] if self.workload else [])]) or "as it is"


@dataclass(frozen=True)
class Trial:
    """When an A/B test looks at its sessions, how often it may err, and what it calls a change."""

    looks: tuple[int, ...] = (5, 8, 12, 16, 20)
    alpha: float = 0.05  # both sides and all workloads together
    tolerance: float = 0.01


@dataclass(frozen=True)
class Duet:
    """How a session is taken: both arms are warmed up, then take turns in pairs of bursts, in an order drawn by lot."""

    pairs: int = 10
    burst_s: float = 0.02
    burst_max_samples: int = 50
    warmup_min_s: float = 0.05
    warmup_min_samples: int = 3

    @property
    def warmup(self) -> Policy:
        """A session takes no part in finding a steady state: what drifts, drifts for both arms."""
        return Policy("count", self.warmup_min_samples, warmup_min_s=self.warmup_min_s, warmup_max_s=60.0)

    @property
    def policy_id(self) -> str:
        return content_id({"duet": dataclasses.asdict(self)})


# In the place of an arm, for the rows of a soak: they are no replicates, either.
SOAK_ARM = "soak"

LONGEST_SOAK_HOURS = 168.0  # a week: the longest burn-in that docs/soak.md has a source for; more fills the memory

_STRETCH_S, _LONGEST_STRETCH_S = 60.0, 600.0
_FEWEST_STRETCHES, _MANY_STRETCHES = 4, 240
_READINGS = 20_000  # of each device: what a soak of a day leaves is to be read in seconds


@dataclass(frozen=True)
class Soak:
    """A sustained load on all devices of a run together, before all else: stretches of one workload, each a row."""

    workload: str
    stretches: int
    stretch_s: float
    telemetry_hz: float  # readings of the devices' state per second meanwhile
    cool_down_s: float = 300.0  # what may pass at most until the measuring begins

    @classmethod
    def lasting(cls, workload: str, seconds: float, cool_down_s: float = 300.0) -> Soak:
        """Stretches of a minute; shorter ones in a soak of less than four, longer ones in one of more than four hours.

        A stretch is what a crash may cost, so none is longer than ten minutes.
        """
        stretch_s = min(_STRETCH_S, seconds / _FEWEST_STRETCHES)
        if seconds / stretch_s > _MANY_STRETCHES:
            stretch_s = min(_LONGEST_STRETCH_S, float(math.ceil(seconds / _MANY_STRETCHES)))
        hz = min(10.0, max(0.1, _READINGS / seconds))
        return cls(workload, math.ceil(round(seconds / stretch_s, 6)), stretch_s, hz, cool_down_s)

    @property
    def seconds(self) -> float:
        return self.stretches * self.stretch_s

    @property
    def policy(self) -> Policy:
        """Of a stretch: sampled from its beginning to its end."""
        return Policy("count", 1, warmup_min_s=0.0, min_samples=1, max_samples=10**9, max_s=self.stretch_s)


@dataclass(frozen=True)
class Plan:
    """Everything that a run set out to do. It travels in the result's metadata, so a run can be resumed from it."""

    run_id: str
    node: str
    suite: str
    started_at: str  # ISO 8601, UTC, microseconds
    workloads: Mapping[str, tuple[str, ...]]  # by kind of device
    devices: tuple[DeviceInfo, ...]
    policy: Policy
    replicates: int
    timeout_s: float  # of one workload in one process
    vnbench_version: str
    source_commit: str | None = None
    label: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    telemetry_hz: float = 10.0  # readings of the devices' state per second; 0: none
    anonymous: bool = False  # no host name, serial or UUID in the result
    arms: tuple[Arm, ...] = ()  # of an A/B test, whose sessions are its replicates
    duet: Duet = Duet()
    trial: Trial = Trial()
    soak: Soak | None = None

    @property
    def policy_id(self) -> str:
        return self.duet.policy_id if self.arms else self.policy.policy_id

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """A plan of this or a later version: what is not known here is passed over."""
        values = _known(cls, value)
        values["workloads"] = {kind: tuple(names) for kind, names in values["workloads"].items()}
        values["devices"] = tuple(DeviceInfo(**_known(DeviceInfo, device)) for device in values["devices"])
        values["policy"] = Policy(**_known(Policy, values["policy"]))
        values["arms"] = tuple(Arm(**_known(Arm, arm)) for arm in values.get("arms", ()))
        values["duet"] = Duet(**_known(Duet, values.get("duet", {})))
        values["soak"] = Soak(**_known(Soak, values["soak"])) if values.get("soak") else None
        trial = _known(Trial, values.get("trial", {}))
        values["trial"] = Trial(**trial | {"looks": tuple(trial.get("looks", Trial.looks))})
        return cls(**values)


@dataclass(frozen=True)
class Item:
    """One workload of a pass: the name it is stored under, and the candidate that a search chose to perform it.

    The second best of a search performs it in every other pass. Where the search found none, ``status`` and ``reason``
    say so and nothing is measured.
    """

    workload: str
    candidate: str | None = None
    runner_up: str | None = None
    candidate_metrics: tuple[Metric, ...] = ()
    status: Status | None = None
    reason: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Item:
        return cls(**{**value, "candidate_metrics": tuple(Metric(**m) for m in value["candidate_metrics"])})


@dataclass(frozen=True)
class Job:
    """What one worker process is to do: a list of items on one device, as one replicate."""

    plan: Plan
    device: DeviceInfo
    items: tuple[Item, ...]
    replicate: int
    folder: str  # where rows are written
    scratch: str  # where workloads keep files of their own
    clock_offset_ns: int = 0  # the run's clock less the monotonic one: UTC at the run's start, which no step can move
    task: Literal["measure", "search", "probe", "calibrate", "soak"] = "measure"
    arm: Arm | None = None  # of an A/B session; the replicate is its number
    sequence: int = 0  # of the first item, within the replicate
    world_size: int = 1
    rank: int = 0
    deadline_s: float | None = None  # on the system-wide monotonic clock
    search_budget_s: float = 0.0  # for each item of a search

    @property
    def indices(self) -> tuple[int, ...]:
        """Of the run's devices of this kind: what a launch of several devices may take."""
        return tuple(device.index for device in self.plan.devices if device.kind == self.device.kind)

    @property
    def concurrency_group(self) -> str:
        """Rows that share it were loaded together."""
        stage = f"soak{self.replicate}" if self.task == "soak" else f"{self.replicate}"
        return f"{self.plan.run_id}-{stage}-{self.sequence}-{self.device.kind}"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        values = dict(value)
        values["plan"] = Plan.from_json(values["plan"])
        values["device"] = DeviceInfo(**values["device"])
        values["items"] = tuple(Item.from_json(item) for item in values["items"])
        values["arm"] = Arm(**values["arm"]) if values.get("arm") else None
        return cls(**values)

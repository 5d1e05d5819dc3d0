"""``Criteria``: what an acceptance must meet, as a file states it. Limits are in base units."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.types import DeviceKind

FORMAT = 1  # of a criteria file; raised when a key is given another meaning

Of = Literal["measured roof", "datasheet"]


@dataclass(frozen=True)
class Limit:
    """What a value must be; ``at_least`` and ``at_most`` may stand together, the others stand alone."""

    at_least: float | str | None = None
    at_most: float | str | None = None
    equal: float | str | bool | None = None
    one_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()

    @property
    def stated(self) -> dict[str, Any]:
        """What it demands, by the keys of a criteria file."""
        values = {name: getattr(self, name) for name in ("at_least", "at_most", "equal")}
        lists = {name: list(getattr(self, name)) for name in ("one_of", "none_of") if getattr(self, name)}
        return {name: value for name, value in values.items() if value is not None} | lists

    def holds(self, value: Any) -> bool:
        """Whether a known value meets it. Of versions, as many parts are compared as the limit has.

        Raises:
            ValueError: the value is no version, and the limit is one.
        """
        if isinstance(self.at_least, str) and _version(value, self.at_least) < _parts(self.at_least):
            return False
        if isinstance(self.at_most, str) and _version(value, self.at_most) > _parts(self.at_most):
            return False
        if isinstance(self.at_least, int | float) and not value >= self.at_least:
            return False
        if isinstance(self.at_most, int | float) and not value <= self.at_most:
            return False
        if self.none_of:
            return not set(value) & set(self.none_of)
        return (self.equal is None or value == self.equal) and (not self.one_of or value in self.one_of)


def is_version(text: str) -> bool:
    """Whether it is numbers with dots between them, as the driver's ``580.95.05``."""
    return re.fullmatch(r"\d{1,9}(\.\d{1,9})*", text, re.ASCII) is not None


def _parts(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _version(value: Any, limit: str) -> tuple[int, ...]:
    if not isinstance(value, str) or not is_version(value):
        raise ValueError(f"{value!r} is no version")
    return _parts(value)[: len(_parts(limit))]


@dataclass(frozen=True)
class Criterion:
    """What all kinds have: a name of its own within the file, the limit, and who says so."""

    id: str
    limit: Limit
    source: str
    note: str = ""


@dataclass(frozen=True)
class Inventory(Criterion):
    """What the machine consists of: one of `bench.criteria.facts.FACTS`."""

    what: str = ""


@dataclass(frozen=True)
class Performance(Criterion):
    """A floor or a ceiling under a workload's value, or under one of its metrics.

    With ``of`` the limit is a fraction of the tightest roof that was measured, or of the datasheet's peak.
    """

    workload: str = ""
    metric: str | None = None
    unit: str = "1"  # the base unit of the limit
    of: Of | None = None


@dataclass(frozen=True)
class Uniformity(Criterion):
    """A floor under each device's speed over the median of its node's, replicate by replicate."""

    workload: str = ""


@dataclass(frozen=True)
class State(Criterion):
    """A limit on one of `bench.criteria.facts.STATES`, over all that was measured on a device."""

    column: str = ""


@dataclass(frozen=True)
class Answers(Criterion):
    """No wrong answer in anything that was measured, and these workloads among it."""

    workloads: tuple[str, ...] = ()
    golden: tuple[tuple[str, str], ...] = ()  # SHA-256 of outputs that are known, by `bench.outputs.conditions`


@dataclass(frozen=True)
class Soak(Criterion):
    """So many hours under a sustained load, with right answers all the way; ``limit`` is the hours."""

    workload: str = ""
    cool_down_minutes: float = 5.0  # at most, before anything else is measured


KINDS: dict[str, type[Criterion]] = {
    "inventory": Inventory,
    "performance": Performance,
    "uniformity": Uniformity,
    "state": State,
    "answers": Answers,
    "soak": Soak,
}


def kind_of(criterion: Criterion) -> str:
    """The name of its table in a file: ``performance``."""
    return type(criterion).__name__.lower()


@dataclass(frozen=True)
class Criteria:
    """A criteria file."""

    path: Path
    title: str
    device: DeviceKind  # the kind of device that is judged: "cuda" or "cpu"
    criteria: tuple[Criterion, ...]
    sha256: str  # of the file's bytes
    confidence: float = 0.95  # of each criterion on each device, at all looks together
    looks: tuple[int, ...] = field(default=(5, 8, 12))

    @property
    def soak(self) -> Soak | None:
        """The one there may be."""
        return next((one for one in self.criteria if isinstance(one, Soak)), None)

    @property
    def workloads(self) -> tuple[str, ...]:
        """What has to be measured to judge by it, each once; the roofs that these name are not among them."""
        named = [one.workload for one in self.criteria if isinstance(one, Performance | Uniformity)]
        named += [name for one in self.criteria if isinstance(one, Answers) for name in one.workloads]
        return tuple(dict.fromkeys(named))

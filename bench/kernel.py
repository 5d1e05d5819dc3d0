"""``Kernel`` and ``Case``: what a workload has to offer. One file in ``kernels/`` fulfils both.

Subclass them: what has a default here is optional there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bench.device.base import Device
from bench.types import Check, DeviceKind, Measurement, Metric, Work

P = TypeVar("P")


@dataclass(frozen=True)
class About:
    """A kernel's part of docs/workloads.md, in sentences."""

    stands_for: str  # the work outside of benchmarks that it is a sample of
    parameters: Mapping[str, str]  # each axis and option -> what it means
    work: str  # how FLOPs, bytes and items follow from the parameters, with the source
    check: str  # what the result is held against, and the tolerance with its source
    pitfalls: str  # what makes its figure mislead


class Case(Protocol):
    """A prepared workload on one device."""

    work: Work
    resets: bool = False  # True: ``reset`` is called, untimed, before every launch

    def launch(self) -> None:
        """Enqueue the work once. It may call ``device.mark``; never a clock, a file of results or a log line."""

    def reset(self) -> None:
        """Put back the state that a launch uses up: a flushed cache, an evicted file, a rewound position."""
        return  # mypy takes an empty body for an abstract method

    def check(self) -> Check:
        """Poison the output, launch, and hold the result against a higher-precision reference."""

    def metrics(self, measurement: Measurement) -> list[Metric]:
        """Figures beside the headline, from the samples and their marks."""
        return []

    def close(self) -> None:
        """Give back what ``prepare`` took."""
        return


class Kernel(Protocol[P]):
    """The code that performs a family of workloads. Changing the work means raising ``version``."""

    name: str  # the first elements of its workloads' names: "matmul", "roof/compute"
    version: int
    summary: str  # what it measures, in a line
    about: About | None = None  # every kernel of ours has it
    params_type: type[P]
    catalogue: Sequence[str]  # the workloads that `vnbench list` shows; others may be named all the same
    isolated: bool = False  # True: a process of its own in every pass

    def prepare(self, params: P, device: Device, seed: int) -> Case:
        """Allocate and fill the inputs.

        Raises:
            Unsupported: this device or library cannot do it.
        """

    def roofs(self, params: P, kind: DeviceKind) -> Sequence[str]:
        """The roof workloads that this one is held against on such a device; a run adds them."""
        return ()

    def probe(self, params: P) -> P | None:
        """The same work small enough to try first, so that missing instructions show as an error and not as a hang."""
        return None

    def work(self, params: P) -> Work | None:
        """The work of a launch, where the parameters alone tell: for the catalogue, and for a search, which wants to
        know before it prepares a candidate.
        """
        return None

    def memory_bytes(self, params: P) -> int:
        """Memory that ``prepare`` and ``check`` take on a device at most; 0 where it does not matter."""
        return 0

    def devices(self, params: P) -> int:
        """How many devices of a kind a launch takes. Where several, the first one's worker measures it, alone."""
        return 1

    def candidates(self, params: P) -> Sequence[P]:
        """Where the best of several is to be searched: a coarse first choice, each a workload in its own right."""
        return ()

    def neighbours(self, params: P) -> Sequence[P]:
        """Candidates near this one, for the finer rounds of a search."""
        return ()

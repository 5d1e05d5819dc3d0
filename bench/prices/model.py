"""What work costs in energy and money: the data classes of `bench.prices.assess`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.prices.file import Machine, Prices
from bench.prices.leads import Stretch
from bench.stats import Interval

Machines = Mapping[tuple[str, str], Machine]  # by side and kind of device

# What work is counted in when it is paid for: base unit -> how much, and its name.
_LOTS = {"FLOP": (1e18, "EFLOP"), "OP": (1e18, "EOP"), "B": (1e12, "TB")}


@dataclass(frozen=True)
class Worth:
    """One workload on one side: its work for energy and for money. None is unknown; the notes say why."""

    workload: str
    device: str  # the kind
    side: str
    unit: str  # of the work: "token", "FLOP", "B"
    power_w: float | None  # of device and host
    is_power_assumed: bool  # from the file of prices, for it was not measured
    work_per_j: float | None
    work_per_facility_j: float | None
    cost_per_hour: float | None
    work_per_money: float | None
    interval: Interval | None  # of work_per_money
    money_ratio: float | None  # of work_per_money to the reference's; above 1 is better, as below
    money_interval: Interval | None
    energy_ratio: float | None  # of work_per_j to the reference's
    energy_interval: Interval | None

    @property
    def lot(self) -> str:
        """How much work `cost_per_lot` pays for: "Mtoken" is a million tokens."""
        return _LOTS[self.unit][1] if self.unit in _LOTS else f"M{self.unit}"

    @property
    def cost_per_lot(self) -> float | None:
        size = _LOTS[self.unit][0] if self.unit in _LOTS else 1e6
        return size / self.work_per_money if self.work_per_money else None


@dataclass(frozen=True)
class Sensitivity:
    """Who leads while one assumption varies and the others stay.

    The stretches are in the assumption's own unit where all sides share its value, ``stated``; else they are factors
    that multiply each side's own, and ``stated`` is None.
    """

    assumption: str  # of `price_file.ASSUMPTIONS`
    side: str | None  # whose alone, or None for all sides' at once
    stated: float | None
    stretches: tuple[Stretch, ...]

    @property
    def changes_lead(self) -> bool:
        return len({one.leader for one in self.stretches}) > 1


@dataclass(frozen=True)
class Lead:
    """Who does most of one workload for the money, and for how long that holds."""

    workload: str
    device: str
    leader: str
    is_sure: bool  # the whole interval against each rival says so
    sensitivities: tuple[Sensitivity, ...]


@dataclass(frozen=True)
class Economics:
    """The whole answer under one file of prices."""

    prices: Prices
    machines: Machines
    worths: tuple[Worth, ...]
    leads: tuple[Lead, ...]  # of the workloads that at least two sides have a price for
    notes: tuple[str, ...]

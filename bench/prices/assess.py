"""``Economics``: what a comparison means in energy and money, under the assumptions of a file of prices.

With the price P of all devices that a launch takes, their yearly cost Y, lifetime L in years, utilisation u, power
price T per kWh and PUE, and the mean power W of devices and host while the workload ran, an hour of useful work costs

    (P / L + Y) / (8760 u) + W / 1000 * PUE * T

and a rate v is  3600 v / cost  of work for the money,  v / W  for a joule of the machine and  v / (W PUE)  for a joule
of the facility. What a machine draws while it is idle is not in it: that was not measured. Money and power are taken as
known, so every interval is that of the measured work, times a constant. Roofs are limits and no work, and left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench import registry
from bench.comparison.model import Cell, Comparison
from bench.errors import UsageError
from bench.prices.file import ASSUMPTIONS, Machine, Prices, load
from bench.prices.leads import LeastRatio, Line, Stretch, stretches
from bench.prices.model import Economics, Lead, Machines, Sensitivity, Worth
from bench.stats import Interval

__all__ = ["Economics", "Lead", "Machine", "Prices", "Sensitivity", "Worth", "assess", "foremost", "load"]

HOURS_PER_YEAR = 8760.0
MOST_SIDES = 50  # that are assessed: a lead among more is nobody's question
_VARIED_PRICES = 5  # of how many sides, the nearest to the lead, the price is varied alone


@dataclass(frozen=True)
class _Costs:
    """An hour of useful work, by what it is paid for, in the file's currency."""

    price: float
    yearly: float
    energy: float

    @property
    def total(self) -> float:
        return self.price + self.yearly + self.energy

    def line(self, assumption: str) -> tuple[float, float]:
        """What stays, and what is multiplied by the assumption's factor, or divided by it for those that divide."""
        varied = {
            "price": self.price,
            "lifetime": self.price,
            "utilisation": self.price + self.yearly,
            "power_price": self.energy,
            "pue": self.energy,
        }[assumption]
        return self.total - varied, varied


_DIVIDES = ("lifetime", "utilisation")
# What an assumption is at a machine, and the least and greatest that it can be at all.
_STATED: dict[str, tuple[Callable[[Machine], float], float, float]] = {
    "price": (lambda one: one.price, 0.0, float("inf")),
    "lifetime": (lambda one: one.lifetime_years, 0.0, float("inf")),
    "utilisation": (lambda one: one.utilisation, 0.0, 1.0),
    "power_price": (lambda one: one.power_price_per_kwh, 0.0, float("inf")),
    "pue": (lambda one: one.pue, 1.0, float("inf")),
}


def assess(comparison: Comparison, prices: Prices) -> Economics:
    """The work for energy and money of every workload that is a rate, and who leads while the assumptions vary."""
    chosen = foremost(comparison, MOST_SIDES)
    notes = []
    if len(chosen) < len(comparison.sides):
        notes.append(f"of {len(comparison.sides)} sides, the {len(chosen)} with the best and worst ratios are assessed")
    worths: list[Worth] = []
    leads: list[Lead] = []
    machines: dict[tuple[str, str], Machine] = {}
    by_name = {side.name: side for side in comparison.sides}
    for cells in by_workload(comparison, chosen):
        rates = [one for one in cells if _is_rate(one)]
        for cell in rates:
            side = by_name[cell.side]
            machine = prices.machine(cell.device, side.name, side.nodes, side.devices)
            if machine is not None:
                machines[cell.side, cell.device] = machine
        priced = [(cell, machines.get((cell.side, cell.device))) for cell in rates]
        found = [_worth(cell, machine) for cell, machine in priced]
        base = next((one for one in found if one.side == comparison.reference), None)
        worths += [_beside(one, cell, base) for one, cell in zip(found, rates, strict=True)]
        leads += _lead([cell for cell, machine in priced if machine], machines, prices)
    return Economics(prices, machines, tuple(worths), tuple(leads), (*notes, *_gaps(worths, machines)))


def foremost(comparison: Comparison, most: int) -> list[int]:
    """The places of the sides that tell most: the reference, and as many with the best as with the worst ratios."""
    places = range(len(comparison.sides))
    if len(places) <= most:
        return list(places)
    ratios = {one.side: one.ratio_of_values for one in comparison.suite_ratios if one.ratio_of_values is not None}
    others = [place for place in places if comparison.sides[place].name != comparison.reference]
    ranked = sorted(others, key=lambda place: -ratios.get(comparison.sides[place].name, 0.0))
    known = [place for place in ranked if comparison.sides[place].name in ratios] or ranked
    best = known[: most // 2]
    worst = known[max(len(best), len(known) - (most - 1 - len(best))) :]
    reference = [place for place in places if comparison.sides[place].name == comparison.reference]
    return sorted({*reference, *best, *worst})


def by_workload(comparison: Comparison, places: Sequence[int]) -> Iterator[list[Cell]]:
    """The cells of some sides, a list per workload and kind of device; no other cell is made.

    The comparison's cells go side by side within each workload, so a side's are a stride apart.
    """
    stride = len(comparison.sides)
    for first in range(0, len(comparison.cells), stride):
        yield [comparison.cells[first + place] for place in places]


def _is_rate(cell: Cell) -> bool:
    """Whether it is work by the second, and may stand beside the reference's."""
    is_work = (cell.unit or "").endswith("/s") and cell.better == "higher" and not cell.workload.startswith("roof/")
    return is_work and bool(cell.value) and cell.verdict in ("reference", "better", "worse", "undecided")


def _worth(cell: Cell, machine: Machine | None) -> Worth:
    """A side by itself, not yet beside the reference."""
    power_w = _power_w(cell, machine)
    value = cell.value or 0.0
    costs = machine and _costs(cell, machine)
    cost = costs.total if costs else None
    per_money = 3600 * value / cost if cost else None
    return Worth(
        workload=cell.workload,
        device=cell.device,
        side=cell.side,
        unit=(cell.unit or "").removesuffix("/s"),
        power_w=power_w,
        is_power_assumed=cell.power_w is None and power_w is not None,
        work_per_j=value / power_w if power_w else None,
        work_per_facility_j=value / (power_w * machine.pue) if power_w and machine else None,
        cost_per_hour=cost,
        work_per_money=per_money,
        interval=_times(cell.interval, per_money / value) if per_money else None,
        money_ratio=None,
        money_interval=None,
        energy_ratio=None,
        energy_interval=None,
    )


def _devices(cell: Cell) -> int:
    """That a launch takes together, each of which has a price and a share of the host's power."""
    if cell.device == "cpu":
        return 1  # which its processes share
    try:
        return registry.devices_of(cell.workload)
    except UsageError:  # another program's
        return 1


def _power_w(cell: Cell, machine: Machine | None) -> float | None:
    """Of the devices, measured or else assumed, and of their host, which is never measured."""
    if machine is None:
        return cell.power_w
    devices = _devices(cell)
    assumed_w = None if machine.power_w is None else machine.power_w * devices
    devices_w = assumed_w if cell.power_w is None else cell.power_w
    return None if devices_w is None else devices_w + machine.host_power_w * devices


def _costs(cell: Cell, machine: Machine) -> _Costs | None:
    """None where the power is neither measured nor assumed."""
    power_w = _power_w(cell, machine)
    if power_w is None:
        return None
    useful_hours = HOURS_PER_YEAR * machine.utilisation  # of a year
    return _Costs(
        price=_devices(cell) * machine.price / (machine.lifetime_years * useful_hours),
        yearly=_devices(cell) * machine.yearly_cost / useful_hours,
        energy=power_w / 1000 * machine.pue * machine.power_price_per_kwh,
    )


def _beside(one: Worth, cell: Cell, base: Worth | None) -> Worth:
    """With its ratios to the reference: that of the work, which has the interval, times that of cost or power."""
    if base is None or one.side == base.side or cell.ratio_of_values is None:
        return one
    money = _quotient(base.cost_per_hour, one.cost_per_hour)
    energy = _quotient(base.power_w, one.power_w)
    interval = None if cell.ratio is None else cell.ratio.interval
    return dataclasses.replace(
        one,
        money_ratio=money and money * cell.ratio_of_values,
        money_interval=_times(interval, money),
        energy_ratio=energy and energy * cell.ratio_of_values,
        energy_interval=_times(interval, energy),
    )


def _quotient(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None


def _times(interval: Interval | None, factor: float | None) -> Interval | None:
    if interval is None or factor is None:
        return None
    return dataclasses.replace(interval, low=interval.low * factor, high=interval.high * factor)


def _lead(cells: Sequence[Cell], machines: Machines, prices: Prices) -> list[Lead]:
    """The lead among the sides that have a price and a power; none where there are fewer than two."""
    costs = {cell.side: _costs(cell, machines[cell.side, cell.device]) for cell in cells}
    known = {side: one for side, one in costs.items() if one is not None and one.total > 0}
    rivals = [cell for cell in cells if cell.side in known]
    if len(rivals) < 2:
        return []
    least_ratio = _least_ratios(rivals)
    work = {cell.side: cell.value or 0.0 for cell in rivals}
    ranked = sorted(known, key=lambda side: known[side].total / work[side])
    fixed = [Line(side, known[side].total, 0.0, work[side]) for side in ranked]
    (now,) = stretches(fixed, 0.0, 1.0, least_ratio)
    found = []
    for assumption in ASSUMPTIONS:
        for varied in [None, *ranked[:_VARIED_PRICES]] if assumption == "price" else [None]:
            terms = {side: machines[side, rivals[0].device] for side in ranked if varied in (None, side)}
            between = _range(assumption, list(terms.values()), prices)
            lines = [_line(side, known[side], work[side], assumption, side in terms) for side in ranked]
            if between[0] < between[1] and any(line.varied for line in lines):
                found.append(_sensitivity(assumption, varied, terms, stretches(lines, *between, least_ratio)))
    return [Lead(rivals[0].workload, rivals[0].device, now.leader, now.is_sure, tuple(found))]


def _line(side: str, costs: _Costs, work: float, assumption: str, is_varied: bool) -> Line:
    return Line(side, *(costs.line(assumption) if is_varied else (costs.total, 0.0)), work)


def _range(assumption: str, terms: Sequence[Machine], prices: Prices) -> tuple[float, float]:
    """Between which the line's variable goes: the factor, within what is possible, or its reciprocal."""
    stated, least, greatest = _STATED[assumption]
    low, high = prices.vary[assumption]
    values = [stated(one) for one in terms if stated(one) > 0]
    low = max([low, *(least / value for value in values)])
    high = min([high, *(greatest / value for value in values)])
    return (1 / high, 1 / low) if assumption in _DIVIDES else (low, high)


def _sensitivity(
    assumption: str, side: str | None, terms: Mapping[str, Machine], found: Sequence[Stretch]
) -> Sensitivity:
    """The stretches of the line's variable as those of the assumption."""
    values = {_STATED[assumption][0](one) for one in terms.values()}
    stated = values.pop() if len(values) == 1 else None
    scale = 1.0 if stated is None else stated
    if assumption in _DIVIDES:
        found = [dataclasses.replace(one, low=1 / one.high, high=1 / one.low) for one in reversed(found)]
    shown = (dataclasses.replace(one, low=one.low * scale, high=one.high * scale) for one in found)
    return Sensitivity(assumption, side, stated, tuple(shown))


def _least_ratios(cells: Sequence[Cell]) -> LeastRatio:
    """The least ratio of work of any two sides.

    Beside the reference it is the end of their ratio's interval. Of two others no interval was made, and the ends of
    their own values' stand in: the least of the one over the greatest of the other, which is farther than the end of
    an interval of independent values' ratio would be, and so never sure too soon.
    """
    by_side = {cell.side: cell for cell in cells}
    reference = next((cell.side for cell in cells if cell.verdict == "reference"), None)

    def least(one: str, other: str) -> float | None:
        if reference in (one, other):
            test = by_side[one if other == reference else other].ratio
            if test is None:
                return None
            return test.interval.low if other == reference else 1 / test.interval.high
        own, its = by_side[one].interval, by_side[other].interval
        return own.low / its.high if own and its else None

    return least


def _gaps(worths: Sequence[Worth], machines: Machines) -> Iterator[str]:
    """What is missing, said once per side."""
    for side, device in dict.fromkeys((one.side, one.device) for one in worths):
        of_side = [one for one in worths if (one.side, one.device) == (side, device)]
        if (side, device) not in machines:
            yield f"{side}: the file of prices names no one machine for its {device}"
        elif any(one.cost_per_hour is None for one in of_side):
            yield f"{side}: the power of its {device} was not measured, and no power_w is assumed"
        if any(one.is_power_assumed for one in of_side):
            yield f"{side}: the power of its {device} is assumed, not measured, where marked"

"""What a picture of a run's telemetry shows: lines over time, and when devices were held back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.message import Message, joined, say
from bench.telemetry import rates
from bench.telemetry.reading import Reading
from bench.telemetry.stretches import Kind, Stretch, gap_ns, stretches
from bench.types import Plan

Point = tuple[float, float]  # seconds since the first reading, value
Pieces = Sequence[Sequence[Point]]  # a line, in pieces: between them nothing is known

_LEAST_EXTENT = 0.05  # of the value
HOW: Mapping[Kind, Message] = {"throttled": say("throttled"), "power-capped": say("power-capped")}
_COUNTER = say("its counter alone")


def values_of(pieces: Pieces) -> list[float]:
    return [value for piece in pieces for _, value in piece]


@dataclass(frozen=True)
class Span:
    """A workload's timed window, in UTC ns of the readings' clock."""

    name: str
    from_ns: int
    until_ns: int


@dataclass(frozen=True)
class Quantity:
    """What a panel shows of a reading and the one before it, and words for the device with the least and the most."""

    title: str
    unit: str
    value: Callable[[Reading | None, Reading], float | None]
    least: str = "lowest"
    most: str = "highest"
    is_high_worse: bool = False
    limits: tuple[float, float] | None = None  # of the scale


@dataclass(frozen=True)
class Panel:
    quantity: Quantity
    lines: Mapping[str, Pieces]  # by device
    is_aside: bool  # the host's, beside the GPUs that are the subject

    @property
    def values(self) -> list[float]:
        return [value for pieces in self.lines.values() for value in values_of(pieces)]

    @property
    def extent(self) -> tuple[float, float]:
        """What the scale has to hold: a line that moves by less than a twentieth of its value is to look flat."""
        if self.quantity.limits is not None:
            return self.quantity.limits
        low, high = min(self.values), max(self.values)
        missing = max(_LEAST_EXTENT * max(abs(low), abs(high)), 1e-9) - (high - low)
        return (low - missing / 2, high + missing / 2) if missing > 0 else (low, high)


@dataclass(frozen=True)
class View:
    """Everything that there is to show; times are in seconds since the first reading."""

    panels: Sequence[Panel]
    span_s: float
    spans: Sequence[tuple[str, float, float]]  # the workloads' timed windows
    held_back: Mapping[str, Sequence[tuple[float, float, Stretch]]]  # by device
    notes: Sequence[Message]  # what else a reader has to know


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


_GPU = (
    Quantity("SM clock", "MHz", lambda before, now: now.sm_clock_mhz, "slowest", "fastest"),
    Quantity("power", "W", rates.power_w),
    Quantity("temperature", "°C", lambda before, now: now.temperature_c, "coolest", "hottest", True),
)
_CPU = (
    Quantity("CPU clock", "MHz", lambda before, now: now.cpu_clock_mhz),
    Quantity("CPU power", "W", rates.power_w),
    Quantity("CPU temperature", "°C", lambda before, now: now.temperature_c),
    Quantity("CPU busy", "%", lambda before, now: _percent(rates.busy_fraction(before, now)), limits=(0.0, 100.0)),
)


def view(readings: Sequence[Reading], spans: Sequence[Span]) -> View:
    """Arrange the readings of a run, at least one; those of its devices, and of the host beside them."""
    series = rates.by_device(readings)
    from_ns = min(one.at_ns for one in readings)
    until_ns = max(one.at_ns for one in readings)

    def seconds(at_ns: int) -> float:
        return (min(max(at_ns, from_ns), until_ns) - from_ns) * 1e-9

    gpus = [name for name in series if name != "cpu"]
    panels, missing = [], []
    for names, quantities in ((gpus, _GPU), ([name for name in series if name == "cpu"], _CPU)):
        for quantity in quantities if names else ():
            lines = {name: _pieces(series[name], quantity.value, seconds) for name in names}
            lines = {name: pieces for name, pieces in lines.items() if pieces}
            panels += [Panel(quantity, lines, is_aside=bool(gpus) and names != gpus)] if lines else []
            missing += [] if lines else [say(quantity.title)]
    held_back = {
        name: [(seconds(one.from_ns), seconds(one.until_ns), one) for one in stretches(each)]
        for name, each in series.items()
    }
    return View(
        panels=panels,
        span_s=(until_ns - from_ns) * 1e-9 or 1.0,
        spans=[(one.name, seconds(one.from_ns), seconds(one.until_ns)) for one in _joined(spans)],
        held_back={name: found for name, found in held_back.items() if found},
        notes=_notes(series, seconds, missing, is_held_back=any(held_back.values())),
    )


def heading(plan: Plan) -> list[str]:
    """Which run it was and when; on what; and, where that is so, that a script is all there was."""
    names = [f"{device.name or 'unknown model'} ({device.kind})" for device in plan.devices]
    counts = {name: names.count(name) for name in names}
    devices = ", ".join(f"{count} × {name}" if count > 1 else name for name, count in counts.items())
    lines = [f"run {plan.run_id}  suite {plan.suite}  node {plan.node}  {plan.started_at[:19]}Z", devices]
    if any(device.kind == "fake" for device in plan.devices):
        lines.append("SIMULATED: these figures come from a script and measure nothing")
    return lines


def held_back_words(view: View) -> list[tuple[Kind, Message]]:
    """A line for each kind and cause: ``throttled by hw_thermal_slowdown: cuda:5 2.0 s``."""
    found: dict[tuple[Kind, str], list[Message]] = {}
    kinds: tuple[Kind, ...] = ("throttled", "power-capped")
    for kind, (name, held_back) in itertools.product(kinds, view.held_back.items()):
        mine = [one for _, _, one in held_back if one.kind == kind]
        if mine:
            held_s = sum(one.until_ns - one.from_ns for one in mine) * 1e-9
            reasons = ", ".join(sorted({reason for one in mine for reason in one.reasons}))
            shown = say("{device} {seconds:.1f} s", device=name, seconds=held_s)
            if held_s < 0.1:
                shown = say("{device} below 0.1 s", device=name)
            found.setdefault((kind, reasons or _COUNTER), []).append(shown)
    return [
        (kind, say("{how} by {cause}: {devices}", how=HOW[kind], cause=cause, devices=joined(", ", devices)))
        for (kind, cause), devices in found.items()
    ]


def thinned(piece: Sequence[Point], step_s: float) -> list[Point]:
    """The least and the greatest of each step, in their order: what is left out could not be seen."""
    kept: list[Point] = []
    for _, group in itertools.groupby(piece, key=lambda point: point[0] // step_s):
        points = list(group)
        kept += sorted({min(points, key=lambda point: point[1]), max(points, key=lambda point: point[1])})
    return kept


def ranges(seen: View, name: str, kind: Kind, steps: int) -> list[tuple[float, float]]:
    """When a device was held back in that way, as (begin, length); what is too near to be told apart is one.

    Args:
        steps: of the time axis, that can be told apart.
    """
    found: list[tuple[float, float]] = []
    for from_s, until_s, one in seen.held_back.get(name, ()):
        if one.kind != kind:
            continue
        if found and from_s - sum(found[-1]) < seen.span_s / steps:
            begin_s, _ = found.pop()
            found.append((begin_s, until_s - begin_s))
        else:
            found.append((from_s, until_s - from_s))
    return found


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The spans in the order of time; those of one workload that overlap, on several devices, as one."""
    joined: list[Span] = []
    latest: dict[str, int] = {}
    for one in sorted(spans, key=lambda span: span.from_ns):
        index = latest.get(one.name)
        if index is not None and one.from_ns <= joined[index].until_ns:
            first = joined[index]
            joined[index] = Span(one.name, first.from_ns, max(first.until_ns, one.until_ns))
        else:
            latest[one.name] = len(joined)
            joined.append(one)
    return joined


def _pieces(
    readings: Sequence[Reading],
    value: Callable[[Reading | None, Reading], float | None],
    seconds: Callable[[int], float],
) -> list[list[Point]]:
    """The line of one device: a new piece begins after each gap and each reading that does not tell."""
    longest_ns = gap_ns(readings)
    pieces: list[list[Point]] = [[]]
    for before, now in zip([None, *readings[:-1]], readings, strict=True):
        found = value(before, now)
        if pieces[-1] and (found is None or (before is not None and now.at_ns - before.at_ns > longest_ns)):
            pieces.append([])
        if found is not None:
            pieces[-1].append((seconds(now.at_ns), found))
    return [piece for piece in pieces if piece]


def _notes(
    series: Mapping[str, Sequence[Reading]],
    seconds: Callable[[int], float],
    missing: Sequence[str],
    *,
    is_held_back: bool,
) -> list[Message]:
    """Which device stopped answering, when, in whose words; and what the picture cannot show."""
    notes: list[Message] = []
    for name, readings in series.items():
        lost = next((one for one in readings if one.error is not None), None)
        if lost is not None:
            at_s = seconds(lost.at_ns)
            notes.append(say("{device} did not answer at {at_s:.1f} s: {why}", device=name, at_s=at_s, why=lost.error))
    unknown = [name for name, readings in series.items() if all(one.throttle_reasons is None for one in readings)]
    if not is_held_back and len(unknown) < len(series):
        notes.append(say("never held back"))
    if unknown:
        missing = [*missing, say("throttling of {devices}", devices=", ".join(unknown))]
    if missing:
        notes.append(say("not readable here: {what}", what=joined(", ", missing)))
    return notes

"""The pictures of an acceptance: each criterion's devices beside its limit, their state over time, and the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.acceptance.dossier import Dossier
from bench.acceptance.model import Finding, Judged
from bench.acceptance.rows import device_of
from bench.comparison.positions import place, roofs
from bench.criteria.model import Performance, Uniformity
from bench.message import say
from bench.report import acceptance as figures
from bench.report import criteria as words
from bench.report import limits, plots
from bench.report.html import Picture
from bench.report.language import Language
from bench.report.panels import Panel, Span, View, held_back_words, view
from bench.schema import Row, window_ns
from bench.summary import Summary, summarize

_MOST = 1e30  # that is drawn, far beyond any machine


def limit_picture(one: Judged, language: Language) -> Picture | None:
    """The devices' values beside the limit; None where it is no number, or no value is known."""
    stated = one.criterion.limit.stated
    floor, ceiling = (_number(stated.get(name)) for name in ("at_least", "at_most"))
    known = [each for each in one.findings if _number(each.observed) is not None]
    if not known or (floor is None and ceiling is None) or not (one.worst.n and _tells(one, known)):
        return None
    reference = floor if floor else ceiling if ceiling else max(abs(float(each.observed)) for each in known)  # type: ignore[arg-type]
    number, unit = _shown(one, float(reference))
    scale = number / reference if reference else 1.0
    marks = [_mark(each, scale) for each in known]
    drawn = limits.against(
        marks, _scaled(floor, scale), _scaled(ceiling, scale), unit.removeprefix("1"), language.number
    )
    text = language.say(
        "{id}: {devices} devices beside the limit, {limit}. The figures are in the table of all criteria.",
        id=one.criterion.id,
        devices=len(marks),
        limit=words.limit(one.criterion, language),
    )
    return Picture("", text, drawn)


def _shown(one: Judged, value: float) -> tuple[float, str]:
    """The number and the unit of an axis, as the words beside it have them."""
    if isinstance(one.criterion, Performance | Uniformity) or one.unit == "B":
        return figures.shown(one.criterion, value)
    return value, one.unit


def _tells(one: Judged, known: Sequence[Finding]) -> bool:
    """Whether a picture shows more than the words: it does not where every device has a count of zero."""
    return any(each.interval is not None or each.observed != 0 for each in known)


def _mark(one: Finding, scale: float) -> limits.Mark:
    low, high = (one.interval.low, one.interval.high) if one.interval else (None, None)
    return limits.Mark(one.device, one.outcome, float(one.observed) * scale, _scaled(low, scale), _scaled(high, scale))  # type: ignore[arg-type]


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    return value if is_number else None  # type: ignore[return-value]


@dataclass(frozen=True)
class State:
    """The devices' state over the run."""

    pictures: Sequence[Picture]
    notes: Sequence[str]


def state(dossier: Dossier, language: Language) -> State:
    """Clocks, power and temperature over time, and when devices were held back; no picture without a series."""
    if not dossier.readings:
        return State((), (language.say("This run has no time series of its devices' state."),))
    windows = ((row["workload"], window_ns(row)) for row in dossier.rows)
    seen = view(dossier.readings, [Span(name, *window) for name, window in windows if window is not None])
    devices = [device.label for device in dossier.plan.devices if device.kind != "cpu"]
    label = language.say("time since the first reading")
    pictures = [_over_time(panel, seen, devices, label, language) for panel in seen.panels]
    if seen.held_back:
        title = language.say("When devices were held back")
        text = language.say("A lane for each device that was held back; the lines below name the causes.")
        note = language.say("Tall: throttled. Flat: held back by the power limit.")
        pictures.append(Picture(title, text, limits.lanes(seen, label, language.number), note))
    notes = [language.text(found) for _, found in held_back_words(seen)]
    return State(pictures, [*notes, *map(language.text, seen.notes)])


def _over_time(panel: Panel, seen: View, devices: Sequence[str], label: str, language: Language) -> Picture:
    name, unit = language.text(say(panel.quantity.title)), panel.quantity.unit
    title = language.say("{quantity} over time, {unit}", quantity=name[:1].upper() + name[1:], unit=unit)
    low, high = min(panel.values), max(panel.values)
    text = language.say(
        "{quantity} of {n} devices over the run: from {low:.0f} to {high:.0f} {unit}.",
        quantity=name,
        n=len(panel.lines),
        low=low,
        high=high,
        unit=unit,
    )
    is_shaded = any(one.kind == "throttled" for found in seen.held_back.values() for _, _, one in found)
    note = language.say("In the shade: a device was throttled.") if is_shaded else ""
    return Picture(title, text, limits.over_time(panel, seen, devices, label, language.number), note)


@dataclass(frozen=True)
class _Work:
    """A workload on a device, as a place in the roofline asks for it."""

    workload: str
    side: str
    value: float | None
    unit: str | None
    flops: int | None
    bytes_moved: int | None
    items: int | None
    item_unit: str | None


def roofline(dossier: Dossier, language: Language) -> Picture | None:
    """The workloads of the run under the roofs that were measured in it; None where no place is known."""
    rows = {(row["workload"], device_of(row)): row for row in dossier.rows if row["status"] == "ok"}
    summaries = [one for one in summarize(dossier.rows) if (one.workload, one.device) in rows]
    works = [_work(one, rows[one.workload, one.device]) for one in summaries]
    devices = list(dict.fromkeys(one.side for one in works))[: plots.MOST_SIDES]
    works = [one for one in works if one.side in devices]
    places = [found for one in works if (found := place(one)) is not None]
    if not places:
        return None
    tops = [plots.Roof(devices.index(one.side), one.compute, one.memory_b_s) for one in roofs(works)]
    points = [plots.Point(devices.index(one.side), one.workload, one.flop_per_byte, one.flop_per_s) for one in places]
    label = language.say("arithmetic intensity, FLOP per byte")
    title = language.say("Roofline")
    text = language.say(
        "{n} points: speed against arithmetic intensity, under the roofs that were measured in the same run.",
        n=len(points),
    )
    note = "" if tops else language.say("No roof was measured.")
    return Picture(title, text, plots.roofline(tops, points, devices, label), note)


def _work(one: Summary, row: Row) -> _Work:
    return _Work(
        one.workload, one.device, one.value, one.unit, row["flops"], row["bytes_moved"], row["items"], row["item_unit"]
    )

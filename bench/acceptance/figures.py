"""Criteria that a measured figure decides: performance and uniformity, by an interval from replicates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from bench import sequential, units
from bench.acceptance import rows as of_rows
from bench.acceptance.model import Finding, Outcome
from bench.criteria.model import Performance, Uniformity
from bench.errors import UsageError
from bench.message import Message, joined, say
from bench.schema import Row
from bench.sequential import Design
from bench.stats import Interval, geometric_mean

_OUTCOMES: Mapping[str, Outcome] = {"REGRESSED": "FAIL", "IMPROVED": "PASS", "PASS": "PASS"}


class _NoFigure(Exception):
    """A row has not the figure that a criterion is about; the text says why."""

    def __init__(self, outcome: Outcome, words: Message) -> None:
        self.outcome, self.words = outcome, words
        super().__init__(words)


def performance(one: Performance, device: str, rows: Sequence[Row], design: Design) -> Finding:
    """A workload on a device against its floor or ceiling.

    Args:
        rows: of that workload on that device, in the order of replicates.
    """
    found = of_rows.obstacle(device, rows)
    if found is not None:
        return found
    fit = [row for row in rows if not of_rows.disturbances(row)]
    if len(rows) >= design.looks[0] and len(fit) < len(rows) / 2:  # those left are the exception on such a machine
        words = say("most replicates were disturbed: {which}", which=of_rows.set_aside_words(rows))
        # Fit ones may still become the rule, but for where not one was among as many as the last look takes.
        is_open = fit or len(rows) < design.looks[-1]
        wants = max(len(rows) - 2 * len(fit), _wants(len(fit), design)) if is_open else 0
        return Finding(device, "INCONCLUSIVE", words, n=len(fit), wants=wants, is_unfit=True)
    try:
        values = [_figure(one, row) for row in fit]
    except _NoFigure as error:
        return Finding(device, error.outcome, error.words, n=len(fit))
    ((name, limit),) = one.limit.stated.items()
    return decided(device, values, float(limit), name == "at_least", design, of_rows.set_aside_words(rows))


def uniformity(one: Uniformity, by_device: Mapping[str, Sequence[Row]], design: Design) -> tuple[Finding, ...]:
    """Each device against the median of its node, in the replicates in which all of them were fit.

    Devices of a node are loaded together, so a replicate's drift moves all of them, and the median with them.
    """
    if len(by_device) < 2:
        return tuple(
            Finding(device, "INCONCLUSIVE", say("there is no other device to compare with")) for device in by_device
        )
    obstacles = {device: of_rows.obstacle(device, rows) for device, rows in by_device.items()}
    if any(obstacles.values()):
        unknown = [device for device, found in obstacles.items() if found]
        words = say("not to be compared with {devices}", devices=", ".join(unknown))
        return tuple(found or Finding(device, "INCONCLUSIVE", words) for device, found in obstacles.items())
    speeds = {device: _speeds(rows) for device, rows in by_device.items()}
    common = sorted(set.intersection(*(set(of_replicates) for of_replicates in speeds.values())))
    medians = {replicate: statistics.median(each[replicate] for each in speeds.values()) for replicate in common}
    findings = []
    for device, rows in by_device.items():
        ratios = [speeds[device][replicate] / medians[replicate] for replicate in common]
        limit = float(one.limit.stated["at_least"])
        findings.append(decided(device, ratios, limit, True, design, of_rows.set_aside_words(rows)))
    return tuple(findings)


def decided(
    device: str, values: Sequence[float], limit: float, is_floor: bool, design: Design, aside: str = ""
) -> Finding:
    """What replicates' values say of a floor or a ceiling, at the first planned look that has a clear answer.

    `sequential.decide` is asked for the ratio of badness, limit over value or value over limit, without a tolerance:
    its interval lies above 1 where the value's lies beyond the limit. Replicates after the last look count for nothing.
    """
    sign = -1.0 if is_floor else 1.0
    logs = [sign * (math.log(value) - math.log(limit)) for value in values]
    decision = sequential.decide(logs[: design.looks[-1]], 0.0, design)
    outcome = _OUTCOMES.get(decision.verdict, "INCONCLUSIVE")
    n, interval, observed = len(values), None, geometric_mean(values) if values else None
    if decision.interval is not None and decision.ratio is not None:
        n, observed = decision.interval.n, limit * decision.ratio**sign
        low, high = decision.interval.low, decision.interval.high
        if is_floor:  # its ends are of limit over value
            low, high = 1 / high, 1 / low if low else math.inf
        interval = Interval(limit * low, limit * high, n, decision.interval.confidence)
    return Finding(
        device,
        outcome,
        joined("; ", (_words(outcome, decision.look, n, design), aside)),
        observed,
        interval,
        n,
        badness=math.inf if observed is None else sign * math.log(observed / limit),
        wants=_wants(len(values), design) if outcome == "INCONCLUSIVE" else 0,
        is_unfit=outcome == "INCONCLUSIVE" and bool(aside),
    )


def _wants(n: int, design: Design) -> int:
    """How many more replicates the next look needs; 0 where none is left."""
    return next((look - n for look in design.looks if look > n), 0)


def _words(outcome: Outcome, look: int, n: int, design: Design) -> Message:
    if outcome == "PASS":
        return say("the whole interval meets the limit")
    if outcome != "INCONCLUSIVE":
        return say("the whole interval misses the limit")
    if look == 0 and n == 1:
        return say("1 fit replicate, where the first look is after {look}", look=design.looks[0])
    if look == 0:
        return say("{n} fit replicates, where the first look is after {look}", n=n, look=design.looks[0])
    if look < len(design.looks):
        return say("the interval holds the limit; the next look is after {look} replicates", look=design.looks[look])
    return say("the interval holds the limit, and no look is left")


def _speeds(rows: Sequence[Row]) -> dict[int, float]:
    """The speed in each fit replicate, higher is faster."""
    fit = [row for row in rows if not of_rows.disturbances(row)]
    return {row["replicate"]: 1 / row["value"] if row["better"] == "lower" else row["value"] for row in fit}


def _figure(one: Performance, row: Row) -> float:
    """The figure of a row that the criterion is about, in its unit."""
    if one.of is not None:
        return _fraction(one.of, row)
    value, unit = row["value"], row["unit"]
    if one.metric is not None:
        metrics = {metric["name"]: metric for metric in row["metrics"] or ()}
        if one.metric not in metrics:
            raise _NoFigure(
                "INCONCLUSIVE",
                say("replicate {replicate} has no metric {metric}", replicate=row["replicate"], metric=one.metric),
            )
        value, unit = metrics[one.metric]["value"], metrics[one.metric]["unit"]
    try:
        factor, base = units.base_unit(unit or "")
    except UsageError:
        factor, base = 1.0, unit
    if base != one.unit:
        raise _NoFigure("ERROR", say("the figure is in {unit}, the limit in {other}", unit=unit, other=one.unit))
    if value is None or not (math.isfinite(value) and value > 0):
        words = say(
            "{metric} of replicate {replicate} is no positive number: {value}",
            metric=one.metric,
            replicate=row["replicate"],
            value=value,
        )
        raise _NoFigure("INCONCLUSIVE", words)
    return float(value) * factor


def _fraction(of: str, row: Row) -> float:
    if of == "measured roof" and "roof-too-low" in (row["validity"] or ()):
        words = say("roof-too-low: it ran above its measured roof, so the fraction says nothing")
        raise _NoFigure("INCONCLUSIVE", words)
    source = "measured" if of == "measured roof" else "datasheet"
    known = [roof["fraction"] for roof in row["roofs"] or () if roof["source"] == source and roof["fraction"]]
    if not known and of == "datasheet":
        words = say("no datasheet figure is known for it on {device}", device=row["device_name"])
        raise _NoFigure("INCONCLUSIVE", words)
    if not known:
        raise _NoFigure("INCONCLUSIVE", say("no roof was measured for it"))
    return float(max(known))

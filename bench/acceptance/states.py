"""Criteria that are decided exactly: inventory, state and answers. No interval, and unknown is never a PASS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bench.acceptance import bits
from bench.acceptance import rows as of_rows
from bench.acceptance.model import NODE, Finding
from bench.criteria.facts import DEVICES, FACTS, STATES, read_state
from bench.criteria.model import Inventory, State
from bench.message import joined, say
from bench.schema import Row
from bench.types import DeviceInfo


def devices(one: Inventory, found: Sequence[DeviceInfo]) -> Finding:
    """How many devices of the kind the run had."""
    count = len(found)
    if one.limit.holds(count):
        return Finding(NODE, "PASS", say("all are there"), count, n=count)
    missing = count < (one.limit.equal or one.limit.at_least or 0)  # type: ignore[operator]
    words = say("a device is missing") if missing else say("there are more than there may be")
    return Finding(NODE, "FAIL", words, count, n=count)


def inventory(one: Inventory, device: str, rows: Sequence[Row]) -> Finding:
    """A fact, as the rows of a device (or of the node) tell it; each value that they name has to meet the limit."""
    assert one.what != DEVICES
    fact = FACTS[one.what]
    known = [value for value in map(fact.read, rows) if value is not None]
    if not known:
        return Finding(device, "INCONCLUSIVE", say("the {fact} could not be read", fact=say(fact.words)), n=len(rows))
    try:
        values = [fact.combine(known)] if fact.combine else _distinct(known)
        missing = [value for value in values if not one.limit.holds(value)]
    except (ValueError, TypeError):
        words = say("the {fact} cannot be compared: {value}", fact=say(fact.words), value=known[0])
        return Finding(device, "INCONCLUSIVE", words, n=len(known))
    observed = missing[0] if missing else values[0]
    words = say("not as demanded") if missing else say("as demanded")
    if len(values) > 1:
        changed = say("it changed during the run: {values}", values=", ".join(map(str, values)))
        words = joined("; ", (words, changed))
    return Finding(device, "FAIL" if missing else "PASS", words, observed, n=len(known))


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Each once, in an order that does not depend on that of the rows."""
    return sorted(set(values), key=lambda value: (str(type(value)), str(value)))


def state(one: State, device: str, rows: Sequence[Row]) -> Finding:
    """A state over all that was timed on a device: what is known may fail it, but only all of it can pass."""
    figure = STATES[one.column]
    timed = [row for row in rows if row["timed_from"] is not None]
    values = [read_state(one.column, row) for row in timed]
    known = [value for value in values if value is not None]
    if not timed:
        return Finding(device, "INCONCLUSIVE", say("nothing was measured on it"))
    observed = figure.combine(sorted(known)) if known else None
    if known and not one.limit.holds(observed):
        read = (row for row in timed if read_state(one.column, row) is not None)
        hit = max(read, key=lambda row: _badness(one, read_state(one.column, row)))
        words = say("worst in {workload}, replicate {replicate}", workload=hit["workload"], replicate=hit["replicate"])
        return Finding(device, "FAIL", words, _plain(observed), n=len(known), badness=_badness(one, observed))
    if len(known) < len(timed):
        obstacle = min((row["telemetry_obstacle"] for row in timed if row["telemetry_obstacle"]), default="")
        words = say("not read in {missing} of {n} measurements", missing=len(timed) - len(known), n=len(timed))
        return Finding(device, "INCONCLUSIVE", joined(": ", (words, obstacle)), _plain(observed), n=len(known))
    words = say("in all of {n} measurements", n=len(timed))
    return Finding(device, "PASS", words, _plain(observed), n=len(known))


def _badness(one: State, value: Any) -> float:
    """How bad a known value of a state is; the higher, the worse."""
    if isinstance(value, list | tuple):
        return float(len(set(value) & set(one.limit.none_of)))
    return -float(value) if one.limit.at_least is not None else float(value)


def _plain(observed: Any) -> Any:
    return tuple(observed) if isinstance(observed, list) else observed


def answers(
    device: str,
    rows: Sequence[Row],
    workloads: Sequence[str],
    odd: Sequence[tuple[Row, str]] = (),
    golden: Mapping[str, str] = MappingProxyType({}),
) -> Finding:
    """No wrong answer in anything that a device was asked.

    Args:
        workloads: what has to be among it.
        odd: those of the rows whose outputs have not the bits that they must have, with the words.
        golden: the bits that are known, by the conditions of a row.
    """
    asked = [row for row in rows if row["status"] != "unsupported"]
    wrong = [row for row in asked if of_rows.is_wrong(row)]
    if wrong:
        first = wrong[0]
        words = say(
            "wrong in {workload}, replicate {replicate}", workload=first["workload"], replicate=first["replicate"]
        )
        return Finding(device, "FAIL", words, len(wrong), n=len(asked), badness=len(wrong))
    if odd:
        first, why = odd[0]
        words = say(
            "wrong bits in {workload}, replicate {replicate}: {why}",
            workload=first["workload"],
            replicate=first["replicate"],
            why=why,
        )
        return Finding(device, "FAIL", words, len(odd), n=len(asked), badness=len(odd))
    for row in asked:
        if (failed := of_rows.failure(row)) is not None:
            words = say(
                "{workload}, replicate {replicate}: {why}",
                workload=row["workload"],
                replicate=row["replicate"],
                why=failed,
            )
            return Finding(device, "ERROR", words, 0, n=len(asked))
    checked = [row for row in asked if row["check_error"] is not None]
    missing = sorted(set(workloads) - {row["workload"] for row in asked})
    if missing or not asked or len(checked) < len(asked):
        words = say("{missing} of {n} were not checked", missing=len(asked) - len(checked), n=len(asked))
        if missing or not asked:
            words = joined(": ", (say("not measured"), ", ".join(missing)))
        return Finding(device, "INCONCLUSIVE", words, 0 if asked else None, n=len(checked))
    known = bits.equal_to_golden(asked, golden)
    if not known:
        return Finding(device, "PASS", say("all of {n} were right", n=len(asked)), 0, n=len(asked))
    words = say("all of {n} were right, {known} of them bit by bit as is known", n=len(asked), known=known)
    return Finding(device, "PASS", words, 0, n=len(asked))

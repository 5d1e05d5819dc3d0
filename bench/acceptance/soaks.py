"""The criterion of duration: decided exactly, by the stretches of a soak. It has no interval, for it is no estimate."""

from __future__ import annotations

from collections.abc import Sequence

from bench import sustained
from bench.acceptance import rows as of_rows
from bench.acceptance.model import Finding, Outcome
from bench.criteria.model import Soak
from bench.message import Message, say
from bench.schema import Row
from bench.types import DeviceInfo, Plan

_DIGITS = 9  # of hours: what adding up stretches leaves is behind them


def soaked(one: Soak, device: DeviceInfo, plan: Plan, rows: Sequence[Row]) -> Finding:
    """Whether a device was under the load for so long, whole, and right whenever it was asked."""
    found = [row for row in sustained.stretches(rows, device) if row["workload"] == one.workload]
    hours = round(sustained.soaked_s(plan, found) / 3600, _DIGITS)

    def finding(outcome: Outcome, words: Message) -> Finding:
        return Finding(device.label, outcome, words, hours, n=len(found), badness=-hours)

    if not found:
        return Finding(device.label, "INCONCLUSIVE", say("not measured"))
    wrong = [row for row in found if of_rows.is_wrong(row)]
    if wrong:
        words = say(
            "wrong answers after {wrong} of {n} stretches, first in stretch {first}",
            wrong=len(wrong),
            n=len(found),
            first=wrong[0]["session"],
        )
        return finding("FAIL", words)
    for row in found:
        if (failed := of_rows.failure(row)) is not None:
            return finding("ERROR", say("in stretch {stretch}: {why}", stretch=row["session"], why=failed))
    if (refused := next((row for row in found if row["status"] == "unsupported"), None)) is not None:
        return finding("INCONCLUSIVE", say("not measured: unsupported: {why}", why=refused["reason"]))
    if not one.limit.holds(hours):
        return finding("INCONCLUSIVE", say("the soak ended before its time"))
    return finding("PASS", say("right after each of {n} stretches", n=len(found)))

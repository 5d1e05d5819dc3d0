"""The criterion of duration: decided exactly, by the stretches of a soak. It has no interval, for it is no estimate."""

from __future__ import annotations

from collections.abc import Sequence

from bench import sustained
from bench.acceptance import rows as of_rows
from bench.acceptance.model import Finding
from bench.criteria.model import Soak
from bench.schema import Row
from bench.types import DeviceInfo, Plan

_DIGITS = 9  # of hours: what adding up stretches leaves is behind them


def soaked(one: Soak, device: DeviceInfo, plan: Plan, rows: Sequence[Row]) -> Finding:
    """Whether a device was under the load for so long, whole, and right whenever it was asked."""
    found = [row for row in sustained.stretches(rows, device) if row["workload"] == one.workload]
    hours = round(sustained.soaked_s(plan, found) / 3600, _DIGITS)

    def finding(outcome: str, words: str) -> Finding:
        return Finding(device.label, outcome, words, hours, n=len(found), badness=-hours)  # type: ignore[arg-type]

    if not found:
        return Finding(device.label, "INCONCLUSIVE", "not measured")
    wrong = [row for row in found if of_rows.is_wrong(row)]
    if wrong:
        return finding("FAIL", f"wrong answers after {len(wrong)} of {len(found)} stretches, first {_place(wrong[0])}")
    for row in found:
        if (words := of_rows.failure(row)) is not None:
            return finding("ERROR", f"{_place(row)}: {words}")
    if (refused := next((row for row in found if row["status"] == "unsupported"), None)) is not None:
        return finding("INCONCLUSIVE", f"unsupported: {refused['reason']}")
    if not one.limit.holds(hours):
        return finding("INCONCLUSIVE", "the soak ended before its time")
    return finding("PASS", f"right after each of {len(found)} stretches")


def _place(row: Row) -> str:
    return f"in stretch {row['session']}"

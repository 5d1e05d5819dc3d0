"""Acceptances made of what was recorded for docs/proof.md: thousands of processes over four hours, one criterion.

A session's arm A is a replicate: the same work in a fresh process, beside whatever the machine did. Each half of a
block of fifty is taken as one acceptance, pass by pass, which ends where `accept` would have ended it. So no replicate
is in two of them, and no two begin within 20 seconds. A calibration is the first of them, as many as it is to take.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from bench import packed, schema
from bench.acceptance import rows as of_rows
from bench.acceptance.judge import judge
from bench.acceptance.model import Verdict
from bench.criteria import file
from bench.criteria.model import Criteria
from bench.schema import Row
from bench.types import Plan
from tests.proof import recordings
from tests.proof.recordings import Condition
from tests.proof_accept.criteria import SHARE
from tests.proof_accept.recordings import Acceptance

RATE = "rate"
WORKLOAD = "call/tests/proof/workload.py:as_it_is"
MOST = 24  # passes: `accept` takes twice the last look's number at most

_TEXT = """
format = 1
title = "The work of docs/proof.md"
device = "cpu"

[[performance]]
id = "rate"
workload = "call/tests/proof/workload.py:as_it_is"
at_least = {floor}
unit = "call/s"
source = "a calibration, tests/proof_accept/sessions.py"

[[answers]]
id = "answers"
source = "docs/method.md"
"""
_COLUMNS = (
    *("run_id", "session", "workload", "device", "device_index", "started_at", "timed_from", "status", "reason"),
    *("value", "unit", "validity", "metrics", "check_error", "check_tolerance", "foreign_cpu_fraction"),
)


@functools.cache
def halves(condition: Condition) -> Sequence[Acceptance]:
    """The halves of all whole blocks of that condition in which nothing was changed, in the order of time."""
    found = []
    for plan, rows in _blocks():
        share = statistics.fmean(row["foreign_cpu_fraction"] for row in rows)
        if recordings.condition_of(share) == condition:
            middle = len(rows) // 2
            found += [Acceptance(plan, half) for half in (rows[:middle], rows[middle:]) if len(half) >= MOST]
    return found


def floor_of(calibration: Sequence[Acceptance]) -> float:
    """As that of the live acceptances: `SHARE` of the slowest fit replicate; in calls a second."""
    least: float = min(row["value"] for one in calibration for row in one.rows if not of_rows.disturbances(row))
    return SHARE * least


def criteria(floor: float) -> Criteria:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.toml"
        path.write_text(_TEXT.format(floor=floor))
        return file.load(str(path))


def accepted(one: Acceptance, found: Criteria) -> tuple[Acceptance, Verdict]:
    """The passes that `accept` would have taken, and what it would have said."""
    for passes in range(found.looks[0], MOST + 1):
        taken = Acceptance(replace(one.plan, replicates=passes), one.rows[:passes])
        verdict = judge(taken.plan, taken.rows, found)
        if not any(finding.wants for each in verdict.criteria for finding in each.findings):
            break
    return taken, verdict


def _blocks() -> list[tuple[Plan, list[Row]]]:
    empty = dict.fromkeys(schema.SCHEMA.names)
    found: dict[str, tuple[Plan, list[Row]]] = {}
    for path in sorted(recordings.RUNS.rglob("*.parquet")):
        plans = {plan.run_id: plan for plan in packed.plans(pq.read_metadata(path).metadata or {})}
        wanted = [("suite", "=", "proof-0"), ("arm", "=", "A")]
        table = pq.read_table(path, columns=list(_COLUMNS), filters=wanted, partitioning=None)
        for row in sorted(table.to_pylist(), key=lambda row: row["started_at"]):
            # Its processes took turns; an acceptance has no arms.
            plan = replace(plans[row["run_id"]], arms=())
            _, rows = found.setdefault(plan.run_id, (plan, []))
            rows.append(empty | row | {"replicate": row["session"]})
    return sorted(found.values(), key=lambda one: one[1][0]["started_at"])

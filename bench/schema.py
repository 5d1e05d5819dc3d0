"""The Arrow schema of a result file: one row per measurement (workload × device × replicate).

History
    1  2026-11  the first.
       2026-11  added: when the samples were taken, the device's state while they were, what it is set to.
       2026-11  added: how many samples a burst of an A/B session has.
       2026-11  added: how an output differs from that of an equal measurement.

Columns may be added within a version; readers pass over those they do not know and read a missing one as null. A
column is never renamed or given another meaning: that is a new version, and version 1 stays readable for ever.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from bench.columns import COLUMNS, TELEMETRY_COLUMNS
from bench.registry import Workload
from bench.spec import canonical_json
from bench.types import SOAK_ARM, Job, Plan, Status

VERSION = 1
VERSION_KEY = b"vnbench.schema_version"
PLAN_KEY = b"vnbench.plan"

Row = dict[str, Any]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_WINDOW = ("timed_from", "timed_until")

SCHEMA = pa.schema([pa.field(name, kind) for group in COLUMNS.values() for name, kind, _ in group])


def blank_row(job: Job, index: int, workload: Workload, status: Status, reason: str | None = None) -> Row:
    """A row's identity, for the ``index``-th item of a job; all that is not known yet is null."""
    plan, spec = job.plan, workload.spec
    return dict.fromkeys(SCHEMA.names) | {
        "schema_version": VERSION,
        "vnbench_version": plan.vnbench_version,
        "source_commit": plan.source_commit,
        "run_id": plan.run_id,
        "node": plan.node,
        "suite": plan.suite,
        "started_at": dt.datetime.now(dt.UTC),
        "workload": workload.name,
        "kernel": spec.kernel,
        "kernel_version": spec.version,
        "spec_id": spec.spec_id,
        "policy_id": plan.policy_id,
        "params": canonical_json(spec.params),
        "dtype": spec.dtype,
        "backend": spec.backend,
        "seed": spec.seed,
        "cache_state": spec.cache,
        "device": job.device.kind,
        "device_index": job.device.index,
        "device_uuid": job.device.uuid,
        "device_reason": job.device.reason,
        "device_name": job.device.name,
        "replicate": job.replicate,
        **_no_replicate(job, index),
        "sequence": job.sequence + index,
        "world_size": job.world_size,
        "rank": job.rank,
        "concurrency_group": job.concurrency_group,
        "label": plan.label,
        "tags": list(plan.tags.items()),
        "better": "higher",
        "status": status,
        "reason": reason,
        "validity": ["simulated"] if job.device.kind == "fake" else [],
    }


def _no_replicate(job: Job, index: int) -> Row:
    """What tells the rows that must not be pooled as replicates: those of an A/B session, and stretches of a soak."""
    if job.task == "soak":
        return {"session": job.sequence + index, "arm": SOAK_ARM}
    return {"session": job.replicate if job.arm else None, "arm": job.arm.name if job.arm else None}


def window_columns(from_ns: int, until_ns: int, clock_offset_ns: int) -> Row:
    """When something was done, from the monotonic clock to the run's."""
    moments = (_EPOCH + dt.timedelta(microseconds=(ns + clock_offset_ns) // 1000) for ns in (from_ns, until_ns))
    return dict(zip(_WINDOW, moments, strict=True))


def window_ns(row: Row) -> tuple[int, int] | None:
    """The window of a row on the run's clock, UTC; None where it has none."""
    if row["timed_from"] is None:
        return None
    from_ns, until_ns = ((row[name] - _EPOCH) // dt.timedelta(microseconds=1) * 1000 for name in _WINDOW)
    return from_ns, until_ns


def to_table(rows: Iterable[Row], plan: Plan) -> pa.Table:
    """Rows as an Arrow table whose metadata holds the schema's version and the run's plan."""
    metadata = {VERSION_KEY: str(VERSION), PLAN_KEY: json.dumps(dataclasses.asdict(plan))}
    return pa.Table.from_pylist(list(rows), schema=SCHEMA.with_metadata(metadata))


def version_of(metadata: Mapping[bytes, bytes] | None) -> int | None:
    """The schema's version in a file's metadata; None where the file is not a run of ours."""
    if not metadata or PLAN_KEY not in metadata or VERSION_KEY not in metadata:
        return None
    return int(metadata[VERSION_KEY])


def plan_of(metadata: Mapping[bytes, bytes]) -> Plan:
    """The plan in the metadata of a run's file."""
    return Plan.from_json(json.loads(metadata[PLAN_KEY]))


def markdown() -> str:
    """The columns as the tables of ``results/README.md``."""
    lines: list[str] = []
    for title, columns in {**COLUMNS, "The time series, in results/telemetry/": TELEMETRY_COLUMNS}.items():
        lines += [f"### {title}", "", "| column | type | what it holds |", "| --- | --- | --- |"]
        lines += [f"| `{name}` | `{str(kind).replace('|', '/')}` | {text} |" for name, kind, text in columns]
        lines.append("")
    return "\n".join(lines)

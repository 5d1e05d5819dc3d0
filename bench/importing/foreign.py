"""``Foreign``: a workload that another program performs, and the plan and rows of a run that it measured.

Its name is one-to-one with its spec, as of every workload, but no kernel stands behind it: it cannot be run from here.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import bench
from bench import schema, stats, store
from bench.files import write_table, writing
from bench.registry import Workload
from bench.schema import Row
from bench.spec import Spec, content_id
from bench.types import DeviceInfo, Job, Plan, Policy, SampleFlag, Status

UNWATCHED = "unwatched"  # nobody of ours checked the answers, or saw the machine's state meanwhile
NO_SAMPLES = "no-samples"  # only figures of the samples were saved


@dataclass(frozen=True)
class Foreign:
    """A workload of another program; ``policy`` is all that is known of how it is sampled."""

    name: str
    spec: Spec
    policy: Mapping[str, Any] = field(default_factory=dict)


def make_plan(
    run_id: str,
    *,
    suite: str,
    node: str,
    started_at: dt.datetime,
    devices: Sequence[DeviceInfo] = (),
    replicates: int = 1,
    source_commit: str | None = None,
    label: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of a run that is over: it has no workload of ours, so nothing of it is ever missing."""
    return Plan(
        run_id=run_id,
        node=node,
        suite=suite,
        started_at=started_at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        workloads={device.kind: () for device in devices},
        devices=tuple(devices),
        policy=Policy(),
        replicates=replicates,
        timeout_s=0.0,
        vnbench_version=bench.__version__,
        source_commit=source_commit,
        label=label,
        tags=dict(tags or {}),
        telemetry_hz=0.0,
    )


def make_row(
    plan: Plan,
    foreign: Foreign,
    device: DeviceInfo,
    status: Status,
    reason: str | None = None,
    *,
    replicate: int = 0,
    sequence: int = 0,
) -> Row:
    """The identity of a row; it began at a time that is not known."""
    job = Job(plan, device, (), replicate, folder="", scratch="", sequence=sequence)
    row = schema.blank_row(job, 0, cast(Workload, foreign), status, reason)  # of which it reads name and spec alone
    return row | {
        "policy_id": content_id({"backend": foreign.spec.backend, **foreign.policy}),
        "seed": None,
        "started_at": None,
        "concurrency_group": None,
        "validity": [UNWATCHED],
    }


def sample_columns(elapsed_s: Sequence[float]) -> Row:
    """Times per call, in the order taken, to the nanosecond; the flags are those of our own samples."""
    limit_s = stats.far_out_limit(elapsed_s)
    return {
        "elapsed_ns": [round(each * 1e9) for each in elapsed_s],
        "sample_flags": [int(SampleFlag.OUTLIER if each > limit_s else SampleFlag.NONE) for each in elapsed_s],
    }


def metric(name: str, value: object, unit: str) -> list[dict[str, Any]]:
    """A further figure that only describes; none where it is no finite number."""
    number = finite(value)
    return [] if number is None else [{"name": name, "value": number, "unit": unit, "better": None}]


def finite(value: object) -> float | None:
    """The number that a value from JSON is; None for all else, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond any float
        return None
    return number if math.isfinite(number) else None


def load_json(text: str) -> Any:
    """The value behind JSON; NaN and infinity, which JSON does not have but Python writes, are None.

    Raises:
        ValueError: it is not JSON, or nested beyond all measure.
    """
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deep") from None


def printable(text: str) -> str:
    """The text with an escape for each character that no terminal or file should meet: others wrote it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def write(out: Path, plan: Plan, rows: Sequence[Row]) -> Path:
    """Write a run that is over as its one file, and give its path.

    Raises:
        OutputNotWritable: nothing was written.
    """
    target = store.result_path(out, plan)
    temporary = out / ".incomplete" / f"import-{plan.run_id}-{os.getpid()}.tmp"
    with writing(target):
        for path in (target, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_table(schema.to_table(rows, plan), target, temporary)
    return target

"""The time series of a run: the devices' state, one row per reading, in a file of its own.

telemetry/<node>/<run id>.parquet
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.columns import TELEMETRY_COLUMNS
from bench.errors import UnreadableResult
from bench.files import DAMAGE, write_table
from bench.schema import VERSION, VERSION_KEY
from bench.telemetry.reading import Reading
from bench.types import Plan

SCHEMA = pa.schema([pa.field(name, kind) for name, kind, _ in TELEMETRY_COLUMNS])
KEY = b"vnbench.telemetry"


def path_of(out: Path, plan: Plan) -> Path:
    """Where a run's series lies in a results folder."""
    return out / "telemetry" / plan.node / f"{plan.run_id}.parquet"


def find(result: Path, plan: Plan) -> Path | None:
    """The series of a result file, in the results folder that the file lies in; None where there is none."""
    candidates = (path_of(folder, plan) for folder in result.resolve().parents)
    return next((path for path in candidates if path.is_file()), None)


def write(out: Path, plan: Plan, readings: Iterable[Reading], temporary: Path) -> None:
    """Write a run's series, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    target = path_of(out, plan)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A commit that has to be made again finds them in the series and beside it.
    unique = {(one.at_ns // 1000, one.device, one.device_index): one for one in readings}
    rows = [
        {**one.to_json(), "run_id": plan.run_id, "node": plan.node, "at": key[0]} for key, one in sorted(unique.items())
    ]
    metadata = {VERSION_KEY: str(VERSION), KEY: json.dumps({"hz": plan.telemetry_hz})}
    write_table(pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(metadata)), target, temporary)


def read(path: Path) -> list[Reading]:
    """The readings of a series, in the order of time.

    Raises:
        UnreadableResult: the file is missing, truncated, or not ours.
    """
    try:
        table = pq.read_table(path, partitioning=None)
        if KEY not in (table.schema.metadata or {}):
            raise UnreadableResult(f"{path}: a Parquet file, but no time series of vnbench")
        at_us = table["at"].cast(pa.int64()).to_pylist()
        rows = zip(table.to_pylist(), at_us, strict=True)
        return [Reading.from_json({**row, "at_ns": us * 1000}) for row, us in rows]
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableResult(f"{path}: not a readable Parquet file ({reason})") from None

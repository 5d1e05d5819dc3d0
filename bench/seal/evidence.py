"""What is sealed of a run: its files, read once, and what the seal says of them."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import bench
from bench import series, store
from bench.columns import COLUMNS
from bench.errors import UnreadableResult, UsageError
from bench.schema import Row
from bench.seal import verdict
from bench.seal.bundle import as_text
from bench.seal.statement import MAX_TEXT, RunSeal
from bench.spec import canonical_json
from bench.types import Plan

# The tag of a run that holds the asker's nonce, so that it is in the result from the run's beginning.
NONCE_TAG = "nonce"

_ENVIRONMENT = tuple(name for name, _, _ in COLUMNS["The environment"])


def gather(
    result: Path,
    now: dt.datetime,
    *,
    criteria: Path | None = None,
    judged: Path | bytes | None = None,
    log: Path | None = None,
) -> tuple[Mapping[str, bytes], RunSeal]:
    """The files of a bundle on a run, by name, and its predicate.

    Args:
        judged: the verdict, as ``vnbench judge --json`` wrote it, or its bytes.

    Raises:
        UnreadableResult: a file cannot be read.
        UsageError: the run is simulated, the verdict is of other files, or the run's nonce is no line of text.
    """
    plan, rows = store.read(result)
    _refuse_simulated(plan, rows)
    paths = {
        verdict.RESULT: result,
        verdict.TELEMETRY: series.find(result, plan),
        verdict.CRITERIA: criteria,
        verdict.VERDICT: judged,
        verdict.LOG: log,
    }
    files = {name: _read(path) for name, path in paths.items() if path is not None}
    try:
        files[verdict.ENVIRONMENT] = _environment(rows)
    except ValueError:
        raise UnreadableResult(f"{result}: what it says of the environment is no JSON") from None
    try:
        said = verdict.outcome(files, plan.run_id)
    except ValueError as error:
        raise UsageError(str(error), "Judge this result by these criteria again: vnbench judge --json") from None
    predicate = RunSeal(
        sealed_at=as_text(now),
        sealed_with=bench.__version__,
        measured_with=plan.vnbench_version,
        source_commit=plan.source_commit,
        run_id=plan.run_id,
        node=plan.node,
        suite=plan.suite,
        started_at=plan.started_at,
        verdict=said,
        criteria_sha256=hashlib.sha256(files[verdict.CRITERIA]).hexdigest() if criteria else None,
        nonce=_nonce(plan),
    )
    return files, predicate


def _refuse_simulated(plan: Plan, rows: Sequence[Row]) -> None:
    kinds = {device.kind for device in plan.devices} | {row["device"] for row in rows}
    if "fake" in kinds or any("simulated" in (row["validity"] or ()) for row in rows):
        raise UsageError(f"run {plan.run_id} is simulated: it is no evidence of any machine", "Measure a real device")


def _nonce(plan: Plan) -> str | None:
    """The nonce that the run was begun with: one that is given later shows nothing of when it was measured."""
    nonce = plan.tags.get(NONCE_TAG)
    if nonce is not None and not (nonce.isprintable() and 0 < len(nonce) <= MAX_TEXT):
        raise UsageError(f"a nonce is a line of text, of at most {MAX_TEXT} characters", "Measure with another one")
    return nonce


def _environment(rows: Sequence[Row]) -> bytes:
    """Of each device what the rows say of its surroundings, once where they agree."""
    found: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        if row["env_id"] is not None:
            values = {name: row[name] for name in _ENVIRONMENT if row[name] is not None}
            values["environment"] = json.loads(row["environment"] or "{}")
            known = found.setdefault(f"{row['device']}:{row['device_index']}", [])
            if values not in known:
                known.append(values)
    return canonical_json(found).encode()


def _read(path: Path | bytes) -> bytes:
    if isinstance(path, bytes):
        return path
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableResult(f"{path}: {error.strerror or error}", "Name a readable file") from None

"""A verdict as canonical JSON: the same bytes from the same result and criteria, on any machine.

Sorted keys, no blanks, UTF-8 in NFC, floats to 6 significant digits, no NaN; one line without an end.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import store
from bench.acceptance.judge import judge
from bench.acceptance.model import FORMAT, Finding, Judged, Verdict
from bench.criteria.model import Criteria, kind_of

_DIGITS = 6  # significant; what libraries and processors differ in is far behind them


def judge_file(path: Path, criteria: Criteria) -> tuple[Verdict, bytes]:
    """The verdict on a result file, and its canonical JSON.

    Raises:
        UnreadableResult, UsageError: see `bench.store.read` and `bench.acceptance.judge.judge`.
    """
    verdict = judge(*store.read(path), criteria)
    return verdict, encoded(verdict, hashlib.sha256(path.read_bytes()).hexdigest())


def encoded(verdict: Verdict, result_sha256: str) -> bytes:
    """The canonical JSON of a verdict on the result with that hash."""
    found = {
        "format": FORMAT,
        "verdict": verdict.outcome,
        "simulated": verdict.simulated,
        "criteria_sha256": verdict.criteria_sha256,
        "result_sha256": result_sha256,
        "run_id": verdict.run_id,
        "node": verdict.node,
        "criteria": [_judged(one) for one in verdict.criteria],
    }
    return canonical(found)


def canonical(value: object) -> bytes:
    """Any value of JSON types in the form that this file's docstring describes; an infinite float is null."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _judged(one: Judged) -> dict[str, Any]:
    criterion = one.criterion
    about = {
        name: getattr(criterion, name)
        for name in ("workload", "workloads", "metric", "of", "what", "column")
        if getattr(criterion, name, None)
    }
    return {
        "id": criterion.id,
        "kind": kind_of(criterion),
        "about": about,
        "verdict": one.outcome,
        "limit": criterion.limit.stated,
        "unit": one.unit,
        "source": criterion.source,
        **_found(one.worst),
        "devices": [{**_found(each), "verdict": each.outcome} for each in one.findings],
    }


def _found(one: Finding) -> dict[str, Any]:
    interval = one.interval and {key: getattr(one.interval, key) for key in ("low", "high", "confidence")}
    return {
        "device": one.device,
        "observed": one.observed,
        "interval": interval,
        "n": one.n,
        "words": one.words,
    }


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") + 0.0 if math.isfinite(value) else None  # -0.0 becomes 0.0
    return value

"""The metadata of a packed file: which runs it holds, where, and their plans.

A file of one run has its plan under ``schema.PLAN_KEY``. A packed one has an index in its place, short enough for
whoever opens it to read, and all the plans compressed: they repeat each other.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import schema
from bench.types import Plan

PREFIX = "packed-"  # how the name of a file of many runs begins
RUNS_KEY = b"vnbench.runs"
PLANS_KEY = b"vnbench.plans"


@dataclass(frozen=True)
class RunEntry:
    """One run of a file: its rows are together, and the runs follow each other in the index's order."""

    run_id: str
    node: str
    label: str | None
    rows: int


def metadata(plans: Sequence[Plan], rows: Sequence[int]) -> dict[bytes, bytes]:
    """What to store in a packed file. One of a single run is an ordinary result, with its plan as such."""
    version = {schema.VERSION_KEY: str(schema.VERSION).encode()}
    if len(plans) == 1:
        return version | {schema.PLAN_KEY: json.dumps(dataclasses.asdict(plans[0])).encode()}
    index = [[plan.run_id, plan.node, plan.label, count] for plan, count in zip(plans, rows, strict=True)]
    texts = json.dumps([dataclasses.asdict(plan) for plan in plans]).encode()
    return version | {
        RUNS_KEY: json.dumps(index).encode(),
        PLANS_KEY: base64.b64encode(zlib.compress(texts)),
    }


def is_packed(found: Mapping[bytes, bytes] | None) -> bool:
    return bool(found) and RUNS_KEY in (found or {})


def runs(found: Mapping[bytes, bytes], rows: int) -> list[RunEntry]:
    """The runs of a result of either kind, in the order of their rows; ``rows`` is the file's number of them.

    Raises:
        ValueError, KeyError, TypeError: the metadata is damaged.
    """
    if RUNS_KEY not in found:
        plan = json.loads(found[schema.PLAN_KEY])
        return [RunEntry(plan["run_id"], plan["node"], plan.get("label"), rows)]
    entries = [RunEntry(*entry) for entry in json.loads(found[RUNS_KEY])]
    if sum(entry.rows for entry in entries) != rows:
        raise ValueError("its index of runs is not that of its rows")
    return entries


def plans(found: Mapping[bytes, bytes]) -> list[Plan]:
    """The plans of a result of either kind, in the order of its runs."""
    if PLANS_KEY not in found:
        return [schema.plan_of(found)]
    return [Plan.from_json(value) for value in json.loads(zlib.decompress(base64.b64decode(found[PLANS_KEY])))]

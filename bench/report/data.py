"""The same results for scripts: JSON with stable keys. Every float is what the summary holds, unrounded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from bench.summary import Spread, Summary
from bench.types import Plan


def results_json(plan: Plan, path: Path, summaries: Sequence[Summary], spreads: Sequence[Spread]) -> str:
    """What ``--json`` prints for one run: one line, so that several runs are JSON Lines."""
    return json.dumps(
        {
            "run_id": plan.run_id,
            "path": str(path),
            "node": plan.node,
            "suite": plan.suite,
            "started_at": plan.started_at,
            "label": plan.label,
            "results": [dataclasses.asdict(one) for one in summaries],
            "spreads": [dataclasses.asdict(spread) for spread in spreads],
        }
    )

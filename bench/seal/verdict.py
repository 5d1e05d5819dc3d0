"""Whether a verdict is of the files beside it: what sealing and verifying both look at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

RESULT = "result.parquet"
TELEMETRY = "telemetry.parquet"
CRITERIA = "criteria.toml"
VERDICT = "verdict.json"
ENVIRONMENT = "environment.json"
LOG = "log.txt"

OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE", "ERROR")


def outcome(files: Mapping[str, bytes | memoryview], run_id: str) -> str | None:
    """What the verdict among these files says; None where there is no verdict.

    Raises:
        ValueError: it cannot be read, it is a simulated one, or it is of other files or another run; the text says
            which.
    """
    if VERDICT not in files:
        return None
    try:
        found: Any = json.loads(bytes(files[VERDICT]))
        said, simulated = found["verdict"], found["simulated"]
        claimed = {RESULT: found["result_sha256"], CRITERIA: found["criteria_sha256"]}
        claimed_run = found.get("run_id", run_id)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("the verdict is no JSON that vnbench judge --json writes") from None
    if said not in OUTCOMES:
        raise ValueError(f"the verdict is none of {', '.join(OUTCOMES)}")
    if simulated is not False:
        raise ValueError("the verdict is a simulated one: it says nothing of a machine")
    for name, sha256 in claimed.items():
        if name not in files:
            raise ValueError(f"the verdict is there without its {name}")
        if sha256 != hashlib.sha256(files[name]).hexdigest():
            raise ValueError(f"the verdict is of another {name} than this one")
    if claimed_run != run_id:
        raise ValueError(f"the verdict is of run {claimed_run!a}, the result is of {run_id}")
    return str(said)

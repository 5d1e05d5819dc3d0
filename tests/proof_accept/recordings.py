"""The recorded acceptances, each with what was true of the machine when it was taken."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from bench import packed, store
from bench.schema import Row
from bench.tables import columns_of, tables_of
from bench.types import Plan

FOLDER = Path(__file__).resolve().parent.parent.parent / "results" / "proof-accept"

# What was true of it, as the tag of a run.
TRUTH = "truth"
CALIBRATION, HEALTHY = "calibration", "healthy"

_SAMPLES = ("elapsed_ns", "warmup_ns", "sample_flags", "marks")  # nothing is judged by them


@dataclass(frozen=True)
class Acceptance:
    """One recorded acceptance."""

    plan: Plan
    rows: Sequence[Row]

    @property
    def truth(self) -> str:
        return self.plan.tags[TRUTH]

    @property
    def is_whole(self) -> bool:
        """Whether it came to its own end: one that whoever recorded has stopped is no judgement of a machine."""
        return all(row["status"] != "interrupted" for row in self.rows)

    @property
    def seconds(self) -> float:
        """From its start to its last sample."""
        ends = [row["timed_until"] for row in self.rows if row["timed_until"] is not None]
        seconds: float = (max(ends) - dt.datetime.fromisoformat(self.plan.started_at)).total_seconds()
        return seconds

    @property
    def replicates(self) -> int:
        return len({row["replicate"] for row in self.rows})


def load(folder: Path = FOLDER) -> list[Acceptance]:
    """All that came to their own end, in the order they were taken; from runs by themselves and packed, each once."""
    paths = store.result_files(folder / "runs")
    kinds = columns_of(paths)
    found: dict[str, Acceptance] = {}
    for path in paths:
        metadata = pq.read_metadata(path)
        ids = {entry.run_id for entry in packed.runs(metadata.metadata, metadata.num_rows)}
        for plan, table in tables_of(path, ids, kinds):
            found[plan.run_id] = Acceptance(plan, table.drop(list(_SAMPLES)).to_pylist())
    return sorted((one for one in found.values() if one.is_whole), key=lambda one: one.plan.started_at)


def of(truth: str, acceptances: Sequence[Acceptance]) -> list[Acceptance]:
    return [one for one in acceptances if one.truth == truth]

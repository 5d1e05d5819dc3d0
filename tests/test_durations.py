"""``bench.durations``: real result files, of runs whose times are known."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from bench import durations
from bench.types import Policy
from tests.results import WORKLOAD, make_plan
from tests.stored import GPU, OTHER, STEADY, stored

STARTED = dt.datetime(2026, 11, 22, 5, 15, tzinfo=dt.UTC)  # of the plans of tests.results
PLAN = make_plan(replicates=len(STEADY))


def run_of(out: Path, seconds: float, **changes: Any) -> None:
    stored(out, **{"timed_until": STARTED + dt.timedelta(seconds=seconds)} | changes)


def test_the_median_stands_for_all_runs_alike(tmp_path: Path) -> None:
    for seconds in (600, 660, 3600):
        run_of(tmp_path, seconds)
    assert durations.past(PLAN, tmp_path) == durations.Durations(3, 660, 600, 3600)


def test_where_nothing_alike_was_run_nothing_is_known(tmp_path: Path) -> None:
    assert durations.past(PLAN, tmp_path) is None
    run_of(tmp_path, 600, info=GPU)
    run_of(tmp_path, 600, values={WORKLOAD: STEADY, OTHER: STEADY})
    run_of(tmp_path, 600, values=STEADY[:3])  # fewer replicates
    run_of(tmp_path, 600, plan={"policy": Policy(max_samples=3)})
    assert durations.past(PLAN, tmp_path) is None


@pytest.mark.parametrize("changes", [{"status": "interrupted"}, {"status": "timeout"}, {"timed_until": None}])
def test_a_run_that_did_not_do_it_all_tells_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    run_of(tmp_path, 600, **changes)
    assert durations.past(PLAN, tmp_path) is None


def test_what_is_unsupported_is_part_of_a_whole_run(tmp_path: Path) -> None:
    values = {WORKLOAD: STEADY, OTHER: STEADY}
    run_of(tmp_path, 600, values=values, only={OTHER: {"status": "unsupported", "timed_until": None}})
    plan = make_plan(WORKLOAD, OTHER, replicates=len(STEADY))
    found = durations.past(plan, tmp_path)
    assert found is not None and found.median_s == 600


def test_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    run_of(tmp_path, 600)
    (tmp_path / "runs" / "node7" / "damaged.parquet").write_bytes(b"PAR1")
    found = durations.past(PLAN, tmp_path)
    assert found is not None and found.runs == 1

"""``bench.gate.history``: a point per run, and only what is alike on a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from bench.gate import history
from bench.gate.history import History
from tests.results import WORKLOAD
from tests.stored import GPU, OTHER, STEADY, noisy, stored


class Runs:
    """Runs into a folder, a day apart."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.paths: list[Path] = []

    def add(self, values: Any = STEADY, **changes: Any) -> str:
        """The id of a run of the next day."""
        day = len(self.paths) + 1
        run_id = f"{day:010d}"
        at = f"2026-{day // 28 + 1:02d}-{day % 28 + 1:02d}T05:15:00.000000+00:00"
        commit = f"{day:040x}"
        import datetime as dt

        self.paths.append(
            stored(
                self.out,
                values,
                run_id=run_id,
                plan={"started_at": at, "source_commit": commit},
                **{"started_at": dt.datetime.fromisoformat(at)} | changes,
            )
        )
        return run_id

    def read(self, **options: Any) -> History:
        return history.read(list(reversed(self.paths)), WORKLOAD, **options)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def ids(found: History) -> list[list[str]]:
    return [[point.run_id for point in line.points] for line in found.lines]


def test_a_point_is_a_run_the_oldest_first(runs: Runs) -> None:
    a, b = runs.add([1.0, 2.0, 4.0]), runs.add([3.0, 3.0])
    (line,) = runs.read().lines
    first, second = line.points
    assert (first.run_id, second.run_id) == (a, b)
    assert first.value == pytest.approx(2.0) and first.interval is not None and first.interval.n == 3
    assert second.value == pytest.approx(3.0) and second.interval is None and second.replicates == 2
    assert (first.started_at, first.source_commit) == ("2026-01-02T05:15:00+00:00", f"{1:040x}")
    assert (line.device, line.unit, line.better) == ("cpu", "FLOP/s", "higher")


@pytest.mark.parametrize(
    "change",
    [
        {"cpu_model": "another"},
        {"memory_bytes": 32 << 30},
        {"spec_id": "x", "kernel_version": 2},
        {"policy_id": "x"},
        {"device_index": 1, "device": "cuda"},
    ],
)
def test_what_is_not_alike_never_shares_a_line(runs: Runs, change: dict[str, Any]) -> None:
    a, b, c = runs.add(), runs.add(**change), runs.add()
    assert sorted(ids(runs.read())) == sorted([[a, c], [b]])


@pytest.mark.parametrize("change", [{"memory_bytes": (16 << 30) + 4096}, {"node": "other"}, {"torch": "2.14"}])
def test_what_is_alike_does(runs: Runs, change: dict[str, Any]) -> None:
    a, b = runs.add(), runs.add(**change)
    assert ids(runs.read()) == [[a, b]]


def test_software_that_changed_is_named_where_it_did(runs: Runs) -> None:
    runs.add()
    runs.add(torch="2.14", cpu_governor="performance")
    runs.add(torch="2.14")
    (line,) = runs.read().lines
    assert [dict(point.changed) for point in line.points] == [{}, {"torch": ("2.13", "2.14")}, {}]


def test_versions_of_a_workload_are_lines_of_one_machine(runs: Runs) -> None:
    runs.add()
    runs.add(spec_id="x", kernel_version=2)
    old, new = runs.read().lines
    assert old.machine == new.machine
    assert (old.kernel_version, new.kernel_version) == (1, 2) or old.kernel_version != new.kernel_version


def test_a_run_that_failed_is_a_point_without_a_value(runs: Runs) -> None:
    runs.add()
    failed = runs.add({WORKLOAD: [None, None]})
    partly = runs.add({WORKLOAD: [1.0, None]})
    (line,) = runs.read().lines
    assert [point.run_id for point in line.points] == ["0000000001", failed, partly]
    assert (line.points[1].value, line.points[1].statuses) == (None, ("failed",))
    assert line.points[2].value == 1.0 and line.points[2].statuses == ("failed", "ok")
    assert len(line.measured) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_a_value_that_is_no_positive_number_is_no_figure(runs: Runs, bad: float) -> None:
    runs.add([1.0, bad, 1.0])
    (line,) = runs.read().lines
    assert line.points[0].value is None


def test_rows_of_one_process_are_one_replicate(runs: Runs) -> None:
    runs.add([1.0, 4.0], only={WORKLOAD: {"replicate": 0}})
    (only,) = runs.read().lines[0].points
    assert only.value == pytest.approx(2.0)
    assert (only.replicates, only.interval) == (1, None)


def test_a_row_that_does_not_say_when_it_began_has_its_runs_date(runs: Runs) -> None:
    added = [runs.add(started_at=None), runs.add(), runs.add(started_at=None)]
    (line,) = runs.read().lines
    assert [point.run_id for point in line.points] == added
    assert [point.started_at for point in line.points] == [f"2026-01-0{day}T05:15:00+00:00" for day in (2, 3, 4)]


def test_a_metric_without_unit_or_direction_has_none(runs: Runs) -> None:
    runs.add(unit=None, better=None)
    (line,) = runs.read().lines
    assert (line.unit, line.better) == (None, None)


def levels(runs: Runs, values: Sequence[float]) -> list[str]:
    return [runs.add([value]) for value in values]


def test_a_change_of_level_is_marked_at_its_run(runs: Runs) -> None:
    noise = noisy(24, 0.005, seed=3)
    added = levels(runs, [*noise[:12], *(value * 0.9 for value in noise[12:])])
    (line,) = runs.read().lines
    ((at, change),) = line.change_at.items()
    assert at == added[12]
    assert change.after / change.before == pytest.approx(0.9, abs=0.01)


def test_a_failed_run_does_not_shift_the_mark(runs: Runs) -> None:
    noise = noisy(20, 0.005, seed=3)
    levels(runs, noise[:5])
    runs.add({WORKLOAD: [None]})
    added = levels(runs, [*noise[5:10], *(value * 0.9 for value in noise[10:])])
    (line,) = runs.read().lines
    assert list(line.change_at) == [added[5]]


def test_a_steady_figure_has_no_mark(runs: Runs) -> None:
    levels(runs, noisy(15, 0.01, seed=5))
    assert runs.read().lines[0].changes == ()


def test_a_version_bump_is_a_break_and_no_change(runs: Runs) -> None:
    noise = noisy(16, 0.005, seed=3)
    levels(runs, noise[:8])
    for value in noise[8:]:
        runs.add([value * 0.5], spec_id="x")
    assert [line.changes for line in runs.read().lines] == [(), ()]


def test_a_device_is_chosen_by_kind_or_by_number(runs: Runs) -> None:
    runs.add()
    runs.add(info=GPU)
    runs.add(device_index=1, device="cuda")
    read = runs.read
    assert [line.device for line in read(device="cuda").lines] == ["cuda:0", "cuda:1"]
    assert [line.device for line in read(device="cuda:1").lines] == ["cuda:1"]
    assert [line.device for line in read(device="cpu").lines] == ["cpu"]
    with pytest.raises(UsageError, match="was never measured on cuda:7"):
        read(device="cuda:7")


def test_arms_and_other_workloads_are_left_out(runs: Runs) -> None:
    a = runs.add({WORKLOAD: STEADY, OTHER: STEADY})
    runs.add(arm="A")
    assert ids(runs.read()) == [[a]]


def test_a_workload_without_a_result_is_said(runs: Runs) -> None:
    runs.add()
    with pytest.raises(UsageError, match="no result of 'matmul/fp32/1' in 1 files"):
        history.read(runs.paths, "matmul/fp32/1")

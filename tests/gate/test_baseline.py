"""``bench.gate.baseline``: kept whole or not at all, outlives its runs, and says what measures it again."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bench import pack
from bench.errors import OutputNotWritable, UnreadableResult, UsageError
from bench.gate import baseline, side
from bench.gate.source import Source
from tests.results import WORKLOAD
from tests.stored import OTHER, STEADY, stored


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".parquet"}


def test_a_baseline_outlives_the_runs_that_it_was_made_of(tmp_path: Path) -> None:
    run = stored(tmp_path, run_id="aaaaaaaaaa")
    copy = run.read_bytes()
    baseline.keep(tmp_path, "main", [run])
    shutil.rmtree(tmp_path / "runs")
    (kept,) = baseline.files(tmp_path, "main")
    assert kept.read_bytes() == copy
    assert side.load([kept]).run_ids == {"aaaaaaaaaa"}
    assert baseline.names(tmp_path) == ["main"]


def test_a_baseline_is_in_no_one_elses_way(tmp_path: Path) -> None:
    """``read_parquet("results/runs")`` is one table, and none of its rows is there twice."""
    baseline.keep(tmp_path, "main", [stored(tmp_path)])
    assert pq.read_table(tmp_path / "runs").num_rows == 5


def test_the_same_file_twice_counts_once_and_two_of_one_name_both(tmp_path: Path) -> None:
    first = stored(tmp_path, run_id="aaaaaaaaaa")
    second = tmp_path / "elsewhere" / first.name
    second.parent.mkdir()
    shutil.copy(stored(tmp_path, run_id="bbbbbbbbbb"), second)
    baseline.keep(tmp_path, "main", [first, first, tmp_path / "runs" / ".." / first.relative_to(tmp_path), second])
    assert len(baseline.files(tmp_path, "main")) == 2
    assert side.load(baseline.files(tmp_path, "main")).run_ids == {"aaaaaaaaaa", "bbbbbbbbbb"}


def test_a_name_that_is_taken_needs_replace(tmp_path: Path) -> None:
    baseline.keep(tmp_path, "main", [stored(tmp_path)])
    before = contents(tmp_path / "baselines" / "main")
    newer = stored(tmp_path)
    with pytest.raises(UsageError, match=r"there is a baseline 'main' already. Use --replace"):
        baseline.keep(tmp_path, "main", [newer])
    assert contents(tmp_path / "baselines" / "main") == before
    baseline.keep(tmp_path, "main", [newer], replace=True)
    assert contents(tmp_path / "baselines" / "main") == {newer.name: newer.read_bytes()}
    assert sorted(path.name for path in (tmp_path / "baselines").iterdir()) == [".lock", "main"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-x", ".hidden", "a b", "x" * 65, "run.parquet", "tên"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    run = stored(tmp_path)
    for act in (lambda: baseline.keep(tmp_path, name, [run]), lambda: baseline.remove(tmp_path, name)):
        with pytest.raises(UsageError, match="is no name for a baseline"):
            act()
    assert not (tmp_path / "baselines").exists()


def test_what_cannot_be_a_baseline_leaves_none(tmp_path: Path) -> None:
    good = stored(tmp_path)
    truncated = tmp_path / "truncated.parquet"
    truncated.write_bytes(good.read_bytes()[:1000])
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pq.read_table(good).replace_schema_metadata({}), foreign)
    failed = stored(tmp_path, {WORKLOAD: [None, None]})
    for bad, kind in ((truncated, UnreadableResult), (foreign, UnreadableResult), (failed, UsageError)):
        with pytest.raises(kind):
            baseline.keep(tmp_path, "main", [bad])
    assert baseline.names(tmp_path) == []


def test_a_copy_that_fails_midway_leaves_the_old_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline.keep(tmp_path, "main", [stored(tmp_path)])
    before = contents(tmp_path / "baselines" / "main")
    copy = shutil.copyfile
    copied: list[Path] = []

    def full(source: Path, target: Path) -> None:
        if copied:
            raise OSError(28, "No space left on device")
        copied.append(target)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OutputNotWritable, match="No space left"):
        baseline.keep(tmp_path, "main", [stored(tmp_path), stored(tmp_path)], replace=True)
    assert copied
    assert contents(tmp_path / "baselines" / "main") == before
    assert sorted(path.name for path in (tmp_path / "baselines").iterdir()) == [".lock", "main"]


def test_a_replacement_killed_between_its_renames_is_put_back(tmp_path: Path) -> None:
    baseline.keep(tmp_path, "main", [stored(tmp_path, run_id="aaaaaaaaaa")])
    folder = tmp_path / "baselines"
    (folder / "main").rename(folder / ".old-main")  # what the kill leaves
    assert baseline.names(tmp_path) == ["main"]
    assert side.load(baseline.files(tmp_path, "main")).run_ids == {"aaaaaaaaaa"}
    shutil.copytree(folder / "main", folder / ".old-main")  # killed a moment later
    assert baseline.names(tmp_path) == ["main"]
    assert not (folder / ".old-main").exists()


def test_removing_one_leaves_the_others_and_says_if_there_is_none(tmp_path: Path) -> None:
    run = stored(tmp_path)
    baseline.keep(tmp_path, "main", [run])
    baseline.keep(tmp_path, "nightly", [run])
    baseline.remove(tmp_path, "main")
    assert baseline.names(tmp_path) == ["nightly"]
    assert run.exists()
    with pytest.raises(
        UsageError, match=r"no baseline 'main' in .*There are: nightly; make one with: vnbench baseline"
    ):
        baseline.remove(tmp_path, "main")


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    run = stored(tmp_path)
    (tmp_path / "baselines").write_text("")
    with pytest.raises(OutputNotWritable, match="cannot write"):
        baseline.keep(tmp_path, "main", [run])


def test_a_baseline_is_found_by_name_then_by_path_then_by_run(tmp_path: Path) -> None:
    run = stored(tmp_path, run_id="aaaaaaaaaa")
    baseline.keep(tmp_path, "main", [run])
    assert baseline.find(tmp_path, "main") == Source((tmp_path / "baselines" / "main" / run.name,))
    assert baseline.find(tmp_path, str(run)) == Source((run,))
    assert baseline.find(tmp_path, "aaaa") == Source((run,), frozenset({"aaaaaaaaaa"}))
    with pytest.raises(UsageError, match=r"no baseline 'mian' in .*, and no result at 'mian', .* There are: main"):
        baseline.find(tmp_path, "mian")


def test_the_newest_run_is_the_default(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run in"):
        baseline.newest(tmp_path)
    newest = stored(tmp_path, plan={"started_at": "2026-12-01T00:00:00.000000+00:00", "node": "b"})
    stored(tmp_path, plan={"started_at": "2026-11-01T00:00:00.000000+00:00", "node": "a"})
    assert baseline.newest(tmp_path) == Source((newest,))


def packed_runs(out: Path) -> Path:
    """The runs aaaaaaaaaa and bbbbbbbbbb, which is later and slower, in one file; the originals are gone."""
    started = {"started_at": "2026-12-01T00:00:00.000000+00:00"}
    paths = [stored(out, run_id="aaaaaaaaaa"), stored(out, run_id="bbbbbbbbbb", slower=1.1, plan=started)]
    (packed,) = pack.pack(paths, out / "runs", remove_originals=True).files
    return packed


def test_the_newest_run_of_a_packed_file_is_that_run_alone(tmp_path: Path) -> None:
    packed = packed_runs(tmp_path)
    assert baseline.newest(tmp_path) == Source((packed,), frozenset({"bbbbbbbbbb"}))
    newer = stored(tmp_path, plan={"started_at": "2026-12-02T00:00:00.000000+00:00"})
    assert baseline.newest(tmp_path) == Source((newer,))


def test_a_run_that_is_packed_is_kept_without_those_beside_it(tmp_path: Path) -> None:
    packed, single = packed_runs(tmp_path), stored(tmp_path, run_id="cccccccccc")
    content = baseline.keep(tmp_path, "main", [packed, single], runs={"aaaaaaaaaa", "cccccccccc"})
    assert content.run_ids == {"aaaaaaaaaa", "cccccccccc"}
    assert {plan.run_id for plan in baseline.plans(baseline.files(tmp_path, "main"))} == content.run_ids
    assert (tmp_path / "baselines" / "main" / single.name).read_bytes() == single.read_bytes()
    baseline.keep(tmp_path, "all", [packed], runs={"aaaaaaaaaa", "bbbbbbbbbb"})
    assert contents(tmp_path / "baselines" / "all") == {packed.name: packed.read_bytes()}


def test_what_is_left_of_a_replacement_stops_no_reader_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline.keep(tmp_path, "main", [stored(tmp_path)])
    shutil.copytree(tmp_path / "baselines" / "main", tmp_path / "baselines" / ".old-main")
    opened = os.open

    def read_only(path: Any, flags: int, *others: Any, **more: Any) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(30, "Read-only file system")
        return opened(path, flags, *others, **more)

    monkeypatch.setattr(os, "open", read_only)
    assert baseline.names(tmp_path) == ["main"]
    assert len(baseline.find(tmp_path, "main").paths) == 1
    with pytest.raises(OutputNotWritable, match="Read-only"):
        baseline.remove(tmp_path, "main")


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored(tmp_path)

    def fail(*arguments: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OutputNotWritable, match="No locks available"):
        baseline.keep(tmp_path, "main", [run])


def test_an_empty_folder_does_not_cost_the_baseline_that_is_to_be_put_back(tmp_path: Path) -> None:
    baseline.keep(tmp_path, "main", [stored(tmp_path, run_id="aaaaaaaaaa")])
    folder = tmp_path / "baselines"
    (folder / "main").rename(folder / ".old-main")
    (folder / "main").mkdir()
    assert side.load(baseline.files(tmp_path, "main")).run_ids == {"aaaaaaaaaa"}
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "main"]


@pytest.mark.parametrize("has_new", [False, True], ids=["between the renames", "after them"])
def test_a_killed_replacement_is_mended_before_the_next_one(tmp_path: Path, has_new: bool) -> None:
    baseline.keep(tmp_path, "main", [stored(tmp_path, run_id="aaaaaaaaaa")])
    newer = stored(tmp_path, run_id="bbbbbbbbbb")
    folder = tmp_path / "baselines"
    (folder / "main").rename(folder / ".old-main")  # what the kill leaves
    if has_new:
        shutil.copytree(folder / ".old-main", folder / "main")
    with pytest.raises(UsageError, match="there is a baseline 'main' already"):
        baseline.keep(tmp_path, "main", [newer])
    if has_new:
        shutil.copytree(folder / "main", folder / ".old-main")
    for name in ("main", "other"):  # whose copying was killed
        shutil.copytree(folder / "main", folder / f".new-{name}")
    assert baseline.keep(tmp_path, "main", [newer], replace=True).run_ids == {"bbbbbbbbbb"}
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "main"]


def test_what_will_keep_a_gate_from_an_answer_is_said(tmp_path: Path) -> None:
    values = {WORKLOAD: STEADY[:3], OTHER: [*STEADY, None]}
    content = baseline.keep(tmp_path, "main", [stored(tmp_path, values, validity=["unfit:steal", "cut-short"])])
    assert baseline.warnings(content) == [
        f"{WORKLOAD} on cpu: fewer than 5 processes, so no gate will find a regression",
        f"{OTHER} on cpu: failed, so no gate will judge it",
        "the machine was not fit (unfit:steal): every gate will exit with 4",
    ]
    assert baseline.warnings(baseline.keep(tmp_path, "good", [stored(tmp_path)])) == []

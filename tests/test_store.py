"""``bench.store``: files are whole or not there, readers survive damage, and a run's folder has one owner."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import files, schema, store
from bench.errors import OutputNotWritable, UnreadableResult, UsageError
from bench.schema import Row
from bench.types import Plan
from tests.checkout import ROOT
from tests.results import make_plan, make_row


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"


def begun(out: Path, plan: Plan, *rows: Row) -> store.RunFolder:
    folder = store.begin(out, plan)
    for row in rows:
        store.write_part(folder.path, row, plan)
    return folder


def finished(out: Path, plan: Plan, *rows: Row) -> Path:
    folder = begun(out, plan, *rows)
    path = folder.commit(folder.rows())
    folder.release()
    return path


def result(out: Path, run_id: str = "5f0c2a91be", node: str = "node7") -> Path:
    plan = make_plan(run_id=run_id, node=node)
    return finished(out, plan, *(make_row(plan, replicate=replicate) for replicate in range(3)))


# ---------------------------------------------------------------- from the first row to the file


def test_rows_become_one_file_with_their_plan(out: Path) -> None:
    plan = make_plan(tags={"rack": "b4"})
    rows = [make_row(plan, replicate=replicate, value=replicate + 1.5) for replicate in range(3)]
    path = finished(out, plan, *reversed(rows))
    assert path == out / "runs" / "node7" / "20261122T051500Z-smoke-5f0c2a91be.parquet"
    assert store.read(path) == (plan, rows)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_finished_run_leaves_its_file_and_nothing_else(out: Path) -> None:
    path = result(out)
    assert [file for file in out.rglob("*") if file.is_file()] == [path]


def test_the_parts_of_a_run_are_found_while_it_is_in_progress(out: Path) -> None:
    plan = make_plan()
    row = make_row(plan)
    folder = begun(out, plan, row)
    assert folder.rows() == [row]
    assert list((out / "runs").rglob("*")) == []
    folder.release()


def test_part_names_are_unique_in_a_run_and_in_the_order_of_the_passes(out: Path) -> None:
    plan = make_plan()
    rows = [
        make_row(plan) | {"replicate": replicate, "device": kind, "device_index": index, "sequence": sequence}
        for replicate in (0, 9, 10)
        for kind, index in (("cpu", 0), ("cuda", 0), ("cuda", 1), ("cuda", 11))
        for sequence in (0, 1, 11)
    ]
    names = [store.part_name(row) for row in rows]
    assert len(set(names)) == len(rows)
    assert names == sorted(names)


def test_rows_that_were_kept_are_in_the_folder_before_the_run_can_be_recovered(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan()
    kept = [make_row(plan, replicate=replicate) for replicate in range(2)]
    seen: list[list[Row]] = []
    write_atomically = files.write_atomically

    def watched(target: Path, content: bytes) -> None:
        seen.append(store.RunFolder(out, plan, -1).rows())
        write_atomically(target, content)

    monkeypatch.setattr(store, "write_atomically", watched)
    store.begin(out, plan, kept).release()
    assert seen == [kept]


# ---------------------------------------------------------------- whole or not at all


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = result(out)
    before = path.read_bytes()

    def half(table: pa.Table, file: object, **_: object) -> None:
        file.write(b"PAR1 and no more")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    plan = make_plan()
    folder = begun(out, plan, make_row(plan))
    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OutputNotWritable, match=r"No space left on device.*--out") as caught:
        folder.commit(folder.rows())
    folder.release()
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert list(out.rglob("*.tmp")) == []
    monkeypatch.undo()
    (recovered,) = store.abandoned(out, [make_plan().node])
    assert len(recovered.rows()) == 1
    recovered.release()


def test_a_results_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputNotWritable, match=r"cannot write .*file"):
        store.begin(tmp_path / "file" / "results", make_plan())


KILLED_WHILE_WRITING = """
import os, sys
from pathlib import Path
from bench import files, store
from tests.results import make_plan, make_row

plan = make_plan()
folder = store.begin(Path(sys.argv[1]), plan)
for replicate in range(2):
    store.write_part(folder.path, make_row(plan, replicate=replicate), plan)

def killed(*_):
    os.kill(os.getpid(), 9)

files.replace = killed
store.write_part(folder.path, make_row(plan, replicate=2), plan)
"""


def test_a_process_killed_while_it_writes_leaves_whole_parts_only(out: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(out)], cwd=ROOT, check=False)
    assert done.returncode == -9
    (folder,) = store.abandoned(out, [make_plan().node])
    assert [row["replicate"] for row in folder.rows()] == [0, 1]
    assert len(list(folder.path.glob("*.tmp"))) == 1
    path = folder.commit(folder.rows())
    folder.release()
    assert [file for file in out.rglob("*") if file.is_file()] == [path]


# ---------------------------------------------------------------- who owns a run's folder


HOLDING = """
import os, subprocess, sys
from pathlib import Path
from bench import store
from tests.results import make_plan, make_row

plan = make_plan()
folder = store.begin(Path(sys.argv[1]), plan)
store.write_part(folder.path, make_row(plan), plan)
if sys.argv[2] == "shared":
    # A worker inherits the lock; its parent, this process, is killed.
    subprocess.Popen(["sleep", "60"], pass_fds=[folder.lock_fd], stdout=subprocess.DEVNULL)
print("begun", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holding(out: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process at a run, which ends when its standard input does."""
    command = [sys.executable, "-c", HOLDING, str(out), how]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_run_is_abandoned_once_its_process_is_gone_and_not_before(out: Path) -> None:
    with holding(out, "alone") as process:
        assert list(store.abandoned(out, [make_plan().node])) == []
        with pytest.raises(UsageError, match="run 5f0c2a91be is in progress"):
            store.begin(out, make_plan())
        process.kill()
        process.wait()
        (folder,) = store.abandoned(out, [make_plan().node])
        assert folder.plan == make_plan()
        assert len(folder.rows()) == 1
        assert list(store.abandoned(out, [make_plan().node])) == [], "it is locked by this process now"
        folder.release()


def test_a_run_whose_worker_lives_is_not_abandoned(out: Path) -> None:
    with holding(out, "shared") as process:
        process.kill()
        process.wait()
        assert list(store.abandoned(out, [make_plan().node])) == []


def test_a_folder_taken_away_before_it_was_locked_is_passed_over(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan()
    other = begun(out, plan, make_row(plan))
    try_lock = store._try_lock

    def late(lock_fd: int) -> bool:
        path = other.commit(other.rows())
        other.release()
        assert path.exists()
        return try_lock(lock_fd)

    monkeypatch.setattr(store, "_try_lock", late)
    assert list(store.abandoned(out, [make_plan().node])) == []


def test_a_folder_that_was_taken_away_in_part_is_not_recovered_over_its_result(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan()
    folder = begun(out, plan, *(make_row(plan, replicate=replicate) for replicate in range(3)))
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    path = folder.commit(folder.rows())
    folder.release()
    assert folder.path.exists()
    assert list(store.abandoned(out, [make_plan().node])) == []
    assert len(store.read(path)[1]) == 3


def test_what_is_not_a_run_is_passed_over(out: Path) -> None:
    for name, text in [("no-plan", None), ("torn", '{"run_id": "x"'), ("other", "{}"), ("number", "3")]:
        folder = out / ".incomplete" / name
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        if text is not None:
            (folder / "plan.json").write_text(text)
    assert list(store.abandoned(out, [make_plan().node])) == []


def test_a_run_of_another_node_is_left_to_it(out: Path) -> None:
    plan = make_plan()
    begun(out, plan, make_row(plan)).release()
    assert list(store.abandoned(out, ["node8", "node-0123456789ab"])) == []
    (folder,) = store.abandoned(out, ["node8", plan.node])
    folder.release()


def test_an_unreadable_part_does_not_hide_the_others(out: Path) -> None:
    plan = make_plan()
    folder = begun(out, plan, make_row(plan), make_row(plan, replicate=1))
    first = folder.path / store.part_name(make_row(plan))
    first.write_bytes(first.read_bytes()[:-20])
    assert [row["replicate"] for row in folder.rows()] == [1]
    folder.release()


# ---------------------------------------------------------------- reading


def rewritten(path: Path, change: object, **metadata: str) -> Path:
    """The file again, its table changed, its metadata with these entries."""
    table = pq.read_table(path, partitioning=None)
    kept = table.schema.metadata
    table = change(table) if callable(change) else table
    entries = {key.encode(): value.encode() for key, value in metadata.items()}
    pq.write_table(table.replace_schema_metadata({**kept, **entries}), path)
    return path


def unreadable(path: Path) -> str:
    with pytest.raises(UnreadableResult) as caught:
        store.read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_a_truncated_file_is_unreadable_wherever_it_ends(out: Path) -> None:
    path = result(out)
    whole = path.read_bytes()
    for size in (0, 3, 4, 100, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "not a readable Parquet file" in unreadable(path)


def test_damage_anywhere_is_an_error_of_its_own_or_goes_unnoticed(out: Path) -> None:
    path = result(out)
    whole = path.read_bytes()
    generator = random.Random(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            store.read(path)
        except UnreadableResult:
            refused += 1
    assert refused > 100


def test_what_is_no_parquet_file_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "notes.parquet"
    path.write_text("not a table\n" * 100)
    assert "not a readable Parquet file" in unreadable(path)
    assert "not a readable Parquet file" in unreadable(tmp_path / "missing.parquet")


def test_a_parquet_file_of_others_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pandas.DataFrame({"workload": ["matmul/fp32/64"], "value": [1.0]}).to_parquet(path)
    assert "a Parquet file, but no result of vnbench" in unreadable(path)


def test_a_newer_schema_asks_for_a_newer_vnbench(out: Path) -> None:
    path = rewritten(result(out), None, **{"vnbench.schema_version": "2", "vnbench.plan": '{"of": "another kind"}'})
    assert "schema 2, this vnbench reads up to 1. Upgrade vnbench" in unreadable(path)


@pytest.mark.parametrize("plan", ["", "{", "{}", "[]", '{"devices": 3}'])
def test_a_damaged_plan_is_unreadable(out: Path, plan: str) -> None:
    unreadable(rewritten(result(out), None, **{"vnbench.plan": plan}))


def test_a_file_of_before_a_column_was_added_reads_it_as_null(out: Path) -> None:
    path = rewritten(result(out), lambda table: table.drop_columns(["candidate", "numpy", "roofs"]))
    _, rows = store.read(path)
    assert len(rows) == 3
    assert set(rows[0]) == set(schema.SCHEMA.names)
    assert rows[0]["candidate"] is rows[0]["numpy"] is rows[0]["roofs"] is None
    assert rows[0]["value"] == 2.0


def test_a_column_that_is_not_known_is_passed_through(out: Path) -> None:
    path = rewritten(result(out), lambda table: table.append_column("moon_phase", pa.array(["new"] * 3)))
    _, rows = store.read(path)
    assert [row["moon_phase"] for row in rows] == ["new"] * 3
    assert rows[0]["value"] == 2.0
    # A merge of such rows writes what this version knows.
    assert schema.to_table(rows, make_plan()).column_names == schema.SCHEMA.names


def test_folders_with_an_equals_sign_are_no_columns(tmp_path: Path) -> None:
    plan = make_plan()
    folder = begun(tmp_path / "node=elsewhere", plan, make_row(plan))
    (row,) = folder.rows()
    path = folder.commit([row])
    folder.release()
    assert store.read(path)[1][0]["node"] == "node7"


# ---------------------------------------------------------------- finding


def test_a_result_is_found_by_file_folder_and_the_beginning_of_its_id(out: Path, tmp_path: Path) -> None:
    first, second = result(out, "aa11111111"), result(out, "ab22222222", node="node8")
    assert store.find(tmp_path / "elsewhere", str(first)) == [first]
    assert store.find(tmp_path / "elsewhere", str(out / "runs")) == [first, second]
    assert store.find(out, "aa") == [first]
    assert store.find(out, "a") == [first, second]
    assert store.find(out, "ab22222222") == [second]


@pytest.mark.parametrize("text", ["b2222", "22222222", "smoke", "no/such/folder", "no-such.parquet"])
def test_what_is_not_there_is_said(out: Path, text: str) -> None:
    result(out, "aa11111111")
    with pytest.raises(UnreadableResult, match=f"no result at '{text}'"):
        store.find(out, text)


def test_a_folder_without_results_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableResult, match=f"no result in the folder {tmp_path}"):
        store.find(tmp_path, str(tmp_path))


def test_results_behind_links_are_found_and_each_once(out: Path, tmp_path: Path) -> None:
    """The results of several nodes on a shared disk, and a link that leads back."""
    path = result(out, "aa11111111")
    shared = tmp_path / "shared"
    (out / "runs").rename(shared)
    (out / "runs").symlink_to(shared)
    (shared / "again").symlink_to(shared)
    (shared / "node9").symlink_to(shared / path.parent.name)
    assert store.find(out, "aa") == store.find(out, str(out)) == [path]
    assert store.find(out, str(shared / "node9")) == [shared / "node9" / path.name]


def test_a_run_in_progress_is_no_result(out: Path) -> None:
    path = result(out)
    plan = make_plan(run_id="bb33333333")
    folder = begun(out, plan, make_row(plan))
    assert store.find(out, str(out)) == [path]
    with pytest.raises(UnreadableResult):
        store.find(out, "bb33")
    folder.release()


# ---------------------------------------------------------------- as others read it


@pytest.fixture
def tree(out: Path) -> Path:
    """Three runs of two nodes, another in progress, a time series beside."""
    result(out, "aa11111111")
    plan = make_plan(run_id="ab22222222", started_at="2026-11-23T01:00:00.000000+00:00")
    roofs = [{"name": "roof/compute/fp32", "value": 4.0, "unit": "FLOP/s", "source": "measured", "fraction": 0.5}]
    finished(out, plan, make_row(plan, tags=[("rack", "b4")], roofs=roofs, validity=["unfit:steal"]))
    result(out, "cc33333333", node="node8")
    plan = make_plan(run_id="dd44444444")
    begun(out, plan, make_row(plan)).release()
    series = out / "telemetry" / "node7" / "aa11111111.parquet"
    series.parent.mkdir(parents=True)
    pandas.DataFrame({"time_ns": [1], "power_w": [700.0]}).to_parquet(series)
    (out / "README.md").write_text("columns")
    return out


def test_the_results_of_a_folder_are_its_finished_runs_alone(tree: Path) -> None:
    assert [path.stem.rpartition("-")[2] for path in store.find(tree, str(tree))] == [
        "aa11111111",
        "ab22222222",
        "cc33333333",
    ]


def test_pandas_reads_the_runs_as_one_table(tree: Path) -> None:
    rows = pandas.read_parquet(tree / "runs")
    assert len(rows) == 7
    assert list(rows.columns) == schema.SCHEMA.names
    assert rows.groupby(["node", "run_id"]).size().to_dict() == {
        ("node7", "aa11111111"): 3,
        ("node7", "ab22222222"): 1,
        ("node8", "cc33333333"): 3,
    }
    assert str(rows.started_at.dt.tz) == "UTC"
    assert rows.value.sum() == 14


def test_duckdb_reads_the_runs_as_one_table(tree: Path) -> None:
    rows = duckdb.sql(f"SELECT * FROM read_parquet('{tree}/runs/**/*.parquet')")
    assert rows.columns == schema.SCHEMA.names
    assert duckdb.sql("SELECT node, run_id, count(*), sum(value) FROM rows GROUP BY ALL ORDER BY ALL").fetchall() == [
        ("node7", "aa11111111", 3, 6.0),
        ("node7", "ab22222222", 1, 2.0),
        ("node8", "cc33333333", 3, 6.0),
    ]
    tagged = "SELECT tags['rack'], roofs[1].fraction, validity FROM rows WHERE run_id = 'ab22222222'"
    assert duckdb.sql(tagged).fetchall() == [("b4", 0.5, ["unfit:steal"])]


def test_the_plan_of_a_run_in_progress_is_on_the_disk(out: Path) -> None:
    plan = make_plan()
    folder = begun(out, plan)
    assert Plan.from_json(json.loads((folder.path / "plan.json").read_text())) == plan
    folder.release()


def test_a_column_of_another_type_is_read_as_ours_or_is_unreadable(out: Path) -> None:
    plan = make_plan()
    table = schema.to_table([make_row(plan, value=2.5)], plan)
    at = table.column_names.index("value")
    path = out / "foreign.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table.set_column(at, "value", pa.array(["2.5"])), path)
    assert store.read(path)[1][0]["value"] == 2.5
    pq.write_table(table.set_column(at, "value", pa.array(["fast"])), path)
    assert "not a readable Parquet file" in unreadable(path)

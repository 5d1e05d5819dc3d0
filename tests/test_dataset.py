"""``bench.dataset``: many files as one table, each run once, and no more of a file than was asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import dataset, pack, schema
from bench.errors import UnreadableResult
from tests.results import make_plan, make_row

COLUMNS = ("run_id", "node", "workload", "value", "validity")


def write(folder: Path, run_id: str, node: str = "node7", *, rows: int = 3, without: str = "") -> Path:
    plan = make_plan(run_id=run_id, node=node, label=f"label of {node}")
    table = schema.to_table([make_row(plan, replicate=i, value=i + 1.0) for i in range(rows)], plan)
    path = folder / f"{run_id}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.drop_columns([without]) if without else table, path)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [write(tmp_path, f"aaaa{i}", f"node{i}", rows=i + 1) for i in range(4)]


def packed(paths: list[Path], folder: Path) -> Path:
    (path,) = pack.pack(paths, folder).files
    return path


@pytest.mark.parametrize("encoded", [False, True])
def test_the_rows_of_all_files_are_one_table(paths: list[Path], encoded: bool) -> None:
    table = dataset.joined([dataset.read(paths, COLUMNS, encoded=encoded)])
    assert table.column_names == list(COLUMNS)
    assert table.num_rows == 1 + 2 + 3 + 4
    assert table["node"].to_pylist() == ["node0"] + ["node1"] * 2 + ["node2"] * 3 + ["node3"] * 4
    assert pa.types.is_dictionary(table["node"].type) == encoded


def test_many_files_are_read_in_their_order(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"r{i:02d}", rows=1) for i in range(40)]
    assert dataset.read(paths, COLUMNS)["run_id"].to_pylist() == [f"r{i:02d}" for i in range(40)]


@pytest.mark.parametrize("encoded", [False, True])
def test_a_column_that_an_older_file_lacks_is_null(tmp_path: Path, encoded: bool) -> None:
    paths = [write(tmp_path, "old", rows=2, without="node"), write(tmp_path, "new", rows=1)]
    table = dataset.joined([dataset.read(paths, COLUMNS, encoded=encoded)])
    assert table["node"].to_pylist() == [None, None, "node7"]


@pytest.fixture(params=[2, 32], ids=["several batches", "one batch"])
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_BATCH", request.param)


@pytest.mark.usefixtures("batch")
def test_a_run_that_is_there_packed_and_by_itself_counts_once(paths: list[Path], tmp_path: Path) -> None:
    both = [*paths[1:], packed(paths, tmp_path / "packed")]
    assert sorted(dataset.read(both, COLUMNS)["run_id"].to_pylist()) == sorted(
        dataset.read(paths, COLUMNS)["run_id"].to_pylist()
    )


@pytest.mark.usefixtures("batch")
def test_files_that_share_some_runs_give_each_once(paths: list[Path], tmp_path: Path) -> None:
    some, others = packed(paths[:3], tmp_path / "a"), packed(paths[1:], tmp_path / "b")
    table = dataset.read([some, paths[0], others], COLUMNS)
    assert sorted(set(table["run_id"].to_pylist())) == ["aaaa0", "aaaa1", "aaaa2", "aaaa3"]
    assert table.num_rows == 10


def test_a_copied_file_counts_once(paths: list[Path], tmp_path: Path) -> None:
    shutil.copy(paths[3], tmp_path / "copy.parquet")
    assert dataset.read([*paths, tmp_path / "copy.parquet"], COLUMNS).num_rows == 10


def test_one_run_of_a_packed_file_is_read_without_the_row_groups_of_others(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "ROWS_PER_GROUP", 3)  # nodes 0 and 1, node 2, node 3
    path = packed(paths, tmp_path / "packed")
    assert pq.ParquetFile(path).metadata.num_row_groups == 3
    read: list[int] = []
    read_row_group = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, group: int, **how: object) -> pa.Table:
        read.append(group)
        return read_row_group(file, group, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    for runs in ({"aaaa2"}, {"aaaa1", "aaaa3"}, {"aaaa0", "aaaa2"}):
        table = dataset.read([path], COLUMNS, runs=runs)
        assert set(table["run_id"].to_pylist()) == runs
        assert table.num_rows == sum(int(run[-1]) + 1 for run in runs)
    assert read == [1, 0, 2, 0, 1]
    assert dataset.read([path], COLUMNS, runs={"elsewhere"}).num_rows == 0


def test_a_run_that_spans_row_groups_is_read_whole(tmp_path: Path) -> None:
    paths = [write(tmp_path, "one", rows=3), write(tmp_path, "two", rows=5), write(tmp_path, "three", rows=2)]
    path = packed(paths, tmp_path / "packed")
    rewritten = tmp_path / "small-groups.parquet"
    file = pq.ParquetFile(path)
    pq.write_table(file.read().replace_schema_metadata(file.metadata.metadata), rewritten, row_group_size=2)
    assert dataset.read([rewritten], COLUMNS, runs={"two"})["value"].to_pylist() == [1, 2, 3, 4, 5]


def test_the_index_says_which_runs_a_file_holds(paths: list[Path], tmp_path: Path) -> None:
    path = packed(paths, tmp_path / "packed")
    ((_, entries), (_, single)) = dataset.index([path, paths[2]])
    assert [(one.run_id, one.node, one.label, one.rows) for one in entries] == [
        (f"aaaa{i}", f"node{i}", f"label of node{i}", i + 1) for i in range(4)
    ]
    assert single == [entries[2]]


def damaged(tmp_path: Path, kind: str) -> Path:
    path = write(tmp_path, "bbbb")
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "foreign":
        pq.write_table(pa.table({"value": [1.0]}), path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "newer":
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, schema.VERSION_KEY: b"2"}), path)
    else:
        path.unlink()
    return path


@pytest.mark.parametrize("kind", ["truncated", "foreign", "empty", "newer", "missing"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path: Path, paths: list[Path], kind: str) -> None:
    path = damaged(tmp_path, kind)
    for ask in (lambda: dataset.read([*paths, path], COLUMNS), lambda: dataset.index([path])):
        with pytest.raises(UnreadableResult) as caught:
            ask()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_of_other_columns_only_the_rows_are_kept_in_which_a_key_changes(paths: list[Path], tmp_path: Path) -> None:
    for given in (paths, [packed(paths, tmp_path / "packed")]):
        table, changes = dataset.read_with_changes(given, ["value"], ["run_id", "node", "os"], ["run_id"])
        assert (table.num_rows, changes.column_names) == (10, ["run_id", "node", "os"])
        assert changes["run_id"].to_pylist() == ["aaaa0", "aaaa1", "aaaa2", "aaaa3"]

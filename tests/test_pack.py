"""``bench.pack``: nothing is lost, nothing counts twice, and an original goes only after its copy was read back."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import dataset, files, pack, packed, schema, store
from bench.errors import OutputNotWritable, UnreadableResult, UsageError
from tests.checkout import ROOT, wait_until
from tests.results import make_plan, make_row


def result(out: Path, run_id: str, node: str = "node7", rows: int = 3, **changes: Any) -> Path:
    plan = make_plan(run_id=run_id, node=node, tags={"rack": "b4"})
    table = schema.to_table(
        [make_row(plan, replicate=i, **{"value": i + 1.5, "elapsed_ns": [i, 2], **changes}) for i in range(rows)], plan
    )
    path = store.result_path(out, plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_table(table, path, path.with_suffix(".tmp"))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def paths(out: Path) -> list[Path]:
    return [result(out, "aaaa", "node1"), result(out, "bbbb", "node2", rows=1), result(out, "cccc", "node1", rows=2)]


def test_every_column_of_every_row_is_kept(paths: list[Path], tmp_path: Path) -> None:
    done = pack.pack(paths, tmp_path / "packed")
    (path,) = done.files
    assert (done.runs, done.rows, done.removed) == (3, 6, ())
    ordered = [paths[0], paths[2], paths[1]]  # by node
    expected = pa.concat_tables([pq.read_table(one).replace_schema_metadata(None) for one in ordered])
    assert pq.ParquetFile(path).read().replace_schema_metadata(None).equals(expected)
    assert all(one.exists() for one in paths)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_pandas_reads_the_folder_as_it_reads_the_runs(paths: list[Path], out: Path, tmp_path: Path) -> None:
    pack.pack(paths, tmp_path / "packed")
    frame, expected = pandas.read_parquet(tmp_path / "packed"), pandas.read_parquet(out / "runs")
    order = ["run_id", "replicate"]
    frame, expected = (one.sort_values(order).reset_index(drop=True) for one in (frame, expected))
    pandas.testing.assert_frame_equal(frame, expected[frame.columns])


def test_all_plans_are_kept(paths: list[Path], tmp_path: Path) -> None:
    (path,) = pack.pack(paths, tmp_path / "packed").files
    plans = packed.plans(pq.read_metadata(path).metadata)
    assert [(one.run_id, one.node, one.tags) for one in plans] == [
        ("aaaa", "node1", {"rack": "b4"}),
        ("cccc", "node1", {"rack": "b4"}),
        ("bbbb", "node2", {"rack": "b4"}),
    ]


def test_one_run_comes_out_as_the_file_it_was(paths: list[Path], tmp_path: Path) -> None:
    (path,) = pack.pack(paths, tmp_path / "packed").files
    (single,) = pack.pack([path], tmp_path / "single", only="cc").files
    assert single.name == paths[2].name
    assert store.read(single) == store.read(paths[2])


@pytest.mark.parametrize("only", ["zz", ""])
def test_only_one_run_is_one_run(paths: list[Path], tmp_path: Path, only: str) -> None:
    with pytest.raises(UsageError, match="of these runs have an id"):
        pack.pack(paths, tmp_path / "packed", only=only)
    assert not (tmp_path / "packed").exists()


def test_a_packed_file_is_found_by_the_id_of_its_runs_and_says_how_to_see_one(
    paths: list[Path], out: Path, tmp_path: Path
) -> None:
    (path,) = pack.pack(paths, out / "runs", remove_originals=True).files
    assert store.find(out, "bb") == [path]
    with pytest.raises(UnreadableResult):
        store.find(out, "zz")
    with pytest.raises(UsageError, match="--run RUN_ID"):
        store.read(path)


def test_a_run_that_is_also_there_by_itself_is_shown_from_there(paths: list[Path], out: Path) -> None:
    pack.pack(paths, out / "runs")
    assert store.find(out, "bb") == [paths[1]]


def test_originals_are_removed_when_they_are_packed(paths: list[Path], out: Path) -> None:
    done = pack.pack(paths, out / "runs", remove_originals=True)
    assert done.removed == tuple(paths)
    assert sorted(out.rglob("*.parquet")) == list(done.files)
    again = pack.pack(list(done.files), out / "runs", remove_originals=True)
    assert (again.files, again.removed) == (done.files, ())
    assert dataset.read(done.files, ["value"]).num_rows == 6


def test_a_value_that_is_no_number_is_no_difference(out: Path) -> None:
    path = result(out, "nnnn", value=math.nan)
    assert pack.pack([path], out / "packed", remove_originals=True).removed == (path,)


def test_nothing_is_removed_when_a_copy_differs(paths: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(file: pack._File, plan: object, table: pa.Table, whole: object = pack._File.add) -> None:
        spoilt = table.set_column(table.schema.get_field_index("median_ns"), "median_ns", [[1.0] * table.num_rows])
        whole(file, plan, spoilt)  # type: ignore[operator]

    monkeypatch.setattr(pack._File, "add", add)
    with pytest.raises(UnreadableResult, match=r"run aaaa of .* was not packed as it is"):
        pack.pack(paths, out / "packed", remove_originals=True)
    assert all(path.exists() for path in paths)


def test_packed_and_loose_files_are_packed_again_without_a_double(paths: list[Path], tmp_path: Path) -> None:
    (first,) = pack.pack(paths[:2], tmp_path / "first").files
    done = pack.pack([first, *paths], tmp_path / "second")
    assert (done.runs, done.rows) == (3, 6)


def test_a_full_file_is_followed_by_another(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pack.Writer(tmp_path / "packed", rows_per_file=4) as writer:
        for path in paths:
            plan, rows = store.read(path)
            writer.add(plan, schema.to_table(rows, plan).replace_schema_metadata(None))
    assert [pq.read_metadata(path).num_rows for path in writer.files] == [4, 2]
    assert dataset.read(writer.files, ["value"]).num_rows == 6


def test_what_a_later_version_added_is_kept(paths: list[Path], tmp_path: Path) -> None:
    table = pq.read_table(paths[0])
    pq.write_table(table.append_column("aura", pa.array([7] * table.num_rows)), paths[0])
    (path,) = pack.pack(paths, tmp_path / "packed").files
    assert pq.ParquetFile(path).read(columns=["aura"])["aura"].to_pylist() == [7, 7, 7, None, None, None]


def test_a_column_of_two_types_is_refused(paths: list[Path], tmp_path: Path) -> None:
    table = pq.read_table(paths[0])
    place = table.schema.get_field_index("value")
    pq.write_table(table.set_column(place, "value", pa.array(["much"] * table.num_rows)), paths[0])
    with pytest.raises(UsageError, match="value"):
        pack.pack(paths, tmp_path / "packed")


def test_a_damaged_file_stops_it_and_leaves_nothing_behind(paths: list[Path], tmp_path: Path) -> None:
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[:4] + bytes(1500) + content[1504:])
    with pytest.raises(UnreadableResult, match=str(paths[1])):
        pack.pack(paths, tmp_path / "packed", remove_originals=True)
    assert list((tmp_path / "packed").iterdir()) == []
    assert all(path.exists() for path in paths)


def test_a_folder_that_cannot_be_written_is_named(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputNotWritable, match="file"):
        pack.pack(paths, tmp_path / "file" / "packed")


def test_a_killed_pack_leaves_no_result(paths: list[Path], tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from bench import pack\n"
        "def wait(done, of): print(done, flush=True); time.sleep(60)\n"
        "pack.pack([Path(one) for one in sys.argv[2:]], Path(sys.argv[1]), progress=wait)"
    )
    folder = tmp_path / "packed"
    process = subprocess.Popen([sys.executable, "-c", script, folder, *paths], cwd=ROOT, stdout=subprocess.PIPE)
    wait_until(lambda: folder.exists() and list(folder.iterdir()), "a file in the making")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(folder.rglob("*.parquet")) == []
    done = pack.pack(paths, folder)
    assert done.runs == 3
    assert list(folder.iterdir()) == list(done.files)  # and nothing of the one that was killed


def test_what_another_writer_has_in_hand_is_not_cleared_up(paths: list[Path], tmp_path: Path) -> None:
    with pack.Writer(tmp_path / "packed") as writer:
        plan, rows = store.read(paths[0])
        writer.add(plan, schema.to_table(rows, plan).replace_schema_metadata(None))
        with pack.Writer(tmp_path / "packed"):
            pass
    assert store.read(writer.files[0]) == (plan, rows)


def test_texts_are_stored_once_per_row_group(tmp_path: Path) -> None:
    texts = [chr(65 + i) * 60_000 for i in range(25)]  # more than a dictionary of Parquet holds unless it is told to
    with pack.Writer(tmp_path) as writer:
        for i, text in enumerate(texts):
            plan = make_plan(run_id=f"aaa{i}")
            row = schema.to_table([make_row(plan, environment=text)], plan).replace_schema_metadata(None)
            writer.add(plan, pa.concat_tables([row] * 60))
    group = pq.read_metadata(writer.files[0]).row_group(0)
    sizes = {group.column(i).path_in_schema: group.column(i).total_uncompressed_size for i in range(group.num_columns)}
    assert sizes["environment"] < 2 * sum(map(len, texts))


def test_nothing_is_removed_when_two_files_of_a_run_differ(paths: list[Path], out: Path) -> None:
    double = out / "elsewhere" / "runs" / paths[0].name
    double.parent.mkdir(parents=True)
    other = result(out / "other", "aaaa", "node1", rows=2)
    other.replace(double)
    with pytest.raises(UsageError, match="different measurements of run aaaa") as error:
        pack.pack([*paths, double], out / "packed", remove_originals=True)
    assert str(paths[0]) in str(error.value)
    assert str(double) in str(error.value)
    assert all(path.exists() for path in (*paths, double))


def test_a_column_that_only_the_second_file_of_a_run_has_is_not_lost(paths: list[Path], out: Path) -> None:
    table = pq.read_table(paths[0])
    double = out / "double.parquet"
    pq.write_table(table.append_column("added", pa.array([1.0] * table.num_rows)), double)
    with pytest.raises(UsageError, match="different measurements"):
        pack.pack([*paths, double], out / "packed", remove_originals=True)
    assert double.exists()


def test_equal_files_of_a_run_are_both_removed(paths: list[Path], out: Path) -> None:
    double = out / "double.parquet"
    double.write_bytes(paths[0].read_bytes())
    done = pack.pack([*paths, double], out / "packed", remove_originals=True)
    assert len(done.removed) == 4
    assert not double.exists()


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("only", [None, "aaaa"], ids=["packed", "one run"])
def test_a_file_with_other_measurements_of_the_same_runs_is_not_replaced(
    paths: list[Path], out: Path, tmp_path: Path, only: str | None
) -> None:
    pack.pack(paths, tmp_path / "packed", only=only)
    others = [result(out / "other", path.stem[-4:], path.parent.name, rows=7) for path in paths]
    before = everything(tmp_path)
    with pytest.raises(UsageError, match=r"packed/.* holds other measurements of run aaaa\. It stays") as error:
        pack.pack(others, tmp_path / "packed", only=only, remove_originals=only is None)
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == before
    assert pack.pack(paths, tmp_path / "packed", only=only).files  # the same ones may take their own place


def test_a_packed_file_is_not_replaced_by_what_differs_from_it_among_the_inputs(paths: list[Path], out: Path) -> None:
    (packed_file,) = pack.pack(paths, out / "runs", remove_originals=True).files
    other = result(out, "aaaa", "node1", rows=7)
    before = everything(out)
    with pytest.raises(UsageError, match="other measurements of run aaaa"):
        pack.pack([packed_file, other], out / "runs", remove_originals=True)
    assert everything(out) == before


def test_a_column_that_only_the_file_in_the_way_has_is_not_lost(paths: list[Path], tmp_path: Path) -> None:
    (there,) = pack.pack(paths, tmp_path / "packed").files
    table = pq.ParquetFile(there).read()
    pq.write_table(table.append_column("added", pa.array([1.0] * table.num_rows)), there)
    with pytest.raises(UsageError, match="other measurements"):
        pack.pack(paths, tmp_path / "packed")


def test_where_one_file_is_in_the_way_none_is_written(paths: list[Path], out: Path, tmp_path: Path) -> None:
    """The second of two is: the first must not be there alone."""
    folder = tmp_path / "packed"
    pack.pack(paths[1:2], folder)
    other = result(out / "other", "bbbb", "node2", rows=2)
    before = everything(folder)
    with pytest.raises(UsageError, match="run bbbb"), pack.Writer(folder, rows_per_file=3) as writer:
        for path in (paths[0], other):
            plan, rows = store.read(path)
            writer.add(plan, schema.to_table(rows, plan).replace_schema_metadata(None))
    assert everything(folder) == before

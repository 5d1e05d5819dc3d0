"""``bench.importing.files``: which files make one run, what is here already, and that nothing is written by halves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import dataset, pack, store, summary
from bench.errors import OutputNotWritable, UnreadableResult
from bench.importing.files import Imported, import_files
from tests.importing.saved import MACHINE, entry, session, write, write_lines


def sessions(count: int, **changes: Any) -> list[dict[str, Any]]:
    """That many processes, the slower the later."""
    return [
        session(entry("t.py::test_x[a]", [1e-3 * (1 + number)] * 3), minute=number, **changes)
        for number in range(count)
    ]


class Importer:
    def __init__(self, folder: Path) -> None:
        self.out = folder / "results"
        self.notes: list[str] = []

    def __call__(self, *paths: Path, **options: Any) -> list[Imported]:
        self.notes.clear()
        return import_files(paths, self.out, note=self.notes.append, **options)


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    return Importer(tmp_path)


def test_files_of_one_machine_and_commit_are_replicates_of_one_run(tmp_path: Path, importer: Importer) -> None:
    paths = write(tmp_path, *sessions(5))
    (one,) = importer(*reversed(paths), label="before")
    plan, rows = store.read(one.path)
    assert (plan.replicates, plan.suite, plan.node, plan.label) == (5, "pytest", "ci_runner_7", "before")
    assert [row["replicate"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["median_ns"] for row in rows] == pytest.approx([1e6, 2e6, 3e6, 4e6, 5e6])  # by time, not as named
    assert {row["source_commit"] for row in rows} == {plan.source_commit}
    (found,) = summary.summarize(rows)
    assert found.interval is not None and found.replicates == 5
    assert importer.notes == []


def test_nothing_but_the_result_is_left_in_the_folder(tmp_path: Path, importer: Importer) -> None:
    (one,) = importer(*write(tmp_path, *sessions(1)))
    assert [path for path in importer.out.rglob("*") if path.is_file()] == [one.path]
    assert one.path.name == f"20261122T050000Z-pytest-{one.plan.run_id}.parquet"


@pytest.mark.parametrize(
    "other",
    [
        {"commit": "f" * 40},
        {"machine": MACHINE | {"node": "other"}},
        {"machine": MACHINE | {"python_version": "3.13.0"}},
        {"version": "5.2.0"},
    ],
)
def test_files_that_are_not_alike_are_runs_of_their_own(
    tmp_path: Path, importer: Importer, other: dict[str, Any]
) -> None:
    found = importer(*write(tmp_path, *sessions(2), *sessions(1, **other)))
    assert sorted(one.plan.replicates for one in found) == [1, 2]
    assert importer.notes == ["3 processes of 2 machines, programs or commits make 2 runs"]


def test_importing_again_makes_no_second_replicate(tmp_path: Path, importer: Importer) -> None:
    paths = write(tmp_path, *sessions(3))
    (first,) = importer(*paths[:2])
    assert importer(*paths[:2]) == []
    assert importer.notes == [f"{path.name}: already imported, in run {first.plan.run_id}" for path in paths[:2]]
    (second,) = importer(*paths)
    assert second.plan.replicates == 1 and len(importer.notes) == 2
    assert dataset.read([first.path, second.path], ["workload"]).num_rows == 3


@pytest.mark.parametrize("count", [1, 2], ids=["one run", "two runs"])
def test_what_was_packed_since_is_not_imported_again(tmp_path: Path, importer: Importer, count: int) -> None:
    others = [session(entry("t::x", [1e-3]), commit="f" * 40, minute=9)] if count == 2 else []
    paths = write(tmp_path, *sessions(3), *others)
    runs = importer(*paths)
    done = pack.pack([one.path for one in runs], importer.out / "runs", remove_originals=True)
    assert len(runs) == count and len(done.removed) == count
    assert importer(*paths) == []
    assert [note.partition(", in run ")[0] for note in importer.notes] == [
        f"{one.name}: already imported" for one in paths
    ]
    assert dataset.read(store.result_files(importer.out / "runs"), ["workload"]).num_rows == len(paths)


def test_the_same_content_twice_in_one_import_counts_once(tmp_path: Path, importer: Importer) -> None:
    (path,) = write(tmp_path, *sessions(1))
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(json.loads(path.read_text())))  # indented otherwise
    (one,) = importer(path, copy, path)
    assert one.plan.replicates == 1
    assert importer.notes == [f"{name}: the same as {path.name}, counted once" for name in (copy.name, path.name)]


def test_a_benchmark_that_some_files_lack_is_named(tmp_path: Path, importer: Importer) -> None:
    whole = session(entry("t.py::test_x", [1e-3]), entry("t.py::test_y", [1e-3]))
    (one,) = importer(*write(tmp_path, whole, session(entry("t.py::test_x", [1e-3]), minute=1)))
    assert importer.notes == ["pytest/t.py::test_y: not in 1 of 2 files; it failed there, or was not run"]
    assert one.rows == 3


def test_a_test_that_was_repeated_in_a_process_counts_once(tmp_path: Path, importer: Importer) -> None:
    (one,) = importer(*write(tmp_path, session(entry("t::x", [1e-3]), entry("t::x", [2e-3]))))
    (row,) = store.read(one.path)[1]
    assert row["median_ns"] == pytest.approx(2e6)


def test_nodes_of_superbench_are_runs_and_a_node_again_is_a_replicate(tmp_path: Path, importer: Importer) -> None:
    first = write_lines(tmp_path, {"node": "n1", "mem-bw/h2d_bw:0": 25.0}, {"node": "n2", "mem-bw/h2d_bw:0": 24.0})
    second = write_lines(tmp_path, {"node": "n1", "mem-bw/h2d_bw:0": 26.0}, name="again.jsonl")
    found = importer(first, second)
    assert [(one.plan.node, one.plan.replicates, one.plan.suite) for one in found] == [
        ("n1", 2, "superbench"),
        ("n2", 1, "superbench"),
    ]
    assert [row["replicate"] for row in store.read(found[0].path)[1]] == [0, 1]
    assert importer(first) == []


def test_one_line_with_a_byte_order_mark_is_read(tmp_path: Path, importer: Importer) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"node": "n1", "mem-bw/h2d_bw:0": 25.0}), encoding="utf-8-sig")
    assert len(importer(path)) == 1


WHOLE = json.dumps(session(entry("t::x", [1e-3])), indent=4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty|Expecting value"),
        (b"\n\n", "it is empty|Expecting value"),
        (WHOLE[:-40].encode(), "Unterminated string"),
        (b"[1, 2]", "an array"),
        (b"{}", "names no node"),
        (b'{"node": "n1", "a/b": 1}\n{"node": "n2", "a/b"', "delimiter"),
        (b"PAR1\xff\xfe\x00", "not UTF-8"),
        (b"3", "names no node"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"benchmarks": [], "datetime": "2026-11-22"}', "holds no benchmark"),
        *(
            (json.dumps(session(entry("t::x", [1e-3]), datetime=text)).encode(), "datetime cannot be read")
            for text in ("soon", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
        ),
    ],
    ids=[
        "empty",
        "blank",
        "cut",
        "array",
        "object",
        "cut line",
        "binary",
        "number",
        "deep",
        "nothing",
        "no time",
        "too early",
        "too late",
    ],
)
def test_a_file_of_no_known_kind_is_one_line_and_writes_nothing(
    tmp_path: Path, importer: Importer, content: bytes, words: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_bytes(content)
    with pytest.raises(UnreadableResult, match=words) as raised:
        importer(*write(tmp_path, *sessions(1)), bad)
    assert str(raised.value).startswith(f"{bad}: ") and "\n" not in str(raised.value)
    assert not importer.out.exists()


@pytest.mark.parametrize(
    "strange", [[1], "nan", "inf", "\ud800", 10**400, {"a": 1}, None, True], ids=lambda one: repr(one)[:9]
)
def test_a_strange_value_beside_the_figures_stops_no_import(tmp_path: Path, importer: Importer, strange: Any) -> None:
    one = session(entry("t::x", [1e-3]))
    of_benchmark, of_machine = one["benchmarks"][0], one["machine_info"]
    places = [(part, key) for part in (of_benchmark["options"], of_machine, of_machine["cpu"]) for key in part]
    places += [(of_benchmark, "options"), (of_benchmark, "extra_info"), (one, "machine_info"), (one, "commit_info")]
    for part, key in places:
        kept, part[key] = part[key], strange
        (run,) = importer(*write(tmp_path, one))
        assert [row["status"] for row in store.read(run.path)[1]] == ["ok"]
        shutil.rmtree(importer.out)
        part[key] = kept


def test_a_missing_file_is_named(tmp_path: Path, importer: Importer) -> None:
    with pytest.raises(UnreadableResult, match=r"gone\.json: No such file"):
        importer(tmp_path / "gone.json")


def test_an_unwritable_folder_is_named(tmp_path: Path, importer: Importer) -> None:
    importer.out.write_text("a file")
    with pytest.raises(OutputNotWritable, match="results"):
        importer(*write(tmp_path, *sessions(1)))


def test_a_strange_file_among_the_results_stops_no_import(tmp_path: Path, importer: Importer) -> None:
    folder = importer.out / "runs" / "ci_runner_7"
    folder.mkdir(parents=True)
    (folder / "strange.parquet").write_bytes(b"PAR1 no more than that")
    assert len(importer(*write(tmp_path, *sessions(1)))) == 1


def test_a_write_that_fails_leaves_neither_half_a_file_nor_a_whole_one(
    tmp_path: Path, importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputNotWritable, match="No space left"):
        importer(*write(tmp_path, *sessions(1)))
    assert not [path for path in importer.out.rglob("*") if path.is_file()]

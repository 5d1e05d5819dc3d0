"""``vnbench history`` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import pack
from bench.cli.history import history
from bench.importing.files import import_files
from tests.cli.test_gate import answer
from tests.results import WORKLOAD
from tests.stored import stored


def test_all_runs_of_the_folder_count_or_those_that_are_named(tmp_path: Path) -> None:
    stored(tmp_path, run_id="aaaaaaaaaa")
    stored(tmp_path, run_id="bbbbbbbbbb")
    found = answer(history, WORKLOAD, "--out", tmp_path)
    assert "aaaaaaaaaa" in found.stdout and "bbbbbbbbbb" in found.stdout
    (line,) = json.loads(answer(history, WORKLOAD, "bbbb", "--out", tmp_path, "--json").stdout)["lines"]
    assert [point["run_id"] for point in line["points"]] == ["bbbbbbbbbb"]


def test_a_run_that_is_packed_with_others_is_shown_alone(tmp_path: Path) -> None:
    paths = [stored(tmp_path, run_id="aaaaaaaaaa"), stored(tmp_path, run_id="bbbbbbbbbb")]
    pack.pack(paths, tmp_path / "runs", remove_originals=True)
    (line,) = json.loads(answer(history, WORKLOAD, "bbbb", "--out", tmp_path, "--json").stdout)["lines"]
    assert [point["run_id"] for point in line["points"]] == ["bbbbbbbbbb"]


def test_an_imported_metric_without_unit_and_date_has_a_table_and_a_picture(tmp_path: Path) -> None:
    for number in range(2):
        summary = tmp_path / f"{number}.jsonl"
        summary.write_text(json.dumps({"node": "n1", "unheard-of/score:0": 1234.5 + number}))
        import_files([summary], tmp_path)
    picture = tmp_path / "a.svg"
    found = answer(history, "superbench/unheard-of/score", "--out", tmp_path, "--picture", picture)
    assert found.exit_code == 0
    assert "1.235 k" in found.stdout and "NaT" not in found.stdout
    assert picture.exists()


def test_a_picture_is_written_beside_and_keeps_the_json_clean(tmp_path: Path) -> None:
    stored(tmp_path)
    path = tmp_path / "history.svg"
    found = answer(history, WORKLOAD, "--out", tmp_path, "--json", "--picture", path)
    json.loads(found.stdout)
    assert found.stderr == f"picture: {path}\n"
    assert path.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["matmul/fp32/1"], 2, "no result of 'matmul/fp32/1'"),
        ([WORKLOAD, "--device", "cuda"], 2, "was never measured on cuda"),
        ([WORKLOAD, "nothing"], 2, "no result at 'nothing'"),
        ([WORKLOAD, "--picture", "a.gif"], 2, "a picture is a PNG or an SVG file"),
        ([WORKLOAD, "--picture", "missing/a.svg"], 7, "cannot write missing/a.svg"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    stored(tmp_path)
    found = answer(history, *arguments, "--out", tmp_path)
    assert found.exit_code == code
    assert words in str(found.exception) and "\n" not in str(found.exception)
    assert found.stdout == ""


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    assert "no file or folder" in str(answer(history, WORKLOAD, "--out", tmp_path).exception)
    (tmp_path / "runs").mkdir()
    assert "no result in the folder" in str(answer(history, WORKLOAD, "--out", tmp_path).exception)

"""Golden values: collected from results, refused where two differ, and what they say of another result."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench import golden, outputs, store
from bench.cli import cli
from bench.errors import UsageError
from tests.stored import stored

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference" / "vm"
RIGHT, WRONG = "1" * 64, "2" * 64


def vnbench(*arguments: Path | str) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def result(folder: Path, sha256: str | None = RIGHT, **changes: Any) -> Path:
    return stored(folder, output_sha256=sha256, **changes)


def test_what_is_collected_agrees_and_another_output_differs(tmp_path: Path) -> None:
    file = tmp_path / "golden.json"
    assert vnbench("golden", "collect", result(tmp_path / "a"), "--to", file).exit_code == 0
    assert vnbench("golden", "check", result(tmp_path / "b"), "--golden", file).exit_code == 0
    differs = vnbench("golden", "check", result(tmp_path / "c", WRONG), "--golden", file)
    assert differs.exit_code == 5
    assert f"differs: matmul/fp32/64 on cpu, replicate 0: sha256 {WRONG}" in differs.stdout
    for unlike in ({"torch": "2.14"}, {"threads": 3}, {"sha256": None}):
        assert vnbench("golden", "check", result(tmp_path / str(unlike), **unlike), "--golden", file).exit_code == 6


def test_two_outputs_on_equal_terms_are_refused_by_name(tmp_path: Path) -> None:
    one, two = result(tmp_path / "a"), result(tmp_path / "b", WRONG)
    refused = vnbench("golden", "collect", one, two, "--to", tmp_path / "golden.json")
    assert isinstance(refused.exception, UsageError)
    assert "workload matmul/fp32/64" in str(refused.exception) and str(one) in str(refused.exception)
    assert not (tmp_path / "golden.json").exists()


def test_as_toml_they_end_a_table_of_answers(tmp_path: Path) -> None:
    path = result(tmp_path)
    found = vnbench("golden", "collect", path, "--toml").stdout
    table = tomllib.loads(f'[[answers]]\nid = "a"\n{found}')["answers"][0]["golden"]
    assert table == {outputs.conditions(store.read(path)[1][0]): RIGHT}


def test_equal_values_are_equal_bytes_and_are_read_again(tmp_path: Path) -> None:
    values = {"b": WRONG, "a": RIGHT}
    assert golden.to_json(values) == golden.to_json(dict(sorted(values.items())))
    (tmp_path / "golden.json").write_bytes(golden.to_json(values))
    assert golden.load(tmp_path / "golden.json") == values


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 2, "outputs": {}}', '{"format": 1, "outputs": {"a": "b"}}', '{"format": 1}']
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match=r"x\.json"):
        golden.load(tmp_path / "x.json")


def test_what_a_script_simulates_is_never_golden(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no output of a real device"):
        golden.collect([result(tmp_path, device="fake")])


def test_the_values_that_come_with_vnbench_are_those_of_its_reference_runs() -> None:
    assert golden.to_json(golden.collect(store.result_files(REFERENCE))) == golden.FILE.read_bytes()
    found = vnbench("golden", "check", store.result_files(REFERENCE)[0], "--json")
    assert found.exit_code == 0
    assert {one["workload"].split("/")[0] for one in json.loads(found.stdout)["agrees"]} >= {
        "matmul",
        "decode",
        "prefill",
    }

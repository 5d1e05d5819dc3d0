"""A verdict's canonical JSON: from real files, the same bytes everywhere."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import store
from bench.acceptance import canonical
from bench.acceptance.canonical import judge_file
from bench.criteria.model import Criteria
from bench.errors import UnreadableResult
from tests.acceptance.results import FLOOR, criteria, healthy
from tests.checkout import ROOT

TABLES = (
    FLOOR.replace("a test", "hợp đồng số 7, phụ lục A"),
    '[[state]]\nid = "swap"\ncolumn = "swapped_bytes"\nat_most = 0.1\nunit = "MB"\nsource = "a test"\n',
    '[[inventory]]\nid = "driver"\nwhat = "driver"\nat_least = "580"\nsource = "a test"\n',
)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Criteria]:
    """A result file, written through the store, and criteria beside it."""
    plan, rows = healthy(2)
    folder = store.begin(tmp_path / "results", plan)
    try:
        path = folder.commit(rows)
    finally:
        folder.release()
    return path, criteria(tmp_path, *TABLES)


def test_it_holds_what_a_reader_needs_to_repeat_it(stored: tuple[Path, Criteria]) -> None:
    path, contract = stored
    verdict, encoded = judge_file(path, contract)
    found = json.loads(encoded)
    assert found.keys() == {
        *("format", "verdict", "simulated", "criteria_sha256", "result_sha256", "run_id", "node", "criteria")
    }
    assert (found["format"], found["verdict"], found["simulated"]) == (1, "PASS", False)
    assert verdict.outcome == "PASS"
    assert found["result_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["criteria_sha256"] == hashlib.sha256(contract.path.read_bytes()).hexdigest()
    floor = found["criteria"][1]  # the tables come in the order of their kinds
    assert floor["id"] == "floor"
    assert floor["limit"] == {"at_least": 1e14}
    assert floor.keys() == {
        *("id", "kind", "about", "verdict", "limit", "unit", "source"),
        *("device", "observed", "interval", "n", "words", "devices"),
    }
    assert [one["device"] for one in floor["devices"]] == ["cuda:0", "cuda:1"]
    assert found["criteria"][2]["observed"] == 0


def test_its_form_is_canonical(stored: tuple[Path, Criteria]) -> None:
    _, encoded = judge_file(*stored)
    text = encoded.decode("utf-8")
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert unicodedata.is_normalized("NFC", text)
    assert "hợp đồng số 7" in text


def test_text_that_is_not_composed_becomes_so(tmp_path: Path, stored: tuple[Path, Criteria]) -> None:
    decomposed = criteria(tmp_path, *(unicodedata.normalize("NFD", table) for table in TABLES))
    assert "hợp đồng số 7" in judge_file(stored[0], decomposed)[1].decode()


@pytest.mark.parametrize(("seed", "locale"), [("1", "C"), ("2", "vi_VN.UTF-8")])
def test_another_process_gives_the_same_bytes(stored: tuple[Path, Criteria], seed: str, locale: str) -> None:
    path, contract = stored
    command = [sys.executable, "-m", "bench", "judge", str(path), "--criteria", str(contract.path), "--json"]
    answer = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ
        | {"PYTHONHASHSEED": seed, "LC_ALL": locale, "LANG": locale, "COLUMNS": "40", "TZ": "Asia/Tokyo"},
        capture_output=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert answer.stdout == judge_file(path, contract)[1] + b"\n"


def test_any_change_to_result_or_criteria_shows_in_the_hashes(tmp_path: Path, stored: tuple[Path, Criteria]) -> None:
    path, contract = stored
    before = json.loads(judge_file(path, contract)[1])
    other = criteria(tmp_path, *TABLES, "# a comment\n")
    after = json.loads(judge_file(path, other)[1])
    assert after["criteria_sha256"] != before["criteria_sha256"]
    assert after["result_sha256"] == before["result_sha256"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableResult):
        judge_file(path, contract)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (794_512_345_678_901.0, "794512000000000.0"),
        (0.1 + 0.2, "0.3"),
        (-0.0, "0.0"),
        (math.inf, "null"),
        (math.nan, "null"),
        (123456789, "123456789"),
        (True, "true"),
        ({"b": 1, "a": (1.0,)}, '{"a":[1.0],"b":1}'),
        ("e\u0323\u0302", '"ệ"'),
    ],
)
def test_values_have_one_form(value: object, encoded: str) -> None:
    assert canonical.canonical(value).decode() == encoded


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_differs_behind_the_sixth_digit_is_the_same(value: float) -> None:
    once = canonical.canonical(value)
    assert canonical.canonical(json.loads(once)) == once

"""``bench.acceptance.dossier``: a result's verdict with all that a report of it shows."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench import store
from bench.acceptance import dossier
from bench.acceptance.judge import judge
from bench.criteria import file as files
from tests.acceptance.results import FLOOR, criteria, healthy
from tests.report.readings import gpu


def committed(folder: Path, *, with_series: bool) -> Path:
    plan, rows = healthy()
    begun = store.begin(folder, plan)
    try:
        return begun.commit(rows, gpu() if with_series else ())
    finally:
        begun.release()


def test_it_is_of_the_result_its_series_and_the_criteria(tmp_path: Path) -> None:
    path, demanded = committed(tmp_path, with_series=True), criteria(tmp_path, FLOOR)
    found = dossier.gather(path, demanded)
    assert found.verdict == judge(*store.read(path), demanded)
    assert [one.at_ns for one in found.readings] == [one.at_ns for one in gpu()]
    assert found.result_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.result_name, found.seal) == (path.name, None)


def test_a_result_without_a_series_has_no_readings(tmp_path: Path) -> None:
    assert not dossier.gather(committed(tmp_path, with_series=False), criteria(tmp_path, FLOOR)).readings


def test_criteria_are_named_as_the_option_takes_them_without_a_folder(tmp_path: Path) -> None:
    path = committed(tmp_path, with_series=False)
    assert dossier.gather(path, files.load("h100-sxm")).criteria_name == "h100-sxm"
    assert dossier.gather(path, criteria(tmp_path, FLOOR)).criteria_name == "contract.toml"

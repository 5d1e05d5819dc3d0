"""``bench.seal.evidence``: what is sealed of a run, and which runs and verdicts are not."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from bench import store
from bench.errors import UnreadableResult, UsageError
from bench.seal.evidence import gather
from bench.types import DeviceInfo
from tests.seal.bundles import sha256, verdict_on
from tests.stored import ENVIRONMENT, GPU, stored

NOW = dt.datetime(2026, 11, 22, 12, 30, 15, 999, tzinfo=dt.timezone(dt.timedelta(hours=7)))
RUN_ID = "5f0c2a91be"


def run_in(tmp_path: Path, **changes: Any) -> Path:
    return stored(tmp_path / "results", run_id=RUN_ID, **changes)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def judged(tmp_path: Path, result: Path, **changes: Any) -> dict[str, Any]:
    criteria = written(tmp_path / "c.toml", b"[x]\n")
    verdict = verdict_on(result.read_bytes(), criteria.read_bytes(), **changes)
    return {"criteria": criteria, "judged": written(tmp_path / "v.json", verdict + b"\n")}


def test_a_run_is_sealed_with_what_it_has(tmp_path: Path) -> None:
    result = run_in(tmp_path)
    files, said = gather(result, NOW)
    assert files["result.parquet"] == result.read_bytes()
    assert sorted(files) == ["environment.json", "result.parquet"]
    plan, _ = store.read(result)
    assert (said.run_id, said.node, said.suite, said.started_at) == (RUN_ID, plan.node, plan.suite, plan.started_at)
    assert said.sealed_at == "2026-11-22T05:30:15+00:00"
    assert (said.verdict, said.criteria_sha256, said.nonce) == (None, None, None)


def test_telemetry_criteria_verdict_and_log_go_with_it(tmp_path: Path) -> None:
    result = run_in(tmp_path)
    series = tmp_path / "results" / "telemetry" / "node7" / f"{RUN_ID}.parquet"
    series.parent.mkdir(parents=True)
    series.write_bytes(b"PAR1")
    given = judged(tmp_path, result)
    files, said = gather(result, NOW, **given, log=written(tmp_path / "l", b"log"))
    assert (files["telemetry.parquet"], files["log.txt"]) == (b"PAR1", b"log")
    assert said.verdict == "PASS"
    assert said.criteria_sha256 == sha256(files["criteria.toml"])


def test_the_environment_is_there_once_per_device(tmp_path: Path) -> None:
    result = run_in(tmp_path, info=GPU, environment='{"bios": "1"}')
    found = json.loads(gather(result, NOW)[0]["environment.json"])
    assert list(found) == ["cuda:0"]
    (only,) = found["cuda:0"]
    assert only["environment"] == {"bios": "1"}
    assert only["cpu_model"] == ENVIRONMENT["cpu_model"]


@pytest.mark.parametrize(
    "changes", [{"info": DeviceInfo("fake", 0, "fake")}, {"validity": ["noisy", "simulated"]}, {"device": "fake"}]
)
def test_a_simulated_run_is_not_sealed(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is simulated"):
        gather(run_in(tmp_path, **changes), NOW)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"simulated": True}, "simulated"),
        ({"simulated": None}, "simulated"),
        ({"simulated": 0}, "simulated"),
        ({"result_sha256": sha256(b"")}, "another result.parquet"),
        ({"criteria_sha256": sha256(b"")}, "another criteria.toml"),
        ({"run_id": "91be"}, "of run '91be'"),
        ({"verdict": "GREAT"}, "none of PASS"),
        ({"verdict": ["PASS"]}, "none of PASS"),
    ],
)
def test_a_verdict_that_is_not_of_these_files_is_not_sealed(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    result = run_in(tmp_path)
    with pytest.raises(UsageError, match=words):
        gather(result, NOW, **judged(tmp_path, result, **changes))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"PASS", b"[" * 100_000, b"\xff"])
def test_what_is_no_verdict_is_not_sealed(tmp_path: Path, text: bytes) -> None:
    result = run_in(tmp_path)
    given = judged(tmp_path, result) | {"judged": written(tmp_path / "v.json", text)}
    with pytest.raises(UsageError, match="no JSON that vnbench judge"):
        gather(result, NOW, **given)


def test_a_verdict_without_its_criteria_is_not_sealed(tmp_path: Path) -> None:
    result = run_in(tmp_path)
    with pytest.raises(UsageError, match=r"without its criteria\.toml"):
        gather(result, NOW, judged=judged(tmp_path, result)["judged"])


def test_a_run_that_was_begun_with_a_nonce_is_sealed_with_that_one(tmp_path: Path) -> None:
    result = run_in(tmp_path, plan={"tags": {"nonce": "8c1e"}})
    assert gather(result, NOW)[1].nonce == "8c1e"


@pytest.mark.parametrize("nonce", ["", "a\nb", "x" * 201])
def test_a_nonce_is_a_line_of_text(tmp_path: Path, nonce: str) -> None:
    with pytest.raises(UsageError, match="a nonce is a line"):
        gather(run_in(tmp_path, plan={"tags": {"nonce": nonce}}), NOW)


def test_a_result_whose_environment_is_no_json_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableResult, match="no JSON"):
        gather(run_in(tmp_path, environment="{"), NOW)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableResult, match=r"none\.toml: No such file"):
        gather(run_in(tmp_path), NOW, criteria=tmp_path / "none.toml")

"""``vnbench info`` and ``info diff``, in real processes: what this node is, what is unfit, and nobody's name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import columns, environment, store
from bench.environment import Environment
from tests import nvml
from tests.checkout import ROOT
from tests.results import CPU, make_plan, make_row

DOCUMENT = (ROOT / "docs" / "environment.md").read_text()


def vnbench(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def flags(info: dict[str, Any]) -> dict[str, list[str]]:
    """The flags of the devices, those of the host's load left out: whoever else uses this machine decides on them."""
    load = {"unfit:steal", "unfit:foreign-load", "unfit:cpu-quota", "unfit:swap"}
    return {
        f"{one['kind']}:{one['index']}": [finding["flag"] for finding in one["findings"] if finding["flag"] not in load]
        for one in info["devices"]
        if one["kind"] == "cuda"
    }


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("idle", {"cuda:0": []}),
        ("power-limit", {"cuda:0": ["unfit:power-limit", "power-capped"]}),
        ("throttling", {"cuda:0": ["unfit:throttled", "unfit:too-hot"]}),
        ("shared", {"cuda:0": [], "cuda:1": ["unfit:shared-gpu"]}),
    ],
)
def test_what_makes_a_gpu_unfit_is_said_although_nothing_runs(
    tmp_path: Path, scenario: str, expected: dict[str, list[str]]
) -> None:
    # Throttled all the time, so that looking at the node falls into it.
    script = nvml.SCENARIOS[scenario].replace("@3-5", "@0-")
    ended = vnbench("info", "--json", **nvml.environment(script, tmp_path))
    assert ended.returncode == 0, ended.stderr
    found = flags(json.loads(ended.stdout))
    assert found == expected


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("driver-mismatch", "NVML/RM version mismatch. The driver was updated"),
        ("no-permission", "Give this user access"),
    ],
)
def test_a_driver_that_does_not_answer_is_an_obstacle_with_its_remedy(
    tmp_path: Path, scenario: str, words: str
) -> None:
    ended = vnbench("info", **nvml.environment(scenario, tmp_path))
    assert ended.returncode == 4
    assert words in " ".join(ended.stdout.split())
    assert "nothing speaks against" not in ended.stdout


def test_a_finding_has_cause_figure_limit_and_remedy_and_strict_exits_with_4(tmp_path: Path) -> None:
    ended = vnbench("info", "--strict", **nvml.environment("power-limit", tmp_path))
    assert ended.returncode == 4
    text = " ".join(ended.stdout.split())
    assert "unfit:power-limit on cuda:0: 500 of 700 W (limit: the default)" in text
    assert "the device's power limit is below the one it came with; have it set back" in text


@pytest.fixture(scope="module")
def power_limited(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return vnbench("info", "--json", **nvml.environment("power-limit", tmp_path_factory.mktemp("nvml")))


def test_an_anonymous_look_names_no_part(power_limited: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    hidden = vnbench("info", "--json", "--anonymous", **nvml.environment("power-limit", tmp_path)).stdout
    facts = json.loads(power_limited.stdout)["devices"][-1]["facts"]
    for name in (facts["uuid"], facts["serial"]):
        assert name in power_limited.stdout
        assert name not in hidden
    assert json.loads(hidden)["node"].startswith("node-")


def test_the_keys_of_the_json_are_those_of_the_document(power_limited: subprocess.CompletedProcess[str]) -> None:
    """What scripts rely on: a key is documented where it is there, and there where it is documented."""
    assert power_limited.returncode == 0, "without --strict"
    info = json.loads(power_limited.stdout)
    documented = set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", DOCUMENT.partition("<!-- json -->")[2], re.MULTILINE))
    (cpu, gpu) = info["devices"]
    found = set(info)
    found |= {f"devices[].{name}" for name in gpu}
    found |= {f"devices[].findings[].{name}" for one in (cpu, gpu) for finding in one["findings"] for name in finding}
    found |= {f"roofs[].{name}" for roof in info["roofs"] for name in roof}
    assert found == documented
    assert info["version"] == 1
    assert set(info["environment"]) == {key for keys in environment.KEYS.values() for key in keys}
    state = {name for title, group in columns.COLUMNS.items() if "state" in title for name, _, _ in group}
    assert set(gpu["state"]) <= state | {"device", "timed_from", "timed_until"}
    assert cpu["state"]["calibration_before_ns"] > 0
    assert cpu["state"]["calibration_after_ns"] > 0


def test_every_checked_key_is_in_the_document_under_its_kind() -> None:
    rows = re.findall(r"^\| (hardware|software|settings) \| (.*?) \|", DOCUMENT, re.MULTILINE)
    assert {kind: tuple(re.findall(r"`(\w+)`", keys)) for kind, keys in rows} == environment.KEYS


# ---------------------------------------------------------------- diff


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two results, between which the driver was changed."""
    out = tmp_path_factory.mktemp("results")
    captured = environment.capture(CPU)
    for run_id, driver in (("aa11111111", "580.1"), ("bb22222222", "590.2")):
        plan = make_plan(run_id=run_id)
        folder = store.begin(out, plan)
        keys = Environment({**captured.keys, "driver": driver}, captured.details)
        folder.commit([make_row(plan) | keys.columns])
        folder.release()
    return out


def test_diff_names_the_key_that_differs(results: Path) -> None:
    ended = vnbench("info", "diff", "aa11", "bb22", "--out", results)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[2:] == ["software", "  driver", '    A  "580.1"', '    B  "590.2"']


def test_diff_as_json(results: Path) -> None:
    found = json.loads(vnbench("info", "diff", "aa11", "bb22", "--out", results, "--json").stdout)
    assert found["differences"] == [{"kind": "software", "key": "driver", "a": '"580.1"', "b": '"590.2"'}]
    assert found["a"].endswith("aa11111111.parquet")


def test_a_result_does_not_differ_from_itself(results: Path) -> None:
    assert "no difference" in vnbench("info", "diff", "aa11", "aa11", "--out", results).stdout


@pytest.mark.parametrize("name", ["cc33", ""])
def test_a_result_that_is_not_there_or_not_one_is_an_error_in_one_line(results: Path, name: str) -> None:
    ended = vnbench("info", "diff", name, "aa11", "--out", results)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) <= 2

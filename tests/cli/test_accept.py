"""``vnbench accept`` as its users meet it: real processes on a scripted device, and a verdict that can be repeated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import errors
from tests.checkout import ROOT

CRITERIA = """
format = 1
title = "a small contract"
device = "cpu"
looks = [3, 5]

[[performance]]
id = "launches"
workload = "launch/empty"
at_least = {floor}
unit = "koperator/s"
source = "a test"

[[answers]]
id = "answers"
source = "a test"
"""


def vnbench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_what_accept_says_judge_repeats_byte_for_byte(tmp_path: Path) -> None:
    """A launch takes a millisecond of the script's."""
    criteria, stricter, out = tmp_path / "small.toml", tmp_path / "stricter.toml", tmp_path / "results"
    criteria.write_text(CRITERIA.format(floor=500))
    stricter.write_text(CRITERIA.format(floor=5000))
    where = "--criteria", criteria, "--out", out
    accepted = vnbench("accept", *where, "--device", "fake:steady", "--nonce", "7f3a", "--json")
    assert accepted.returncode == errors.OK, accepted.stderr
    found = json.loads(accepted.stdout)
    assert (found["verdict"], found["simulated"]) == ("PASS", True)
    assert found["criteria"][0]["n"] == 3, "what is clear takes no more than the first look"
    again = vnbench("judge", found["run_id"], *where, "--json")
    assert (again.returncode, again.stdout) == (errors.OK, accepted.stdout)
    shown = vnbench("judge", found["run_id"], "--criteria", stricter, "--out", out)
    assert shown.returncode == errors.REGRESSED
    assert shown.stdout.startswith("SIMULATED FAIL\n")
    assert "SIMULATED" in vnbench("show", found["run_id"], "--out", out).stdout
    key = tmp_path / "operator"
    assert vnbench("keygen", key).returncode == errors.OK
    bundle = tmp_path / "seal.tar"
    sealed = vnbench("seal", found["run_id"], "--key", f"{key}.key", "--results", out, "--out", bundle)
    assert sealed.returncode == errors.USAGE
    assert f"run {found['run_id']} is simulated: it is no evidence of any machine" in sealed.stderr
    assert not bundle.exists()


def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path) -> None:
    refused = vnbench("accept", "--criteria", "h100", "--out", tmp_path)
    assert refused.returncode == errors.USAGE
    assert "h100-sxm" in refused.stderr and "Traceback" not in refused.stderr
    both = vnbench("accept", "--criteria", "cpu-node", "--resume", "5f0c", "--nonce", "1", "--out", tmp_path)
    assert both.returncode == errors.USAGE
    assert both.stderr.startswith("vnbench: --resume goes on with the plan of its run")

"""Every command of the README, run as a newcomer would: on a clone, in new environments, in the README's order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]

# Suites are smaller here, or run with fewer replicates: the commands are under test, not the machine.
HERE = {
    "make bench": "make bench SUITE='matmul/fp32/1024 --replicates 1'",
    "make test": None,  # what is running
    "pip install -c constraints.txt .": "pip/bin/python -m pip install -q -c constraints.txt .",
    "vnbench run quick": "pip/bin/vnbench run --replicates 1 smoke",
    "python3 -m bench run quick": ".venv/bin/python -m bench run --replicates 1 smoke",
    "vnbench plan --nodes 400 --bad-rate 2%": "pip/bin/vnbench plan --nodes 400 --bad-rate 2%",
    "vnbench criteria explain h100-sxm": "pip/bin/vnbench criteria explain h100-sxm",
    'vnbench accept --criteria cpu-node --budget 30s || echo "not passed: $?"': (
        # One pass decides nothing; whether the machine was unfit is its own affair.
        "pip/bin/vnbench accept --criteria cpu-node --budget 5s; code=$?; test $code = 4 -o $code = 6"
    ),
    'vnbench judge results/reference/vm/*-d60e29f3c5.parquet --criteria cpu-node --html node.html --lang vi || echo "not passed: $?"': (  # noqa: E501
        "pip/bin/vnbench judge results/reference/vm/*-d60e29f3c5.parquet --criteria cpu-node "
        "--html node.html --lang vi; test $? = 4"
    ),
    "vnbench soak --duration 20s": "pip/bin/vnbench soak --duration 4s",
    "vnbench keygen operator": "pip/bin/vnbench keygen operator",
    "vnbench seal results/reference/vm/*-d60e29f3c5.parquet --criteria cpu-node --key operator.key": (
        "pip/bin/vnbench seal results/reference/vm/*-d60e29f3c5.parquet --criteria cpu-node --key operator.key"
    ),
    "vnbench verify d60e29f3c5.seal.tar --key operator.pub": (
        "pip/bin/vnbench verify d60e29f3c5.seal.tar --key operator.pub"
    ),
    "vnbench ab matmul/fp32/1024 --b OMP_NUM_THREADS=1": (
        "pip/bin/vnbench ab tests/proof/workload.py:as_it_is --b OMP_NUM_THREADS=1 --sessions 3; "
        "test $? = 0 -o $? = 5 -o $? = 6"  # what it finds is the machine's affair
    ),
    "vnbench aa matmul/fp32/1024": "pip/bin/vnbench aa tests/proof/workload.py:as_it_is --sessions 5",
    "vnbench baseline set reference results/reference/vm/*-3baf8d1835.parquet": (
        "pip/bin/vnbench baseline set reference results/reference/vm/*-3baf8d1835.parquet"
    ),
    'vnbench gate --baseline reference --current results/reference/vm/*-d60e29f3c5.parquet || echo "not passed: $?"': (
        "pip/bin/vnbench gate --baseline reference --current results/reference/vm/*-d60e29f3c5.parquet; test $? = 4"
    ),
    "vnbench history matmul/fp32/1024": "pip/bin/vnbench history matmul/fp32/1024",
    "vnbench compare results/reference/vm/*.parquet --html page.html": (
        "pip/bin/vnbench compare results/reference/vm/*.parquet --html page.html"
    ),
    "vnbench list": "pip/bin/vnbench list",
    "vnbench info": "pip/bin/vnbench info",
    "vnbench run --dry-run standard": "pip/bin/vnbench run --dry-run standard",
    "vnbench run 'matmul/fp32/1024' --replicates 3": "pip/bin/vnbench run 'matmul/fp32/1024' --replicates 3",
    "vnbench show results/reference": "pip/bin/vnbench show results/reference",
    "vnbench watch --count 3": "pip/bin/vnbench watch --count 3",
    "vnbench run smoke --device fake:hot --out /tmp/vnbench-demo": (
        "pip/bin/vnbench run smoke --device fake:hot --replicates 1 --out demo"
    ),
    "vnbench show /tmp/vnbench-demo --telemetry --picture /tmp/vnbench-demo/telemetry.svg": (
        "pip/bin/vnbench show demo --telemetry --picture demo/telemetry.svg"
    ),
    'vnbench info --strict || echo "this machine is not fit to measure now"': (
        'pip/bin/vnbench info --strict || echo "this machine is not fit to measure now"'
    ),
}


def test_every_command_of_the_readme_is_run_here() -> None:
    assert list(HERE) == COMMANDS


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git tracks, or would, in a folder of their own."""
    folder = tmp_path_factory.mktemp("clone")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: what belongs to a clone is not known")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "pip"], check=True)
    return folder


@pytest.mark.slow
def test_the_commands_work_one_after_the_other(clone: Path) -> None:
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    variables["PIP_NO_COMPILE"] = "1"  # two environments are made: what is not imported need not be compiled
    for shown, command in HERE.items():
        if command is None:
            continue
        ended = subprocess.run(
            command, shell=True, cwd=clone, env=variables, capture_output=True, text=True, timeout=900, check=False
        )
        assert ended.returncode == 0, f"{shown}: exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
    assert list((clone / "results" / "runs").rglob("*.parquet"))


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    """The pandas example, on the reference results in the place of runs."""
    (tmp_path / "results").mkdir()
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "results" / "runs")
    for code in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert "matmul/fp32/1024" in ended.stdout


def test_the_table_of_the_readme_is_what_the_tool_prints_of_the_reference_result() -> None:
    shown = re.search(r"<!-- table -->\n```\n(.*?)```\n<!-- /table -->", README, flags=re.DOTALL)
    assert shown is not None
    run_id = shown[1].split()[1]
    (path,) = (ROOT / "results" / "reference").rglob(f"*-{run_id}.parquet")
    ended = subprocess.run(
        [sys.executable, "-m", "bench", "show", str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.rstrip() for line in ended.stdout.splitlines()] == shown[1].splitlines()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target

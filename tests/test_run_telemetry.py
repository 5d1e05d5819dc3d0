"""``vnbench run`` and the state of its devices: the series beside the result, the columns in it, and nobody's name."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from bench import schema, series, store
from tests.checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def simulate(checkout: Checkout, *options: str) -> subprocess.CompletedProcess[str]:
    return checkout.vnbench(
        "run", checkout.suite("matmul/fp32/64"), "--device", "fake:hot", "--out", checkout.out, *options
    )


@pytest.mark.slow
def test_each_row_s_window_lies_in_the_series_of_its_run(checkout: Checkout) -> None:
    ended = checkout.run(checkout.suite("matmul/fp32/1024", replicates=2), "--telemetry-hz", "50")
    assert ended.returncode == 0, ended.stderr
    plan, rows = checkout.read()
    (path,) = checkout.files()
    source = series.find(path, plan)
    assert source is not None
    readings = series.read(source)
    assert {one.device for one in readings} == {"cpu"}
    first, last = readings[0].at_ns, readings[-1].at_ns
    windows = [window for row in rows if (window := schema.window_ns(row)) is not None]
    assert len(windows) == len(rows) > 0
    for from_ns, until_ns in windows:
        assert first < from_ns < until_ns < last
    assert all(row["telemetry_gap_s"] is not None and row["host_cpu_s"] > 0 for row in rows)
    assert all(row["started_at"] < row["timed_from"] < row["timed_until"] for row in rows)


def test_a_run_without_telemetry_has_no_series(checkout: Checkout) -> None:
    ended = simulate(checkout, "--telemetry-hz", "0")
    assert ended.returncode == 0, ended.stderr
    assert not (checkout.out / "telemetry").exists()
    (path,) = checkout.files()
    shown = checkout.vnbench("show", path, "--telemetry")
    assert shown.returncode == 2
    assert "has no time series" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_an_anonymous_result_names_neither_host_nor_parts(checkout: Checkout) -> None:
    ended = simulate(checkout, "--anonymous")
    assert ended.returncode == 0, ended.stderr
    plan, rows = checkout.read()
    (path,) = checkout.files()
    assert plan.node.startswith("node-")
    assert path.parent.name == plan.node == rows[0]["node"]
    assert platform.node() not in ended.stdout.split()
    assert simulate(checkout, "--anonymous").returncode == 0
    assert {file.parent.name for file in checkout.files()} == {plan.node}, "the same machine has the same pseudonym"


def test_what_was_read_is_kept_by_a_run_that_is_recovered(checkout: Checkout) -> None:
    process = checkout.start_run(checkout.suite("fault/hang", timeout_s=100), "--telemetry-hz", "50")
    checkout.wait_for_log("hanging")
    process.kill()
    process.wait()
    checkout.wait_for_no_worker()
    assert simulate(checkout).returncode == 0
    killed, _ = checkout.files()
    plan, rows = store.read(killed)
    assert [row["workload"] for row in rows] == ["fault/hang"]
    source = series.find(killed, plan)
    assert source is not None
    assert len(series.read(source)) > 10

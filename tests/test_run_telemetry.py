"""``vnbench run`` and the state of its devices: the series beside the result, the columns in it, and nobody's name."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
from pathlib import Path

import pytest

from bench import anonymous, recovery, schema, series, store
from bench.plan import node_names
from bench.types import DeviceInfo
from tests.checkout import Checkout, wait_until
from tests.results import CPU, make_plan, make_row


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def simulate(checkout: Checkout, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    suite = checkout.suite("matmul/fp32/64")
    return checkout.vnbench("run", suite, "--device", "fake:hot", "--out", checkout.out, *options, **variables)


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


def test_an_anonymous_result_names_neither_host_nor_parts_nor_users(checkout: Checkout) -> None:
    names = {"CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "CUDA_CACHE_PATH": "/home/an/.nv"}
    ended = simulate(checkout, "--anonymous", **names)
    assert ended.returncode == 0, ended.stderr
    plan, rows = checkout.read()
    (path,) = checkout.files()
    assert plan.node.startswith("node-")
    assert path.parent.name == plan.node == rows[0]["node"]
    everything = f"{rows} {plan} {series.read(series.path_of(checkout.out, plan))}"
    assert "8932f937" not in everything
    assert "/home/an" not in everything
    assert "id-" in everything, "the variable is there, under a pseudonym"
    assert simulate(checkout, "--anonymous").returncode == 0
    assert {file.parent.name for file in checkout.files()} == {plan.node}, "the same machine has the same pseudonym"


def test_the_devices_of_an_anonymous_result_are_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [DeviceInfo("cuda", index, "GPU", uuid=f"GPU-8932f93{index}") for index in range(2)]
    monkeypatch.setattr("bench.recovery.select.find", lambda selector: tuple(here))
    hidden = [dataclasses.replace(one, uuid=anonymous.pseudonym(str(one.uuid))) for one in here]
    assert recovery._known_again([*hidden, CPU]) == (*here, CPU)
    gone = dataclasses.replace(hidden[0], uuid="id-0123456789ab")
    assert recovery._known_again([gone]) == (gone,)


@pytest.mark.parametrize("option", [["--anonymous"], ["--telemetry-hz", "5"]])
def test_what_a_resumed_run_cannot_change_is_refused(checkout: Checkout, option: list[str]) -> None:
    ended = checkout.run("--resume", "5f0c", *option)
    assert ended.returncode == 2
    assert option[0] in ended.stderr


@pytest.mark.parametrize("rate", ["nan", "-1", "0.01", "1e-310", "101", "inf"])
def test_a_rate_that_is_none_is_refused(checkout: Checkout, rate: str) -> None:
    ended = checkout.run("smoke", "--telemetry-hz", rate)
    assert ended.returncode == 2
    assert "from 0.1 to 100" in ended.stderr


def test_a_killed_run_that_cannot_be_merged_stays_and_stops_nobody(checkout: Checkout) -> None:
    plan = make_plan("matmul/fp32/64", node=node_names()[0], telemetry_hz=float("nan"))
    timed = schema.window_columns(10**18, 10**18 + 10**9, 0)
    folder = store.begin(checkout.out, plan, [make_row(plan, **timed)])
    folder.release()
    ended = simulate(checkout)
    assert ended.returncode == 0, ended.stderr
    assert "stays in" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert folder.path.exists()


def test_what_failed_has_the_time_in_which_it_did(checkout: Checkout) -> None:
    suite = checkout.suite("fault/raise", "fault/crash", "fault/fine", "fault/unsupported")
    assert checkout.run(suite).returncode == 3
    _, rows = checkout.read()
    known = {row["workload"]: row for row in rows}
    for name, status in (("fault/raise", "failed"), ("fault/crash", "crashed"), ("fault/fine", "ok")):
        assert known[name]["status"] == status
        assert known[name]["timed_from"] < known[name]["timed_until"]
        assert known[name]["telemetry_gap_s"] is not None
    assert known["fault/unsupported"]["timed_from"] is None


def test_a_sampler_that_dies_is_told_and_the_run_goes_on(checkout: Checkout) -> None:
    process = checkout.start_run(checkout.suite("fault/hang", timeout_s=5))
    checkout.wait_for_log("hanging")
    (log,) = checkout.out.glob(".incomplete/*/logs/telemetry.log")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(log.parent.parent) in path.read_text() and "bench.telemetry.sampler" in path.read_text():
                os.kill(int(path.parent.name), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "the devices' state was not read to the end" in errors
    assert len(checkout.read()[1]) == 1


def test_what_was_read_is_kept_by_a_run_that_is_recovered(checkout: Checkout) -> None:
    process = checkout.start_run(checkout.suite("fault/hang", timeout_s=100), "--telemetry-hz", "50")
    checkout.wait_for_log("hanging")
    (readings,) = checkout.out.glob(".incomplete/*/telemetry.jsonl")
    wait_until(lambda: readings.read_bytes().count(b"\n") > 10, "more than ten readings")
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

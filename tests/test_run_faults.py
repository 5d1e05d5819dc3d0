"""Runs that go wrong, with real processes, signals and full disks: nothing lost, nothing silent, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import recovery, registry, schema, store
from bench.plan import make_plan
from bench.schema import Row
from bench.suite import Suite
from bench.types import DeviceInfo, Item, Job
from tests.checkout import Checkout, by_status, pid

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path)
    yield checkout
    left = checkout.workers()
    for process in checkout.started:
        process.kill()  # of a test that failed on its way
    assert left == []


def output(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=300)


def ignores(process: int, signum: signal.Signals) -> bool:
    """By the bit mask that proc(5) describes."""
    (mask,) = (
        line.split()[1]
        for line in Path(f"/proc/{process}/status").read_text().splitlines()
        if line.startswith("SigIgn:")
    )
    return bool(int(mask, 16) >> (signum - 1) & 1)


def started_at(rows: list[Row]) -> dict[tuple[str, int], object]:
    return {(row["workload"], row["replicate"]): row["started_at"] for row in rows if row["status"] == "ok"}


# ---------------------------------------------------------------- workloads that fail


def test_every_failure_is_a_row_with_its_reason_and_stops_no_other(checkout: Checkout) -> None:
    expected = {
        "none": ("ok", ""),
        "fine": ("ok", ""),
        "crash": ("crashed", "killed by SIGSEGV"),
        "exit": ("crashed", "exit code 7"),
        "lose-device": ("failed", "CUDA error: the launch timed out"),  # the others find theirs again
        "hang": ("timeout", "no answer within 5 s"),
        "raise": ("failed", "ValueError: a launch that fails [/as code does] (fault.py:"),
        "oom": ("oom", "can't allocate memory"),
        "hungry": ("unsupported", "needs 1048576.00 TiB"),
        "wrong": ("wrong", "above the tolerance"),
        "wrong-later": ("wrong", "above the tolerance"),
        "nan": ("wrong", "error nan"),
        "unsupported": ("unsupported", "this library says no"),
        "search-crash": ("crashed", "search: the worker was killed by SIGSEGV"),
    }
    process = checkout.run(checkout.suite(*(f"fault/{kind}" for kind in expected), timeout_s=5))
    assert process.returncode == 3
    assert "Traceback" not in process.stderr
    _, rows = checkout.read()
    found = {row["workload"].removeprefix("fault/"): (row["status"], row["reason"] or "") for row in rows}
    assert found.keys() == expected.keys()
    for kind, (status, words) in expected.items():
        assert found[kind][0] == status, kind
        assert words in found[kind][1], kind
        if status != "ok":
            assert f"fault/{kind} on cpu: {status}" in process.stdout
    for row in rows:
        assert (row["value"] is None) == (row["status"] != "ok")


_ANSWERS = """
format = 1
title = "a test"
device = "cpu"
[[answers]]
id = "answers"
workloads = ["fault/bits"]
source = "a test"
"""


def judged(checkout: Checkout) -> dict[str, Any]:
    """The criterion of right answers, by ``vnbench judge``."""
    criteria = checkout.root.parent / "contract.toml"
    criteria.write_text(_ANSWERS)
    process = checkout.vnbench("judge", checkout.files()[0], "--criteria", criteria, "--json")
    found: dict[str, Any] = json.loads(process.stdout)["criteria"][0]
    assert process.returncode == (5 if found["verdict"] == "FAIL" else 0), process.stderr
    return found


def test_a_bit_that_flips_in_one_replicate_is_found_and_named(checkout: Checkout) -> None:
    process = checkout.run(checkout.suite("fault/bits", replicates=5), FAULT_BITS="replicate 3")
    assert process.returncode == 0, process.stderr  # float64 found the answer right
    _, rows = checkout.read()
    assert [row["replicate"] for row in rows if "output-differs" in row["validity"]] == [3]
    found = judged(checkout)
    assert (found["verdict"], found["device"], found["observed"]) == ("FAIL", "cpu", 1)
    assert found["words"] == (
        "wrong bits in fault/bits, replicate 3: its output is not that of 4 of 5 measurements on equal terms: "
        "cpu, replicate 3, check before timing: element [2] is 0x3f800001 (1.0000001192092896) where it was 0x3f800000 "
        "(1.0), xor 0x00000001; 1 of 4 elements differ, compared with cpu, replicate 0, check after timing"
    )
    assert checkout.incomplete() == []  # what was kept of outputs is gone


def test_a_device_that_is_wrong_each_time_is_found_by_the_others(checkout: Checkout) -> None:
    suite = checkout.suite("fault/bits", replicates=2)
    process = checkout.run(suite, "--device", "fake:straggler", FAULT_BITS="device 2")
    assert process.returncode == 0, process.stderr
    found = judged(checkout)
    assert [one["device"] for one in found["devices"] if one["verdict"] == "FAIL"] == ["fake:2"]
    assert "not that of 6 of 8" in found["words"]
    _, rows = checkout.read()
    assert any("element [2]" in (row["output_difference"] or "") for row in rows)


def test_a_worker_that_cannot_start_is_tried_once_a_pass(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    tried = tmp_path / "tried"
    (tmp_path / "broken" / "torch.py").write_text(
        f"with open({str(tried)!r}, 'a') as file: file.write('once ')\nraise ImportError('libc10.so: it is broken')\n"
    )
    suite = checkout.suite("fault/none", "fault/fine", replicates=2)
    process = checkout.run(suite, PYTHONPATH=str(tmp_path / "broken"))
    assert process.returncode == 3
    _, rows = checkout.read()
    assert len(rows) == 4
    for row in rows:
        assert row["status"] == "crashed"
        assert "exit code 1: ImportError: libc10.so: it is broken" in row["reason"]
    assert tried.read_text().split() == ["once", "once"]


def test_a_list_names_what_hangs_or_crashes_and_tries_the_rest(checkout: Checkout) -> None:
    checkout.edit("bench/probe.py", "_TIMEOUT_S = 20.0", "_TIMEOUT_S = 3.0")
    names = ["fault/none", "fault/probe-hang", "fault/fine", "fault/probe-crash", "fault/hungry", "fault/slow"]
    process = checkout.vnbench("list", *names, "--device", "cpu", "--json")
    assert process.returncode == 0, process.stderr
    reasons = {one["name"]: one["reason"] for one in json.loads(process.stdout)["workloads"]}
    assert reasons["fault/probe-hang"] == "no answer within 3 s"
    assert reasons["fault/probe-crash"].startswith("the worker was killed by SIGSEGV")
    assert reasons["fault/hungry"].startswith("needs 1048576.00 TiB")
    assert {name for name, reason in reasons.items() if reason is None} == {"fault/none", "fault/fine", "fault/slow"}


# ---------------------------------------------------------------- killed processes


def test_a_killed_run_is_recovered_by_the_next_and_resumed(checkout: Checkout) -> None:
    suite = checkout.suite("fault/none", "fault/fine", "fault/hang-midway", replicates=2)
    process = checkout.start_run(suite, FAULT_HANG="1")
    checkout.wait_for_log("hanging")
    process.kill()
    output(process)
    checkout.wait_for_no_worker()  # nobody ended it but itself
    (folder,) = checkout.incomplete()
    finished = len(list(folder.glob("part-*.parquet")))
    assert finished >= 2
    assert checkout.files() == []

    following = checkout.run(checkout.suite("fault/unsupported"))
    assert following.returncode == 0  # unsupported alone is no failure
    assert "fault/unsupported on cpu: unsupported: this library says no" in following.stdout
    assert f"recovered the killed run {folder.name}: {finished} measurements" in following.stderr.replace("\n", " ")
    assert checkout.incomplete() == []
    (path,) = store.find(checkout.out, folder.name)
    _, recovered = store.read(path)
    statuses = by_status(recovered)
    assert (len(statuses["ok"]), len(statuses["interrupted"])) == (finished, 6 - finished)
    assert {row["reason"] for row in recovered if row["status"] == "interrupted"} == {
        "the run ended before this was measured"
    }

    resumed = checkout.run("--resume", folder.name)
    assert resumed.returncode == 0, resumed.stderr
    assert len(checkout.files()) == 2
    _, rows = store.read(path)
    assert by_status(rows).keys() == {"ok"}
    assert len({(row["workload"], row["replicate"]) for row in rows}) == len(rows) == 6
    assert started_at(recovered).items() <= started_at(rows).items()


def test_a_killed_worker_costs_one_row_and_another_run_goes_on_beside_it(checkout: Checkout) -> None:
    process = checkout.start_run(checkout.suite("fault/none", "fault/fine", "fault/slow", "fault/hang"))
    checkout.wait_for_log("hanging")
    (worker,) = checkout.workers()

    beside = checkout.run(checkout.suite("fault/none"))
    assert beside.returncode == 0
    assert "recovered" not in beside.stderr
    (first,) = checkout.files()

    os.kill(worker, signal.SIGKILL)
    _, stderr = output(process)
    assert process.returncode == 3
    assert "fault/hang on cpu: crashed: the worker was killed by SIGKILL" in stderr
    (path,) = (path for path in checkout.files() if path != first)
    _, rows = store.read(path)
    (crash,) = (row for row in rows if row["status"] != "ok")
    assert (crash["workload"], crash["status"]) == ("fault/hang", "crashed")
    assert {pid(row) == worker for row in rows if row["sequence"] < crash["sequence"]} <= {True}
    assert {pid(row) == worker for row in rows if row["sequence"] > crash["sequence"]} <= {False}
    assert len(rows) == 4
    assert checkout.incomplete() == []


def test_an_interrupted_run_keeps_what_it_has_and_says_how_to_go_on(checkout: Checkout) -> None:
    suite = checkout.suite("fault/none", "fault/fine", "fault/hang-midway", replicates=2)
    process = checkout.start_run(suite, FAULT_HANG="1")
    checkout.wait_for_log("hanging")
    (worker,) = checkout.workers()
    assert ignores(worker, signal.SIGTERM)  # a batch system sends it to every process of a job
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # and the impatient
    _, stderr = output(process)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert checkout.workers() == []
    plan, rows = checkout.read()
    assert f"vnbench run --resume {plan.run_id} --out {checkout.out}" in stderr
    assert "interrupted by SIGINT" in stderr
    statuses = by_status(rows)
    assert len(rows) == 6
    assert statuses.keys() == {"ok", "interrupted"}
    assert len(statuses["ok"]) >= 2
    assert checkout.incomplete() == []


def test_a_signal_ends_a_search(checkout: Checkout) -> None:
    process = checkout.start_run(checkout.suite("fault/search-hang", "fault/none"))
    checkout.wait_for_log("hanging")
    process.terminate()
    _, stderr = output(process)
    assert process.returncode == 143
    assert "interrupted by SIGTERM; 0 measurements are kept" in stderr
    _, rows = checkout.read()
    assert by_status(rows) == {"interrupted": ["fault/search-hang", "fault/none"]}


def test_a_signal_ends_a_worker_that_is_just_starting(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "torch.py").write_text("import time\nprint('starting', flush=True)\ntime.sleep(3600)\n")
    process = checkout.start_run(checkout.suite("fault/none"), PYTHONPATH=str(tmp_path / "slow"))
    checkout.wait_for_log("starting")
    process.terminate()
    output(process)
    assert process.returncode == 143
    assert checkout.workers() == []


# ---------------------------------------------------------------- disks


@pytest.fixture
def small_disk(checkout: Checkout) -> Iterator[Path]:
    """The results folder on a disk of two megabytes."""
    checkout.out.mkdir()
    answer = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(checkout.out)],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        pytest.skip(f"a file system cannot be mounted here: {answer.stderr.strip()}")
    yield checkout.out
    subprocess.run(["umount", str(checkout.out)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\1" * 4096)
        except OSError:
            return filler


def assert_not_writable(process: subprocess.CompletedProcess[str], words: str) -> None:
    assert process.returncode == 7, process.stderr
    assert process.stdout == ""
    *notes, last = process.stderr.splitlines()
    assert last.startswith("vnbench: cannot write ")
    assert words in last
    assert last.endswith("Free space or choose another folder with --out")
    assert not any(line.startswith(("vnbench:", "Traceback")) for line in notes)


def test_a_full_disk_ends_the_run_and_loses_no_finished_row(checkout: Checkout, small_disk: Path) -> None:
    full = checkout.run(checkout.suite("fault/none", "fault/fine", "fault/fill-disk", replicates=2))
    assert_not_writable(full, "No space left on device")
    (folder,) = checkout.incomplete()
    parts = list(folder.glob("part-*.parquet"))
    assert len(parts) >= 2
    assert all(store.read(part)[1][0]["status"] == "ok" for part in parts)
    assert checkout.files() == []

    # What filled the disk lay in the run's own scratch folder, so nobody has to free anything.
    following = checkout.run(checkout.suite("fault/unsupported"))
    assert following.returncode == 0, following.stderr
    assert f"recovered the killed run {folder.name}: {len(parts)} measurements" in following.stderr.replace("\n", " ")
    _, rows = store.read(store.find(checkout.out, folder.name)[0])
    assert len(by_status(rows)["ok"]) == len(parts)
    assert checkout.incomplete() == []


def test_a_result_that_does_not_fit_is_written_once_there_is_space(checkout: Checkout, small_disk: Path) -> None:
    plan = make_plan(Suite("killed", workloads=("matmul/fp32/64",)), [DeviceInfo("cpu", 0, "test")])
    folder = store.begin(checkout.out, plan)
    job = Job(plan, plan.devices[0], (Item("matmul/fp32/64"),), 0, folder="", scratch="")
    store.write_part(folder.path, schema.blank_row(job, 0, registry.resolve("matmul/fp32/64"), "failed", "kept"), plan)
    folder.release()
    filler = fill(small_disk)

    assert_not_writable(checkout.run("matmul/fp32/64"), "No space left on device")
    assert [row["reason"] for row in folder.rows()] == ["kept"]
    assert checkout.files() == []

    filler.unlink()
    recovery.recover(checkout.out, print)
    _, rows = checkout.read()
    assert by_status(rows)["failed"] == ["matmul/fp32/64"]
    assert checkout.incomplete() == []


def test_a_read_only_disk_is_said_in_one_line(checkout: Checkout, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert_not_writable(checkout.run(checkout.suite("fault/none")), "Read-only file system")

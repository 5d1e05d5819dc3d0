"""Soaks in real processes that are killed, interrupted and crash: no stretch is lost that was finished."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import soak, store
from bench.errors import UsageError
from bench.schema import Row
from bench.types import DeviceInfo, Plan, Soak
from tests.checkout import Checkout, by_status
from tests.results import make_plan

CRITERIA = """
format = 1
title = "a small contract"
device = "cpu"
looks = [3]

[[soak]]
id = "burn-in"
workload = "fault/{kind}"
hours = {hours}
cool_down_minutes = 0
source = "a test"
"""
FLOOR = """
[[performance]]
id = "floor"
workload = "fault/fine"
at_least = 1
unit = "item/s"
source = "a test"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path)
    yield checkout
    left = checkout.workers()
    for process in checkout.started:
        process.kill()
    assert left == []


def criteria(checkout: Checkout, kind: str, *more: str, hours: float = 0.0003) -> Path:
    path = checkout.root.parent / "contract.toml"
    path.write_text("".join((CRITERIA.format(kind=kind, hours=hours), *more)))
    return path


def soaked(checkout: Checkout, kind: str, *arguments: str | Path, **extra: str) -> subprocess.CompletedProcess[str]:
    command = "soak", "--device", "cpu", "--out", checkout.out, "--workload", f"fault/{kind}", "--duration", "1s"
    return checkout.vnbench(*command, *arguments, **extra)


def started(rows: list[Row]) -> dict[int, object]:
    return {row["session"]: row["started_at"] for row in rows}


# ---------------------------------------------------------------- real processes


@pytest.mark.slow
def test_a_killed_soak_is_recovered_and_goes_on_where_it_was(checkout: Checkout) -> None:
    process = checkout.start(
        *("soak", "--device", "cpu", "--out", checkout.out, "--workload", "fault/hang-midway", "--duration", "1s"),
        FAULT_HANG="1",
    )
    checkout.wait_for_log("hanging")
    process.kill()
    process.communicate(timeout=300)
    checkout.wait_for_no_worker()
    (folder,) = checkout.incomplete()
    resumed = checkout.vnbench("soak", "--resume", folder.name, "--out", checkout.out, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert f"recovered the killed run {folder.name}: 2 measurements" in resumed.stderr.replace("\n", " ")
    plan, rows = checkout.read()
    assert [(row["session"], row["replicate"], row["status"]) for row in rows] == [
        *((0, 0, "ok"), (1, 0, "ok"), (2, 1, "ok"), (3, 1, "ok"))
    ]
    assert {row["arm"] for row in rows} == {"soak"}
    (device,) = json.loads(resumed.stdout)["devices"]
    assert (device["soaked_s"], device["processes"]) == (1.0, 2)
    assert plan.soak is not None and plan.soak.seconds == 1.0


@pytest.mark.slow
def test_an_interrupted_soak_ends_in_order_with_a_verdict_on_what_it_has(checkout: Checkout) -> None:
    contract = criteria(checkout, "hang-midway")
    process = checkout.start("soak", "--criteria", contract, "--out", checkout.out, FAULT_HANG="1")
    checkout.wait_for_log("hanging")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    plan, rows = checkout.read()
    assert f"vnbench soak --resume {plan.run_id} --out {checkout.out}" in stderr
    assert by_status(rows) == {"ok": ["fault/hang-midway"] * 2}
    assert "\nINCONCLUSIVE\n" in stdout
    assert "INCONCLUSIVE: burn-in on cpu: the soak ended before its time" in stdout
    assert checkout.incomplete() == []


@pytest.mark.slow
def test_a_crash_costs_its_stretch_and_a_fresh_process_goes_on(checkout: Checkout) -> None:
    process = soaked(checkout, "crash-once")
    assert process.returncode == 3
    _, rows = checkout.read()
    assert [(row["session"], row["replicate"], row["status"]) for row in rows] == [
        *((0, 0, "ok"), (1, 0, "ok"), (2, 0, "crashed"), (3, 1, "ok"))
    ]
    assert "killed by SIGSEGV" in rows[2]["reason"]
    assert "cpu: 2 processes: it crashed, or was resumed" in process.stdout
    judged = checkout.vnbench(
        *("judge", str(checkout.files()[0]), "--criteria", criteria(checkout, "crash-once"), "--out", checkout.out)
    )
    assert judged.returncode == 3
    assert "ERROR: burn-in on cpu: in stretch 2: crashed: the worker was killed by SIGSEGV" in judged.stdout


@pytest.mark.slow
def test_a_device_that_always_fails_is_left_alone(checkout: Checkout) -> None:
    process = soaked(checkout, "raise")
    assert process.returncode == 3
    assert "cpu is left alone: 3 stretches failed in a row" in process.stderr.replace("\n", " ")
    assert by_status(checkout.read()[1]) == {"failed": ["fault/raise"] * 3}


@pytest.mark.slow
def test_wrong_answers_end_no_soak_and_fail_it(checkout: Checkout) -> None:
    process = soaked(checkout, "wrong-later", "--criteria", criteria(checkout, "wrong-later"))
    assert process.returncode == 5
    assert by_status(checkout.read()[1]) == {"wrong": ["fault/wrong-later"] * 4}
    assert "FAIL: burn-in on cpu: wrong answers after 4 of 4 stretches, first in stretch 0" in process.stdout


@pytest.mark.slow
def test_what_cannot_be_done_at_all_is_said_once(checkout: Checkout) -> None:
    process = soaked(checkout, "unsupported")
    assert process.returncode == 0
    assert by_status(checkout.read()[1]) == {"unsupported": ["fault/unsupported"]}


@pytest.mark.slow
def test_an_acceptance_that_is_killed_in_its_soak_goes_on_in_it_and_then_measures(checkout: Checkout) -> None:
    contract = criteria(checkout, "hang-midway", FLOOR)
    device = "--device", "fake:steady"  # which nothing disturbs
    process = checkout.start("accept", "--criteria", contract, "--out", checkout.out, *device, FAULT_HANG="1")
    checkout.wait_for_log("hanging")
    process.kill()
    process.communicate(timeout=300)
    checkout.wait_for_no_worker()
    (folder,) = checkout.incomplete()
    accepted = checkout.vnbench("accept", "--criteria", contract, "--resume", folder.name, "--out", checkout.out)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    plan, rows = checkout.read()
    assert [row["session"] for row in rows if row["arm"] == "soak"] == [0, 1, 2, 3]
    assert all(row["telemetry_readings"] is not None for row in rows)
    assert plan.replicates == 3
    assert by_status([row for row in rows if row["arm"] is None]) == {"ok": ["fault/fine"] * plan.replicates}
    assert max(started([row for row in rows if row["arm"]]).values()) < min(  # type: ignore[type-var]
        row["started_at"] for row in rows if row["arm"] is None
    )


@pytest.mark.slow
def test_an_acceptance_that_is_interrupted_in_its_soak_says_what_it_knows(checkout: Checkout) -> None:
    contract = criteria(checkout, "hang-midway", FLOOR)
    process = checkout.start("accept", "--criteria", contract, "--out", checkout.out, FAULT_HANG="1")
    checkout.wait_for_log("hanging")
    process.terminate()
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "INCONCLUSIVE: burn-in on cpu: the soak ended before its time" in stdout
    assert "vnbench accept --criteria" in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "how long is not said"),
        (["--hours", "1", "--duration", "1h"], "--hours and --duration say the same"),
        (["--duration", "8d"], "a soak of 192 h. It lasts 168 h at most"),
        (["--hours", "1", "--workload", "soap/1"], "no workload or suite 'soap/1'"),
        (["--resume", "5f0c", "--hours", "1"], "--resume goes on with the plan of its run"),
        (["--hours", "1", "--workload", "decode/llama-3.1-70b/b1/ctx512@tp=8"], "takes several devices together"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    from click.testing import CliRunner

    from bench.cli.soak import soak as command

    found = CliRunner().invoke(command, ["--device", "cpu", "--out", str(tmp_path), *arguments])
    assert isinstance(found.exception, UsageError)
    assert words in str(found.exception)
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.slow
def test_the_straggler_of_a_node_is_named(checkout: Checkout) -> None:
    arguments = "soak", "--device", "fake:straggler", "--out", checkout.out, "--duration", "200ms"
    process = checkout.vnbench(*arguments)
    assert process.returncode == 0, process.stderr
    assert "slowest device: fake:2, 20.0% behind the median of its node" in process.stdout
    assert "SIMULATED" in process.stdout
    plan, rows = checkout.read()
    assert len(rows) == 4 * 4
    assert {row["world_size"] for row in rows} == {4}
    shown = checkout.vnbench("show", plan.run_id, "--out", checkout.out)
    assert "slowest device: fake:2" in shown.stdout


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize(
    ("seconds", "stretches", "stretch_s"),
    [
        (1, 4, 0.25),
        (240, 4, 60.0),
        (3600, 60, 60.0),
        (4 * 3600, 240, 60.0),
        (86400, 240, 360.0),
        (168 * 3600, 1008, 600),
    ],
)
def test_stretches_are_a_minute_or_what_a_long_or_short_soak_makes_of_it(
    seconds: float, stretches: int, stretch_s: float
) -> None:
    found = Soak.lasting("soak/x", seconds)
    assert (found.stretches, found.stretch_s) == (stretches, stretch_s)
    assert found.seconds >= seconds
    assert found.telemetry_hz * seconds <= 20_000 or found.telemetry_hz == 0.1


def test_a_plan_with_a_soak_survives_its_json() -> None:
    import dataclasses

    plan = make_plan(soak=Soak.lasting("fault/slow", 3600))
    assert Plan.from_json(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan


def test_a_soak_alone_is_no_acceptance_and_no_run() -> None:
    one = Soak.lasting("soak/64/mib1/tiny", 60)
    plan = soak.plan_of(one, [DeviceInfo("fake", 0, "fake", scenario="steady")])
    assert (soak.require(plan), plan.replicates, plan.workloads) == (one, 0, {"fake": ()})
    with pytest.raises(UsageError, match=r"is no soak alone\. Go on with: vnbench accept --resume"):
        soak.require(make_plan(soak=one))
    with pytest.raises(UsageError, match=r"is no soak alone\. Go on with: vnbench run --resume"):
        soak.require(make_plan())


def test_devices_of_two_kinds_have_no_load_in_common() -> None:
    with pytest.raises(UsageError, match="these are cpu and cuda"):
        soak.workload_on([DeviceInfo("cpu", 0, None), DeviceInfo("cuda", 0, None)])


def test_parts_of_a_soak_never_overwrite_those_of_a_pass() -> None:
    from bench import registry, schema
    from bench.types import Item, Job

    plan = make_plan()
    names = {
        store.part_name(schema.blank_row(job, index, registry.resolve(job.items[index].workload), "ok"))
        for task in ("measure", "soak")
        for replicate in range(2)
        for job in [Job(plan, plan.devices[0], (Item("matmul/fp32/64"),) * 2, replicate, "", "", task=task)]
        for index in range(2)
    }
    assert len(names) == 8

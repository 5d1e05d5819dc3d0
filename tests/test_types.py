"""``bench.types``: what derives from the fields, and round trips through JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.types import (
    FAILURES,
    Arm,
    Check,
    DeviceInfo,
    Duet,
    Item,
    Job,
    Mark,
    Measurement,
    Metric,
    Plan,
    Policy,
    Trial,
    Work,
)

DEVICES = (DeviceInfo("cuda", 0, "GPU", "GPU-1", 80 << 30, "asked"), DeviceInfo("fake", 1, None, scenario="ramp"))
PLAN = Plan(
    run_id="r1",
    node="n1",
    suite="quick",
    started_at="2026-01-02T03:04:05.000006Z",
    workloads={"cuda": ("matmul/fp32/64", "decode/tiny/b1/ctx8"), "fake": ()},
    devices=DEVICES,
    policy=Policy(max_samples=7),
    replicates=5,
    timeout_s=60.0,
    vnbench_version="0.1.0",
    label="before",
    tags={"rack": "7"},
)
JOB = Job(
    plan=PLAN,
    device=DEVICES[1],
    items=(
        Item("matmul/fp32/64"),
        Item(
            "decode/tiny/b1/ctx8",
            "decode/tiny/b1/ctx8@x=1",
            "decode/tiny/b1/ctx8@x=2",
            (Metric("tried", 3.0, "1", "higher"),),
        ),
        Item("matmul/bf16/64", status="unsupported", reason="no bf16"),
    ),
    replicate=2,
    folder="/out",
    scratch="/scratch",
    task="search",
    sequence=4,
    rank=1,
    world_size=2,
    deadline_s=12.5,
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(value)))


def test_plan_survives_json() -> None:
    assert Plan.from_json(through_json(PLAN)) == PLAN


def test_job_survives_json() -> None:
    assert Job.from_json(through_json(JOB)) == JOB


def test_rows_loaded_together_share_a_group() -> None:
    other_rank = dataclasses.replace(JOB, rank=0, device=dataclasses.replace(JOB.device, index=0))
    assert other_rank.concurrency_group == JOB.concurrency_group
    assert dataclasses.replace(JOB, replicate=3).concurrency_group != JOB.concurrency_group


def test_every_rule_is_in_the_policy_id_and_nothing_else() -> None:
    changed: dict[str, Any] = {"warmup_rule": "count"}
    for field in dataclasses.fields(Policy):
        value = changed.get(field.name, getattr(Policy(), field.name))
        other = value if field.name in changed else value + 1
        assert dataclasses.replace(Policy(), **{field.name: other}).policy_id != Policy().policy_id
    assert Policy().policy_id == Policy().policy_id
    assert dataclasses.replace(PLAN, replicates=9).policy.policy_id == PLAN.policy.policy_id


WORK = Work(unit="FLOP/s", flops=2_000, bytes_moved=300, items=7, item_unit="token")


@pytest.mark.parametrize(
    ("unit", "rate"), [(None, 2e9), ("FLOP/s", 2e9), ("OP/s", 2e9), ("B/s", 3e8), ("token/s", 7e6)]
)
def test_rate_divides_the_right_part_of_the_work(unit: str | None, rate: float) -> None:
    assert WORK.rate(1_000, unit) == pytest.approx(rate)


@pytest.mark.parametrize("elapsed_ns", [0, -1])
def test_no_rate_without_time(elapsed_ns: int) -> None:
    assert WORK.rate(elapsed_ns) is None


@pytest.mark.parametrize("unit", ["FLOP/s", "OP/s", "B/s", "token/s"])
def test_no_rate_of_unknown_work(unit: str) -> None:
    assert Work(unit=unit).rate(1_000) is None


@given(st.integers(1, 10**15), st.integers(1, 10**12))
def test_rate_times_time_is_the_work(flops: int, elapsed_ns: int) -> None:
    rate = Work(unit="FLOP/s", flops=flops).rate(elapsed_ns)
    assert rate is not None
    assert rate * elapsed_ns * 1e-9 == pytest.approx(flops)


@pytest.mark.parametrize(
    ("error", "tolerance", "ok"),
    [(0.0, 0.0, True), (1.0, 1.0, True), (1.1, 1.0, False), (math.nan, 1.0, False), (math.inf, 1.0, False)],
)
def test_a_check_passes_within_its_tolerance(error: float, tolerance: float, ok: bool) -> None:
    assert Check(error, tolerance).ok is ok


def test_an_unknown_tolerance_passes_nothing() -> None:
    assert not Check(0.0, math.nan).ok


@pytest.mark.parametrize(("marks", "samples", "each"), [(6, 3, 2), (0, 3, 0), (0, 0, 0)])
def test_marks_per_sample(marks: int, samples: int, each: int) -> None:
    measurement = Measurement((1,) * samples, (), (0,) * samples, (Mark("a", 1),) * marks, 1, True, False)
    assert measurement.marks_per_sample == each


@pytest.mark.parametrize(
    ("device", "label"),
    [(DeviceInfo("cpu", 0, "CPU"), "cpu"), (DEVICES[0], "cuda:0"), (DEVICES[1], "fake:1")],
)
def test_device_label(device: DeviceInfo, label: str) -> None:
    assert device.label == label


def test_failures_are_what_the_user_must_look_at() -> None:
    assert {"failed", "wrong", "timeout", "crashed", "oom"} == FAILURES


# ---------------------------------------------------------------- A/B tests

ARMS = (
    Arm("A", revision="0123456789abcdef0123", python="/arms/0123/venv/bin/python", tree="/arms/0123/tree"),
    Arm("B", python="/opt/python", variables={"OMP_NUM_THREADS": "1", "EMPTY": ""}, workload="matmul/fp32/64"),
)
AB_PLAN = dataclasses.replace(
    PLAN, arms=ARMS, duet=Duet(pairs=3, burst_s=0.5), trial=Trial(looks=(3, 7), alpha=0.1, tolerance=0.02)
)


def test_a_plan_and_a_job_of_an_ab_test_survive_json() -> None:
    assert Plan.from_json(through_json(AB_PLAN)) == AB_PLAN
    job = dataclasses.replace(JOB, plan=AB_PLAN, arm=ARMS[1])
    assert Job.from_json(through_json(job)) == job


def test_a_plan_from_before_ab_tests_is_read_with_none() -> None:
    value = through_json(PLAN)
    for key in ("arms", "duet", "trial"):
        del value[key]
    assert Plan.from_json(value) == PLAN
    assert Plan.from_json(value).arms == ()


def test_what_a_later_version_adds_to_an_ab_test_is_passed_over() -> None:
    value = through_json(AB_PLAN)
    for part in (value["arms"][0], value["duet"], value["trial"]):
        part["added later"] = 1
    assert Plan.from_json(value) == AB_PLAN


def test_every_rule_of_a_session_is_in_its_policy_id() -> None:
    for field in dataclasses.fields(Duet):
        other = dataclasses.replace(Duet(), **{field.name: getattr(Duet(), field.name) + 1})
        assert other.policy_id != Duet().policy_id


def test_sessions_are_another_policy_than_runs_and_their_looks_are_in_none() -> None:
    assert AB_PLAN.policy_id == AB_PLAN.duet.policy_id != AB_PLAN.policy.policy_id
    assert PLAN.policy_id == PLAN.policy.policy_id
    assert dataclasses.replace(AB_PLAN, trial=Trial(looks=(9,))).policy_id == AB_PLAN.policy_id


def test_the_warm_up_of_a_session_waits_for_no_steady_state() -> None:
    warmup = Duet(warmup_min_s=0.3, warmup_min_samples=7).warmup
    assert (warmup.warmup_rule, warmup.warmup_min_s, warmup.warmup_min_samples) == ("count", 0.3, 7)


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        (Arm("A"), "as it is"),
        (ARMS[0], "rev=0123456789ab"),
        (ARMS[1], "python=/opt/python OMP_NUM_THREADS=1 EMPTY= workload=matmul/fp32/64"),
    ],
)
def test_an_arm_is_told_from_the_other_by_what_was_asked_for(arm: Arm, words: str) -> None:
    assert arm.words == words

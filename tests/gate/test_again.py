"""``bench.gate.again``: the same workloads under the same policy, on the same devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.gate import again, baseline, side
from bench.types import DeviceInfo, Policy
from tests.results import CPU, WORKLOAD, make_plan
from tests.stored import OTHER, STEADY, stored


@pytest.mark.parametrize(
    ("stored_replicates", "asked", "expected"), [(3, None, 5), (7, None, 7), (40, None, 10), (3, 12, 12)]
)
def test_a_baseline_is_measured_again_under_its_own_policy(
    tmp_path: Path, stored_replicates: int, asked: int | None, expected: int
) -> None:
    policy = Policy(min_samples=7)
    plan = {"policy": policy, "replicates": stored_replicates}
    paths = [stored(tmp_path, {WORKLOAD: STEADY, OTHER: STEADY}, plan=plan)]
    made, unknown = again.plan_again(side.load(paths), baseline.plans(paths)[-1], [CPU], replicates=asked)
    assert (made.policy, made.replicates, unknown) == (policy, expected, [])
    assert made.workloads["cpu"][:2] == (WORKLOAD, OTHER)


def test_only_what_looks_worse_is_measured_a_second_time(tmp_path: Path) -> None:
    paths = [stored(tmp_path, {WORKLOAD: STEADY, OTHER: STEADY})]
    made, _ = again.plan_again(
        side.load(paths), baseline.plans(paths)[-1], [CPU], replicates=None, only=[(OTHER, "cpu")]
    )
    assert made.workloads["cpu"][0] == OTHER and WORKLOAD not in made.workloads["cpu"]
    assert made.suite == "gate-again"


def test_devices_that_the_baseline_lacks_are_not_measured(tmp_path: Path) -> None:
    paths = [stored(tmp_path)]
    sides = side.load(paths), baseline.plans(paths)[-1]
    gpu = DeviceInfo("cuda", 0, "some GPU")
    assert again.plan_again(*sides, [gpu, CPU], replicates=None)[0].devices == (CPU,)
    with pytest.raises(UsageError, match="nothing of the baseline can be measured here: it is of cpu"):
        again.plan_again(*sides, [gpu], replicates=None)


def test_a_workload_that_is_no_more_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    path = stored(tmp_path, {WORKLOAD: STEADY, OTHER: STEADY}, only={OTHER: {"workload": "gone/fp32/96"}})
    made, unknown = again.plan_again(side.load([path]), baseline.plans([path])[-1], [CPU], replicates=None)
    assert made.workloads["cpu"][0] == WORKLOAD
    assert unknown == ["gone/fp32/96"]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ((CPU,), "cpu"),
        ((DeviceInfo("cuda", 0, "a"), DeviceInfo("cuda", 1, "a")), "cuda"),
        ((DeviceInfo("cuda", 0, "a"), CPU), "all"),
        ((DeviceInfo("fake", 0, "simulated", scenario="hot"),), "fake:hot"),
    ],
)
def test_the_devices_are_those_of_the_baseline(devices: tuple[DeviceInfo, ...], expected: str) -> None:
    assert again.selector(make_plan(devices=devices)) == expected

"""``bench.accept``: as many replicates as it takes, on the devices that the criteria judge."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest

from bench import accept, store
from bench.acceptance.judge import judge
from bench.criteria import file
from bench.criteria.model import Criteria
from bench.errors import Interrupted, MissingDevice, UsageError
from bench.schema import Row
from bench.types import DeviceInfo, Job, Plan
from tests.scripted_run import Script, script

__all__ = ["script"]  # the fixture

CPU = DeviceInfo("cpu", 0, "test")
CRITERIA = """
format = 1
title = "a small contract"
device = "cpu"
looks = [3, 5, 8]

[[inventory]]
id = "cores"
what = "cpu_cores"
at_least = 1
source = "a test"

[[performance]]
id = "gemm"
workload = "matmul/fp32/64"
at_least = 100
unit = "FLOP/s"
source = "a test"
"""


@pytest.fixture
def criteria(tmp_path: Path) -> Criteria:
    path = tmp_path / "small.toml"
    path.write_text(CRITERIA)
    return file.load(str(path))


def accepted(criteria: Criteria, out: Path) -> tuple[Plan, list[Row], str]:
    path = accept.execute(accept.plan_of(criteria, [CPU]), criteria, out)
    plan, rows = store.read(path)
    return plan, rows, judge(plan, rows, criteria).criteria[1].outcome


def test_what_is_clear_at_the_first_look_takes_no_more(script: Script, criteria: Criteria, tmp_path: Path) -> None:
    script.value_of = lambda job, workload: 200.0 + job.replicate
    plan, rows, outcome = accepted(criteria, tmp_path)
    assert (plan.replicates, outcome) == (3, "PASS")
    assert {row["replicate"] for row in rows} == {0, 1, 2}, "no row is left over as interrupted"
    assert plan.suite == "accept-small"


@pytest.mark.parametrize(("value", "expected"), [(120.0, "PASS"), (80.0, "FAIL")])
def test_what_is_not_clear_gets_more_until_it_is(
    script: Script, criteria: Criteria, tmp_path: Path, value: float, expected: str
) -> None:
    """Three replicates that are far apart, and then others that are not."""
    script.value_of = lambda job, workload: value * (1, 1.2, 0.85, 1, 1.01, 0.99, 1, 1)[job.replicate]
    plan, _, outcome = accepted(criteria, tmp_path)
    assert plan.replicates in (5, 8)
    assert outcome == expected


def test_what_lies_on_its_limit_stays_undecided_after_the_last_look(
    script: Script, criteria: Criteria, tmp_path: Path
) -> None:
    script.value_of = lambda job, workload: 100.0 * (0.9, 1.1)[job.replicate % 2]
    plan, _, outcome = accepted(criteria, tmp_path)
    assert (plan.replicates, outcome) == (8, "INCONCLUSIVE")


def test_nothing_is_repeated_for_what_repeating_will_not_tell(
    script: Script, criteria: Criteria, tmp_path: Path
) -> None:
    """These rows have no environment, so the number of cores is not known, however often they are measured."""
    script.value_of = lambda job, workload: 200.0 + job.replicate
    plan, rows, _ = accepted(criteria, tmp_path)
    assert judge(plan, rows, criteria).criteria[0].outcome == "INCONCLUSIVE"
    assert plan.replicates == 3


def test_an_interrupted_acceptance_says_how_to_go_on(script: Script, criteria: Criteria, tmp_path: Path) -> None:
    def interrupted(job: Job, workload: str) -> float:
        if job.replicate == 1:
            raise Interrupted(signal.SIGINT, "interrupted")
        return 200.0

    script.value_of = interrupted
    plan = accept.plan_of(criteria, [CPU])
    with pytest.raises(Interrupted, match=f"vnbench accept --criteria .*small.toml --resume {plan.run_id} --out "):
        accept.execute(plan, criteria, tmp_path)
    kept = [row for row in store.read(store.find_one(tmp_path, plan.run_id))[1] if row["status"] == "ok"]
    script.value_of = lambda job, workload: 201.0 + job.replicate
    resumed, rows = store.read(accept.execute(plan, criteria, tmp_path, kept=kept))
    assert resumed.replicates == 3
    assert {row["status"] for row in rows} == {"ok"}


def test_a_gpu_that_is_missing_is_a_fail_and_no_cpu_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.device.select._usable_gpus", lambda reason: ())
    with pytest.raises(MissingDevice, match="FAIL: no NVIDIA GPU on this machine, and h100-sxm judges that"):
        accept.devices_of(file.load("h100-sxm"))


@pytest.mark.parametrize("selector", ["cpu", "auto", "all", "cpu:0"])
def test_a_device_of_another_kind_is_refused(selector: str) -> None:
    with pytest.raises(UsageError, match=f"--device {selector}: h100-sxm judges cuda"):
        accept.devices_of(file.load("h100-sxm"), selector)
    (device, *_) = accept.devices_of(file.load("h100-sxm"), "fake:steady")
    assert device.kind == "fake"


def test_an_acceptance_goes_on_by_its_own_criteria_alone(criteria: Criteria, tmp_path: Path) -> None:
    plan = accept.plan_of(criteria, [CPU])
    accept.require_same(plan, criteria)
    easier = tmp_path / "easier.toml"
    easier.write_text(CRITERIA.replace("at_least = 100", "at_least = 1"))
    with pytest.raises(UsageError, match="was begun with other criteria"):
        accept.require_same(plan, file.load(str(easier)))
    with pytest.raises(UsageError, match="is no acceptance"):
        accept.require_same(dataclasses.replace(plan, tags={}), criteria)


def test_criteria_without_a_workload_measure_nothing_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "bare.toml"
    path.write_text(CRITERIA.partition("[[performance]]")[0])
    with pytest.raises(UsageError, match="names no workload"):
        accept.plan_of(file.load(str(path)), [CPU])

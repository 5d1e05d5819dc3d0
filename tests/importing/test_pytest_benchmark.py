"""``bench.importing.pytest_benchmark``: what a saved benchmark is, how it was sampled, and what it says."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from bench.importing import pytest_benchmark as subject
from bench.importing.foreign import load_json, make_plan
from bench.schema import Row
from bench.types import DeviceInfo
from tests.importing.saved import COMMIT, MACHINE, OPTIONS, entry, session
from tests.importing.saved import CPU as CPU_INFO

PLAN = make_plan("0011223344", suite="pytest", node="node7", started_at=dt.datetime(2026, 11, 22, tzinfo=dt.UTC))
CPU = DeviceInfo("cpu", 0, "some CPU")


def row(one: Any, **changes: Any) -> Row:
    return subject.row(PLAN, one, {}, device=CPU, **changes)


def test_times_are_seconds_per_iteration_and_are_not_divided_again() -> None:
    found = row(entry("test_a.py::test_x", [2e-6, 4e-6, 3e-6], iterations=100))
    assert found["elapsed_ns"] == [2000, 4000, 3000]
    assert found["launches_per_sample"] == 100
    assert found["median_ns"] == pytest.approx(3000)
    assert (found["value"], found["unit"], found["better"]) == (pytest.approx(1e6 / 3), "call/s", "higher")
    assert (found["items"], found["item_unit"], found["status"]) == (1, "call", "ok")


def test_a_median_below_a_nanosecond_keeps_its_digits() -> None:
    assert row(entry("t::x", [3.14e-10] * 3))["median_ns"] == pytest.approx(0.314)


def test_a_sample_far_above_the_others_is_flagged_and_kept() -> None:
    found = row(entry("t::x", [1e-3] * 20 + [2e-3, 1e-3]))
    assert found["sample_flags"] == [0] * 20 + [1, 0]


def test_without_saved_samples_the_median_is_there_and_a_flag() -> None:
    one = entry("t::x", [1e-3, 2e-3, 5e-3], with_data=False)
    found = row(one)
    assert found["elapsed_ns"] is None
    assert found["median_ns"] == pytest.approx(2e6)
    assert found["validity"] == ["unwatched", "no-samples"]
    assert row(entry("t::x", [1e-3] * 3))["validity"] == ["unwatched"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([0.0, 0.0, 1e-9], "its timer does not resolve it"),
        ([1e-3, float("nan"), 1e-3], "not all finite numbers"),
        ([1e-3, float("inf")], "not all finite numbers"),
        ([-1e-3, 1e-3, 1e-3], "not all finite numbers"),
        ([1e-3, 1e300], "not all finite numbers"),
        ([1e-3, "fast", 1e-3], "not all finite numbers"),
        ([1e-3, True, 1e-3], "not all finite numbers"),
    ],
)
def test_times_that_are_none_have_no_value(data: list[Any], words: str) -> None:
    one = entry("t::x", [1.0])
    one["stats"]["data"] = data
    found = row(load_json(json.dumps(one)))
    assert found["status"] == "failed" and words in found["reason"]
    assert found["value"] is None and found["median_ns"] is None


def test_a_timer_that_counts_nanoseconds_is_not_taken_for_seconds() -> None:
    found = row(entry("t::x", [2000.0, 3000.0, 4000.0], timer="perf_counter_ns"))
    assert found["elapsed_ns"] == [2000, 3000, 4000]
    assert found["value"] == pytest.approx(1e9 / 3000)


def test_the_full_name_alone_makes_the_spec() -> None:
    one, other = (subject.workload(entry(name, [1.0])) for name in ("a.py::test_x[1]", "a.py::test_x[2]"))
    assert one.name == "pytest/a.py::test_x[1]"
    assert one.spec.spec_id != other.spec.spec_id
    faster = subject.workload(entry("a.py::test_x[1]", [0.5, 0.25], iterations=7))
    assert faster.spec.spec_id == one.spec.spec_id


@pytest.mark.parametrize(
    "changed",
    [
        {"disable_gc": True},
        {"timer": "process_time"},
        {"min_rounds": 6},
        {"max_time": 2.0},
        {"min_time": 1e-5},
        {"precision": 0.01, "confidence": 0.95},
        {"warmup": 100000},
    ],
)
def test_each_option_makes_another_policy(changed: dict[str, Any]) -> None:
    assert row(entry("t::x", [1.0], **changed))["policy_id"] != row(entry("t::x", [1.0]))["policy_id"]


def test_what_was_found_while_measuring_makes_no_other_policy() -> None:
    first, second = entry("t::x", [1.0, 2.0], iterations=3), entry("t::x", [1.5] * 9, iterations=5)
    assert row(first)["policy_id"] == row(second)["policy_id"]


def test_a_version_without_the_newer_options_has_the_same_policy() -> None:
    older = entry("t::x", [1.0])
    older["options"] = {name: value for name, value in OPTIONS.items() if name not in ("precision", "confidence")}
    older["options"]["max_time"] = "1.0"  # version 3 saved times as texts
    assert row(older)["policy_id"] == row(entry("t::x", [1.0]))["policy_id"]


def test_control_characters_in_a_name_are_escaped() -> None:
    assert subject.workload(entry("t::x[\x1b[31m]", [1.0])).name == "pytest/t::x[\\x1b[31m]"


def test_numbers_of_extra_info_become_metrics() -> None:
    one = entry("t::x", [1.0])
    one["extra_info"] = {"tokens": 12, "name": "text", "bad": None, "flag": True}
    names = {metric["name"]: metric["value"] for metric in row(one)["metrics"]}
    assert names == {"rounds": 1, "iterations": 10, "extra/tokens": 12}


def process(**changes: Any) -> subject.SavedProcess:
    return subject.parse("a.json", "0" * 16, session(entry("t::x", [1.0]), **changes))


def test_what_is_told_of_the_machine_becomes_columns_and_the_rest_is_kept() -> None:
    columns = subject.environment_columns(process())
    assert process().node == "ci_runner_7"
    assert columns["cpu_model"] == "Some CPU @ 2.60GHz"
    assert columns["device_name"] == "Some CPU @ 2.60GHz, 8 CPUs"
    assert (columns["python"], columns["os"], columns["os_kernel"]) == ("3.12.4", "Linux", "6.8.0-45-generic")
    assert columns["cpu_cores"] is None and columns["driver"] is None
    assert json.loads(columns["environment"])["machine_info"]["machine"] == "x86_64"


def test_a_clock_that_is_measured_anew_makes_no_other_machine() -> None:
    later = MACHINE | {"cpu": CPU_INFO | {"hz_actual": [1, 0], "hz_actual_friendly": "0"}}
    bigger = MACHINE | {"cpu": CPU_INFO | {"count": 16}}
    assert process(machine=later).machine == process().machine
    assert process(machine=bigger).machine != process().machine
    ids = [subject.environment_columns(process(machine=one))["env_id"] for one in (MACHINE, later, bigger)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("info", "commit"),
    [
        ({"id": COMMIT, "dirty": False}, COMMIT),
        ({"id": COMMIT, "dirty": True}, f"{COMMIT}+"),
        ({"id": "unversioned", "dirty": False}, None),
        ({"id": "unknown", "error": "no git"}, None),
        ({"id": None}, None),
        (None, None),
    ],
)
def test_the_commit_is_known_only_where_there_was_one(info: Any, commit: str | None) -> None:
    assert subject.commit_of(info) == commit


@pytest.mark.parametrize("text", ["2026-11-22T05:00:00", "2026-11-22T05:00:00Z", "2026-11-22T12:00:00+07:00"])
def test_a_time_without_a_zone_is_utc(text: str) -> None:
    assert process(datetime=text).at == dt.datetime(2026, 11, 22, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"benchmarks": []}, "no benchmark"),
        ({"benchmarks": {}}, "no list of benchmarks"),
        ({"benchmarks": [1]}, "no fullname"),
        ({"benchmarks": [{"fullname": "t::x"}]}, "t::x in it has no stats"),
        ([], "no list of benchmarks"),
    ],
)
def test_what_is_not_of_pytest_benchmark_is_named(data: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        subject.parse("a.json", "0" * 16, data)


def test_a_machine_that_tells_nothing_is_unknown_and_no_error() -> None:
    found = subject.parse("a.json", "0" * 16, session(entry("t::x", [1.0]), machine={}, commit=""))
    assert found.node == "unnamed" and found.commit is None
    assert subject.environment_columns(found)["cpu_model"] is None

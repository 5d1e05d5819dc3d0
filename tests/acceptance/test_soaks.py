"""The criterion of duration: hours are exact, and nothing that is short, wrong or failed is a PASS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.acceptance.judge import judge
from bench.schema import Row
from bench.types import SOAK_ARM, Plan, Soak
from tests.acceptance.results import FLOOR, WORKLOAD, criteria, gpus, healthy, judged, only
from tests.results import make_plan, make_row

SOAK = f"""
[[soak]]
id = "burn-in"
workload = "{WORKLOAD}"
hours = 24
source = "a test"
"""
STRETCHES = 240


def run(done: int = STRETCHES, hours: float = 24.0, devices: int = 2) -> tuple[Plan, list[Row]]:
    plan = make_plan(WORKLOAD, devices=gpus(devices), soak=Soak.lasting(WORKLOAD, hours * 3600))
    rows = [
        make_row(plan, WORKLOAD, device=device, sequence=number, session=number, arm=SOAK_ARM, elapsed_ns=[1])
        for device in range(devices)
        for number in range(done)
    ]
    return plan, rows


def test_all_hours_with_right_answers_are_a_pass(tmp_path: Path) -> None:
    found = judged(tmp_path, SOAK, *run())
    assert (found.outcome, found.worst.observed, found.unit) == ("PASS", 24.0, "h")
    assert found.criterion.limit.stated == {"at_least": 24.0}


def test_a_stretch_less_is_inconclusive_and_says_how_long_it_was(tmp_path: Path) -> None:
    plan, rows = run()
    found = judged(tmp_path, SOAK, plan, rows[:-1])
    assert (found.outcome, found.worst.device, found.worst.observed) == ("INCONCLUSIVE", "cuda:1", 23.9)
    assert judged(tmp_path, SOAK, plan, []).worst.words == "not measured"
    assert judged(tmp_path, SOAK, *healthy()).worst.words == "not measured"


@pytest.mark.parametrize(
    ("changes", "outcome", "words"),
    [
        (
            {"status": "wrong", "reason": "error 9"},
            "FAIL",
            "wrong answers after 1 of 240 stretches, first in stretch 7",
        ),
        ({"check_error": 2.0, "check_tolerance": 1.0}, "FAIL", "wrong answers after 1 of 240 stretches"),
        ({"status": "crashed", "reason": "SIGSEGV"}, "ERROR", "in stretch 7: crashed: SIGSEGV"),
        ({"status": "burnt"}, "ERROR", "in stretch 7: burnt"),
        ({"status": "unsupported", "reason": "no bf16"}, "INCONCLUSIVE", "unsupported: no bf16"),
    ],
)
def test_what_is_wrong_or_failed_is_never_a_pass(
    tmp_path: Path, changes: dict[str, Any], outcome: str, words: str
) -> None:
    plan, rows = run()
    rows[STRETCHES + 7] |= changes
    found = judged(tmp_path, SOAK, plan, rows)
    assert (found.outcome, found.worst.device) == (outcome, "cuda:1")
    assert words in found.worst.words


def test_hours_under_another_load_count_for_nothing(tmp_path: Path) -> None:
    plan, rows = run()
    others = [row | {"workload": "matmul/bf16/4096"} for row in rows]
    assert judged(tmp_path, SOAK, plan, others).outcome == "INCONCLUSIVE"


def test_stretches_decide_no_figure_and_states_are_judged_over_them(tmp_path: Path) -> None:
    plan, rows = run(devices=1)
    assert judged(tmp_path, FLOOR, plan, rows).worst.words == "not measured"
    state = '[[state]]\nid = "throttled"\ncolumn = "throttle_s"\nat_most = 0\nsource = "a test"\n'
    timed = healthy()[1][0]["timed_from"]
    rows = [row | {"timed_from": timed, "throttle_s": 0.0} for row in rows]
    assert judged(tmp_path, state, plan, rows).outcome == "PASS"
    rows[100] |= {"throttle_s": 2.0}
    assert judged(tmp_path, state, plan, rows).outcome == "FAIL"


def test_without_the_device_it_fails(tmp_path: Path) -> None:
    assert only(judge(make_plan(WORKLOAD), [], criteria(tmp_path, SOAK))).outcome == "FAIL"

"""Which of several outputs is wrong, where that can be known, and how it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import outputs
from bench.acceptance.model import Judged
from bench.schema import Row
from bench.types import Plan
from tests.acceptance.results import healthy, judged

ANSWERS = """
[[answers]]
id = "answers"
source = "a test"
"""
RIGHT, WRONG, THIRD = (digit * 64 for digit in "123")


def run(*of_devices: str) -> tuple[Plan, list[Row]]:
    """A run of sound GPUs, whose replicates all have the output of their device."""
    plan, rows = healthy(len(of_devices))
    return plan, [row | {"output_sha256": of_devices[row["device_index"]]} for row in rows]


def of(judged: Judged) -> list[str]:
    """The devices that fail."""
    return [one.device for one in judged.findings if one.outcome == "FAIL"]


def test_equal_outputs_pass(tmp_path: Path) -> None:
    found = judged(tmp_path, ANSWERS, *run(RIGHT, RIGHT))
    assert (found.outcome, found.worst.words) == ("PASS", "all of 5 were right")


def test_a_consistently_wrong_device_is_named_by_the_others(tmp_path: Path) -> None:
    found = judged(tmp_path, ANSWERS, *run(RIGHT, RIGHT, WRONG, RIGHT))
    assert of(found) == ["cuda:2"]
    assert found.worst.observed == 5
    assert found.worst.words == (
        "wrong bits in matmul/bf16/8192, replicate 0: its output is not that of 15 of 20 measurements on equal terms: "
        "cuda:2 GPU-2, replicate 0: sha256 2222222222222222… where it is 1111111111111111…"
    )


def test_one_wrong_replicate_of_one_device_is_named(tmp_path: Path) -> None:
    plan, rows = run(RIGHT)
    words = "cuda:0 GPU-0, replicate 3, check after timing: element [5, 17] is …"
    rows[3] |= {"output_sha256": WRONG, "output_difference": words}
    found = judged(tmp_path, ANSWERS, plan, rows)
    assert (found.outcome, found.worst.observed) == ("FAIL", 1)
    assert "replicate 3: its output is not that of 4 of 5" in found.worst.words
    assert found.worst.words.endswith(words)


def test_who_differs_from_a_wrong_one_that_was_kept_first_is_not_blamed(tmp_path: Path) -> None:
    plan, rows = run(WRONG, RIGHT, RIGHT, RIGHT)
    rows = [row | ({"output_difference": "x"} if row["device_index"] else {}) for row in rows]
    assert of(judged(tmp_path, ANSWERS, plan, rows)) == ["cuda:0"]


def test_of_two_devices_that_differ_none_is_known_to_be_right(tmp_path: Path) -> None:
    found = judged(tmp_path, ANSWERS, *run(RIGHT, WRONG))
    assert of(found) == ["cuda:0", "cuda:1"]
    assert "2 different outputs of 10 measurements, and which is right cannot be known" in found.worst.words
    assert len(of(judged(tmp_path, ANSWERS, *run(RIGHT, WRONG, THIRD)))) == 3


def test_a_measurement_that_contradicts_itself_fails(tmp_path: Path) -> None:
    plan, rows = run(RIGHT, RIGHT)
    rows[1]["output_difference"] = "check after timing: sha256 …"
    assert of(judged(tmp_path, ANSWERS, plan, rows)) == ["cuda:1"]
    known = f'golden = {{ "{outputs.conditions(rows[0])}" = "{RIGHT}" }}\n'
    assert of(judged(tmp_path, ANSWERS + known, plan, rows)) == ["cuda:1"]


@pytest.mark.parametrize("name", ["spec_id", "candidate", "device_name", "driver", "cuda", "torch"])
def test_outputs_under_other_conditions_are_not_compared(tmp_path: Path, name: str) -> None:
    plan, rows = run(RIGHT, WRONG)
    rows = [row | ({name: "another"} if row["device_index"] else {}) for row in rows]
    assert judged(tmp_path, ANSWERS, plan, rows).outcome == "PASS"


def test_a_result_without_the_column_of_differences_or_without_hashes_is_judged(tmp_path: Path) -> None:
    plan, rows = run(RIGHT, RIGHT)
    assert all(row["output_difference"] is None for row in rows)  # as a file of before has it
    assert judged(tmp_path, ANSWERS, plan, [row | {"output_sha256": None} for row in rows]).outcome == "PASS"


def test_a_golden_value_finds_a_node_that_is_wrong_throughout(tmp_path: Path) -> None:
    plan, rows = run(RIGHT, RIGHT)
    known = f'golden = {{ "{outputs.conditions(rows[0])}" = "{RIGHT}" }}\n'
    found = judged(tmp_path, ANSWERS + known, plan, rows)
    assert (found.outcome, found.worst.words) == ("PASS", "all of 5 were right, 5 of them bit by bit as is known")
    found = judged(tmp_path, ANSWERS + known.replace(RIGHT, WRONG), plan, rows)
    assert of(found) == ["cuda:0", "cuda:1"]
    assert "its output is not the golden one" in found.worst.words

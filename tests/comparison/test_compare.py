"""``bench.comparison``: figures as ``bench.stats`` has them; unlike work is refused, and no failure is a value."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import pack
from bench.comparison.model import Comparison
from bench.errors import UnreadableResult, UsageError
from bench.stats import geometric_mean, holm, log_t_interval, suite_ratio, two_level_ratio, welch_ratio_test
from tests.fleet import A, B, cell, compared, write

SLOW, FAST = [10.0, 10.1, 9.9], [12.0, 12.2, 11.9]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"


def nodes(out: Path, label: str, values: list[list[float]], workload: str = A, **changes: Any) -> None:
    for i, each in enumerate(values):
        write(out, {workload: each}, node=f"{label}-{i}", label=label, **changes)


# ---------------------------------------------------------------- figures


def test_two_runs_are_compared_by_welch_on_their_replicates(out: Path) -> None:
    found = cell(compared(write(out, {A: SLOW}), write(out, {A: FAST})))
    assert found.verdict == "better"
    assert found.level == "replicate"
    assert found.value == pytest.approx(geometric_mean(FAST))
    own, expected = log_t_interval(FAST), welch_ratio_test(FAST, SLOW)
    assert own is not None
    assert expected is not None
    assert found.interval is not None
    assert found.ratio is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((own.low, own.high))
    assert (found.ratio.ratio, found.ratio.interval.low) == pytest.approx((expected.ratio, expected.interval.low))
    assert (found.nodes, found.replicates, found.statuses) == (1, 3, (("ok", 3),))


def test_three_nodes_a_side_are_compared_by_their_means(out: Path) -> None:
    sides = [[[10.0, 10.2], [11.0], [10.5, 10.4, 10.3]], [[12.0], [12.5, 12.4], [12.2], [12.1] * 9]]
    for label, values in zip("ab", sides, strict=True):
        nodes(out, label, values)
    found = cell(compared("a", "b", out=out))
    expected = two_level_ratio(sides[1], sides[0])
    assert expected is not None
    assert (found.level, found.nodes, found.replicates) == ("node", 4, 13)
    assert found.ratio is not None
    assert found.ratio.interval.high == pytest.approx(expected.test.interval.high)
    assert found.ratio.interval.n == 3


def test_a_node_of_many_runs_counts_once(out: Path) -> None:
    nodes(out, "a", [SLOW, SLOW, SLOW])
    for _ in range(5):
        nodes(out, "b", [FAST])
    nodes(out, "b", [FAST, SLOW, SLOW])
    found = cell(compared("a", "b", out=out))
    assert (found.nodes, found.replicates) == (3, 24)
    assert found.value == pytest.approx(geometric_mean([geometric_mean(FAST), *[geometric_mean(SLOW)] * 2]))


def test_the_devices_of_a_replicate_are_one_observation(out: Path) -> None:
    devices = [{"replicate": i, "device_index": 1, "value": 8.0 + i} for i in range(3)]
    found = cell(compared(write(out, {A: SLOW}), write(out, {A: FAST}, rows=devices)))
    expected = [geometric_mean([fast, 8.0 + i]) for i, fast in enumerate(FAST)]
    own = log_t_interval(expected)
    assert own is not None
    assert found.interval is not None
    assert found.replicates == 3
    assert found.interval.low == pytest.approx(own.low)


def test_where_lower_is_better_a_lower_value_is_a_ratio_above_1(out: Path) -> None:
    found = cell(compared(write(out, {A: FAST}, better="lower"), write(out, {A: SLOW}, better="lower")))
    assert found.verdict == "better"
    assert found.ratio is not None
    assert found.ratio.ratio == pytest.approx(geometric_mean(FAST) / geometric_mean(SLOW))
    assert found.ratio.interval.low > 1


def test_a_difference_within_the_tolerance_decides_nothing(out: Path) -> None:
    paths = write(out, {A: SLOW}), write(out, {A: FAST})
    assert [cell(compared(*paths, tolerance=t)).verdict for t in (0.0, 0.1, 0.5)] == ["better", "better", "undecided"]
    back = [cell(compared(*paths[::-1], tolerance=t)).verdict for t in (0.0, 0.1, 0.5)]
    assert back == ["worse", "worse", "undecided"]


def test_one_replicate_has_a_value_and_no_interval_and_the_reason(out: Path) -> None:
    found = cell(compared(write(out, {A: [1.0]}), write(out, {A: [2.0]})))
    assert (found.verdict, found.value, found.interval, found.ratio) == ("undecided", 2.0, None, None)
    assert found.ratio_of_values == pytest.approx(2.0)
    assert "too few replicates" in found.note


def test_equal_values_are_a_point(out: Path) -> None:
    found = cell(compared(write(out, {A: [2.0] * 3}), write(out, {A: [2.0] * 3})))
    assert found.verdict == "undecided"
    assert found.ratio is not None
    assert found.ratio.interval.low == found.ratio.interval.high == 1.0


def test_verdicts_of_many_workloads_are_held_to_holm(out: Path) -> None:
    rng = np.random.default_rng(4)
    names = [f"matmul/fp32/{size}" for size in range(64, 64 + 30)]
    sides = [{name: np.exp(rng.normal(0, 0.1, 3)).tolist() for name in names} for _ in range(2)]
    comparison = compared(write(out, sides[0]), write(out, sides[1]))
    tests = [welch_ratio_test(sides[1][name], sides[0][name]) for name in names]
    p = [2 * min(test.p_above, test.p_below) for test in tests if test]
    found = [cell(comparison, name) for name in names]
    assert [one.p for one in found] == pytest.approx(holm(p))
    alone = [one for one, each in zip(found, p, strict=True) if each < 0.05]
    assert alone  # with 30 workloads alike, some interval misses 1
    assert all(one.verdict == "undecided" and "Holm" in one.note for one in alone)


def test_the_suites_ratio_is_that_of_the_statistics(out: Path) -> None:
    rng = np.random.default_rng(2)
    values = rng.lognormal(0, 0.05, (2, 3, 4, 2))  # side, node, replicate, workload
    for side, label in enumerate("ab"):
        for node in range(3):
            one, other = values[side, node].T.tolist()
            write(out, {A: one, B: other}, node=f"{label}{node}", label=label)
    (found,) = compared("a", "b", out=out).suite_ratios
    expected = suite_ratio(values[1].tolist(), values[0].tolist())
    assert expected is not None
    assert found.ratio is not None
    assert (found.ratio.ratio, found.ratio.interval.low) == pytest.approx(
        (expected.test.ratio, expected.test.interval.low)
    )
    assert (found.workloads, found.level, found.note) == (2, "node", "")
    ratios = {name: cell(compared("a", "b", out=out), name).ratio_of_values for name in (A, B)}
    assert (found.worst_ratio, found.worst) == min((ratio, name) for name, ratio in ratios.items())


def test_a_replicate_that_lacks_a_workload_takes_no_part_in_the_suite(out: Path) -> None:
    comparison = compared(write(out, {A: SLOW, B: SLOW}), write(out, {A: [*FAST, 50.0], B: FAST}))
    (found,) = comparison.suite_ratios
    assert found.ratio is not None
    assert found.ratio.ratio == pytest.approx(geometric_mean(FAST) / geometric_mean(SLOW))
    assert found.note == "1 replicates lack a workload and take no part"


def test_workloads_of_separate_runs_have_a_suite_ratio_without_an_interval_and_it_says_why(out: Path) -> None:
    for label, values in (("a", SLOW), ("b", FAST)):
        for workload in (A, B):
            write(out, {workload: values}, node=label, label=label)
    (found,) = compared("label:a", "label:b", out=out).suite_ratios
    assert (found.ratio, found.note, found.better) == (None, "no interval: no replicate has all 2 workloads", 2)
    assert found.ratio_of_values == pytest.approx(geometric_mean(FAST) / geometric_mean(SLOW))


def test_the_order_of_files_changes_no_digit(out: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    paths = [write(out, {A: rng.lognormal(0, 1, 5).tolist()}, node=f"n{i}", label="ab"[i % 2]) for i in range(30)]
    (tmp_path / "turned").mkdir()
    for i, path in enumerate(paths):
        shutil.copy(path, tmp_path / "turned" / f"{99 - i}.parquet")
    found = compared(out, by="label")
    assert list(compared(tmp_path / "turned", by="label").cells) == list(found.cells)
    pack.pack(paths[::-1], out / "runs", remove_originals=True)
    assert list(compared(out, by="label").cells) == list(found.cells)


# ---------------------------------------------------------------- what is no value


@pytest.mark.parametrize("status", ["failed", "wrong", "timeout", "crashed", "oom"])
def test_a_side_that_failed_is_no_gap_and_has_no_ratio(out: Path, status: str) -> None:
    bad = [{"replicate": 3, "status": status, "reason": "it broke", "value": 1e9}]
    comparison = compared(write(out, {A: SLOW, B: SLOW}), write(out, {A: FAST, B: FAST}, rows=bad))
    found = cell(comparison)
    assert (found.verdict, found.ratio, comparison.exit_code) == ("failed", None, 3)
    assert found.note == f"ok 3, {status} 1: it broke"
    assert found.value == pytest.approx(geometric_mean(FAST))
    assert cell(comparison, B).verdict == "better"
    assert comparison.suite_ratios[0].workloads == 1


def test_against_a_reference_that_failed_there_is_nothing_to_compare(out: Path) -> None:
    bad = [{"replicate": 3, "status": "wrong"}]
    comparison = compared(write(out, {A: SLOW}, rows=bad), write(out, {A: FAST}))
    assert (cell(comparison, side=0).verdict, cell(comparison).verdict) == ("failed", "missing")
    assert "reference" in cell(comparison).note
    assert comparison.exit_code == 3


def test_a_workload_that_is_missing_is_named(out: Path) -> None:
    comparison = compared(write(out, {A: SLOW, B: SLOW}), write(out, {A: FAST}))
    assert (cell(comparison, B).verdict, cell(comparison, B).value, comparison.exit_code) == ("missing", None, 6)
    assert (comparison.suite_ratios[0].workloads, comparison.suite_ratios[0].other) == (1, 1)


def test_what_a_side_cannot_do_is_no_failure(out: Path) -> None:
    no = [{"workload": B, "status": "unsupported", "reason": "no such unit", "value": None}]
    comparison = compared(write(out, {A: SLOW, B: SLOW}), write(out, {A: FAST}, rows=no))
    assert (cell(comparison, B).verdict, comparison.exit_code) == ("unsupported", 0)
    assert cell(comparison, B).note == "unsupported 1: no such unit"


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0, None])
def test_a_value_that_is_none_is_a_failure(out: Path, value: float | None) -> None:
    odd = [{"replicate": 3, "value": value}]
    comparison = compared(write(out, {A: SLOW}), write(out, {A: FAST}, rows=odd))
    assert cell(comparison).value == pytest.approx(geometric_mean(FAST))
    assert (cell(comparison).verdict, comparison.exit_code) == ("failed", 3)
    assert cell(comparison).note == "ok 3, failed 1: a value is no positive number"


def test_arms_of_ab_sessions_are_no_sides(out: Path) -> None:
    arms = [{"replicate": 3, "arm": "B", "session": 3, "value": 99.0}]
    comparison = compared(write(out, {A: SLOW}), write(out, {A: FAST}, rows=arms))
    assert cell(comparison).replicates == 3
    assert any("A/B" in note for note in comparison.notes)


# ---------------------------------------------------------------- like with like


@pytest.mark.parametrize("key", ["spec_id", "policy_id"])
def test_unlike_work_is_refused_by_name(out: Path, key: str) -> None:
    paths = write(out, {A: SLOW, B: SLOW}), write(out, {A: FAST}, rows=[{"workload": B, "value": 3.0, key: "other"}])
    comparison = compared(*paths)
    assert (cell(comparison, B).verdict, cell(comparison, B).ratio, comparison.exit_code) == ("incomparable", None, 6)
    assert cell(comparison).verdict == "better"
    (refusal,) = comparison.refusals
    assert (refusal.workload, refusal.key, refusal.found) == (B, key, "other")
    assert comparison.suite_ratios[0].workloads == 1


def test_open_compares_all_the_same_and_marks_it(out: Path) -> None:
    comparison = compared(write(out, {A: SLOW}), write(out, {A: FAST}, policy_id="other"), is_open=True)
    assert (cell(comparison).verdict, cell(comparison).is_open, comparison.exit_code) == ("better", True, 0)
    assert "--open" in cell(comparison).note
    assert len(comparison.refusals) == 1
    assert not cell(comparison, side=0).is_open


def test_a_side_that_is_not_alike_in_itself_is_refused(out: Path) -> None:
    mixed = [{"replicate": 3, "value": 12.0, "spec_id": "other"}]
    comparison = compared(write(out, {A: SLOW}), write(out, {A: FAST}, rows=mixed))
    assert cell(comparison).verdict == "incomparable"
    assert " and " in comparison.refusals[0].found
    turned = compared(write(out, {A: FAST}, rows=mixed), write(out, {A: SLOW}))
    assert cell(turned).verdict == "incomparable"


def test_sides_that_are_mixed_alike_are_refused_too(out: Path) -> None:
    mixed = [{"replicate": 3, "value": 12.0, "spec_id": "other"}]
    comparison = compared(write(out, {A: SLOW}, rows=mixed), write(out, {A: FAST}, rows=mixed))
    assert cell(comparison).verdict == "incomparable"


def test_other_units_are_not_even_compared_openly(out: Path) -> None:
    comparison = compared(write(out, {A: SLOW}), write(out, {A: FAST}, unit="B/s"), is_open=True)
    assert (cell(comparison).verdict, cell(comparison).ratio) == ("incomparable", None)


def test_what_only_one_side_recorded_is_no_difference(out: Path) -> None:
    sides = [
        write(out, {A: SLOW}, env_id="e", environment=details)
        for details in ('{"old": 1, "changed": 1}', '{"new": 1, "changed": 2}')
    ]
    assert [one.key for one in compared(*sides).differences] == ["changed"]


def test_details_that_somebody_made_unreadable_differ_from_any_others(out: Path) -> None:
    sides = [write(out, {A: SLOW}, env_id="e", environment=details) for details in ("{cut", "{cut off")]
    assert [one.key for one in compared(*sides).differences] == ["unreadable"]


def test_environments_may_differ_and_are_named(out: Path) -> None:
    details = [f'{{"host": {{"smt": "{word}", "turbo": 1}}}}' for word in ("on", "off")]
    sides = [
        write(out, {A: values}, env_id=driver, driver=driver, environment=detail, memory_bytes=memory)
        for values, driver, detail, memory in zip((SLOW, FAST), "12", details, (10**9, 10**9 + 5), strict=True)
    ]
    comparison = compared(*sides)
    assert [(one.kind, one.key, one.values) for one in comparison.differences] == [
        ("software", "driver", (('"1"',), ('"2"',))),
        ("details", "host.smt", (('"on"',), ('"off"',))),
    ]
    assert comparison.exit_code == 0


# ---------------------------------------------------------------- which runs a side is


def test_sides_are_paths_runs_nodes_and_labels(out: Path) -> None:
    path = write(out, {A: SLOW}, node="n1", label="red")
    write(out, {A: FAST}, node="n2", label="blue")
    run_id = path.stem.rpartition("-")[2]
    for text in (path, path.parent, run_id, "n1", "node:n1", "red", "label:red"):
        comparison = compared(text, "label:blue", out=out)
        assert (comparison.sides[0].nodes, comparison.sides[0].rows) == (("n1",), 3)
        assert cell(comparison).verdict == "better"


def test_a_text_that_may_mean_two_things_is_asked_back(out: Path) -> None:
    write(out, {A: SLOW}, node="x", label="y")
    write(out, {A: SLOW}, node="y", label="x")
    with pytest.raises(UsageError, match="node:x or label:x"):
        compared("x", "y", out=out)
    assert compared("node:x", "label:x", out=out).sides[0].nodes == ("x",)


def test_what_is_not_there_is_named(out: Path) -> None:
    write(out, {A: SLOW})
    for text in ("nothing", "node:nothing", ""):
        with pytest.raises(UnreadableResult, match="no run, node or label"):
            compared(text, out=out)


def test_one_argument_is_split(out: Path) -> None:
    for label, values in (("b", FAST), ("a", SLOW), (None, SLOW)):
        write(out, {A: values}, node=f"node of {label}", label=label)
    found = compared(out, by="label", reference="a")
    assert [side.name for side in found.sides] == ["no label", "a", "b"]
    assert found.reference == "a"
    assert cell(found, side=2).verdict == "better"
    assert len(compared(out, by="run").sides) == 3
    assert len(compared(out / "runs", by="node").sides) == 3


def test_less_than_two_sides_and_unknown_references_are_usage_errors(out: Path) -> None:
    path = write(out, {A: SLOW}, label="red")
    for arguments in ([path], [path, "--by"]):
        with pytest.raises(UsageError, match="is one side"):
            compared(path, by="label" if len(arguments) > 1 else None)
    with pytest.raises(UsageError, match="no side is called 'blue'"):
        compared(path, write(out, {A: FAST}, label="green"), reference="blue")


def test_a_file_beside_itself_is_no_difference(out: Path) -> None:
    path = write(out, {A: SLOW})
    comparison = compared(path, path)
    assert len({side.name for side in comparison.sides}) == 2
    assert cell(comparison).verdict == "undecided"


def test_files_are_told_apart_by_the_shortest_thing_that_does(out: Path) -> None:
    def names(*sides: Any) -> list[str]:
        return [side.name for side in compared(*(write(out, {A: SLOW}, **one) for one in sides)).sides]

    assert names({"label": "x", "node": "n"}, {"label": "y", "node": "n"}) == ["x", "y"]
    assert names({"label": "x", "node": "n"}, {"label": "x", "node": "m"}) == ["n", "m"]
    assert all(len(name) == 10 for name in names({"node": "n"}, {"node": "n"}))


def test_a_result_without_any_measurement_is_said_to_be_missing(out: Path) -> None:
    empty: Comparison = compared(write(out, {}), write(out, {A: FAST}))
    assert cell(empty, side=0).verdict == "missing"
    assert empty.exit_code == 6
    with pytest.raises(UsageError, match="holds no measurement"):
        compared(write(out, {}), by="node")


# ---------------------------------------------------------------- what must not count


def test_where_nobody_knows_which_way_is_good_there_is_no_verdict(out: Path) -> None:
    unknown = [{"workload": B, "replicate": i, "better": None} for i in range(3)]
    paths = [
        write(out, {A: values}, rows=[{**row, "value": value} for row, value in zip(unknown, each, strict=True)])
        for values, each in ((SLOW, FAST), (FAST, SLOW))
    ]
    found = compared(*paths)
    one = cell(found, B)
    assert (one.verdict, one.better, one.p, one.ratio, one.ratio_of_values) == ("undecided", None, None, None, None)
    assert one.note == "which way is good is not known"
    assert cell(found).better == "higher"
    (suite,) = found.suite_ratios
    assert (suite.workloads, suite.better, suite.worse, suite.undecided, suite.other) == (1, 1, 0, 0, 1)
    assert suite.worst == A
    assert suite.ratio_of_values == pytest.approx(geometric_mean(FAST) / geometric_mean(SLOW))


def test_roofs_count_neither_in_the_suite_nor_in_holms_number(out: Path) -> None:
    alone = compared(write(out, {A: SLOW}), write(out, {A: FAST}))
    roofs = {f"roof/compute/{kind}": SLOW for kind in ("bf16", "fp16", "fp32")}
    paths = [write(out, {A: SLOW, **roofs}), write(out, {A: FAST, **{name: [5.0, 5.1, 4.9] for name in roofs}})]
    found = compared(*paths)
    assert cell(found).p == pytest.approx(cell(alone).p)
    assert dataclasses.astuple(found.suite_ratios[0])[1:] == dataclasses.astuple(alone.suite_ratios[0])[1:]
    assert cell(found, "roof/compute/bf16").verdict == "worse"
    assert any(note.startswith("roofs not counted") for note in found.notes)
    assert not any("roofs" in note for note in alone.notes)


def test_roofs_alone_are_no_suite(out: Path) -> None:
    found = compared(*(write(out, {"roof/compute/bf16": values}) for values in (SLOW, FAST)))
    assert cell(found, "roof/compute/bf16").verdict == "better"
    assert (found.suite_ratios[0].workloads, found.suite_ratios[0].ratio_of_values) == (0, None)


def test_what_the_reference_cannot_do_is_no_gap(out: Path) -> None:
    refusal = {"workload": B, "status": "unsupported", "reason": "no fp8 here", "value": None}
    able, unable = write(out, {A: SLOW, B: SLOW}), write(out, {A: SLOW}, rows=[refusal])
    for first, second, note in ((unable, able, "the reference cannot do it: no fp8 here"), (able, unable, None)):
        found = compared(first, second)
        assert (cell(found, B).verdict, found.exit_code) == ("unsupported", 0)
        assert cell(found, B).note == (note or "unsupported 1: no fp8 here")


def test_sides_of_the_same_runs_are_said_to_be_so(out: Path, tmp_path: Path) -> None:
    path = write(out, {A: SLOW}, node="n1", label="red")
    other = write(out, {A: FAST}, node="n2", label="red")
    assert compared(path, other).warnings == ()
    assert compared(out, by="node").warnings == ()
    (warning,) = compared(path, path).warnings
    assert "hold the same 1 run:" in warning
    (warning,) = compared("node:n1", "label:red", out=out).warnings
    assert warning.startswith("SHARED: n1 and red hold the same 1 run")


def test_an_unfit_machine_is_named_on_either_side(out: Path) -> None:
    fit, unfit = write(out, {A: SLOW}), write(out, {A: FAST}, validity=["unfit:steal"])
    found = compared(fit, unfit)
    assert cell(found).verdict == "better"
    assert cell(found).note == "measured on an unfit machine"
    assert found.warnings == ("UNFIT: 1 of 2 figures are from a machine that was not fit to measure.",)
    swapped = compared(unfit, fit)
    assert cell(swapped).note == "the reference was measured on an unfit machine"
    assert cell(swapped, side=0).note == "measured on an unfit machine"
    assert compared(fit, write(out, {A: FAST})).warnings == ()


def test_sessions_alone_are_nothing_to_compare(out: Path) -> None:
    paths = [write(out, {A: values}, arm="a") for values in (SLOW, FAST)]
    with pytest.raises(UsageError, match="only measurements of A/B sessions"):
        compared(*paths)


def test_no_two_sides_have_one_name(out: Path) -> None:
    write(out, {A: SLOW}, label="x")
    write(out, {A: SLOW}, label="x (1)")
    found = compared("x", "x", "x (1)", out=out)
    assert len({side.name for side in found.sides}) == 3
    write(out, {A: SLOW}, label="no label")
    write(out, {A: SLOW})
    assert len({side.name for side in compared(out, by="label").sides}) == 4


def test_a_missing_file_is_named_though_another_is_damaged(out: Path) -> None:
    write(out, {A: SLOW}).write_bytes(b"PAR1")
    with pytest.raises(UnreadableResult, match=r"no file or folder typo\.parquet"):
        compared("typo.parquet", "x", out=out)

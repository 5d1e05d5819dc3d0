"""``bench.importing.superbench``: nodes, metrics, ranks, repetitions, failures and units of its summaries."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from bench.importing import superbench as subject
from bench.importing.foreign import make_plan
from bench.schema import Row

PLAN = make_plan("0011223344", suite="superbench", node="n1", started_at=dt.datetime(2026, 11, 22, tzinfo=dt.UTC))


def rows(**figures: Any) -> dict[tuple[str, str], Row]:
    """By metric and device."""
    saved = subject.parse("results-summary.jsonl", "0" * 16, {"node": "n1", **figures})
    found = list(subject.rows(PLAN, saved, 0))
    return {
        (row["workload"].removeprefix("superbench/"), f"{row['device']}:{row['device_index']}"): row for row in found
    }


def test_a_metric_on_each_rank_is_a_row_in_base_units() -> None:
    found = rows(
        **{
            "gemm-flops/return_code": 0,
            "gemm-flops/fp16_tc_flops:0": 279474.0,
            "gemm-flops/fp16_tc_flops:7": 277788.0,
            "resnet_models/pytorch-resnet50/fp16_train_throughput": 812.5,
        }
    )
    first = found["gemm-flops/fp16_tc_flops", "rank:0"]
    assert (first["value"], first["unit"], first["better"]) == (279474.0e9, "FLOP/s", "higher")
    assert found["gemm-flops/fp16_tc_flops", "rank:7"]["spec_id"] == first["spec_id"]
    whole = found["resnet_models/pytorch-resnet50/fp16_train_throughput", "node:0"]
    assert (whole["value"], whole["unit"]) == (812.5, "sample/s")
    assert len(found) == 3 and {row["status"] for row in found.values()} == {"ok"}
    assert {tuple(row["validity"]) for row in found.values()} == {("unwatched", "no-samples")}


@pytest.mark.parametrize(
    ("family", "metric", "unit", "factor", "better"),
    [
        ("kernel-launch", "event_time", "s", 1e-3, "lower"),
        ("kernel-launch", "e2e_latency_us", "s", 1e-6, "lower"),
        ("kernel-launch:annotated", "wall_time", "s", 1e-3, "lower"),
        ("gemm-flops", "int8_tc_iops", "OP/s", 1e9, "higher"),
        ("cublaslt-gemm", "fp16_1_4096_4096_4096_flops", "FLOP/s", 1e12, "higher"),
        ("mem-bw", "d2h_bw", "B/s", 1e9, "higher"),
        ("nccl-bw", "allreduce_8388608_busbw", "B/s", 1e9, "higher"),
        ("nccl-bw:nvlink", "allreduce_8388608_time", "s", 1e-6, "lower"),
        ("nccl-bw", "allreduce_0_0:8388608_busbw", "B/s", 1e9, "higher"),
        ("cpu-memory-bw-latency", "mem_bandwidth_matrix_numa_0_1_lat", "s", 1e-9, "lower"),
        ("cpu-stream", "triad_throughput", "B/s", 1e6, "higher"),
        ("model-benchmarks/pytorch-gpt2-large", "fp16_train_step_time", "s", 1e-3, "lower"),
        ("ort-inference", "fp16_resnet50_time_99.9", "s", 1e-3, "lower"),
    ],
)
def test_the_documented_names_tell_unit_and_direction(
    family: str, metric: str, unit: str, factor: float, better: str
) -> None:
    row = rows(**{f"{family}/{metric}:3": 2.0})[f"{family}/{metric}", "rank:3"]
    assert (row["unit"], row["better"], row["value"]) == (unit, better, pytest.approx(2.0 * factor))


@pytest.mark.parametrize("name", ["nosharding", "steptime_train_float32", "gpu_0_pass", "mul_cost"])
def test_a_name_that_tells_nothing_has_neither_unit_nor_direction(name: str) -> None:
    row = rows(**{f"some-benchmark/{name}": 3.5})[f"some-benchmark/{name}", "node:0"]
    assert (row["value"], row["unit"], row["better"]) == (3.5, None, None)


def test_repetitions_inside_one_process_are_one_row() -> None:
    found = rows(**{f"mem-bw/{run}/h2d_bw:0": value for run, value in enumerate((24.0, 26.0, 25.0))})
    ((key, row),) = found.items()
    assert key == ("mem-bw/h2d_bw", "rank:0")
    assert row["value"] == 25e9
    assert [metric["value"] for metric in row["metrics"]] == [24.0, 26.0, 25.0]


def test_a_return_code_fails_all_rows_of_its_benchmark_and_no_other() -> None:
    found = rows(
        **{
            "mem-bw/return_code": 32,
            "mem-bw/h2d_bw:0": 25.0,
            "nccl-bw/return_code": 33,
            "kernel-launch/return_code": 0,
            "kernel-launch/event_time:0": 0.006,
        }
    )
    assert {key[0]: (row["status"], row["reason"]) for key, row in found.items()} == {
        "mem-bw/h2d_bw": ("failed", "SuperBench's return_code is 32"),
        "nccl-bw/return_code": ("failed", "SuperBench's return_code is 33"),
        "kernel-launch/event_time": ("ok", None),
    }
    assert found["mem-bw/h2d_bw", "rank:0"]["value"] is None


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (0.0, "unsupported"),
        (-1, "unsupported"),
        (None, "failed"),
        ("n/a", "failed"),
        (10**400, "failed"),
        (1e305, "unsupported"),
    ],
)
def test_a_figure_of_which_no_ratio_can_be_had_is_no_value(value: Any, status: str) -> None:
    row = rows(**{"nccl-bw/allreduce_8_busbw:0": value})["nccl-bw/allreduce_8_busbw", "rank:0"]
    assert row["status"] == status and row["value"] is None and row["reason"]


def test_what_the_sensors_showed_is_kept_and_is_no_workload() -> None:
    found = rows(**{"monitor/gpu_temperature:0": 61, "mem-bw/h2d_bw:0": 25.0})
    ((_, row),) = found.items()
    assert json.loads(row["environment"]) == {"monitor": {"monitor/gpu_temperature:0": 61.0}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"mem-bw/h2d_bw": 1}, "names no node"),
        ({"node": 7}, "names no node"),
        ({"node": "n1"}, "no benchmark"),
        (3, "node"),
    ],
)
def test_what_is_not_of_superbench_is_named(data: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        subject.parse("a.jsonl", "0" * 16, data)

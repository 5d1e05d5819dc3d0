"""What it costs to write one row safely, and to make and read the file of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import files, registry, schema, store, summary
from bench.schema import Row
from bench.types import DeviceInfo, Item, Job, Plan, Policy

SAMPLES = 1000
REPLICATES = 10
WORKLOADS = tuple(registry.catalogue()[:20])


@pytest.fixture
def plan() -> Plan:
    device = DeviceInfo("cpu", 0, "test")
    return Plan(
        "0123456789",
        "node",
        "suite",
        "2026-11-22T00:00:00.000000+00:00",
        {"cpu": WORKLOADS},
        (device,),
        Policy(),
        REPLICATES,
        60.0,
        "0",
    )


@pytest.fixture
def rows(plan: Plan, tmp_path: Path) -> list[Row]:
    items = tuple(map(Item, WORKLOADS))
    job = Job(plan, plan.devices[0], items, 0, folder=str(tmp_path), scratch=str(tmp_path))
    samples: dict[str, Any] = {"elapsed_ns": list(range(SAMPLES)), "value": 1.0, "unit": "FLOP/s", "metrics": []}
    return [
        schema.blank_row(dataclasses.replace(job, replicate=replicate), index, registry.resolve(item.workload), "ok")
        | samples
        for replicate in range(REPLICATES)
        for index, item in enumerate(items)
    ]


def test_write_a_row(benchmark: BenchmarkFixture, plan: Plan, rows: list[Row], tmp_path: Path) -> None:
    benchmark(store.write_part, tmp_path, rows[0], plan)


def test_write_a_run(benchmark: BenchmarkFixture, plan: Plan, rows: list[Row], tmp_path: Path) -> None:
    def write() -> None:
        files.write_table(schema.to_table(rows, plan), tmp_path / "run.parquet", tmp_path / "run.tmp")

    benchmark(write)


def test_summarize_a_run(benchmark: BenchmarkFixture, rows: list[Row]) -> None:
    assert len(benchmark(summary.summarize, rows)) == len(WORKLOADS)

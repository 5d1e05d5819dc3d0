"""``bench.schema``: columns are a promise to readers, and unknown is null."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import schema, series
from bench.schema import Row
from bench.types import DeviceInfo
from tests.results import CPU, WORKLOAD, make_plan, make_row

README = Path(__file__).resolve().parent.parent / "results" / "README.md"

# The columns of schema 1 with their types. The schema may have more, and those are to be added here once files hold
# them; one that is renamed, taken away or given another type breaks files that are already written.
GOLDEN = {
    "int32": "schema_version kernel_version device_index threads replicate session sequence world_size rank"
    " launches_per_sample cpu_cores pcie_generation pcie_width pcie_width_max nvlinks_down foreign_gpu_processes"
    " telemetry_readings",
    "int64": "seed flops bytes_moved items ecc_corrected_delta ecc_uncorrected_delta pcie_replay_delta"
    " involuntary_switches calibration_before_ns calibration_after_ns memory_bytes"
    " device_memory_bytes swapped_bytes nvlink_errors_delta",
    "double": "value median_ns fraction_of_roof check_error check_tolerance power_w_mean energy_j sm_clock_mhz_min"
    " sm_clock_mhz_mean mem_clock_mhz_mean temperature_c_max throttle_s steal_fraction foreign_cpu_fraction load_1m"
    " cpu_clock_mhz_min cpu_clock_mhz_mean memory_temperature_c_max temperature_margin_c_min power_cap_s"
    " telemetry_gap_s host_cpu_s cpu_pressure_fraction memory_pressure_fraction io_pressure_fraction cpu_quota_s"
    " power_limit_w power_limit_default_w",
    "string": "vnbench_version source_commit run_id node suite candidate workload kernel spec_id policy_id params dtype"
    " backend cache_state device device_uuid device_reason arm concurrency_group label item_unit unit better"
    " output_sha256 output_difference status reason env_id device_name driver cuda torch cupy numpy python cpu_model os"
    " os_kernel virtualization environment device_error vbios mig_profile hypervisor container cpu_governor",
    "bool": "clocks_locked row_remap_pending row_remap_failed ecc_mode",
    "timestamp[us, tz=UTC]": "started_at timed_from timed_until",
    "list<item: int64>": "elapsed_ns warmup_ns",
    "list<item: uint16>": "sample_flags",
    "list<item: string>": "validity throttle_reasons debug",
    "list<item: int32>": "xids",
    "list<item: struct<name: string, ns: int64>>": "marks",
    "list<item: struct<name: string, value: double, unit: string, better: string>>": "metrics",
    "list<item: struct<name: string, value: double, unit: string, source: string, fraction: double>>": "roofs",
    "map<string, string>": "tags",
}

# What the design set out to store.
PLANNED = """
schema_version vnbench_version source_commit run_id node suite started_at workload kernel kernel_version spec_id
policy_id params dtype backend seed cache_state device device_index device_uuid device_reason threads replicate session
arm sequence world_size rank concurrency_group label tags flops bytes_moved items item_unit elapsed_ns warmup_ns
sample_flags marks value unit better median_ns metrics roofs fraction_of_roof check_error check_tolerance output_sha256
status reason validity power_w_mean energy_j sm_clock_mhz_min sm_clock_mhz_mean mem_clock_mhz_mean temperature_c_max
throttle_s throttle_reasons ecc_corrected_delta ecc_uncorrected_delta pcie_replay_delta steal_fraction
foreign_cpu_fraction involuntary_switches load_1m calibration_before_ns calibration_after_ns env_id device_name driver
cuda torch cpu_model os environment
"""


def golden() -> Iterator[tuple[str, str]]:
    for kind, names in GOLDEN.items():
        yield from ((name, kind) for name in names.split())


@pytest.mark.parametrize(("name", "kind"), list(golden()))
def test_a_column_of_schema_1_is_there_for_ever(name: str, kind: str) -> None:
    assert schema.VERSION == 1, "the columns of another version are another list"
    assert str(schema.SCHEMA.field(name).type) == kind


def test_what_the_design_planned_is_stored() -> None:
    assert set(PLANNED.split()) <= set(schema.SCHEMA.names)


def test_every_column_may_be_null_and_no_name_is_there_twice() -> None:
    assert all(field.nullable for field in schema.SCHEMA)
    assert len(set(schema.SCHEMA.names)) == len(schema.SCHEMA.names)


def test_the_readme_explains_the_columns_as_the_schema_does() -> None:
    _, _, rest = README.read_text().partition("<!-- columns: begin -->\n")
    tables, end, _ = rest.partition("<!-- columns: end -->")
    assert end
    assert tables.strip() == schema.markdown().strip()


def test_the_tables_have_a_line_for_each_column() -> None:
    cells = [line.split("`") for line in schema.markdown().splitlines() if line.startswith("| `")]
    assert [cell[1] for cell in cells] == [*schema.SCHEMA.names, *series.SCHEMA.names]
    assert all(line.count("|") == 4 for line in schema.markdown().splitlines() if line.startswith("|"))


# ---------------------------------------------------------------- rows


def through_parquet(rows: list[Row]) -> tuple[pa.Table, list[Row]]:
    file = io.BytesIO()
    pq.write_table(schema.to_table(rows, make_plan()), file)
    table = pq.read_table(file)
    return table, table.to_pylist()


def blank(**changes: object) -> Row:
    """As ``schema.blank_row`` gives it, without the figures that ``make_row`` adds."""
    plan = make_plan(tags={"rack": "b4", "vendor": "x"}, label="first light")
    row = make_row(plan, replicate=2)
    measured = ("flops", "value", "unit", "median_ns", "elapsed_ns", "metrics")
    return row | dict.fromkeys(measured) | changes


def test_a_blank_row_comes_back_from_parquet_as_it_was() -> None:
    row = blank()
    _, (again,) = through_parquet([row])
    assert again == row
    assert again["started_at"] == dt.datetime(2026, 11, 22, 5, 16, 2, tzinfo=dt.UTC)
    assert dict(again["tags"]) == {"rack": "b4", "vendor": "x"}


def test_a_full_row_comes_back_from_parquet_as_it_was() -> None:
    row = blank(
        elapsed_ns=[1, 2**53 + 1],
        sample_flags=[0, 1],
        marks=[{"name": "first_token", "ns": 3}],
        metrics=[{"name": "mfu", "value": 0.5, "unit": "1", "better": "higher"}],
        roofs=[{"name": "roof/compute/fp32", "value": None, "unit": None, "source": "measured", "fraction": None}],
        validity=["unfit:steal"],
    )
    _, (again,) = through_parquet([row])
    assert again == row


def test_what_is_not_known_is_null() -> None:
    known = {name for name, value in blank().items() if value is not None}
    expected = (
        "schema_version vnbench_version run_id node suite started_at workload kernel kernel_version spec_id policy_id"
        " params dtype backend seed cache_state device device_index device_reason device_name replicate sequence"
        " world_size rank concurrency_group label tags better status validity"
    )
    assert known == set(expected.split())


def test_a_row_says_what_was_measured() -> None:
    row = blank()
    assert (row["workload"], row["kernel"], row["dtype"], row["backend"]) == (WORKLOAD, "matmul", "fp32", "torch")
    assert row["policy_id"] == make_plan().policy.policy_id
    assert json.loads(row["params"]).keys() & {"dtype", "backend", "cache"} == set()
    assert row["validity"] == []


def test_a_row_of_a_fake_device_says_that_it_is_simulated() -> None:
    plan = make_plan(devices=(DeviceInfo("fake", 0, "simulated"),))
    assert make_row(plan)["validity"] == ["simulated"]


def test_a_row_cannot_hold_what_its_column_cannot() -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        schema.to_table([blank(flops="many")], make_plan())


# ---------------------------------------------------------------- metadata


def test_the_plan_travels_in_the_metadata() -> None:
    gpu = DeviceInfo("cuda", 1, "NVIDIA H100 80GB HBM3", uuid="GPU-1", memory_bytes=2**36)
    plan = make_plan(devices=(CPU, gpu), label="á\n", tags={"a": "b"})
    metadata = schema.to_table([], plan).schema.metadata
    assert schema.version_of(metadata) == schema.VERSION
    assert schema.plan_of(metadata) == plan


@pytest.mark.parametrize("metadata", [None, {}, {schema.VERSION_KEY: b"1"}, {schema.PLAN_KEY: b"{}"}])
def test_other_metadata_is_none_of_ours(metadata: dict[bytes, bytes] | None) -> None:
    assert schema.version_of(metadata) is None

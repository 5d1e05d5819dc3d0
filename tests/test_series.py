"""``bench.series``: the readings of a run in a file of their own, and what of it a killed or repeated run keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench import series, store
from bench.errors import UnreadableResult
from bench.telemetry.reading import Reading
from tests.results import make_plan, make_row

FULL = Reading(
    at_ns=1_800_000_000_123_456_000,
    device="cuda",
    device_index=3,
    took_ns=400_000,
    cpu_ns=300_000,
    error="GPU is lost",
    obstacle="Insufficient Permissions. Ask for them",
    power_w=650.5,
    energy_j=1e6,
    sm_clock_mhz=1980.0,
    mem_clock_mhz=2619.0,
    cpu_clock_mhz=3000.0,
    clocks_locked=False,
    temperature_c=64.0,
    memory_temperature_c=80.0,
    temperature_margin_c=23.0,
    throttle_reasons=("gpu_idle", "sw_power_cap"),
    throttled_s_total=0.5,
    power_capped_s_total=1.5,
    ecc_corrected_total=3,
    ecc_uncorrected_total=1,
    row_remap_pending=True,
    row_remap_failed=False,
    xids=(79,),
    pcie_generation=5,
    pcie_width=8,
    pcie_width_max=16,
    pcie_replays_total=2,
    nvlinks_down=1,
    nvlink_errors_total=9,
    foreign_processes=1,
    cpu_time_s_total=1.0,
    cpu_busy_s_total=0.5,
    cpu_steal_s_total=0.25,
)
EMPTY = Reading(at_ns=1_800_000_000_000_000_000, device="cpu", device_index=0)


def test_each_field_of_a_reading_is_tried_here_and_has_its_column() -> None:
    assert None not in dataclasses.asdict(FULL).values()
    fields = [field.name for field in dataclasses.fields(Reading)]
    assert set(series.SCHEMA.names) - {"run_id", "node", "at"} == set(fields) - {"at_ns"}


def test_readings_come_back_as_they_were_in_the_order_of_time(tmp_path: Path) -> None:
    plan = make_plan()
    series.write(tmp_path, plan, [FULL, EMPTY], tmp_path / "tmp")
    assert series.read(series.path_of(tmp_path, plan)) == [EMPTY, FULL]
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["5f0c2a91be.parquet"]


def test_rows_name_their_run_and_the_file_its_rate(tmp_path: Path) -> None:
    plan = make_plan(telemetry_hz=20.0)
    series.write(tmp_path, plan, [FULL], tmp_path / "tmp")
    table = pq.read_table(series.path_of(tmp_path, plan))
    assert (table["run_id"].to_pylist(), table["node"].to_pylist()) == ([plan.run_id], [plan.node])
    assert table.schema.metadata[series.KEY] == b'{"hz": 20.0}'


def test_a_reading_that_is_there_twice_is_written_once(tmp_path: Path) -> None:
    plan = make_plan()
    series.write(tmp_path, plan, [FULL, EMPTY, FULL], tmp_path / "tmp")
    assert series.read(series.path_of(tmp_path, plan)) == [EMPTY, FULL]


def test_a_series_is_found_from_a_result_anywhere_in_its_results_folder(tmp_path: Path) -> None:
    plan = make_plan()
    for place in ("runs/node7/a.parquet", "reference/node7/a.parquet"):
        assert series.find(tmp_path / place, plan) is None
    series.write(tmp_path, plan, [FULL], tmp_path / "tmp")
    for place in ("runs/node7/a.parquet", "reference/node7/a.parquet"):
        assert series.find(tmp_path / place, plan) == series.path_of(tmp_path, plan)


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", None])
def test_what_is_no_series_is_an_error_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableResult, match=r"x\.parquet"):
        series.read(path)


def test_a_result_is_no_series_and_a_series_is_no_result(tmp_path: Path) -> None:
    plan = make_plan()
    folder = store.begin(tmp_path, plan)
    result = folder.commit([make_row(plan)], [FULL])
    folder.release()
    with pytest.raises(UnreadableResult, match="no time series"):
        series.read(result)
    with pytest.raises(UnreadableResult, match="no result"):
        store.read(series.path_of(tmp_path, plan))


def test_a_run_keeps_what_its_sampler_had_written_and_the_series_of_an_earlier_attempt(tmp_path: Path) -> None:
    plan = make_plan()
    folder = store.begin(tmp_path, plan)
    folder.telemetry.write_text(sampler_line(EMPTY) + '{"at_ns": 5, "dev')
    assert folder.readings() == [EMPTY]
    folder.commit([make_row(plan)], folder.readings())
    folder.release()
    again = store.begin(tmp_path, plan)
    again.telemetry.write_text(sampler_line(FULL))
    assert again.readings() == [EMPTY, FULL]
    series.path_of(tmp_path, plan).write_bytes(b"damaged")
    assert again.readings() == [FULL]
    again.release()


def sampler_line(reading: Reading) -> str:
    from bench.telemetry import sampler

    return sampler._line(reading).decode()

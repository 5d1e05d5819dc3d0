"""The picture of a run's telemetry on a terminal and in a pipe."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any

import pytest

from bench.report import table
from bench.report.panels import view
from bench.report.telemetry import Span, show_telemetry
from bench.telemetry.reading import Reading
from tests.report.readings import CAP, at_ns, cpu, gpu, plan_of
from tests.results import make_plan


def shown(readings: Sequence[Reading], *, plan: Any = None, spans: Sequence[Span] = ()) -> list[str]:
    """The lines that a pipe receives."""
    out = table.console()
    out.file = io.StringIO()
    show_telemetry(out, plan or plan_of(), readings, spans)
    return out.file.getvalue().splitlines()


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def rows_of(lines: Sequence[str], title: str) -> list[str]:
    """The rows of a panel."""
    (first,) = [index for index, line in enumerate(lines) if line.startswith(f"{title}  ")]
    rows = []
    for line in lines[first + 1 :]:
        if not re.match(r" *\d* *[┤│]", line):
            break
        rows.append(line)
    return rows


def columns(row: str) -> list[int]:
    """Where a row has dots, counted from the scale."""
    canvas = re.split("[┤│]", row)[1]
    return [index for index, sign in enumerate(canvas) if "\u2800" < sign <= "\u28ff"]


# ---------------------------------------------------------------- lines


def test_each_quantity_has_a_panel_with_its_extent() -> None:
    lines = shown(gpu(hot=(3, 5)))
    for title in ("SM clock  900–1980 MHz", "power  300–650 W", "temperature  60–89 °C"):
        assert title in lines


def test_a_share_is_on_a_scale_of_all_of_it() -> None:
    scales = [re.split("[┤│]", row)[0].strip() for row in rows_of(shown(cpu(), plan=make_plan()), "CPU busy")]
    assert scales == ["100", "", "", "50", "", "", "0"]


def test_a_device_slows_down_in_the_picture_when_it_did() -> None:
    rows = rows_of(shown(gpu(hot=(3, 5))), "SM clock")
    high, low = columns(rows[0]), columns(rows[-1])
    assert rows[0].startswith("  2000 ┤")
    width = high[-1] + 1
    missing = sorted(set(range(width)) - set(high))
    assert missing == list(range(missing[0], missing[-1] + 1))
    assert (missing[0] / width, missing[-1] / width) == pytest.approx((3 / 8, 5 / 8), abs=0.03)
    assert low == list(range(missing[0], missing[-1] + 1))


def test_the_throttled_stretch_is_marked_below_its_time_and_counted() -> None:
    lines = shown(gpu(hot=(3, 5)))
    (row,) = [line for line in lines if line.startswith(" cuda:0 ")]
    axis = next(line for line in lines if "└" in line)
    width = len(axis.split("└")[1])
    begin = row.index("█") - axis.index("└") - 1
    assert begin == pytest.approx(2.95 / 8 * width, abs=1)
    assert row.count("█") == pytest.approx(2 / 8 * width, abs=1)
    assert set(row[begin + axis.index("└") + 1 :]) == {"█"}
    assert "█ throttled by hw_thermal_slowdown: cuda:0 2.0 s" in lines


def test_a_power_cap_has_another_sign_than_throttling() -> None:
    lines = shown(gpu(hot=(3, 5), throttle_reasons=(CAP,)))
    (row,) = [line for line in lines if line.startswith(" cuda:0 ")]
    assert "░" in row
    assert "█" not in row
    assert "░ power-capped by sw_power_cap: cuda:0 8.0 s" in lines
    assert not any("throttled" in line for line in lines)


def test_throttling_is_seen_where_a_power_cap_is_too() -> None:
    readings = [
        dataclasses.replace(one, throttle_reasons=(CAP, *(one.throttle_reasons or ()))) for one in gpu(hot=(3, 5))
    ]
    (row,) = [line for line in shown(readings) if line.startswith(" cuda:0 ")]
    assert re.fullmatch(r" cuda:0 ░+█+░+", row)


def test_what_was_never_held_back_is_said_to_be_so() -> None:
    lines = shown(gpu())
    assert "never held back" in lines
    assert not any("█" in line or "░" in line for line in lines)


def test_what_cannot_be_read_is_named_and_not_drawn() -> None:
    lines = shown(cpu(), plan=make_plan())
    assert [line for line in lines if re.match("CPU", line)] == ["CPU busy  25–25 %"]
    assert lines[-1] == "not readable here: CPU clock, CPU power, CPU temperature, throttling of cpu"
    assert "never held back" not in lines, "nobody knows"


def test_power_follows_from_energy_where_that_is_all_there_is() -> None:
    readings = [dataclasses.replace(one, energy_j=index * 15.0) for index, one in enumerate(cpu())]
    assert "CPU power  150–150 W" in shown(readings, plan=make_plan())


def test_a_gap_is_left_open() -> None:
    readings = [one for one in gpu() if not at_ns(2) < one.at_ns < at_ns(6)]
    rows = rows_of(shown(readings), "power")
    found = sorted({column for row in rows for column in columns(row)})
    width = found[-1] + 1
    missing = sorted(set(range(width)) - set(found))
    assert missing == list(range(missing[0], missing[-1] + 1))
    assert (missing[0], missing[-1]) == pytest.approx((2 / 8 * width, 6 / 8 * width), abs=2)


def test_readings_that_do_not_tell_are_a_gap_too() -> None:
    readings = [dataclasses.replace(one, power_w=None) if at_ns(2) < one.at_ns < at_ns(6) else one for one in gpu()]
    told, all_columns = (
        {column for row in rows_of(shown(readings), title) for column in columns(row)}
        for title in ("power", "SM clock")
    )
    missing = sorted(all_columns - told)
    assert missing == list(range(missing[0], missing[-1] + 1))
    assert len(missing) == pytest.approx(len(all_columns) / 2, abs=2)


def test_a_constant_line_is_flat_and_not_in_a_scale_of_its_noise() -> None:
    readings = [dataclasses.replace(one, power_w=650.0 + index % 2) for index, one in enumerate(gpu())]
    assert len([row for row in rows_of(shown(readings), "power") if columns(row)]) == 1


def test_a_device_that_was_lost_is_named_in_the_drivers_words() -> None:
    lost = [Reading(at_ns=at_ns(6.5), device="cuda", device_index=1, error="GPU is lost")]
    lines = shown([*gpu(), *(one for one in gpu(1) if one.at_ns < at_ns(6.5)), *lost], plan=plan_of(2))
    assert "cuda:1 did not answer at 6.5 s: GPU is lost" in lines


def test_of_many_devices_the_one_that_went_furthest_is_drawn_however_short() -> None:
    readings = [one for index in range(8) for one in gpu(index, hot=(3, 3.2) if index == 5 else (0, 0))]
    lines = shown(readings, plan=plan_of(8))
    assert "temperature  60–89 °C  hottest cuda:5, median cuda:3, coolest cuda:0 of 8" in lines
    assert any(
        re.match(r"SM clock  900–1980 MHz  fastest cuda:\d, median cuda:\d, slowest cuda:5 of 8", one) for one in lines
    )
    assert "█ throttled by hw_thermal_slowdown: cuda:5 0.2 s" in lines
    assert max(map(len, lines)) <= 80


def test_the_workloads_windows_are_named_below_the_axis() -> None:
    spans = [Span("matmul/bf16/4096", at_ns(1), at_ns(5)), Span("roof/memory/copy", at_ns(6), at_ns(6.5))]
    (row,) = [line for line in shown(gpu(), spans=spans) if line.startswith("  timed ")]
    assert re.fullmatch(r"  timed +▔+ matmul/bf16/4096 ▔+ +▔+", row)


def test_the_windows_of_a_workload_on_several_devices_are_one_and_those_of_several_passes_are_not() -> None:
    together = [Span("matmul/bf16/4096", at_ns(1 + 0.05 * device), at_ns(3.5 - 0.05 * device)) for device in range(8)]
    again = Span("matmul/bf16/4096", at_ns(5), at_ns(7.5))
    found = view(gpu(), [again, *together]).spans
    assert [name for name, _, _ in found] == ["matmul/bf16/4096"] * 2
    assert [second for _, *window in found for second in window] == pytest.approx([1.0, 3.5, 5.0, 7.5])
    (row,) = [line for line in shown(gpu(), spans=[again, *together]) if line.startswith("  timed ")]
    assert re.fullmatch(r"  timed +▔+ matmul/bf16/4096 ▔+ +▔+ matmul/bf16/4096 ▔+", row)


def test_a_window_outside_the_readings_is_cut() -> None:
    row = next(line for line in shown(gpu(), spans=[Span("a", at_ns(-9), at_ns(99))]) if line.startswith("  timed "))
    assert row.count("▔") == len(next(line for line in shown(gpu()) if "└" in line).split("└")[1]) - 3


def test_a_simulated_device_is_said_to_be_one() -> None:
    words = "SIMULATED: these figures come from a script and measure nothing"
    assert words in shown(gpu(kind="fake"), plan=plan_of(kind="fake"))
    assert not any(line.startswith("SIMULATED") for line in shown(gpu()))


def test_a_single_reading_and_none_at_all_are_shown() -> None:
    assert "power  650–650 W" in shown(gpu()[:1])
    assert shown([])[-1] == "no readings were taken"
    lost = [Reading(at_ns=at_ns(0), device="cuda", device_index=0, error="Driver Not Loaded")]
    assert "cuda:0 did not answer at 0.0 s: Driver Not Loaded" in shown(lost)


def test_the_head_says_which_run_it_was_and_on_what() -> None:
    assert shown(gpu(), plan=plan_of(8))[:2] == [
        "run 5f0c2a91be  suite smoke  node node7  2026-11-22T05:15:00Z",
        "8 × NVIDIA H100 80GB HBM3 (cuda)",
    ]


# ---------------------------------------------------------------- terminals


@pytest.mark.parametrize("columns_wide", [40, 60, 80, 200])
def test_a_terminal_narrower_than_80_columns_gets_what_fits(monkeypatch: pytest.MonkeyPatch, columns_wide: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns_wide))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown([*gpu(hot=(3, 5)), *cpu()])]
    assert max(map(len, lines)) <= min(80, columns_wide)
    assert len(rows_of(lines, "SM clock")) == 7


def test_a_pipe_receives_no_escape_codes_and_a_terminal_colours_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert not any("\x1b" in line for line in shown(gpu(hot=(3, 5))))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert any("\x1b[36m" in line for line in shown(gpu(hot=(3, 5))))
    assert any("\x1b[1;31m█" in line for line in shown(gpu(hot=(3, 5))))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any(re.search(r"\x1b\[[0-9;]*3\d", line) for line in shown(gpu(hot=(3, 5))))

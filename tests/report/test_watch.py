"""``bench.report.watch``: what the cells say, as a table and as lines."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from bench.report import watch
from bench.telemetry.reading import Reading
from bench.telemetry.watched import Now, Watched

NOON_NS = 1_795_348_800_000_000_000  # 2026-11-22T12:00:00Z


def now(device: str = "cuda", index: int = 0, limit_w: float | None = None, **fields: Any) -> Now:
    reading = Reading(at_ns=NOON_NS, device=device, device_index=index, **fields)
    (found,) = Watched({f"cuda:{index}": {"power_limit_w": limit_w}}).take([reading])
    return found


HEALTHY = now(
    limit_w=700.0,
    power_w=652.4,
    sm_clock_mhz=1980.0,
    temperature_c=62,
    temperature_margin_c=25,
    throttle_reasons=(),
    nvlinks_down=0,
)
THROTTLED = now(index=1, power_w=310.0, sm_clock_mhz=900.0, temperature_c=89, throttle_reasons=("hw_thermal_slowdown",))
LOST = now(index=2, limit_w=700.0, error="GPU is lost")
SILENT = now("cpu")


def line(one: Now) -> str:
    (found,) = watch.lines([one])
    return found


def test_a_line_says_what_a_device_does() -> None:
    assert line(HEALTHY).split() == ["12:00:00Z", "cuda:0", "1980", "652", "/", "700", "62", "(25)", "–", "–"]


def test_what_is_not_known_is_a_dash() -> None:
    assert line(SILENT).split() == ["12:00:00Z", "cpu", "–", "–", "–", "–", "–", "–"]


def test_the_cpus_clock_stands_where_a_gpus_does() -> None:
    assert line(now("cpu", cpu_clock_mhz=2899.6)).split()[2] == "2900"


def test_why_a_device_is_held_back_is_said_in_the_drivers_names() -> None:
    both = now(throttle_reasons=("hw_slowdown", "hw_thermal_slowdown"))
    assert "hw_slowdown, hw_thermal_slowdown" in line(both)


def test_a_lost_device_is_a_line_with_the_drivers_words_and_no_figures() -> None:
    assert line(LOST).split() == ["12:00:00Z", "cuda:2", "–", "–", "–", "–", "GPU", "is", "lost"]


def test_several_troubles_are_all_said() -> None:
    assert line(now(nvlinks_down=2, foreign_processes=1)).endswith("nvlink-down: 2; shared-gpu: 1")


def test_lines_are_aligned_with_the_heading() -> None:
    heading = watch.heading()
    for one in (HEALTHY, THROTTLED, LOST, SILENT):
        for name in ("device", "MHz", "W ", "°C", "held back by", "trouble"):
            begin = heading.index(name)
            assert line(one)[begin - 1] == " "
            assert line(one)[begin : begin + 1] != " ", name


def drawn(*devices: Now, width: int = 120, color: bool = False) -> str:
    out = watch.console()
    out.width = width
    out.file = io.StringIO()
    terminal = Console(file=out.file, width=width, force_terminal=color, color_system="standard" if color else None)
    with watch.LiveTable(terminal) as table:
        table.show(devices)
    return out.file.getvalue()


def test_the_table_says_what_the_lines_say() -> None:
    text = drawn(HEALTHY, THROTTLED, LOST, SILENT)
    for one in (HEALTHY, THROTTLED, LOST, SILENT):
        (row,) = [row for row in text.splitlines() if row.startswith(f"{one.device} ")]
        assert row.split() == line(one).split()[1:]
    assert "12:00:00Z  Ctrl-C ends" in text


def test_a_throttled_device_and_a_trouble_are_red_and_a_power_cap_is_not() -> None:
    text = drawn(HEALTHY, THROTTLED, LOST, now(index=3, throttle_reasons=("sw_power_cap",)), color=True)
    assert "\x1b[1;31mhw_thermal_slowdown" in text
    assert "\x1b[1;31mGPU is lost" in text
    assert "\x1b[33msw_power_cap" in text
    assert {row.split()[0] for row in text.splitlines() if "\x1b[1;31m" in row} == {"cuda:1", "cuda:2"}


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_folds_words_and_keeps_figures(width: int) -> None:
    text = drawn(HEALTHY, now(index=1, throttle_reasons=("hw_slowdown", "hw_thermal_slowdown")), width=width)
    assert max(map(len, text.splitlines())) <= width
    (row,) = [row for row in text.splitlines() if row.startswith("cuda:0 ")]
    assert row.split() == ["cuda:0", "1980", "652", "/", "700", "62", "(25)", "–", "–"]


def test_a_bracket_in_the_drivers_words_is_no_markup() -> None:
    assert "[bold]x[/]" in line(now(error="[bold]x[/]"))
    assert "[bold]x[/]" in drawn(now(error="[bold]x[/]"))


def test_a_table_can_renew_itself_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert watch.can_renew(Console(force_terminal=True))
    assert not watch.can_renew(Console(file=io.StringIO()))
    monkeypatch.setenv("TERM", "dumb")
    assert not watch.can_renew(Console(force_terminal=True))

"""The devices as they are now: a table that renews itself on a terminal, aligned lines in a pipe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.report.console import PlainConsole
from bench.telemetry.reading import POWER_CAP_REASON, THROTTLE_REASONS
from bench.telemetry.watched import Now

# A heading, and how wide a line of text makes it: as wide as what is to be expected.
_COLUMNS = {"device": 8, "MHz": 5, "W": 11, "°C (margin)": 12, "busy": 5, "held back by": 32, "trouble": 0}
_TIME_WIDTH = 10


def console() -> Console:
    """As wide as the terminal: what is wrong with a device takes room."""
    return PlainConsole()


def can_renew(out: Console) -> bool:
    """Whether a table can be drawn over itself here."""
    return out.is_terminal and not out.is_dumb_terminal


class LiveTable:
    """A table that renews itself; what it showed last is left on the terminal."""

    def __init__(self, out: Console) -> None:
        self._live = Live(console=out, auto_refresh=False)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, devices: Sequence[Now]) -> None:
        self._live.update(_table(devices), refresh=True)


def heading() -> str:
    """The first line of a pipe."""
    return _line("time", list(_COLUMNS))


def lines(devices: Sequence[Now]) -> list[str]:
    """A line for each device."""
    return [_line(_time(one), _cells(one)) for one in devices]


def _line(time: str, cells: Sequence[str]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))
    return " ".join([f"{time:<{_TIME_WIDTH}}", *padded]).rstrip()


def _table(devices: Sequence[Now]) -> Table:
    at = _time(devices[0]) if devices else ""
    caption = f"{at}  Ctrl-C ends"
    table = Table(box=None, pad_edge=False, padding=(0, 1), expand=True, caption=caption, caption_justify="left")
    for heading, width in _COLUMNS.items():
        if heading in ("held back by", "trouble"):  # others' words share what is left, always in the same way
            table.add_column(heading, overflow="fold", ratio=1)
        else:
            justify: Literal["left", "right"] = "left" if heading == "device" else "right"
            table.add_column(heading, justify=justify, no_wrap=True, min_width=min(width, 9))
    for one in devices:
        *others, held_back, trouble = _cells(one)
        table.add_row(*others, Text(held_back, _style(one)), Text(trouble, "bold red" if one.troubles else "dim"))
    return table


def _cells(one: Now) -> list[str]:
    clock_mhz = one.reading.sm_clock_mhz if one.reading.sm_clock_mhz is not None else one.reading.cpu_clock_mhz
    power = _figure(one.power_w)
    if one.power_w is not None and one.power_limit_w is not None:
        power += f" / {one.power_limit_w:.0f}"
    heat = _figure(one.reading.temperature_c)
    if one.reading.temperature_margin_c is not None:
        heat += f" ({one.reading.temperature_margin_c:.0f})"
    # NVML tells no share of time that is comparable to the CPUs'.
    busy = "" if one.reading.device != "cpu" else "–" if one.busy_fraction is None else f"{one.busy_fraction:.0%}"
    reasons = one.reading.throttle_reasons
    held_back = "–" if not reasons else ", ".join(reasons)
    return [one.device, _figure(clock_mhz), power, heat, busy, held_back, "; ".join(one.troubles) or "–"]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _style(one: Now) -> str:
    reasons = one.reading.throttle_reasons or ()
    if any(name in THROTTLE_REASONS for name in reasons):
        return "bold red"
    return "yellow" if POWER_CAP_REASON in reasons else "dim"


def _time(one: Now) -> str:
    return f"{dt.datetime.fromtimestamp(one.reading.at_ns // 10**9, dt.UTC):%H:%M:%S}Z"

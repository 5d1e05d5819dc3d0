"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path

import click


def tags_of(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``key=value``, several times."""
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not of the form key=value")
    return dict(value.split("=", 1) for value in values)


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """``90s``, ``5m``"""
    from bench.units import parse_duration

    return None if value is None else parse_duration(value)


def tolerance_of(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """``2%``, ``2 %`` or ``0.02``"""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", value.strip(), re.ASCII)
    found = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= found < 1:
        raise click.BadParameter(f"{value!r} is no tolerance: write 2% or 0.02, from 0 to below 100%")
    return found


out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="The results folder.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N|all",
    help="auto: every NVIDIA GPU, or the CPU where there is none. all: the CPU as well.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")

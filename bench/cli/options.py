"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

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

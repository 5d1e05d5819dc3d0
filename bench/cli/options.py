"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def report_option(name: str, help_text: str) -> Callable[..., Any]:
    """A file to write beside what is printed. Its place is tried before anything is measured."""
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option(name, type=kind, metavar="FILE", callback=_tried, help=help_text)


def picture_option(help_text: str) -> Callable[..., Any]:
    """The same for a picture."""
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option(
        "--picture", type=kind, metavar="FILE.png|FILE.svg", callback=_tried_for_picture, help=help_text
    )


def _tried(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    from bench.errors import UsageError
    from bench.files import expect_writable

    if path is not None:
        option = parameter.opts[0]
        other = context.meta.setdefault(f"vnbench {path.resolve()}", option)
        if other != option:
            raise UsageError(f"{other} and {option} name the same file, {path}", "Give each a file of its own")
        expect_writable(path)
    return path


def _tried_for_picture(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    from bench.report import drawing

    if path is not None:
        drawing.kind_of(path)
    return _tried(context, parameter, path)


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
html_option = report_option("--html", "Write a page to read, print and sign.")
lang_option = click.option(
    "--lang",
    type=click.Choice(["en", "vi"]),
    default="en",
    show_default=True,
    help="The language of the page and the Markdown.",
)
junit_option = report_option("--junit", "Write JUnit XML.")
markdown_option = report_option("--markdown", "Write a comment for a PR.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def file_option(name: str, metavar: str, help_text: str, **more: Any) -> Callable[..., Any]:
    """A file to read, or a bundle to write; whether it can be is told where that is tried."""
    return click.option(name, type=click.Path(path_type=Path), metavar=metavar, help=help_text, **more)


PINNED = "NAME.pub"
trust_option = file_option("--trust", "FILE", "A TOML file of whom you trust; see docs/seal.md.")

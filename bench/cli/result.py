"""Printing a result file, for the commands that do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bench.schema import Row


def print_result(path: Path, *, as_json: bool) -> list[Row]:
    """Print a result as a table or as JSON, from its file alone, and give its rows."""
    from bench import store, summary
    from bench.report import data, table

    plan, rows = store.read(path)
    summaries = summary.summarize(rows)
    spreads = summary.spreads(summaries)
    if as_json:
        click.echo(data.results_json(plan, path, summaries, spreads))
    else:
        table.show_results(table.console(), plan, summaries, spreads)
    return rows

"""``vnbench show``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import json_option, out_option


@click.command()
@click.argument("what", metavar="PATH|RUN")
@out_option
@json_option
def show(what: str, out: Path, as_json: bool) -> None:
    """Show a run's table again, from its Parquet file alone.

    \b
    Examples:
      vnbench show results/runs/node7/20261122T051500Z-quick-5f0c2a91be.parquet
      vnbench show 5f0c
      vnbench show results/reference --json
    """
    from bench import store, summary
    from bench.report import data, table

    for path in store.find(out, what):
        plan, rows = store.read(path)
        summaries = summary.summarize(rows)
        spreads = summary.spreads(summaries)
        if as_json:
            click.echo(data.results_json(plan, path, summaries, spreads))
        else:
            table.show_results(table.console(), plan, summaries, spreads)
    sys.exit(0)

"""``vnbench show``"""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import json_option, out_option
from bench.cli.result import print_result


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
    from bench import store

    for path in store.find(out, what):
        print_result(path, as_json=as_json)

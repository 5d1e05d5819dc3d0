"""``vnbench info``"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from bench.cli.options import device_option, json_option, out_option


@click.command()
@device_option
@out_option
@json_option
def info(device: str, out: Path, as_json: bool) -> None:
    """Show devices, drivers, libraries, roofs, and what is unfit.

    \b
    Examples:
      vnbench info
      vnbench info --json
    """
    from bench import info as infos
    from bench.report import table

    with table.console(stderr=True).status("looking at this node"):
        found = infos.gather(device, out)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        table.show_info(table.console(), found)

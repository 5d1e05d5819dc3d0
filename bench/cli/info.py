"""``vnbench info`` and ``vnbench info diff``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import device_option, json_option, out_option


@click.group(invoke_without_command=True)
@device_option
@out_option
@json_option
@click.option("--anonymous", is_flag=True, help="Show no host name, serial or UUID, but pseudonyms.")
@click.option("--strict", is_flag=True, help="Exit with 4 if this machine is not fit to measure now.")
@click.pass_context
def info(context: click.Context, device: str, out: Path, as_json: bool, anonymous: bool, strict: bool) -> None:
    """Show devices, drivers, libraries, roofs, and what is unfit.

    \b
    Examples:
      vnbench info
      vnbench info --json --anonymous
      vnbench info --strict && vnbench run standard
      vnbench info diff 5f0c 91be
    """
    if context.invoked_subcommand is not None:
        return
    from bench import errors
    from bench import info as infos
    from bench.plan import node_names
    from bench.report import info as report
    from bench.report import table

    with table.console(stderr=True).status("looking at this node"):
        found = infos.gather(device, out, node_names()[anonymous])
    if anonymous:
        found = infos.anonymized(found)
    if as_json:
        click.echo(report.info_json(found))
    else:
        report.show_info(table.console(), found)
    if found.obstacle is not None or (strict and not found.is_fit):
        sys.exit(errors.UNFIT)


@info.command()
@click.argument("a", metavar="RESULT-A")
@click.argument("b", metavar="RESULT-B")
@out_option
@json_option
def diff(a: str, b: str, out: Path, as_json: bool) -> None:
    """Name what differs between the environments of two results.

    \b
    Examples:
      vnbench info diff 5f0c 91be
      vnbench info diff before.parquet after.parquet --json
    """
    from bench import diff as diffs
    from bench import store
    from bench.report import info as report
    from bench.report import table

    paths = store.find_one(out, a), store.find_one(out, b)
    found = diffs.differences(*(store.read(path)[1] for path in paths))
    names = str(paths[0]), str(paths[1])
    if as_json:
        click.echo(report.diff_json(names, found))
    else:
        report.show_diff(table.console(), names, found)

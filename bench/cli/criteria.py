"""``vnbench criteria``"""

from __future__ import annotations

import click

from bench.cli.options import json_option


@click.group()
def criteria() -> None:
    """What an acceptance must meet: files that state it.

    \b
    Examples:
      vnbench criteria list
      vnbench criteria explain h100-sxm
      vnbench criteria check contract.toml
    """


@criteria.command()
@click.argument("file", metavar="FILE|NAME")
@json_option
def check(file: str, as_json: bool) -> None:
    """Check a criteria file, key by key.

    What is wrong is one line with the file and the key; the exit code is
    2 then.

    \b
    Examples:
      vnbench criteria check contract.toml
      vnbench criteria check contract.toml --json
    """
    from bench.criteria import file as files
    from bench.report import criteria as report
    from bench.report import table

    found = files.load(file)
    if as_json:
        click.echo(report.to_json(found))
    else:
        report.show_checked(table.console(), found)


@criteria.command()
@click.argument("file", metavar="FILE|NAME")
@json_option
def explain(file: str, as_json: bool) -> None:
    """Say in plain words what a criteria file demands, and who says so.

    \b
    Examples:
      vnbench criteria explain h100-sxm
      vnbench criteria explain contract.toml --json
    """
    from bench.criteria import file as files
    from bench.report import criteria as report
    from bench.report import table

    found = files.load(file)
    if as_json:
        click.echo(report.to_json(found))
    else:
        report.show_explained(table.console(), found)


@criteria.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the criteria that come with vnbench.

    \b
    Examples:
      vnbench criteria list
      vnbench criteria list --json
    """
    from bench.criteria import file as files
    from bench.report import criteria as report
    from bench.report import table

    found = {name: files.load(name) for name in files.names()}
    if as_json:
        click.echo(report.list_json(found))
    else:
        report.show_list(table.console(), found)

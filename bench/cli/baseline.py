"""``vnbench baseline``"""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import json_option, out_option


@click.group()
def baseline() -> None:
    """Keep results under a name, for `vnbench gate`.

    A baseline is a copy in the results folder: it outlives its runs.

    \b
    Examples:
      vnbench baseline set main 5f0c
      vnbench baseline list
      vnbench baseline show main
      vnbench baseline rm main
    """


@baseline.command(name="set")
@click.argument("name")
@click.argument("what", nargs=-1, metavar="[RUN|PATH]...")
@out_option
@click.option("--replace", is_flag=True, help="Put it in the place of one of that name.")
def set_(name: str, what: tuple[str, ...], out: Path, replace: bool) -> None:
    """Keep results (default: the newest run) under a name.

    \b
    Examples:
      vnbench baseline set main
      vnbench baseline set main 5f0c 91be --replace
      vnbench baseline set driver-580 results/runs/node7
    """
    from bench.gate import baseline as baselines
    from bench.gate import source
    from bench.report import baseline as report

    baselines.check_name(name)
    found = source.find(out, what) if what else baselines.newest(out)
    content = baselines.keep(out, name, found.paths, runs=found.runs, replace=replace)
    click.echo(f"baseline {name}: {report.summary_words(content)}")
    for warning in baselines.warnings(content):
        click.echo(f"note: {warning}", err=True)


@baseline.command(name="list")
@out_option
@json_option
def list_(out: Path, as_json: bool) -> None:
    """List the baselines.

    One that cannot be read is listed with the reason; the exit code is 2 then.

    \b
    Examples:
      vnbench baseline list
      vnbench baseline list --json
    """
    from bench.errors import UnreadableResult
    from bench.gate import baseline as baselines
    from bench.report import baseline as report
    from bench.report import table

    found = baselines.listed(out)
    if as_json:
        click.echo(report.list_json(found))
    else:
        report.show_list(table.console(), found)
    if damaged := [name for name, plans in found.items() if isinstance(plans, UnreadableResult)]:
        raise UnreadableResult(
            f"{len(damaged)} of {len(found)} baselines cannot be read: {', '.join(damaged)}",
            "Take each away (vnbench baseline rm), or make it anew (vnbench baseline set --replace)",
        )


@baseline.command()
@click.argument("name")
@out_option
@json_option
def show(name: str, out: Path, as_json: bool) -> None:
    """Show the results that a baseline is made of.

    \b
    Examples:
      vnbench baseline show main
      vnbench baseline show main --json
    """
    from bench.cli.result import print_result
    from bench.gate import baseline as baselines

    for path in baselines.files(out, name):
        print_result(path, out, as_json=as_json)


@baseline.command()
@click.argument("name")
@out_option
def rm(name: str, out: Path) -> None:
    """Remove a baseline; the runs that it was made of stay.

    \b
    Examples:
      vnbench baseline rm main
    """
    from bench.gate import baseline as baselines

    baselines.remove(out, name)
    click.echo(f"removed baseline {name}")

"""``vnbench compare``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bench.cli.options import out_option, report_option, tolerance_of

if TYPE_CHECKING:
    from bench.comparison.model import Comparison
    from bench.prices.model import Economics


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="SIDE...")
@out_option
@click.option("--by", type=click.Choice(["node", "label", "run"]), help="Split what is named into sides by this.")
@click.option("--reference", metavar="SIDE", help="The side to compare with.  [default: the first]")
@click.option(
    "--tolerance",
    default="0%",
    show_default=True,
    callback=tolerance_of,
    help="How far from 1 a ratio means nothing: 2% or 0.02.",
)
@click.option("--open", "is_open", is_flag=True, help="Compare unequal specs and policies too, and mark them.")
@click.option("--format", "shape", type=click.Choice(["table", "markdown", "csv", "json"]), default="table")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@report_option("--html", "Write a page as well.")
@click.option(
    "--prices",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    help="What the sides cost: work per joule and per money.",
)
def compare(
    what: tuple[str, ...],
    out: Path,
    by: Literal["node", "label", "run"] | None,
    reference: str | None,
    tolerance: float,
    is_open: bool,
    shape: str,
    as_json: bool,
    html: Path | None,
    prices: Path | None,
) -> None:
    """Compare nodes, labels, runs or files with a reference.

    A side is a file, a folder, the beginning of a run's id, node:NAME or
    label:NAME.

    \b
    Examples:
      vnbench compare 5f0c 91be
      vnbench compare label:vendor-a label:vendor-b --prices prices.toml
      vnbench compare results/runs --by node --reference node7
      vnbench compare before/ after/ --format csv > ratios.csv
      vnbench compare label:a label:b --html comparison.html

    Exit codes: 0 done, 2 usage, 3 a workload failed on some side, 6 refused,
    or missing on some side, 7 page not writable.
    """
    from bench.comparison import compare as comparing
    from bench.comparison import selection
    from bench.report import table

    with table.console(stderr=True).status("reading results"):
        found = comparing.compare_selected(
            selection.gather(out, what, by), reference, tolerance=tolerance, is_open=is_open
        )
    economics = None
    if prices is not None:
        from bench.prices import assess as prices_
        from bench.prices import file as price_file

        economics = prices_.assess(found, price_file.load(prices))
    _print(found, economics, "json" if as_json else shape)
    if html is not None:
        from bench.report import page

        page.write(html, found, economics)
        click.echo(f"page: {html}", err=True)
    sys.exit(found.exit_code)


def _print(found: Comparison, economics: Economics | None, shape: str) -> None:
    from bench.report import compare as report
    from bench.report import compare_text, table
    from bench.report import prices as price_report

    if shape == "json":
        click.echo(compare_text.to_json(found, economics))
    elif shape == "csv":
        for line in compare_text.csv_lines(found):
            click.echo(line)
        for line in (*found.warnings, *found.notes):
            click.echo(f"note: {line}", err=True)
        if economics is not None:
            click.echo("note: what it costs is in --format table, markdown and json, and in --html", err=True)
    elif shape == "markdown":
        click.echo(compare_text.markdown(found), nl=False)
        if economics is not None:
            click.echo(f"\n{price_report.markdown(economics)}", nl=False)
    else:
        report.show(table.console(), found)
        if economics is not None:
            price_report.show(table.console(), economics)

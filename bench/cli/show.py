"""``vnbench show``"""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import json_option, out_option, picture_option
from bench.cli.result import print_result


@click.command()
@click.argument("what", metavar="PATH|RUN")
@out_option
@json_option
@click.option("--telemetry", is_flag=True, help="Show clocks, power and temperature over time instead.")
@picture_option("Write them to a file as well (with --telemetry).")
def show(what: str, out: Path, as_json: bool, telemetry: bool, picture: Path | None) -> None:
    """Show a run's table again, from its Parquet file alone.

    \b
    Examples:
      vnbench show results/runs/node7/20261122T051500Z-quick-5f0c2a91be.parquet
      vnbench show 5f0c
      vnbench show results/reference --json
      vnbench show 5f0c --telemetry --picture node7.svg
    """
    from bench import store
    from bench.errors import UsageError

    if picture is not None and not telemetry:
        raise UsageError("--picture is a picture of the telemetry", "Add --telemetry")
    if telemetry:
        _show_telemetry(store.find_one(out, what), as_json, picture)
    else:
        for path in store.find(out, what):
            print_result(path, out, as_json=as_json)


def _show_telemetry(path: Path, as_json: bool, picture: Path | None) -> None:
    import json

    from bench import schema, series, store
    from bench.errors import UnreadableResult
    from bench.report import table
    from bench.report import telemetry as report

    plan, rows = store.read(path)
    source = series.find(path, plan)
    if source is None:
        raise UnreadableResult(
            f"run {plan.run_id} has no time series beside {path}",
            f"It should be telemetry/{plan.node}/{plan.run_id}.parquet in its results folder",
        )
    readings = series.read(source)
    spans = [report.Span(row["workload"], *window) for row in rows if (window := schema.window_ns(row)) is not None]
    if as_json:
        for one in readings:
            click.echo(json.dumps(one.to_json()))
    else:
        report.show_telemetry(table.console(), plan, readings, spans)
    if picture is not None:
        report.save_picture(picture, plan, readings, spans)
        click.echo(f"picture: {picture}", err=as_json)

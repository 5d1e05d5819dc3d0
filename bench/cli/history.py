"""``vnbench history``"""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import json_option, out_option, picture_option


@click.command()
@click.argument("workload")
@click.argument("what", nargs=-1, metavar="[PATH|RUN]...")
@out_option
@click.option("--device", metavar="cpu|cuda|cuda:N", help="Only this device or kind of device.")
@picture_option("Write a picture as well.")
@json_option
def history(
    workload: str, what: tuple[str, ...], out: Path, device: str | None, picture: Path | None, as_json: bool
) -> None:
    """Show a workload's figure over runs and commits.

    One line per kind of machine, with hints where the level changed. All
    runs of the results folder count, or those that are named.

    \b
    Examples:
      vnbench history matmul/bf16/4096
      vnbench history matmul/bf16/4096 --device cuda:0 --picture gemm.svg
      vnbench history prefill/smollm2-135m/b1/p128 results/reference --json
    """
    from bench.gate import history as histories
    from bench.gate import source
    from bench.report import history as report
    from bench.report import history_picture, table

    chosen = source.find(out, what or (str(out / "runs"),))
    found = histories.read(chosen.paths, workload, device, runs=chosen.runs)
    if as_json:
        click.echo(report.to_json(found))
    else:
        report.show(table.console(), found)
    if picture is not None:
        history_picture.save_picture(picture, found)
        click.echo(f"picture: {picture}", err=as_json)

"""``vnbench import``"""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import json_option, out_option


@click.command("import")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.json|results-summary.jsonl..."
)
@out_option
@click.option("--label", help="A name to find these runs by.")
@json_option
def import_(files: tuple[Path, ...], out: Path, label: str | None, as_json: bool) -> None:
    """Take over results of pytest-benchmark or SuperBench.

    N files of one machine and commit are N processes, and so N replicates of
    one run. Five are enough for a gate. What was imported before is left out.

    \b
    Examples:
      vnbench import .benchmarks/Linux-CPython-3.12-64bit/*.json
      vnbench import one.json two.json three.json --label "before"
      vnbench import results-summary.jsonl
    """
    import json

    from bench.importing.files import import_files

    for one in import_files(files, out, label=label, note=lambda text: click.echo(text, err=True)):
        if as_json:
            found = {"run_id": one.plan.run_id, "path": str(one.path), "node": one.plan.node, "suite": one.plan.suite}
            counts = {"workloads": one.workloads, "replicates": one.plan.replicates, "rows": one.rows}
            click.echo(json.dumps(found | counts))
        else:
            click.echo(
                f"run {one.plan.run_id}  node {one.plan.node}  {one.workloads} workloads, "
                f"{one.plan.replicates} replicates: {one.path}"
            )

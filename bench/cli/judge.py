"""``vnbench judge``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import json_option, out_option


@click.command()
@click.argument("result", metavar="PATH|RUN")
@click.option("--criteria", "text", required=True, metavar="FILE|NAME", help="What the result must meet.")
@out_option
@json_option
def judge(result: str, text: str, out: Path, as_json: bool) -> None:
    """Judge a result by criteria: does this node meet them?

    Says PASS, FAIL, INCONCLUSIVE or ERROR of each criterion, and of the
    node the worst of them. The same result and the same criteria give the
    same verdict anywhere; --json prints it byte for byte.

    \b
    Examples:
      vnbench judge 5f0c --criteria h100-sxm
      vnbench judge results/runs/node7/x.parquet --criteria contract.toml
      vnbench judge 5f0c --criteria cpu-node --json

    Exit codes: 0 PASS, 2 usage, 3 ERROR, 4 undecided and unfit to be
    measured, 5 FAIL, 6 INCONCLUSIVE.
    """
    from bench import store
    from bench.acceptance import canonical
    from bench.criteria import file as files
    from bench.report import acceptance as report
    from bench.report import table

    found = files.load(text)
    verdict, encoded = canonical.judge_file(store.find_one(out, result), found)
    if as_json:
        click.echo(encoded)
    else:
        report.show(table.console(), verdict, found, text)
    sys.exit(verdict.exit_code)

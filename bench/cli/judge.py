"""``vnbench judge``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import html_option, json_option, junit_option, lang_option, markdown_option, out_option


@click.command()
@click.argument("result", metavar="PATH|RUN")
@click.option("--criteria", "text", required=True, metavar="FILE|NAME", help="What the result must meet.")
@out_option
@html_option
@markdown_option
@junit_option
@lang_option
@json_option
def judge(
    result: str,
    text: str,
    out: Path,
    html: Path | None,
    markdown: Path | None,
    junit: Path | None,
    lang: str,
    as_json: bool,
) -> None:
    """Judge a result by criteria: does this node meet them?

    Says PASS, FAIL, INCONCLUSIVE or ERROR of each criterion, and of the
    node the worst of them. The same result and the same criteria give the
    same verdict anywhere; --json prints it byte for byte.

    \b
    Examples:
      vnbench judge 5f0c --criteria h100-sxm
      vnbench judge results/runs/node7/x.parquet --criteria contract.toml
      vnbench judge 5f0c --criteria cpu-node --json
      vnbench judge 5f0c --criteria contract.toml --html node7.html --lang vi

    Exit codes: 0 PASS, 2 usage, 3 ERROR, 4 undecided and unfit to be
    measured, 5 FAIL, 6 INCONCLUSIVE.
    """
    from bench import store
    from bench.acceptance import canonical, dossier
    from bench.criteria import file as files
    from bench.report import acceptance as report
    from bench.report import acceptance_files, table

    found, path = files.load(text), store.find_one(out, result)
    verdict, encoded = canonical.judge_file(path, found)
    if as_json:
        click.echo(encoded)
    else:
        report.show(table.console(), verdict, found, text)
    if html or markdown or junit:
        whole = dossier.gather(path, found)
        acceptance_files.write(whole, html=html, markdown=markdown, junit=junit, lang=lang)
    sys.exit(verdict.exit_code)

"""``vnbench accept``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import (
    html_option,
    json_option,
    junit_option,
    lang_option,
    markdown_option,
    out_option,
    seconds,
    tags_of,
)

if TYPE_CHECKING:
    from bench.schema import Row


@click.command()
@click.option("--criteria", "text", required=True, metavar="FILE|NAME", help="What the node must meet.")
@click.option("--device", metavar="cuda|cpu|fake:SCENARIO", help="What to judge.  [default: what the criteria are of]")
@out_option
@click.option("--budget", callback=seconds, metavar="DURATION", help="Stop in time: 20m. More stays undecided then.")
@click.option("--label", help="A name to find this run by.")
@click.option("--tag", "tags", multiple=True, callback=tags_of, metavar="K=V", help="A note to keep; may be repeated.")
@click.option("--nonce", metavar="N", help="What the inspector gave you, so that this run is no older one.")
@click.option("--resume", metavar="RUN_ID", help="Go on with an acceptance that was interrupted.")
@html_option
@markdown_option
@junit_option
@lang_option
@json_option
def accept(
    text: str,
    device: str | None,
    out: Path,
    budget: float | None,
    label: str | None,
    tags: dict[str, str],
    nonce: str | None,
    resume: str | None,
    html: Path | None,
    markdown: Path | None,
    junit: Path | None,
    lang: str,
    as_json: bool,
) -> None:
    """Does this node meet the criteria? Measure until it is clear.

    Measures what the criteria name, on all devices together, in as many
    fresh processes as it takes: at each planned look, what is decided stays
    so, and the rest goes on. A device that is missing is a FAIL; nothing
    is measured on the CPU in a GPU's place.

    \b
    Examples:
      vnbench accept --criteria h100-sxm
      vnbench accept --criteria contract.toml --budget 30m --label "node 7"
      vnbench accept --criteria cpu-node --nonce 7f3a --json
      vnbench accept --criteria h100-sxm --html node7.html --lang vi

    Exit codes: 0 PASS, 2 usage, 3 ERROR, 4 GPUs unusable, or undecided and
    unfit to be measured, 5 FAIL, 6 INCONCLUSIVE. Whoever has the files
    judges again: vnbench judge RUN --criteria ...
    """
    from bench import accept as acceptance
    from bench import recovery, store
    from bench.acceptance import canonical, dossier
    from bench.criteria import file as files
    from bench.errors import Interrupted, UsageError
    from bench.report import acceptance as report
    from bench.report import acceptance_files, table
    from bench.report.progress import RunProgress

    if resume and (label or tags or nonce or device):
        raise UsageError("--resume goes on with the plan of its run", "Leave out --device, --label, --tag and --nonce")
    criteria = files.load(text)
    interrupt: Interrupted | None = None
    with RunProgress(table.console(stderr=True)) as progress:
        recovery.recover(out, progress.note)
        kept: list[Row] = []
        if resume:
            plan, kept = recovery.resumable(out, resume)
            acceptance.require_same(plan, criteria)
        else:
            found = acceptance.devices_of(criteria, device)
            noted = {**tags, "nonce": nonce} if nonce else tags
            plan = acceptance.plan_of(criteria, found, label=label, tags=noted)
        for reason in dict.fromkeys(one.reason for one in plan.devices):
            progress.note(reason)
        try:
            path = acceptance.execute(plan, criteria, out, budget_s=budget, kept=kept, observer=progress)
        except Interrupted as error:  # what there is has a verdict, too
            interrupt, path = error, store.result_path(out, plan)
    verdict, encoded = canonical.judge_file(path, criteria)
    if as_json:
        click.echo(encoded)
    else:
        report.show(table.console(), verdict, criteria, text)
        click.echo(f"results: {path}")
    if html or markdown or junit:
        whole = dossier.gather(path, criteria)
        acceptance_files.write(whole, html=html, markdown=markdown, junit=junit, lang=lang)
    if interrupt is not None:
        raise interrupt
    sys.exit(verdict.exit_code)

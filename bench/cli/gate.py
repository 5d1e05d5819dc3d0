"""``vnbench gate``"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import json_option, junit_option, markdown_option, out_option, tolerance_of
from bench.cli.result import print_verdicts

if TYPE_CHECKING:
    from bench.gate.judge import Outcome, Rule
    from bench.gate.side import Key, Side
    from bench.report.progress import RunProgress
    from bench.types import DeviceInfo, Plan


@click.command()
@click.option("--baseline", "name", required=True, metavar="NAME|PATH", help="What to compare with.")
@click.option("--current", multiple=True, metavar="RUN|PATH", help="Judge these results; else it measures now.")
@click.option("--confirm", multiple=True, metavar="RUN|PATH", help="A second measurement, beside --current.")
@click.option(
    "--tolerance", default="2%", show_default=True, callback=tolerance_of, help="How much worse is no regression."
)
@click.option("--vary", multiple=True, metavar="KEY", help="A software key that may differ: driver, torch, …")
@click.option("--replicates", type=click.IntRange(5), help="Fresh processes per measurement: 5 or more.")
@click.option("--device", metavar="auto|cpu|cuda|cuda:N|all", help="Where to measure.  [default: as the baseline]")
@out_option
@junit_option
@markdown_option
@json_option
def gate(
    name: str,
    current: tuple[str, ...],
    confirm: tuple[str, ...],
    tolerance: float,
    vary: tuple[str, ...],
    replicates: int | None,
    device: str | None,
    out: Path,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Compare with a stored baseline: is anything slower now?

    Measures the baseline's workloads in fresh processes, and once more
    what looks slower. Exits with 5 for a regression, 6 where there is no
    clear answer, 3 if a workload failed, 4 on an unfit machine.

    \b
    Examples:
      vnbench gate --baseline main
      vnbench gate --baseline main --tolerance 1% --vary driver
      vnbench gate --baseline main --junit gate.xml --markdown gate.md
      vnbench gate --baseline main --current 5f0c --confirm 91be --json
    """
    from bench.errors import UsageError
    from bench.gate import again, alike, baseline, side
    from bench.gate import judge as gates
    from bench.report.judgements import Report

    if confirm and not current:
        raise UsageError("--confirm is a second measurement beside --current", "Name both, or neither to measure now")
    if current and (replicates or device):
        raise UsageError("--current judges stored results", "Leave out --replicates and --device")
    rule = gates.Rule(tolerance, alike.check_vary(vary))
    source = baseline.find(out, name)
    reference = side.load(source.paths, source.runs)
    if current:
        outcome = _judge_stored(reference, rule, out, current, confirm)
    else:
        plan = again.newest_known(baseline.plans(source.paths, source.runs))
        outcome = _measure(reference, rule, out, plan, device, replicates)
    title = f"gate against baseline {name}"
    report = Report(title, outcome.judgements, outcome.unfit, outcome.notes, outcome.is_simulated)
    print_verdicts(report, as_json, junit, markdown, baseline=name, exit_code=outcome.exit_code)
    sys.exit(outcome.exit_code)


def _judge_stored(reference: Side, rule: Rule, out: Path, current: Sequence[str], confirm: Sequence[str]) -> Outcome:
    from bench.gate import judge as gate
    from bench.gate import side, source

    found = [source.find(out, texts) for texts in (current, confirm) if texts]
    return gate.judge(
        reference,
        side.load(found[0].paths, found[0].runs),
        rule,
        *[side.load(one.paths, one.runs) for one in found[1:]],
    )


def _measure(reference: Side, rule: Rule, out: Path, plan: Plan, device: str | None, replicates: int | None) -> Outcome:
    from bench import recovery
    from bench.device import select
    from bench.gate import again
    from bench.gate import judge as gate
    from bench.report import table
    from bench.report.progress import RunProgress

    devices = select.find(device or again.selector(plan))
    with RunProgress(table.console(stderr=True)) as progress:
        recovery.recover(out, progress.note)
        current = _run(reference, plan, devices, out, replicates, progress)
        keys = gate.suspects(gate.looks(reference, current, rule))
        if keys:
            progress.note(f"{len(keys)} of {len(current.cells)} look worse or better: they are measured a second time")
        second = _run(reference, plan, devices, out, replicates, progress, keys) if keys else None
    return gate.judge(reference, current, rule, second)


def _run(
    reference: Side,
    plan: Plan,
    devices: Sequence[DeviceInfo],
    out: Path,
    replicates: int | None,
    progress: RunProgress,
    only: Sequence[Key] = (),
) -> Side:
    from bench import run
    from bench.gate import again, side

    plan, unknown = again.plan_again(reference, plan, devices, replicates=replicates, only=only)
    for workload in unknown:
        progress.note(f"{workload} is in the baseline, and this version of vnbench does not know it")
    path = run.execute(plan, out, observer=progress)
    progress.note(f"results: {path}")
    return side.load([path])

"""``vnbench run``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import device_option, json_option, out_option, seconds, tags_of
from bench.cli.result import print_result


def _rate(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is None or value == 0 or 0.1 <= value <= 100:
        return value
    raise click.BadParameter("readings per second go from 0.1 to 100; 0 takes none")


@click.command()
@click.argument("what", nargs=-1, metavar="[SUITE|WORKLOAD-GLOB]...")
@device_option
@out_option
@click.option("--replicates", type=click.IntRange(1), help="Fresh processes per workload; 3 give an interval.")
@click.option("--budget", callback=seconds, metavar="DURATION", help="Stop in time: 90s, 5m. Fewer replicates then.")
@click.option("--label", help="A name to find this run by.")
@click.option("--tag", "tags", multiple=True, callback=tags_of, metavar="K=V", help="A note to keep; may be repeated.")
@click.option("--resume", metavar="RUN_ID", help="Measure what an interrupted run left out.")
@click.option(
    "--telemetry-hz",
    type=float,
    callback=_rate,
    metavar="HZ",
    help="Readings of the devices' state per second, from 0.1 to 100; 0: none.  [default: 10]",
)
@click.option("--anonymous", is_flag=True, help="Keep no host name, serial or UUID, but pseudonyms.")
@click.option("--strict", is_flag=True, help="Exit with 4 if the machine was not fit to measure.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
@json_option
def run(
    what: tuple[str, ...],
    device: str,
    out: Path,
    replicates: int | None,
    budget: float | None,
    label: str | None,
    tags: dict[str, str],
    resume: str | None,
    telemetry_hz: float | None,
    anonymous: bool,
    strict: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure this node: a suite (default: quick), workloads, or globs.

    \b
    Examples:
      vnbench run
      vnbench run standard --label "node 7, driver 580"
      vnbench run 'matmul/bf16/*' --device cuda:0 --replicates 3
      vnbench run decode/llama-3.2-1b/b1/ctx512 --budget 60s
      vnbench run my-suite.toml --strict --json
    """
    from bench import recovery, store, suite, summary
    from bench import run as runs
    from bench.device import select
    from bench.errors import UsageError
    from bench.plan import make_plan
    from bench.report import table
    from bench.report.progress import RunProgress

    if resume and (what or replicates or anonymous or telemetry_hz is not None):
        raise UsageError(
            "--resume goes on with the plan of its run",
            "Leave out suite, workloads, --replicates, --telemetry-hz and --anonymous",
        )
    with RunProgress(table.console(stderr=True)) as progress:
        if not dry_run:
            recovery.recover(out, progress.note)
        if resume:
            plan, kept = recovery.resumable(out, resume)
        else:
            chosen = suite.choose(what)
            plan = make_plan(
                chosen,
                select.find(device),
                replicates=replicates,
                label=label,
                tags=tags,
                telemetry_hz=10.0 if telemetry_hz is None else telemetry_hz,
                anonymous=anonymous,
            )
            kept = []
        if dry_run:
            table.show_plan(table.console(), plan)
            return
        for reason in dict.fromkeys(one.reason for one in plan.devices):
            progress.note(reason)
        path = runs.execute(plan, out, budget_s=budget, kept=kept, observer=progress)
    print_result(path, out, as_json=as_json)
    if not as_json:
        click.echo(f"results: {path}")
    sys.exit(summary.exit_code(store.read(path)[1], strict=strict))

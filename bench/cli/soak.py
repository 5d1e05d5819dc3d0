"""``vnbench soak``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import device_option, json_option, out_option, seconds, tags_of

if TYPE_CHECKING:
    from bench.criteria.model import Criteria
    from bench.schema import Row
    from bench.types import DeviceInfo, Soak


@click.command()
@click.option("--hours", type=click.FloatRange(0, min_open=True), metavar="H", help="How long, up to 168.")
@click.option("--duration", callback=seconds, metavar="DURATION", help="The same with a unit: 90s, 30m, 12h.")
@device_option
@out_option
@click.option("--workload", metavar="WORKLOAD", help="The load.  [default: a soak/… for this kind of device]")
@click.option("--criteria", "text", metavar="FILE|NAME", help="Judge by it what was measured, even if not all was.")
@click.option("--label", help="A name to find this run by.")
@click.option("--tag", "tags", multiple=True, callback=tags_of, metavar="K=V", help="A note to keep; may be repeated.")
@click.option("--resume", metavar="RUN_ID", help="Go on with a soak that was interrupted, for what is left of it.")
@json_option
def soak(
    hours: float | None,
    duration: float | None,
    device: str,
    out: Path,
    workload: str | None,
    text: str | None,
    label: str | None,
    tags: dict[str, str],
    resume: str | None,
    as_json: bool,
) -> None:
    """Load all devices for hours: does the node keep its pace?

    Products, memory, copies both ways and decoding run at the same time,
    on all devices together. Every stretch of it, a minute or a few, is
    written at its end, and its answers are checked. What a crash of the
    node leaves is recovered by the next command, and --resume goes on.
    How long, and with what, may also be in the criteria.

    \b
    Examples:
      vnbench soak --hours 24 --label "node 7"
      vnbench soak --duration 30m --device cuda:0
      vnbench soak --criteria contract.toml
      vnbench soak --resume 5f0c2a91d3

    Exit codes: 0 done, 2 usage, 3 a stretch failed or was wrong, 130/143
    interrupted; with --criteria those of judge.
    """
    from bench import recovery, store
    from bench import soak as soaks
    from bench.criteria import file as files
    from bench.errors import Interrupted, UsageError
    from bench.report import table
    from bench.report.progress import RunProgress

    if resume and (hours or duration or workload or label or tags or device != "auto"):
        raise UsageError("--resume goes on with the plan of its run", "Leave out all but --out, --criteria and --json")
    criteria = files.load(text) if text else None
    interrupt: Interrupted | None = None
    with RunProgress(table.console(stderr=True)) as progress:
        recovery.recover(out, progress.note)
        kept: list[Row] = []
        if resume:
            plan, kept = recovery.resumable(out, resume)
            soaks.require(plan)
        else:
            devices = _devices(device, criteria)
            wanted = _wanted(hours, duration, workload, devices, criteria)
            plan = soaks.plan_of(wanted, devices, label=label, tags=tags)
        for reason in dict.fromkeys(one.reason for one in plan.devices):
            progress.note(reason)
        try:
            path = soaks.execute(plan, out, kept=kept, observer=progress)
        except Interrupted as error:
            interrupt, path = error, store.result_path(out, plan)
    code = _show(path, criteria, text, as_json)
    if interrupt is not None:
        raise interrupt
    sys.exit(code)


def _devices(selector: str, criteria: Criteria | None) -> tuple[DeviceInfo, ...]:
    from bench import accept
    from bench.device import select

    if criteria is None:
        return tuple(select.find(selector))
    return accept.devices_of(criteria, None if selector == "auto" else selector)


def _wanted(
    hours: float | None,
    duration: float | None,
    workload: str | None,
    devices: tuple[DeviceInfo, ...],
    criteria: Criteria | None,
) -> Soak:
    """What was asked for, or else what the criteria demand."""
    from bench import accept, registry
    from bench import soak as soaks
    from bench.errors import UsageError
    from bench.types import LONGEST_SOAK_HOURS, Soak

    demanded = accept.soak_of(criteria) if criteria else None
    if hours is not None and duration is not None:
        raise UsageError("--hours and --duration say the same", "Leave one out")
    asked_s = hours * 3600 if hours is not None else duration
    if asked_s is None and demanded is None:
        raise UsageError("how long is not said", "Add --hours 24, --duration 30m, or criteria that have a soak")
    if asked_s is not None and asked_s > LONGEST_SOAK_HOURS * 3600:
        raise UsageError(f"a soak of {asked_s / 3600:g} h", f"It lasts {LONGEST_SOAK_HOURS:g} h at most")
    name = workload or (demanded.workload if demanded else soaks.workload_on(devices))
    resolved = registry.resolve(name).name
    if registry.devices_of(resolved) > 1:
        raise UsageError(f"{resolved} takes several devices together", "Name a load for each device by itself")
    return Soak.lasting(resolved, demanded.seconds if asked_s is None and demanded else asked_s or 0.0)


def _show(path: Path, criteria: Criteria | None, text: str | None, as_json: bool) -> int:
    """Print what was measured, and the verdict on it; the exit code that this stands for."""
    from bench import store, summary, sustained
    from bench.acceptance import canonical
    from bench.report import acceptance, table
    from bench.report import soak as report

    plan, rows = store.read(path)
    found = sustained.figures(plan, rows)
    judged = canonical.judge_file(path, criteria) if criteria else None
    if as_json:
        click.echo(report.to_json(plan, path, found, judged and judged[1]))
    else:
        report.show(table.console(), plan, found)
        if judged and criteria and text:
            acceptance.show(table.console(), judged[0], criteria, text)
        click.echo(f"results: {path}")
    return judged[0].exit_code if judged else summary.exit_code(rows)

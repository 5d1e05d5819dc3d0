"""``vnbench ab`` and ``vnbench aa``"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import (
    device_option,
    json_option,
    junit_option,
    markdown_option,
    out_option,
    seconds,
    tags_of,
    tolerance_of,
)
from bench.cli.result import print_result

if TYPE_CHECKING:
    from bench.types import Arm, Trial


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of both commands."""
    options = (
        device_option,
        out_option,
        click.option("--label", help="A name to find this test by."),
        click.option("--tag", "tags", multiple=True, callback=tags_of, metavar="K=V", help="A note to keep."),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("what", nargs=-1, metavar="[SUITE|WORKLOAD|MODULE:FUNCTION]...")
@click.option("--a", "a", multiple=True, metavar="K=V", help="What arm A is: python=, rev=, workload=, VARIABLE=.")
@click.option("--b", "b", multiple=True, metavar="K=V", help="What arm B is. An arm without any is as it is here.")
@click.option("--tolerance", default="1%", show_default=True, callback=tolerance_of, help="What is no change.")
@click.option("--budget", default="60s", show_default=True, callback=seconds, help="Time for each workload.")
@click.option("--sessions", type=click.IntRange(3), help="Take exactly so many, and look once.")
@click.option("--vary", multiple=True, metavar="KEY", help="A software key that may differ: torch, numpy, python, …")
@click.option("--setup", metavar="COMMAND", help="How a revision is installed.  [default: pip install .]")
@junit_option
@markdown_option
@_shared
def ab(
    what: tuple[str, ...],
    a: tuple[str, ...],
    b: tuple[str, ...],
    tolerance: float,
    budget: float,
    sessions: int | None,
    vary: tuple[str, ...],
    setup: str | None,
    junit: Path | None,
    markdown: Path | None,
    device: str,
    out: Path,
    label: str | None,
    tags: dict[str, str],
    as_json: bool,
) -> None:
    """Is B slower than A? Both run here, in turns, until it is clear.

    \b
    Each session starts two fresh processes that alternate in short bursts;
    its ratio is one observation. An arm is any of
      python=PATH     an interpreter, or the folder of a venv
      rev=REVISION    a git revision, in its own work tree and venv
      workload=NAME   a workload of its own
      VARIABLE=VALUE  an environment variable

    \b
    Examples:
      vnbench ab matmul/fp32/1024 --b OMP_NUM_THREADS=1
      vnbench ab mycode.py:encode --a rev=main --b rev=HEAD
      vnbench ab decode/llama-3.2-1b/b1/ctx512 --b python=new-venv --vary torch
      vnbench ab --a workload=matmul/fp32/1024
                 --b workload=matmul/fp32/1024@backend=numpy
    """
    import dataclasses

    from bench import arms
    from bench.errors import UsageError
    from bench.types import Trial

    pair = arms.parse("A", a), arms.parse("B", b)
    if dataclasses.replace(pair[1], name="A") == pair[0]:
        raise UsageError("the arms are alike", "Say with --a and --b what they are, or use vnbench aa")
    looks = (sessions,) if sessions else Trial.looks
    trial = Trial(looks=looks, tolerance=tolerance)
    path = _test("ab", what, pair, trial, device, out, label, tags, None if sessions else budget, vary, setup)
    sys.exit(print_result(path, out, as_json=as_json, junit=junit, markdown=markdown))


@click.command()
@click.argument("what", nargs=-1, metavar="[SUITE|WORKLOAD|MODULE:FUNCTION]...")
@click.option("--sessions", type=click.IntRange(5), default=60, show_default=True, help="How many to take.")
@click.option("--tolerance", default="1%", show_default=True, callback=tolerance_of, help="What is no change.")
@_shared
def aa(
    what: tuple[str, ...],
    sessions: int,
    tolerance: float,
    device: str,
    out: Path,
    label: str | None,
    tags: dict[str, str],
    as_json: bool,
) -> None:
    """What can this machine tell apart? Both arms are alike.

    Takes sessions as ab does, and says how often ab would have cried
    wolf on this machine, how noisy a session is, and what slowdown
    it can find.

    \b
    Examples:
      vnbench aa matmul/fp32/1024
      vnbench aa mycode.py:encode --sessions 120
    """
    from bench.types import Arm, Trial

    trial = Trial(looks=(sessions,), tolerance=tolerance)
    path = _test("aa", what, (Arm("A"), Arm("B")), trial, device, out, label, tags, None, (), None)
    sys.exit(print_result(path, out, as_json=as_json))


def _test(
    name: str,
    what: Sequence[str],
    pair: Sequence[Arm],
    trial: Trial,
    device: str,
    out: Path,
    label: str | None,
    tags: dict[str, str],
    budget_s: float | None,
    vary: Sequence[str],
    setup: str | None,
) -> Path:
    import dataclasses

    from bench import ab as tests
    from bench import arms, recovery, suite
    from bench.device import select
    from bench.gate import alike
    from bench.plan import make_ab_plan
    from bench.report import table
    from bench.report.progress import RunProgress

    chosen = suite.choose([arms.workload_name(text) for text in what]) if what else suite.Suite(name)
    with RunProgress(table.console(stderr=True)) as progress:
        recovery.recover(out, progress.note)
        (info, *others) = select.find(device)
        if others:
            progress.note(f"{info.label} alone is measured; --device chooses another")
        # The plan first: a misspelt workload is to be told before environments are made.
        plan = make_ab_plan(dataclasses.replace(chosen, name=name), info, pair, trial, label=label, tags=tags)
        plan = dataclasses.replace(plan, arms=tuple(arms.realise(arm, out, setup, progress.note) for arm in plan.arms))
        progress.note(info.reason)
        return tests.execute(plan, out, budget_s=budget_s, vary=alike.check_vary(vary), observer=progress)

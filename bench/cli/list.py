"""``vnbench list``"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bench.cli.options import device_option, json_option

if TYPE_CHECKING:
    from bench.registry import Family
    from bench.report.catalogue import Attempt


@click.command(name="list")
@click.argument("what", nargs=-1, metavar="[FAMILY|WORKLOAD|GLOB]...")
@device_option
@click.option("--no-probe", is_flag=True, help="Do not try what can run here.")
@json_option
@click.option("--markdown", is_flag=True, help="Print docs/workloads.md, the whole catalogue.")
def list_(what: tuple[str, ...], device: str, no_probe: bool, as_json: bool, markdown: bool) -> None:
    """List workloads and suites, and what can run here.

    One family or workload alone is explained: what it stands for, its
    parameters, work, roofs, check and pitfalls. Each workload is tried at
    a small size, so that the answer is this machine's own.

    \b
    Examples:
      vnbench list
      vnbench list matmul
      vnbench list decode/llama-3.2-1b/b1/ctx512
      vnbench list 'matmul/bf16/*' --device cpu
      vnbench list --no-probe --json
    """
    from bench import registry, suite
    from bench.report import catalogue, table, workloads

    if markdown:
        click.echo(workloads.markdown(registry.families(what)), nl=False)
        return
    families = registry.families(what)
    suites = [suite.load(name) for name in suite.names()]
    attempt = functools.partial(_attempt, families, device, no_probe)
    out = table.console()
    alone = what[0] if len(what) == 1 and len(families) == 1 and not registry.is_glob(what[0]) else None
    if as_json:
        click.echo(catalogue.to_json(families, attempt(), suites))
    elif alone is None:
        catalogue.show(out, families, attempt())
        if not what:
            catalogue.show_suites(out, suites)
    elif registry.kernels_named(alone):
        catalogue.explain_family(out, families[0])
        catalogue.show_workloads(out, families[0], attempt())
    else:
        (workload,) = families[0].workloads
        catalogue.explain_workload(out, workload)
        catalogue.show_answer(out, workload, attempt())


def _attempt(families: Sequence[Family], device: str, no_probe: bool) -> Attempt | None:
    """Try each workload on the first of the devices."""
    if no_probe:
        return None
    from bench import probe
    from bench.device import select
    from bench.report import catalogue, table

    devices = select.find(device)
    first = devices[0]
    names = [workload.name for family in families for workload in family.workloads]
    what = names[0] if len(names) == 1 else f"{len(names)} workloads"
    with table.console(stderr=True).status(f"trying {what} on {first.label}"):
        return catalogue.Attempt(first.label, probe.obstacles(names, devices) if names else {})

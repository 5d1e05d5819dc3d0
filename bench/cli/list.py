"""``vnbench list``"""

from __future__ import annotations

import json

import click

from bench.cli.options import device_option, json_option


@click.command(name="list")
@click.argument("what", nargs=-1, metavar="[WORKLOAD-GLOB]...")
@device_option
@click.option("--no-probe", is_flag=True, help="Do not try what can run here.")
@json_option
def list_(what: tuple[str, ...], device: str, no_probe: bool, as_json: bool) -> None:
    """List workloads and suites, and what can run here.

    Each workload is tried at a small size, so that the answer is this
    machine's own.

    \b
    Examples:
      vnbench list
      vnbench list 'matmul/*' --device cpu
      vnbench list --no-probe --json
    """
    from bench import probe, registry, suite
    from bench.device import select
    from bench.report import table

    names = [name for text in what for name in registry.match(text)] or registry.catalogue()
    first = select.find(device)[0]
    if no_probe:
        obstacles = None
    else:
        with table.console(stderr=True).status(f"trying {len(names)} workloads on {first.label}"):
            obstacles = probe.obstacles(names, first)
    suites = [suite.load(name) for name in suite.names()]
    if as_json:
        workloads = [
            {
                "workload": name,
                "measures": registry.resolve(name).kernel.summary,
                "runs_here": None if obstacles is None else obstacles[name] is None,
                "reason": None if obstacles is None else obstacles[name],
            }
            for name in names
        ]
        click.echo(json.dumps({"workloads": workloads, "suites": [one.name for one in suites]}, indent=2))
    else:
        table.show_catalogue(table.console(), [registry.resolve(name) for name in names], obstacles, suites, first)

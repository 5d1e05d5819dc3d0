"""``vnbench plan``"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import click

from bench.cli.options import device_option, json_option, out_option


def _share(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """``2%``, ``2 %`` or ``0.02``; the sensitivity may be 1 as well."""
    from bench.errors import UsageError

    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", value.strip(), re.ASCII)
    found = float(Decimal(match[1]) / (100 if match[2] else 1)) if match else 0.0
    if 0 < found < 1 or (found == 1 and parameter.name == "sensitivity"):
        return found
    highest = "up to 100%" if parameter.name == "sensitivity" else "below 100%"
    raise UsageError(f"{parameter.opts[0]} {value!r}: not a share above 0 and {highest}", "Write 2% or 0.02")


def _nodes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    from bench.errors import UsageError
    from bench.inspection import LARGEST_DELIVERY

    if value is None:
        return None
    if not re.fullmatch(r"0*[1-9]\d{0,8}", value, re.ASCII) or int(value) > LARGEST_DELIVERY:
        raise UsageError(f"--nodes {value!r}: not a number from 1 to {LARGEST_DELIVERY}", "Leave it out if not known")
    return int(value)


def _hours(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from bench.errors import UsageError

    if value is None:
        return None
    match = re.fullmatch(r"\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}", value.strip(), re.ASCII)
    if match is None or float(match[0]) == 0:
        raise UsageError(f"--soak-hours {value!r}: not a number of hours above 0", "Write 24 or 0.5")
    return float(match[0])


@click.command()
@click.option("--nodes", callback=_nodes, metavar="N", help="Nodes in the delivery; left out: any number.")
@click.option("--bad-rate", required=True, callback=_share, metavar="P", help="At most this share is to be bad: 2%.")
@click.option("--confidence", default="0.95", callback=_share, metavar="C", show_default=True, help="How sure.")
@click.option(
    "--sensitivity",
    default="1",
    callback=_share,
    metavar="S",
    show_default=True,
    help="Share of the bad nodes that the test finds; none finds all.",
)
@click.option("--soak-hours", callback=_hours, metavar="H", help="What that many hours without a failure show.")
@click.option("--suite", metavar="SUITE", help="How long it takes here, from past runs.")
@device_option
@out_option
@json_option
def plan(
    nodes: int | None,
    bad_rate: float,
    confidence: float,
    sensitivity: float,
    soak_hours: float | None,
    suite: str | None,
    device: str,
    out: Path,
    as_json: bool,
) -> None:
    """Say how many nodes of a delivery to inspect, and how sure that is.

    With no failure among them, at most the share of --bad-rate is bad.

    \b
    Examples:
      vnbench plan --nodes 400 --bad-rate 2%
      vnbench plan --bad-rate 1% --confidence 99%
      vnbench plan --nodes 64 --bad-rate 5% --sensitivity 90%
      vnbench plan --nodes 400 --bad-rate 2% --soak-hours 24 --suite standard
      vnbench plan --nodes 400 --bad-rate 2% --json
    """
    from bench import durations, inspection
    from bench import suite as suites
    from bench.device import select
    from bench.plan import make_plan
    from bench.report import inspection as report
    from bench.report import table

    found = inspection.inspect(bad_rate, confidence, nodes=nodes, sensitivity=sensitivity)
    soaks = []
    if soak_hours is not None:
        soaks = [inspection.soak(soak_hours, group, confidence) for group in dict.fromkeys((1, found.inspected))]
    past = None
    if suite is not None:
        past = durations.past(make_plan(suites.choose([suite]), select.find(device)), out)
    if as_json:
        click.echo(report.to_json(found, soaks, suite, past))
        return
    console = table.console()
    report.show_inspection(console, found)
    if soak_hours is not None:
        report.show_soaks(console, soak_hours, confidence, soaks)
    if suite is not None:
        report.show_durations(console, suite, past, found.inspected)

"""``vnbench watch``"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from bench.cli.options import json_option

if TYPE_CHECKING:
    from bench.telemetry.reading import Reading
    from bench.types import DeviceInfo

Show = Callable[[Sequence["Reading"]], None]


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="The time from one reading to the next.",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after so many readings.")
@json_option
def watch(interval: float, count: int | None, as_json: bool) -> None:
    """Watch clocks, power, heat and troubles of GPUs and CPU.

    A table on a terminal, a line per device and reading in a pipe. Nothing
    is measured and nothing is set. Ctrl-C ends it.

    \b
    Examples:
      vnbench watch
      vnbench watch --interval 0.2
      vnbench watch --count 60 --json
    """
    from bench.telemetry import nvml
    from bench.telemetry.pace import paced
    from bench.telemetry.sources import Sources

    with _ending_quietly():
        gpus = nvml.devices()
        if not gpus:
            _say_why()
        shown = _shown_as_json() if as_json else _shown(gpus)
        with contextlib.closing(Sources(gpus)) as source, shown as show:
            for readings in paced(source, interval, count):
                show(readings)


def _say_why() -> None:
    """Where there should be GPUs and NVML shows none."""
    from bench.device import select
    from bench.telemetry import nvml

    if select.nvidia_hardware():
        click.echo(f"note: no GPU can be read: {nvml.obstacle()}", err=True)


@contextlib.contextmanager
def _shown_as_json() -> Iterator[Show]:
    yield lambda readings: click.echo("\n".join(json.dumps(one.to_json()) for one in readings))


@contextlib.contextmanager
def _shown(gpus: Sequence[DeviceInfo]) -> Iterator[Show]:
    from bench.report import watch as view
    from bench.telemetry import nvml_facts
    from bench.telemetry.watched import Watched

    watched = Watched({gpu.label: nvml_facts.facts(gpu) for gpu in gpus})
    out = view.console()
    if view.can_renew(out):
        with view.LiveTable(out) as table:
            yield lambda readings: table.show(watched.take(readings))
    else:
        click.echo(view.heading())
        yield lambda readings: click.echo("\n".join(view.lines(watched.take(readings))))


@contextlib.contextmanager
def _ending_quietly() -> Iterator[None]:
    """Ctrl-C is the normal end, and so is a reader of the pipe that has had enough; SIGTERM leaves a tidy terminal."""
    before = signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still held for it goes nowhere
    finally:
        signal.signal(signal.SIGTERM, before)

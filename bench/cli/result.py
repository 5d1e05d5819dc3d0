"""Printing a result file, for the commands that do: the table of a run, or the verdicts of an A/B or A/A test."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.judgements import Report
    from bench.schema import Row
    from bench.types import Plan


def print_result(
    path: Path, out: Path, *, as_json: bool, junit: Path | None = None, markdown: Path | None = None
) -> int:
    """Print a result as a table or as JSON, from its file alone.

    Args:
        out: the results folder, where an A/B test looks for A/A tests of this machine.
        junit: where to write the verdicts of an A/B test as well.

    Returns:
        The exit code that the verdicts stand for; 0 of a result without verdicts.
    """
    from bench import store

    plan, rows = store.read(path)
    if plan.soak and not any(plan.workloads.values()):
        _print_soak(plan, path, rows, as_json)
        return 0
    if not plan.arms:
        _print_run(plan, path, rows, as_json)
        return 0
    if plan.suite == "aa":
        return _print_noise(plan, path, rows, as_json)
    return _print_verdicts(plan, path, rows, out, as_json, junit, markdown)


def print_verdicts(report: Report, as_json: bool, junit: Path | None, markdown: Path | None, **more: object) -> None:
    """Print judgements, and write them for a CI server and a pull request where that is asked for."""
    from bench.files import write_report
    from bench.report import judgements, table
    from bench.report import junit as junit_report
    from bench.report import markdown as markdown_report

    with _reader_may_leave():
        if as_json:
            click.echo(judgements.to_json(report, **more))
        else:
            judgements.show(table.console(), report)
    if junit is not None:
        write_report(junit, junit_report.render(report))
    if markdown is not None:
        write_report(markdown, markdown_report.render(report).encode())


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Of a pipe, as in ``| head -1``: that ends the printing, while the files and the exit code are as ever."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich leaves for it
        null_fd = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_fd, sys.stdout.fileno())
        os.close(null_fd)


def _print_run(plan: Plan, path: Path, rows: Sequence[Row], as_json: bool) -> None:
    from bench import summary
    from bench.report import data, table

    summaries = summary.summarize(rows)
    spreads = summary.spreads(summaries)
    if as_json:
        click.echo(data.results_json(plan, path, summaries, spreads))
    else:
        table.show_results(table.console(), plan, summaries, spreads)


def _print_soak(plan: Plan, path: Path, rows: Sequence[Row], as_json: bool) -> None:
    from bench import sustained
    from bench.report import soak, table

    found = sustained.figures(plan, rows)
    if as_json:
        click.echo(soak.to_json(plan, path, found, None))
    else:
        soak.show(table.console(), plan, found)


def _print_verdicts(
    plan: Plan,
    path: Path,
    rows: Sequence[Row],
    out: Path,
    as_json: bool,
    junit: Path | None,
    markdown: Path | None,
) -> int:
    from bench import ab, judgement, sessions
    from bench.report import judgements, noise

    found = sessions.judge(plan, sessions.collect(plan, rows))
    a, b = plan.arms
    known = ab.noise_known(plan, out)
    notes = [noise.words(one, run_id) for one, run_id in known]
    if not known:
        notes.append("no A/A test of this on this machine yet: vnbench aa says what it can tell apart")
    notes.append(f"run {plan.run_id}, {path}")
    report = judgements.Report(
        f"A: {a.words}\nB: {b.words}",
        found,
        sessions.unfit(rows),
        notes,
        _is_simulated(rows),
    )
    code = judgement.exit_code(found)
    print_verdicts(report, as_json, junit, markdown, run_id=plan.run_id, path=str(path), exit_code=code)
    return code


def _print_noise(plan: Plan, path: Path, rows: Sequence[Row], as_json: bool) -> int:
    from bench import judgement, sessions
    from bench.report import judgements, noise, table

    collected = sessions.collect(plan, rows)
    found = sessions.noise(plan, collected)
    report = judgements.Report(
        f"A/A test {plan.run_id}  node {plan.node}: both arms are alike",
        sessions.judge(plan, [one for one in collected if one.obstacle]),
        sessions.unfit(rows),
        is_simulated=_is_simulated(rows),
    )
    if as_json:
        click.echo(noise.to_json(plan, path, found, report))
    else:
        noise.show(table.console(), plan, found, report)
    return judgement.exit_code(report.judgements)


def _is_simulated(rows: Sequence[Row]) -> bool:
    return any("simulated" in (row["validity"] or ()) for row in rows)

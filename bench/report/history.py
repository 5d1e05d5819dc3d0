"""A workload's history on a terminal and as JSON: a table and a chart per machine, with hints where it changed."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import units
from bench.changes import Change
from bench.gate.history import ALPHA, History, Line, Point
from bench.report import chart
from bench.report.chart import Layout, Mark
from bench.report.judgements import SIMULATED

METHOD = (
    "a change is a hint, not a verdict: circular binary segmentation (Olshen et al. 2004) over the runs' figures, at "
    f"{ALPHA * 100:g} %: about one steady line in a hundred shows one, and more where a machine drifts in and out of "
    "slow states (8 % at a lag-1 correlation of 0.3 and 30 runs)"
)
MOST_ROWS = 60  # of a line's table; the chart has all

_ROWS = 7  # of the chart: the four ticks of a scale are evenly spaced in them


# ---------------------------------------------------------------- on a terminal


def show(out: Console, history: History) -> None:
    """The machines one after the other; what belongs to another version of the workload is a line of its own."""
    out.print(f"history of {history.workload}", style="bold")
    if history.is_simulated:
        out.print(SIMULATED, style="bold red")
    for lines in by_machine(history):
        out.print(machine_words(lines))
        out.print(_table(lines, out.width))
        if sum(len(line.measured) for line in lines) > 1:
            _show_chart(out, lines)
        for text in hints(lines):
            out.print(text)
    out.print(METHOD, style="dim")


def by_machine(history: History) -> list[list[Line]]:
    """The lines of machines that are alike, the oldest first."""
    return [list(group) for _, group in itertools.groupby(history.lines, key=lambda line: line.machine)]


def machine_words(lines: Sequence[Line]) -> str:
    """``cuda:0  NVIDIA H100 80GB HBM3  nodes node1, node7``"""
    nodes = sorted({point.node for line in lines for point in line.points})
    named = ", ".join(nodes[:4]) + (f" and {len(nodes) - 4} more" if len(nodes) > 4 else "")
    model = lines[0].hardware.get("device_name") or "unknown model"
    return f"{lines[0].device}  {model}  {'node' if len(nodes) == 1 else 'nodes'} {named}"


def break_words(before: Line, after: Line) -> str:
    """Why a line ends and another begins."""
    if before.kernel_version != after.kernel_version:
        return f"version {before.kernel_version} → {after.kernel_version}"
    return "other work" if before.spec_id != after.spec_id else "other policy"


def hints(lines: Sequence[Line]) -> list[str]:
    """A sentence per change."""
    found = []
    for line in lines:
        for run_id, change in line.change_at.items():
            commit = next(point.source_commit for point in line.points if point.run_id == run_id)
            before, after = (units.show(value, line.unit or "") for value in (change.before, change.after))
            found.append(
                f"▲ change at run {run_id}, commit {_commit(commit)}: {before} → {after}, {change_words(line, change)}"
            )
    return found


def change_words(line: Line, change: Change) -> str:
    """``+7.1% (better)``; without a word where it is not known which way is good."""
    shift = f"{change.after / change.before - 1:+.1%}"
    if line.better is None:
        return shift
    word = "better" if (change.after > change.before) == (line.better == "higher") else "worse"
    return f"{shift} ({word})"


def _table(lines: Sequence[Line], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), width=width)
    table.add_column("#", justify="right", no_wrap=True)
    for name in ("run", "date", "commit"):
        table.add_column(name, no_wrap=True)
    for name in ("value", "95 % CI", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold", ratio=1)
    number = 0
    before = None
    for line in lines:
        if before is not None:
            table.add_row("", "┄" * 10, "┄" * 10, *[""] * 4, Text(break_words(before, line), style="yellow"))
        left_out = max(0, len(line.points) - MOST_ROWS)
        if left_out:
            table.add_row("…", *[""] * 6, f"{left_out} older runs: --json has them")
        for point in line.points[left_out:]:
            table.add_row(str(number + left_out + 1), *_cells(line, point))
            number += 1
        number += left_out
        before = line
    return table


def _cells(line: Line, point: Point) -> list[str | Text]:
    return [
        point.run_id,
        point.started_at[:10],
        _commit(point.source_commit),
        units.show(point.value, line.unit or ""),
        _interval(point),
        str(point.replicates),
        _note(line, point),
    ]


def _note(line: Line, point: Point) -> Text:
    words = []
    change = line.change_at.get(point.run_id)
    if change is not None:
        words.append(f"▲ {change_words(line, change)}")
    words += [status for status in point.statuses if status != "ok"]
    words += ["no positive figure"] if point.value is None and "ok" in point.statuses else []
    words += [f"{key} {before} → {after}" for key, (before, after) in point.changed.items()]
    words += ["unfit"] if point.is_unfit else []
    return Text(", ".join(words), style="bold" if change is not None else "")


def _interval(point: Point) -> str:
    """Both ends under the value's own prefix."""
    if point.value is None or point.interval is None:
        return "–"
    scale = units.scaled(point.value, "")[0] / point.value
    return "–".join(units.significant(end * scale, 3) for end in (point.interval.low, point.interval.high))


def _commit(commit: str | None) -> str:
    """Its first nine digits, and the ``+`` of a modified checkout."""
    return "–" if commit is None else commit[:9] + ("+" if commit.endswith("+") else "")


# ---------------------------------------------------------------- the chart


def pieces(lines: Sequence[Line]) -> Iterator[tuple[Line, list[tuple[int, Point]]]]:
    """Each line with its points that have a value, numbered over all of them as in the table, from 1."""
    number = itertools.count(1)
    for line in lines:
        numbered = [(next(number), point) for point in line.points]
        yield line, [(at, point) for at, point in numbered if point.value is not None]


def _show_chart(out: Console, lines: Sequence[Line]) -> None:
    drawn = list(pieces(lines))
    values = [point.value for _, points in drawn for _, point in points if point.value is not None]
    number, unit = units.scaled(max(values), lines[0].unit or "")
    scale = number / max(values)
    low, high = min(values) * scale, max(values) * scale
    margin = (high - low) * 0.05 or high * 0.01
    last = sum(len(line.points) for line in lines)
    layout = Layout(9, max(10, out.width - 10), max(1, last - 1))
    curves = [[(at - 1, point.value * scale) for at, point in points if point.value] for _, points in drawn]
    out.print(Text(unit or "–", style="dim"))
    curve = chart.Line("", [piece for piece in curves if piece], "cyan")
    for row in chart.panel([curve], layout, _ROWS, chart.ticks(low - margin, high + margin)):
        out.print(row, soft_wrap=True)
    for row in _axis(layout, last):
        out.print(row, soft_wrap=True)
    changes = [
        Mark(at - 1, at - 1, "▲", "bold")
        for line, points in drawn
        for at, point in points
        if point.run_id in line.change_at
    ]
    if changes:
        out.print(chart.marks("change", changes, layout), soft_wrap=True)
    starts = itertools.accumulate(len(line.points) for line in lines[:-1])
    breaks = [Mark(at, at, "┆", "yellow") for at in starts]
    if breaks:
        out.print(chart.marks("version", breaks, layout), soft_wrap=True)


def _axis(layout: Layout, last: int) -> list[Text]:
    """The numbers of the table's rows below the chart."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if last / step <= layout.width / 8)
    line, names = ["─"] * layout.width, [" "] * layout.width
    for number in sorted({1, *range(step, last + 1, step)}):
        column = layout.column(number - 1)
        line[column] = "┬"
        name = str(number)
        if column + len(name) <= layout.width and names[column] == " ":
            names[column : column + len(name)] = name
    pad = " " * (layout.left - 1)
    return [Text(f"{pad}└{''.join(line)}"), Text(f"{pad} {''.join(names).rstrip()}")]


# ---------------------------------------------------------------- for scripts


def to_json(history: History) -> str:
    """One line; a change names the run that it begins with."""
    lines = []
    for line in history.lines:
        changes = [{"run_id": run_id, **dataclasses.asdict(change)} for run_id, change in line.change_at.items()]
        lines.append(dataclasses.asdict(line) | {"changes": changes})
    return json.dumps(
        {"workload": history.workload, "simulated": history.is_simulated, "method": METHOD, "lines": lines}
    )

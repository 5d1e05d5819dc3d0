"""The catalogue in words: all families, one family, one workload; on a terminal, in a pipe and as JSON.

`bench.report.workloads` makes a document of the same words.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import units
from bench.kernel import About
from bench.registry import Family, Workload
from bench.spec import Parameter, parameters, pattern, workload_name, written
from bench.suite import Suite
from bench.types import DeviceKind, Work

KINDS: tuple[DeviceKind, ...] = ("cpu", "cuda")

_COUNTED = 10_000  # shown as it is below that: 8192 tokens are no 8.192 ktoken
_BRIEF = 160  # characters of a reason in a list
_HINT = "`vnbench list FAMILY` explains a family, `vnbench list NAME` a workload"


@dataclass(frozen=True)
class Attempt:
    """What stands against each workload on a device; None where it runs."""

    device: str
    obstacles: Mapping[str, str | None]


# ---------------------------------------------------------------- the words of every form


def work_words(work: Work | None) -> str:
    """``2.147 GFLOP, 12.58 MB``; a dash where it is not known before the workload is prepared."""
    if work is None:
        return "–"
    operations = "OP" if work.unit == "OP/s" else "FLOP"
    amounts = ((work.flops, operations), (work.bytes_moved, "B"), (work.items, work.item_unit or "item"))
    return ", ".join(_amount(amount, unit) for amount, unit in amounts if amount is not None)


def _amount(amount: int, unit: str) -> str:
    return f"{amount} {unit}" if amount < _COUNTED else units.show(amount, unit)


def memory_words(workload: Workload) -> str:
    """What it takes on the device at most; a dash where that is not known beforehand, or does not matter."""
    needed = workload.kernel.memory_bytes(workload.params)
    return units.show_bytes(needed) if needed else "–"


def roof_words(workloads: Sequence[Workload], shown: Callable[[str], str] = str) -> str:
    """The roofs of a workload; of several, with a parameter's name where they have its value: roof/compute/<dtype>."""
    by_kind = {kind: ", ".join(map(shown, _roof_names(workloads, kind))) for kind in KINDS}
    if len(set(by_kind.values())) == 1:
        return by_kind["cpu"] or "none"
    return "; ".join(f"on {kind}: {roofs or 'none'}" for kind, roofs in by_kind.items())


def _roof_names(workloads: Sequence[Workload], kind: DeviceKind) -> Iterable[str]:
    named = [(one, roof) for one in workloads for roof in _roofs(one, kind)]
    return dict.fromkeys(roof_pattern(one, roof) if len(workloads) > 1 else roof for one, roof in named)


def _roofs(workload: Workload, kind: DeviceKind) -> Sequence[str]:
    return workload.kernel.roofs(workload.params, kind)


def roof_pattern(workload: Workload, roof: str) -> str:
    """``roof/compute/<dtype>`` of ``roof/compute/bf16``, where that is the workload's dtype."""
    names = {text: f"<{name}>" for name, text in reversed(written(workload.params).items())}
    return "/".join(names.get(element, element) for element in roof.split("/"))


def probe_words(workloads: Sequence[Workload], shown: Callable[[str], str] = str) -> str:
    """What is tried before one of these is prepared, by the first that has something smaller."""
    for workload in workloads:
        small = workload.kernel.probe(workload.params)
        if small is not None and small != workload.params:
            return f"{shown(workload_name(workload.kernel.name, small))} before {shown(workload.name)}"
    return "nothing smaller"


# ---------------------------------------------------------------- a list


def show(out: Console, families: Sequence[Family], attempt: Attempt | None) -> None:
    """Families with their workloads, and what stands against these on a device."""
    for family in families:
        out.print(f"{family.kernel.name}: {family.kernel.summary}", style="bold")
        show_workloads(out, family, attempt)


def show_workloads(out: Console, family: Family, attempt: Attempt | None) -> None:
    """As many in a line as fit; in a pipe a line each."""
    names = [workload.name for workload in family.workloads]
    if not names:
        out.print(f"  none listed; name one: {pattern(family.kernel.name, family.kernel.params_type)}")
    elif not out.is_terminal:
        for name in names:
            answer = _answer(attempt.device, _brief(attempt.obstacles[name])) if attempt else ""
            out.print(f"  {name}  {answer}".rstrip(), soft_wrap=True)
    elif attempt is None:
        _print_columns(out, names, 2)
    else:
        _show_by_obstacle(out, names, attempt)


def _answer(device: str, reason: str | None) -> str:
    return "runs here" if reason is None else f"not on {device}: {reason}"


def _brief(reason: str | None) -> str | None:
    """A library's words can fill a screen: in a list their first sentence is enough."""
    if reason is None or len(reason) <= _BRIEF:
        return reason
    return textwrap.shorten(reason.partition(". ")[0], _BRIEF, placeholder=" …")


def _show_by_obstacle(out: Console, names: Sequence[str], attempt: Attempt) -> None:
    by_reason: dict[str | None, list[str]] = {None: []}
    for name in names:
        by_reason.setdefault(attempt.obstacles[name], []).append(name)
    running = by_reason.pop(None)
    out.print(f"  {len(running)} of {len(names)} run on {attempt.device}", style="green" if running else "yellow")
    _print_columns(out, running, 2)
    for reason, stopped in by_reason.items():
        _print_wrapped(out, _answer(attempt.device, _brief(reason)), style="yellow")
        _print_columns(out, stopped, 4, style="dim")


def _print_columns(out: Console, names: Sequence[str], indent: int, style: str | None = None) -> None:
    for line in _columns(names, out.width - indent):
        out.print(" " * indent + line, style=style)


def _print_wrapped(out: Console, text: str, style: str | None = None) -> None:
    for line in textwrap.wrap(text, out.width, initial_indent="  ", subsequent_indent="    "):
        out.print(line, style=style)


def _columns(names: Sequence[str], width: int) -> list[str]:
    """The names in order, in columns that are wide enough; one that takes more than half of a line has it alone."""
    longest = max((len(name) for name in names if len(name) < width // 2), default=width)
    per_line = max(1, (width + 2) // (longest + 2))
    rows: list[list[str]] = [[]]
    for name in names:
        if len(name) > longest:
            rows += [[name], []]
        elif len(rows[-1]) < per_line:
            rows[-1].append(name)
        else:
            rows.append([name])
    return ["  ".join(f"{name:<{longest}}" for name in row).rstrip() for row in rows if row]


def show_suites(out: Console, suites: Sequence[Suite]) -> None:
    """The suites, and where more is to be read."""
    out.print("\nsuites", style="bold")
    for suite in suites:
        _print_wrapped(out, f"{suite.name}: {suite.description}; {suite.replicates} replicates")
    out.print(f"\n{_HINT}", style="dim")


# ---------------------------------------------------------------- an explanation


def explain_family(out: Console, family: Family) -> None:
    """What a kernel says of itself, before its workloads."""
    kernel = family.kernel
    out.print(pattern(kernel.name, kernel.params_type), style="bold")
    out.print(f"{kernel.summary}; version {kernel.version}")
    values = {one.name: _takes(one) for one in parameters(kernel.params_type)}
    out.print(_explanation(family, values, work="", memory=""))
    out.print("listed", style="bold")


def _takes(parameter: Parameter) -> str:
    if parameter.is_axis:
        return parameter.takes
    return f"{parameter.takes}, an option" + (f"; {parameter.default} if left out" if parameter.default else "")


def explain_workload(out: Console, workload: Workload) -> None:
    """What its kernel says, with this workload's values, work and roofs."""
    kernel = workload.kernel
    out.print(workload.name, style="bold", soft_wrap=True)
    out.print(f"{kernel.summary}; version {kernel.version}, spec_id {workload.spec.spec_id}")
    values = {one.name: "left out" for one in parameters(kernel.params_type)} | written(workload.params)
    work, needed = kernel.work(workload.params), memory_words(workload)
    out.print(
        _explanation(
            Family(kernel, (workload,)),
            values,
            work=f"{work_words(work)} a launch" if work else "",
            memory=f"{needed} at most" if needed != "–" else "",
        )
    )


def _explanation(family: Family, values: Mapping[str, str], *, work: str, memory: str) -> Table:
    """The sentences of a kernel under their titles; what is empty is left out."""
    about = family.kernel.about or About("", {}, "", "", "")
    rows = [
        ("stands for", "bold", about.stands_for),
        *((name, "cyan", _lines(value, about.parameters.get(name, ""))) for name, value in values.items()),
        ("work", "bold", _lines(work, about.work)),
        ("memory", "bold", memory),
        ("roofs", "bold", roof_words(family.workloads)),
        ("check", "bold", about.check),
        ("pitfalls", "bold", about.pitfalls),
        ("tried first", "bold", probe_words(family.workloads)),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, style, text in rows:
        if text:
            table.add_row(Text(title, style), text)
    return table


def _lines(*texts: str) -> str:
    return "\n".join(filter(None, texts))


def show_answer(out: Console, workload: Workload, attempt: Attempt | None) -> None:
    """Whether that workload runs here."""
    if attempt is not None:
        reason = attempt.obstacles[workload.name]
        out.print(_answer(attempt.device, reason), style="green" if reason is None else "yellow")


# ---------------------------------------------------------------- JSON


def to_json(families: Sequence[Family], attempt: Attempt | None, suites: Sequence[Suite]) -> str:
    """The workloads with their specs; ``runs_here`` is null where nothing was tried."""
    entries = [_entry(workload, attempt) for family in families for workload in family.workloads]
    return json.dumps({"workloads": entries, "suites": [one.name for one in suites]}, indent=2)


def _entry(workload: Workload, attempt: Attempt | None) -> dict[str, Any]:
    kernel, params, spec = workload.kernel, workload.params, workload.spec
    work = kernel.work(params)
    reason = None if attempt is None else attempt.obstacles[workload.name]
    return {
        "name": workload.name,
        "spec_id": spec.spec_id,
        **dataclasses.asdict(spec),
        "summary": kernel.summary,
        "work": None if work is None else dataclasses.asdict(work),
        "memory_bytes": kernel.memory_bytes(params) or None,
        "roofs": {kind: list(_roofs(workload, kind)) for kind in KINDS},
        "runs_here": None if attempt is None else reason is None,
        "reason": reason,
    }

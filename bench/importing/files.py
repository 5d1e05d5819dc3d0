"""Files of other programs → runs of ours: what each holds, which belong together, which are here already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from bench import dataset, store
from bench.errors import UnreadableResult
from bench.importing import foreign, pytest_benchmark, superbench
from bench.importing.foreign import load_json
from bench.importing.pytest_benchmark import SavedProcess
from bench.importing.superbench import SavedNode
from bench.schema import Row
from bench.spec import canonical_json, content_id
from bench.types import Plan

TAG = "imported"  # of each row: the hash of what it came from
FILE_TAG = "file"

Saved = SavedProcess | SavedNode
T = TypeVar("T")


@dataclass(frozen=True)
class Imported:
    """A run that was written."""

    plan: Plan
    path: Path
    rows: int
    workloads: int


def import_files(
    paths: Sequence[Path], out: Path, *, label: str | None = None, note: Callable[[str], None] = lambda text: None
) -> list[Imported]:
    """Write the runs that these files hold: the processes of one machine, software and commit are replicates of one.

    Everything is read before anything is written. What was imported before is noted, and left out.

    Raises:
        UnreadableResult: a file is missing, damaged, or of no known program.
        OutputNotWritable: see ``foreign.write``; what was written before stays.
    """
    saved = [one for path in paths for one in _read(path)]
    new = _new(saved, out, note)
    groups = _grouped(new)
    if len(groups) > 1:
        note(f"{len(new)} processes of {len(groups)} machines, programs or commits make {len(groups)} runs")
    modified_at = datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)
    found = []
    for group in groups:
        plan, rows = _run(group, label, modified_at, note)
        workloads = len({row["workload"] for row in rows})
        found.append(Imported(plan, foreign.write(out, plan, rows), len(rows), workloads))
    return found


# ---------------------------------------------------------------- what a file holds


def _read(path: Path) -> list[Saved]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = _value(text)
        if isinstance(first, dict) and "benchmarks" in first:
            return [pytest_benchmark.parse(path.name, _hash(first), first)]
        if isinstance(first, list):
            raise ValueError("an array, and neither program writes one")
        lines = [load_json(line) for line in text.splitlines() if line.strip()] if first is None else [first]
        if not lines:
            raise ValueError("it is empty")
        return [superbench.parse(path.name, _hash(line), line) for line in lines]
    except OSError as error:
        raise UnreadableResult(f"{path}: {error.strerror or error}", "Name a file") from None
    except ValueError as error:
        raise UnreadableResult(
            f"{path}: not a result of pytest-benchmark or SuperBench ({_words(error)})",
            "Name a JSON file of --benchmark-json or --benchmark-save, or a results-summary.jsonl",
        ) from None


def _value(text: str) -> Any:
    """The one JSON value that a text is; None where it is none, or several."""
    try:
        return load_json(text)
    except json.JSONDecodeError:
        if "\n" not in text.strip() or text.lstrip().startswith(("{\n", "{\r\n", "[")):
            raise
        return None


def _hash(data: Any) -> str:
    """Equal for equal content, however it is indented."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:16]


def _words(error: ValueError) -> str:
    """JSON's own errors name a line; a text that is none may not be UTF-8 either."""
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


# ---------------------------------------------------------------- which are new, and which belong together


def _new(saved: Sequence[Saved], out: Path, note: Callable[[str], None]) -> list[Saved]:
    """Those that no run of their node holds, each once."""
    known = _imported(out / "runs", {one.node for one in saved})
    new: dict[str, Saved] = {}
    for one in saved:
        if one.content_id in known:
            note(f"{one.source}: already imported, in run {known[one.content_id]}")
        elif one.content_id in new:
            note(f"{one.source}: the same as {new[one.content_id].source}, counted once")
        else:
            new[one.content_id] = one
    return list(new.values())


def _imported(folder: Path, nodes: Collection[str]) -> dict[str, str]:
    """What the runs of these nodes were imported from, and the run of each; packed ones lie in no node's folder."""
    found: dict[str, str] = {}
    for path in store.result_files(folder):
        try:
            ((_, entries),) = dataset.index([path])
            runs = {entry.run_id for entry in entries if entry.node in nodes}
            table = dataset.read([path] if runs else [], ["run_id", "tags"], runs=runs)
        except UnreadableResult:
            continue  # not one of ours, and no concern of an import
        for row in table.to_pylist():
            found |= {value: row["run_id"] for key, value in row["tags"] or () if key == TAG}
    return found


def _grouped(saved: Sequence[Saved]) -> list[list[Saved]]:
    """What may be replicates of each other: processes of one program on one machine, with one software and commit."""
    groups: dict[str, list[Saved]] = {}
    for one in saved:
        if isinstance(one, SavedProcess):
            key = canonical_json(["pytest", one.node, one.commit, one.version, one.machine])
        else:
            key = canonical_json(["superbench", one.name])
        groups.setdefault(key, []).append(one)
    return list(groups.values())


# ---------------------------------------------------------------- rows


def _run(
    group: Sequence[Saved], label: str | None, modified_at: datetime, note: Callable[[str], None]
) -> tuple[Plan, list[Row]]:
    run_id = content_id(sorted(one.content_id for one in group))[:10]
    processes = sorted(_of(SavedProcess, group), key=lambda one: (one.at, one.content_id))
    nodes = _of(SavedNode, group)
    if processes:
        first = processes[0]
        plan = foreign.make_plan(
            run_id,
            suite=pytest_benchmark.SUITE,
            node=first.node,
            started_at=first.at,
            devices=(pytest_benchmark.device(first),),
            replicates=len(processes),
            source_commit=first.commit,
            label=label,
        )
        _note_gaps(processes, note)
        return plan, [row for number, one in enumerate(processes) for row in _process_rows(plan, one, number)]
    plan = foreign.make_plan(
        run_id,
        suite=superbench.SUITE,
        node=nodes[0].node,
        started_at=modified_at,  # the file names no time
        replicates=len(nodes),
        label=label,
    )
    rows = [_tagged(row, one) for number, one in enumerate(nodes) for row in superbench.rows(plan, one, number)]
    return plan, rows


def _process_rows(plan: Plan, process: SavedProcess, replicate: int) -> list[Row]:
    columns = pytest_benchmark.environment_columns(process) | {"started_at": process.at}
    device = pytest_benchmark.device(process)
    # A test that a plug-in repeated is there several times: the last is what it came to.
    entries = {pytest_benchmark.workload(entry).name: entry for entry in process.benchmarks}
    return [
        _tagged(
            pytest_benchmark.row(plan, entry, columns, device=device, replicate=replicate, sequence=sequence), process
        )
        for sequence, entry in enumerate(entries.values())
    ]


def _note_gaps(processes: Sequence[SavedProcess], note: Callable[[str], None]) -> None:
    """pytest-benchmark leaves out what failed, without a word."""
    held = [{pytest_benchmark.workload(entry).name for entry in one.benchmarks} for one in processes]
    for name in sorted(set().union(*held)):
        count = sum(name not in names for names in held)
        if count:
            note(f"{name}: not in {count} of {len(processes)} files; it failed there, or was not run")


def _tagged(row: Row, saved: Saved) -> Row:
    return row | {"tags": [*row["tags"], (TAG, saved.content_id), (FILE_TAG, saved.source)]}


def _of(kind: type[T], group: Iterable[Saved]) -> list[T]:
    return [one for one in group if isinstance(one, kind)]

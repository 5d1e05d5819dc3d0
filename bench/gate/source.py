"""``Source``: the runs that a gate, a baseline or a history is to read, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import dataset
from bench.comparison import selection


@dataclass(frozen=True)
class Source:
    """Runs in result files. A packed file may hold others beside them."""

    paths: tuple[Path, ...]
    runs: frozenset[str] | None = None  # None: all that the files hold


def find(out: Path, texts: Iterable[str]) -> Source:
    """What arguments stand for all together, each as `bench.comparison.selection.select` reads it.

    Raises:
        UnreadableResult, UsageError: as of `select`.
    """
    found = selection.select(out, texts)
    paths = tuple(dict.fromkeys(path for one in found for path in one.paths))
    if all(one.runs is None for one in found):
        return Source(paths)
    whole = dataset.index([path for one in found if one.runs is None for path in one.paths])
    runs = {entry.run_id for _, entries in whole for entry in entries}
    return Source(paths, frozenset(runs.union(*(one.runs for one in found if one.runs is not None))))

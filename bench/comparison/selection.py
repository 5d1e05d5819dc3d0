"""``Selection``: which runs an argument stands for, and the rows of several arguments as the sides of a comparison."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from bench import dataset, store
from bench.comparison import observations, surroundings
from bench.comparison.observations import coded, distinct
from bench.errors import UnreadableResult, UsageError
from bench.packed import RunEntry

if TYPE_CHECKING:
    from bench.estimates import Array

By = Literal["node", "label", "run"]

_COLUMN_OF = {"label": "label", "node": "node", "run": "run_id"}
_NAME_LENGTH = 24  # of a side: longer ones leave a table no room


@dataclass(frozen=True)
class Selection:
    """What one argument stands for."""

    text: str
    kind: Literal["path", "run", "node", "label"]
    paths: tuple[Path, ...]
    runs: frozenset[str] | None  # None: all that the files hold


@dataclass(frozen=True)
class Gathered:
    """The rows of all sides."""

    table: pa.Table  # texts dictionary-encoded
    side: Array  # of each row: its number in `sides`
    machines: pa.Table  # `surroundings.COLUMNS`, where they change from row to row
    machine_side: Array
    sides: tuple[tuple[str, str], ...]  # name and argument


class Catalogue:
    """The runs in a results folder; it is looked into when first asked."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._files: list[tuple[Path, list[RunEntry]]] | None = None

    @property
    def files(self) -> list[tuple[Path, list[RunEntry]]]:
        if self._files is None:
            self._files = dataset.index(store.find(self.out, str(self.out))) if self.out.is_dir() else []
        return self._files

    def matching(self, is_wanted: Callable[[RunEntry], bool]) -> tuple[tuple[Path, ...], frozenset[str]]:
        """The files that hold such runs, and the runs."""
        found = [(path, [one.run_id for one in entries if is_wanted(one)]) for path, entries in self.files]
        return tuple(path for path, ids in found if ids), frozenset(run for _, ids in found for run in ids)


def select(out: Path, texts: Iterable[str]) -> list[Selection]:
    """What each argument stands for: a path, the beginning of a run's id, ``node:NAME``, ``label:NAME`` or such a name.

    Raises:
        UnreadableResult: there is nothing, or a file in the results folder cannot be read.
        UsageError: it may be a run, a node or a label, and it is not said which.
    """
    catalogue = Catalogue(out)
    return [_selection(catalogue, text) for text in texts]


def _selection(catalogue: Catalogue, text: str) -> Selection:
    if text and Path(text).exists():
        return Selection(text, "path", tuple(store.find(catalogue.out, text)), None)
    kind, colon, name = text.partition(":")
    asks: dict[Literal["run", "node", "label"], Callable[[RunEntry], bool]] = {
        "run": lambda entry: entry.run_id.startswith(text),
        "node": lambda entry: entry.node == (name if colon and kind == "node" else text),
        "label": lambda entry: entry.label == (name if colon and kind == "label" else text),
    }
    try:
        found = [
            Selection(text, each, *matching)
            for each, ask in asks.items()
            if text and (matching := catalogue.matching(ask))[1]
        ]
    except UnreadableResult:
        if _is_path(text):  # that is not there, whatever else is damaged
            raise _no_such_path(text) from None
        raise
    if not found and _is_path(text):
        raise _no_such_path(text)
    if not found:
        raise UnreadableResult(
            f"no result at {text!r}, and no run, node or label of that name in {catalogue.out}",
            "Name a Parquet file, a folder, a run id, node:NAME or label:NAME",
        )
    if len(found) > 1:
        kinds = " and ".join(one.kind for one in found)
        raise UsageError(f"{text!r} is the name of a {kinds}", f"Say node:{text} or label:{text}, or name a file")
    (selection,) = found
    if selection.kind == "run" and len(selection.runs or ()) > 1:
        raise UsageError(f"{text!r} stands for {len(selection.runs or ())} runs", "Give more of the run's id")
    return selection


def _is_path(text: str) -> bool:
    return text.endswith(".parquet") or os.sep in text


def _no_such_path(text: str) -> UnreadableResult:
    return UnreadableResult(f"no file or folder {text}", "Name a result, or node:NAME or label:NAME")


def gather(out: Path, texts: Sequence[str], by: By | None = None) -> Gathered:
    """Read what the arguments stand for, each as a side; or split what they hold all together by node, label or run.

    Raises:
        UnreadableResult, UsageError: as of `select`; or there are not two sides.
    """
    selections = select(out, texts)
    read = [
        dataset.read_with_changes(
            one.paths, observations.COLUMNS, surroundings.COLUMNS, surroundings.CHANGING, runs=one.runs
        )
        for one in selections
    ]
    tables, changes = ([one[part] for one in read] for part in (0, 1))
    del read
    numbers = [np.repeat(np.arange(len(each)), [one.num_rows for one in each]) for each in (tables, changes)]
    table, machines = dataset.joined(tables), dataset.joined(changes)
    if by is not None:
        names = sorted({text or "" for text in coded(table, _COLUMN_OF[by]).present()})
        numbers = [_numbered(each, _COLUMN_OF[by], names) for each in (table, machines)]
        sides = tuple(zip(_unique([name or f"no {by}" for name in names]), names, strict=True))
    else:
        sides = tuple(zip(_names(machines, numbers[1], selections), texts, strict=True))
    if len(sides) < 2:
        raise UsageError(
            f"{' '.join(texts)} is one side, {sides[0][0]}" if sides else f"{' '.join(texts)} holds no measurement",
            "Name two results or more, or split one with --by node, --by label or --by run",
        )
    return Gathered(table, numbers[0], machines, numbers[1], sides)


def _numbered(table: pa.Table, column: str, names: Sequence[str]) -> Array:
    """The place of each row's text among the names."""
    found = coded(table, column)
    places = {name: i for i, name in enumerate(names)}
    numbers: Array = np.array([places.get(text or "", -1) for text in found.texts])[found.codes]
    return numbers


def _names(machines: pa.Table, side: Array, selections: Sequence[Selection]) -> list[str]:
    """A short name for each side, no two alike: its own where it was given as one, else by what tells files apart."""
    named = [one.text.partition(":")[2] if _is_prefixed(one) else one.text for one in selections]
    files = [i for i, one in enumerate(selections) if one.kind == "path"]
    for column in ("label", "node", "run_id"):
        texts = distinct(side, coded(machines, column), len(selections))
        if files and all(len(texts[i]) == 1 and len(texts[i][0]) <= _NAME_LENGTH for i in files):
            renamed = [texts[i][0] if i in files else name for i, name in enumerate(named)]
            if len(set(renamed)) == len(renamed):
                return renamed
    return _unique(named)


def _unique(names: Sequence[str]) -> list[str]:
    """The names, each that occurs twice with a number behind it."""
    counts, found = Counter(names), dict[str, None]()
    for i, name in enumerate(names):
        own = name if counts[name] == 1 else f"{name} ({i + 1})"
        while own in found or (own != name and own in counts):
            own += "'"
        found[own] = None
    return list(found)


def _is_prefixed(one: Selection) -> bool:
    return one.kind in ("node", "label") and one.text.startswith(f"{one.kind}:")

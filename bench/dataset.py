"""Many result files as one Arrow table: only the columns that are asked for are read, and of packed files only the row
groups that hold a run that is asked for. A run that several files hold, packed and as it was, counts once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from bench import packed, schema
from bench.errors import UnreadableResult
from bench.files import DAMAGE
from bench.packed import RunEntry

S = TypeVar("S")
T = TypeVar("T")

_CODES = pa.dictionary(pa.int32(), pa.string())
_FEW = 16  # files up to which each is read by several threads, instead of several files at a time
_BATCH = 32  # files that one thread reads at a time
_ROWS = 50_000  # are made one table at once: thousands of small ones take much more memory, and time


@dataclass(frozen=True)
class _Wanted:
    """What is to be read of each file."""

    columns: pa.Schema
    sparse: pa.Schema  # columns of which the rows suffice in which a key changes
    keys: tuple[str, ...]
    runs: Collection[str] | None

    @property
    def all(self) -> pa.Schema:
        return pa.schema({field.name: field for field in (*self.columns, *self.sparse)}.values())


@dataclass(frozen=True)
class _Part:
    """What was read of one file, or of several."""

    paths: tuple[Path, ...]
    runs: frozenset[str]
    tables: list[pa.Table]
    changes: list[pa.Table]


def read(
    paths: Sequence[Path], columns: Sequence[str], *, runs: Collection[str] | None = None, encoded: bool = False
) -> pa.Table:
    """The rows of all files, or of these runs in them, with a null for a column that a file lacks.

    ``encoded`` leaves texts dictionary-encoded, which is all that millions of rows need of them: see `joined`.

    Raises:
        UnreadableResult: a file is missing, truncated, not ours, or of a newer schema.
    """
    return read_with_changes(paths, columns, (), (), runs=runs, encoded=encoded)[0]


def read_with_changes(
    paths: Sequence[Path],
    columns: Sequence[str],
    others: Sequence[str],
    keys: Sequence[str],
    *,
    runs: Collection[str] | None = None,
    encoded: bool = True,
) -> tuple[pa.Table, pa.Table]:
    """As `read`; and of other columns only the rows in which one of the keys, which are some of them, changes.

    What describes the machine is the same from row to row: so it is never held for all of them.
    """
    _keep_freed_memory()
    kinds = [pa.schema([_field(name, encoded=encoded) for name in names]) for names in (columns, others)]
    wanted = _Wanted(kinds[0], kinds[1], tuple(keys), runs)
    few = len(paths) <= _FEW
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    found = _each(batches, lambda batch: _read_batch(batch, wanted, use_threads=few), few=few)
    parts = list(_once(found, wanted))
    del found
    return (
        pa.concat_tables([wanted.columns.empty_table(), *(table for part in parts for table in part.tables)]),
        pa.concat_tables([wanted.sparse.empty_table(), *(table for part in parts for table in part.changes)]),
    )


def joined(tables: list[pa.Table]) -> pa.Table:
    """Encoded tables as one, with one dictionary per column, in one piece; the list is emptied to free their memory."""
    whole = pa.concat_tables(tables)
    tables.clear()
    names, columns = whole.column_names, whole.columns
    del whole
    for i, column in enumerate(columns):
        unified = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
        columns[i] = unified.combine_chunks()
    return pa.table(columns, names=names)


def index(paths: Sequence[Path]) -> list[tuple[Path, list[RunEntry]]]:
    """Which runs each file holds, from its metadata alone.

    Raises:
        UnreadableResult: as of `read`.
    """

    def runs(path: Path) -> list[RunEntry]:
        with _opened(path, pa.schema([])) as file:
            return packed.runs(file.metadata.metadata, _rows(file))

    found = _each(paths, runs, few=len(paths) <= _FEW)
    return list(zip(paths, found, strict=True))


def _keep_freed_memory() -> None:
    """Have Arrow's memory from jemalloc, where it has it: it is used again rather than given back to the system.

    Asking the system for a gigabyte anew takes longer than decoding what it is for.
    """
    if "jemalloc" in pa.supported_memory_backends() and pa.default_memory_pool().backend_name != "jemalloc":
        pa.set_memory_pool(pa.jemalloc_memory_pool())


def _field(name: str, *, encoded: bool) -> pa.Field:
    field = schema.SCHEMA.field(name)
    return field.with_type(_CODES) if encoded and field.type == pa.string() else field


def _each(items: Sequence[S], task: Callable[[S], T], *, few: bool) -> list[T]:
    """The task done for each, several at a time: most of it is decoding, which needs no lock of Python's."""
    if few:
        return list(map(task, items))
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        return list(pool.map(task, items))


@contextlib.contextmanager
def _opened(path: Path, wanted: pa.Schema) -> Iterator[pq.ParquetFile]:
    """A file that is ours; what is wrong with it, then or when it is read, is said in one line."""
    try:
        with _file(path, [field.name for field in wanted if field.type == _CODES]) as file:
            metadata = file.metadata.metadata
            if not packed.is_packed(metadata) and schema.version_of(metadata) is None:
                raise UnreadableResult(f"{path}: a Parquet file, but no result of vnbench")
            version = int(metadata[schema.VERSION_KEY])
            if version > schema.VERSION:
                raise UnreadableResult(
                    f"{path}: schema {version}, this vnbench reads up to {schema.VERSION}", "Upgrade vnbench"
                )
            yield file
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableResult(f"{path}: not a readable Parquet file ({reason})") from None


def _file(path: Path, texts: Sequence[str]) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(pa.OSFile(str(path)), read_dictionary=list(texts), pre_buffer=False)
    except KeyError:  # an older file, that lacks one of them
        names = set(pq.read_schema(path).names)
        present = [name for name in texts if name in names]
        return pq.ParquetFile(pa.OSFile(str(path)), read_dictionary=present, pre_buffer=False)


def _read_batch(paths: Sequence[Path], wanted: _Wanted, *, use_threads: bool) -> _Part:
    """Several files as one part, without the runs that one of them repeats.

    What is read is cut down to the sparse columns' changes every so many rows: often enough for memory, seldom enough
    for thousands of small files.
    """
    found = _Part(tuple(paths), frozenset(), [], [])
    seen: set[str] = set()
    waiting: list[pa.Table] = []
    kinds = wanted.all
    for path in paths:
        with _opened(path, kinds) as file:
            entries = packed.runs(file.metadata.metadata, _rows(file))
            runs = {one.run_id for one in entries if wanted.runs is None or one.run_id in wanted.runs} - seen
            seen |= runs
            for table in _pieces(file, _spans(entries, runs), kinds, use_threads=use_threads):
                waiting.append(table)
                if sum(one.num_rows for one in waiting) >= _ROWS:
                    _keep(waiting, wanted, found)
    _keep(waiting, wanted, found)
    return dataclasses.replace(found, runs=frozenset(seen))


def _keep(waiting: list[pa.Table], wanted: _Wanted, found: _Part) -> None:
    if waiting:
        whole = joined(waiting)
        found.tables.append(whole.select(wanted.columns.names))
        if len(wanted.sparse):
            found.changes.append(_changes(whole.select(wanted.sparse.names), wanted.keys))


def _pieces(
    file: pq.ParquetFile, spans: Sequence[tuple[int, int]], wanted: pa.Schema, *, use_threads: bool
) -> Iterator[pa.Table]:
    """The rows of these stretches, row group by row group; those that have none of them are not read."""
    start = 0
    for group in range(file.metadata.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        inside = [(max(first, start), min(last, end)) for first, last in spans if first < end and last > start]
        if inside:
            # Names that the file lacks are passed over.
            table = _fitted(file.read_row_group(group, columns=wanted.names, use_threads=use_threads), wanted)
            yield from (table.slice(first - start, last - first) for first, last in inside)
        start = end


def _spans(entries: Sequence[RunEntry], runs: Collection[str] | None) -> list[tuple[int, int]]:
    """Where the wanted runs are, by their first row and the one after their last; those that touch are one."""
    found: list[tuple[int, int]] = []
    start = 0
    for entry in entries:
        end = start + entry.rows
        if runs is None or entry.run_id in runs:
            if found and found[-1][1] == start:
                found[-1] = found[-1][0], end
            else:
                found.append((start, end))
        start = end
    return found


def _changes(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The first row, and each that differs from the one before in a key."""
    import numpy as np

    changed = np.zeros(table.num_rows, dtype=bool)
    changed[:1] = True
    for key in keys:
        column = table[key].combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
        codes = column.indices if pa.types.is_dictionary(column.type) else column
        values = codes.fill_null(-1).to_numpy(zero_copy_only=False)
        changed[1:] |= values[1:] != values[:-1]
    return table.take(pa.array(np.flatnonzero(changed)))


def _fitted(found: pa.Table, wanted: pa.Schema) -> pa.Table:
    columns = dict(zip(found.column_names, found.columns, strict=True))
    if len(columns) == len(wanted):
        ordered = found.select(wanted.names)
        if ordered.schema.equals(wanted):  # as most files are
            return ordered
    arrays = [
        column.cast(field.type)
        if (column := columns.get(field.name)) is not None
        else _nulls(found.num_rows, field.type)
        for field in wanted
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)


def _nulls(rows: int, kind: pa.DataType) -> pa.Array:
    if kind == _CODES:
        return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([], pa.string()))
    return pa.nulls(rows, kind)


def _once(parts: Sequence[_Part], wanted: _Wanted) -> Iterator[_Part]:
    """Each run from one part alone: the one with most runs. A part that shares some is read again, for the others."""
    seen: set[str] = set()
    for part in sorted(parts, key=lambda part: -len(part.runs)):
        if part.runs.isdisjoint(seen):
            yield part
        elif part.runs - seen:
            yield _read_batch(part.paths, dataclasses.replace(wanted, runs=part.runs - seen), use_threads=True)
        seen |= part.runs


def _rows(file: pq.ParquetFile) -> int:
    rows: Any = file.metadata.num_rows
    return int(rows)

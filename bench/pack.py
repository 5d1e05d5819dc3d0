"""Many run files into few: every column and every row, in files of some two million rows.

The runs are ordered by node and each run's rows stay together, so a reader that wants a node or a run reads a few row
groups. Texts are stored once per row group. Memory is bounded by one row group, whatever the number of runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from bench import dataset, packed, schema, store
from bench.errors import UnreadableResult, UsageError
from bench.files import DAMAGE, replace, writing
from bench.spec import content_id
from bench.tables import columns_of, same, tables_of
from bench.types import Plan

ROWS_PER_FILE = 2_000_000
ROWS_PER_GROUP = 100_000
BYTES_PER_GROUP = 256 * 2**20  # in memory
# All environments of a row group fit: beyond the limit each row would repeat its own.
_DICTIONARY_BYTES = 2**30
_UNFINISHED = ".packing-"  # how the name of a file that is being written begins


@dataclass(frozen=True)
class Packed:
    """What packing did."""

    files: tuple[Path, ...]
    runs: int
    rows: int
    bytes_before: int
    bytes_after: int
    removed: tuple[Path, ...]  # originals


class Writer:
    """Takes runs one by one and writes packed files; they appear whole and all at once, when the writer is left.

    A file that is there already is only replaced by one of the same measurements.
    """

    def __init__(self, folder: Path, kinds: pa.Schema = schema.SCHEMA, rows_per_file: int = ROWS_PER_FILE) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self._kinds = kinds
        self._rows_per_file = rows_per_file
        self._file: _File | None = None
        self._finished: list[_File] = []

    def __enter__(self) -> Writer:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _enter(self.folder)
        return self

    def add(self, plan: Plan, table: pa.Table) -> None:
        """Add the rows of one run.

        Raises:
            OutputNotWritable: the disk is full or read-only.
        """
        if self._file is not None and sum(self._file.rows) + table.num_rows > self._rows_per_file:
            self._finish()
        with writing(self.folder):
            if self._file is None:
                name = f"{_UNFINISHED}{os.getpid()}-{len(self._finished)}.tmp"
                self._file = _File(self.folder / name, self._kinds)
            self._file.add(plan, table)

    def _finish(self) -> None:
        if self._file is not None:
            with writing(self.folder):
                self._file.finish()
            self._finished.append(self._file)
            self._file = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
                for file in self._finished:
                    file.expect_place()
                with writing(self.folder):
                    self.files += [file.publish() for file in self._finished]
        finally:
            for file in (*self._finished, *([self._file] if self._file else [])):
                file.abandon()
            os.close(self._lock_fd)


def _enter(folder: Path) -> int:
    """Share the folder's lock with all who write there; whoever has it alone clears up after those that were killed."""
    lock_fd = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # somebody else writes there, or the file system has no such lock
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in folder.glob(f"{_UNFINISHED}*"):
            path.unlink()
    with contextlib.suppress(OSError):
        fcntl.flock(lock_fd, fcntl.LOCK_SH)
    return lock_fd


@dataclass
class _File:
    """One packed file while it is written, under a temporary name."""

    temporary: Path
    kinds: pa.Schema
    plans: list[Plan] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    waiting: list[pa.Table] = field(default_factory=list)  # for their row group to be full
    waiting_rows: int = 0
    waiting_bytes: int = 0

    def __post_init__(self) -> None:
        self.writer = pq.ParquetWriter(
            self.temporary,
            self.kinds,
            compression="zstd",
            use_dictionary=_texts(self.kinds),
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
        )

    def add(self, plan: Plan, table: pa.Table) -> None:
        self.plans.append(plan)
        self.rows.append(table.num_rows)
        self.waiting.append(table.replace_schema_metadata(None))
        self.waiting_rows += table.num_rows
        self.waiting_bytes += table.nbytes
        if self.waiting_rows >= ROWS_PER_GROUP or self.waiting_bytes >= BYTES_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            table = pa.concat_tables(self.waiting)
            self.writer.write_table(table, row_group_size=max(1, table.num_rows))
            self.waiting.clear()
            self.waiting_rows = self.waiting_bytes = 0

    def finish(self) -> None:
        """Write the last rows and synchronise the file."""
        self._flush()
        self.writer.add_key_value_metadata(packed.metadata(self.plans, self.rows))
        self.writer.close()
        with self.temporary.open("rb+") as file:
            os.fsync(file.fileno())

    @property
    def target(self) -> Path:
        return self.temporary.with_name(_name(self.plans))

    def expect_place(self) -> None:
        """See that no other measurements are where the file is to be.

        Raises:
            UsageError: there are.
            UnreadableResult: nobody can tell.
        """
        if not self.target.exists():
            return
        there = [(path, frozenset(entry.run_id for entry in entries)) for path, entries in dataset.index([self.target])]
        for run_id, _ in _unlike(there, [self.temporary], columns_of([self.target, self.temporary])):
            raise UsageError(
                f"{self.target} holds other measurements of run {run_id}", "It stays as it is; choose another folder"
            )

    def publish(self) -> Path:
        """Give the finished file its name."""
        replace(self.temporary, self.target)
        return self.target

    def abandon(self) -> None:
        """Take away what was not published."""
        with contextlib.suppress(*DAMAGE):
            self.writer.close()
        self.temporary.unlink(missing_ok=True)


def pack(
    paths: Sequence[Path],
    folder: Path,
    *,
    only: str | None = None,
    remove_originals: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Packed:
    """Pack the runs of these files, each once, or ``only`` the one whose id begins so.

    Originals are removed, if at all, after the new files were synchronised and each run was read back and found equal:
    that of every file, also where a run is in several and one of them was packed.

    Raises:
        UnreadableResult: a file is missing, damaged, not ours, or of a newer schema; nothing was removed.
        UsageError: no run, or not one, begins with ``only``, or two files give a column different types; or a file
            with other measurements has the name of a new one, and nothing was written; or with ``remove_originals``
            two files hold different rows of one run, and nothing was removed.
        OutputNotWritable: the folder cannot be written.
    """
    sources = _sources(paths, only)
    kinds = columns_of(dict.fromkeys(paths if remove_originals else (path for path, _ in sources)))
    total = sum(len(ids) for _, ids in sources)
    done = 0
    with Writer(folder, kinds) as writer:
        for path, ids in sources:
            for plan, table in tables_of(path, ids, kinds):
                writer.add(plan, table)
                done += 1
                progress(done, total)
    new = tuple(writer.files)
    removed: tuple[Path, ...] = ()
    before = sum(path.stat().st_size for path in paths)
    if remove_originals:
        verify(sources, new, kinds)
        _verify_doubles(paths, sources, new, kinds)
        kept = {path.resolve() for path in new}
        removed = tuple(path for path in paths if path.resolve() not in kept)
        for path in removed:
            with writing(path):
                path.unlink()
    rows = sum(pq.read_metadata(path).num_rows for path in new)
    return Packed(new, total, rows, before, sum(path.stat().st_size for path in new), removed)


def verify(sources: Sequence[tuple[Path, frozenset[str]]], new: Sequence[Path], kinds: pa.Schema) -> None:
    """Read every run back and hold it against its original.

    Raises:
        UnreadableResult: one differs, or is not there.
    """
    for run_id, path in _unlike(sources, new, kinds):
        raise UnreadableResult(f"run {run_id} of {path} was not packed as it is", "The originals are kept")


def _verify_doubles(
    paths: Sequence[Path], sources: Sequence[tuple[Path, frozenset[str]]], new: Sequence[Path], kinds: pa.Schema
) -> None:
    """Hold the runs that were passed over, since another file has them too, against what was packed.

    Raises:
        UsageError: one differs.
    """
    taken = dict(sources)
    doubles = [
        (path, frozenset(entry.run_id for entry in entries) - taken.get(path, frozenset()))
        for path, entries in dataset.index(paths)
    ]
    for run_id, path in _unlike([one for one in doubles if one[1]], new, kinds):
        other = next(source for source, ids in sources if run_id in ids)
        raise UsageError(
            f"{other} and {path} hold different measurements of run {run_id}",
            "The originals are all kept, and the first is packed; name one of the two",
        )


def _unlike(
    sources: Sequence[tuple[Path, frozenset[str]]], new: Sequence[Path], kinds: pa.Schema
) -> Iterator[tuple[str, Path]]:
    """The runs of these files that the new ones do not hold just so."""
    written = {entry.run_id: path for path, entries in dataset.index(new) for entry in entries}
    for path, ids in sources:
        for plan, table in tables_of(path, ids, kinds):
            target = written.get(plan.run_id)
            copies = [] if target is None else list(tables_of(target, {plan.run_id}, kinds))
            if [(plan, True)] != [(copy, same(table, copied)) for copy, copied in copies]:
                yield plan.run_id, path


def _sources(paths: Sequence[Path], only: str | None) -> list[tuple[Path, frozenset[str]]]:
    """Which runs to take from which file, in the order of their nodes; each run once, from a file that has few."""
    indexed = sorted(dataset.index(paths), key=lambda one: len(one[1]))
    seen: set[str] = set()
    found: list[tuple[str, Path, frozenset[str]]] = []
    for path, entries in indexed:
        ids = frozenset(
            entry.run_id for entry in entries if entry.run_id not in seen and entry.run_id.startswith(only or "")
        )
        seen |= ids
        if ids:
            found.append((min(entry.node for entry in entries if entry.run_id in ids), path, ids))
    if only is not None and len(seen) != 1:
        raise UsageError(f"{len(seen)} of these runs have an id that begins with {only!r}", "Name one of them")
    return [(path, ids) for _, path, ids in sorted(found, key=lambda one: (one[0], str(one[1])))]


def _texts(kinds: pa.Schema) -> list[str]:
    """The leaves that hold texts, by their paths in the file."""
    found: list[str] = []
    pending = [(one.name, one.type) for one in kinds]
    while pending:
        path, kind = pending.pop()
        if pa.types.is_string(kind):
            found.append(path)
        elif pa.types.is_map(kind):
            pending += [(f"{path}.key_value.key", kind.key_type), (f"{path}.key_value.value", kind.item_type)]
        elif pa.types.is_list(kind):
            pending.append((f"{path}.list.element", kind.value_type))
        elif pa.types.is_struct(kind):
            pending += [(f"{path}.{one.name}", one.type) for one in kind]
    return found


def _name(plans: Sequence[Plan]) -> str:
    if len(plans) == 1:
        return store.result_path(Path(), plans[0]).name
    return f"{packed.PREFIX}{len(plans)}-runs-{content_id([plan.run_id for plan in plans])[:10]}.parquet"

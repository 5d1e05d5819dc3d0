"""The runs of a result file, packed or not, one table each: with every row, and every column of the caller's files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench import packed, schema
from bench.errors import UnreadableResult, UsageError
from bench.files import DAMAGE
from bench.types import Plan


def columns_of(paths: Collection[Path]) -> pa.Schema:
    """The columns of all files together: those of later versions are kept as well.

    Raises:
        UsageError: two files give a column different types.
    """
    kinds = schema.SCHEMA
    for path in paths:
        try:
            kinds = pa.unify_schemas([kinds, pq.read_schema(path).remove_metadata()])
        except pa.ArrowException as error:
            raise UsageError(f"{path}: {error}", "Pack it by itself") from None
    return kinds


def tables_of(path: Path, ids: Collection[str], kinds: pa.Schema) -> Iterator[tuple[Plan, pa.Table]]:
    """Each of these runs of a file, with every column of ``kinds``; one row group is held at a time.

    Raises:
        UnreadableResult: the file is no Parquet file, or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata.metadata
            entries = packed.runs(metadata, file.metadata.num_rows)
            plans = packed.plans(metadata)
            rows = _Rows(file)
            for plan, entry in zip(plans, entries, strict=True):
                table = rows.take(entry.rows, is_wanted=entry.run_id in ids)
                if table is not None:
                    yield plan, _completed(table, kinds)
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableResult(f"{path}: not a readable Parquet file ({reason})") from None


class _Rows:
    """The rows of a file from the first to the last, holding one row group at a time; unwanted ones are not read."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        self._sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        self._at = 0
        self._held: tuple[int, pa.Table] | None = None

    def take(self, rows: int, *, is_wanted: bool) -> pa.Table | None:
        start, self._at = self._at, self._at + rows
        if not is_wanted:
            return None
        pieces, first = [], 0
        for group, size in enumerate(self._sizes):
            if first < self._at and start < first + size:
                low = max(start, first)
                pieces.append(self._group(group).slice(low - first, min(self._at, first + size) - low))
            first += size
        return pa.concat_tables(pieces) if pieces else self._file.schema_arrow.empty_table()

    def _group(self, group: int) -> pa.Table:
        if self._held is None or self._held[0] != group:
            self._held = group, self._file.read_row_group(group)
        return self._held[1]


def _completed(table: pa.Table, kinds: pa.Schema) -> pa.Table:
    arrays = [
        table.column(one.name).cast(one.type) if one.name in table.column_names else pa.nulls(table.num_rows, one.type)
        for one in kinds
    ]
    return pa.table(arrays, schema=kinds)


def same(a: pa.Table, b: pa.Table) -> bool:
    """Whether two tables hold the same; Arrow has NaN differ from itself, so the rare tables with one are spelt out."""
    return a.equals(b) or (a.schema.equals(b.schema) and repr(a.to_pylist()) == repr(b.to_pylist()))

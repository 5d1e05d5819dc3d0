"""Many result files as one Arrow table: only the columns that are asked for are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench import schema
from bench.errors import UnreadableResult
from bench.files import DAMAGE


def read(paths: Sequence[Path], columns: Sequence[str]) -> pa.Table:
    """The rows of all files, with a null for a column that a file lacks.

    Raises:
        UnreadableResult: a file is missing, truncated, not ours, or of a newer schema.
    """
    return pa.concat_tables([_read(path, columns) for path in paths])


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    wanted = pa.schema([schema.SCHEMA.field(name) for name in columns])
    try:
        file = pq.ParquetFile(path)
        version = schema.version_of(file.schema_arrow.metadata)
        if version is None:
            raise UnreadableResult(f"{path}: a Parquet file, but no result of vnbench")
        if version > schema.VERSION:
            raise UnreadableResult(
                f"{path}: schema {version}, this vnbench reads up to {schema.VERSION}", "Upgrade vnbench"
            )
        found = file.read(columns=[name for name in columns if name in file.schema_arrow.names])
        arrays = [
            found.column(field.name).cast(field.type)
            if field.name in found.column_names
            else pa.nulls(found.num_rows, field.type)
            for field in wanted
        ]
        return pa.table(arrays, schema=wanted)
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableResult(f"{path}: not a readable Parquet file ({reason})") from None

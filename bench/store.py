"""The results folder: an append-only dataset of Parquet files, each written whole or not at all.

    runs/<node>/<UTC start>-<suite>-<run id>.parquet   finished runs, nothing else
    .incomplete/<run id>/                              a run in progress: its plan, its lock, a part per row

A part is written to a temporary name, synchronised and renamed. A run in progress holds a lock on its folder; the
lock is shared with its workers, so it is free only when the last of them is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench import schema
from bench.errors import OutputNotWritable, UnreadableResult
from bench.schema import Row
from bench.types import Plan


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of a run in progress, locked by this process."""

    out: Path
    plan: Plan
    lock_fd: int

    @property
    def path(self) -> Path:
        return _incomplete(self.out) / self.plan.run_id

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def rows(self) -> list[Row]:
        """The rows finished so far, in the order of their parts' names; an unreadable part is passed over."""
        rows: list[Row] = []
        for part in sorted(self.path.glob("part-*.parquet")):
            with contextlib.suppress(pa.ArrowInvalid, OSError):
                rows += pq.read_table(part).to_pylist()
        return rows

    def commit(self, rows: Sequence[Row]) -> Path:
        """Write the run's one file, take away its folder, and give the file's path.

        Raises:
            OutputNotWritable: the parts stay where they are; the next run recovers them.
        """
        target = result_path(self.out, self.plan)
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_table(schema.to_table(rows, self.plan), target, self.path / "merged.tmp")
        shutil.rmtree(self.path, ignore_errors=True)
        return target

    def release(self) -> None:
        """Let the lock go. What is left in the folder, the next run recovers."""
        os.close(self.lock_fd)


def begin(out: Path, plan: Plan) -> RunFolder:
    """Make and lock the folder of a new run.

    Raises:
        OutputNotWritable: the results folder cannot be written.
    """
    path = _incomplete(out) / plan.run_id
    with _writing(path):
        (out / "runs").mkdir(parents=True, exist_ok=True)
        for folder in (path, path / "scratch", path / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(path / "lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        # The plan comes last: a folder without one has not begun.
        write_atomically(path / "plan.json", json.dumps(dataclasses.asdict(plan)).encode())
    return RunFolder(out, plan, lock_fd)


def abandoned(out: Path) -> Iterator[RunFolder]:
    """Lock and give the folders of runs whose processes are gone."""
    for path in sorted(_incomplete(out).glob("*/plan.json")):
        try:
            plan = Plan.from_json(json.loads(path.read_text()))
            lock_fd = os.open(path.with_name("lock"), os.O_RDWR)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just being made or taken away, or not ours
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock_fd)
            continue
        yield RunFolder(out, plan, lock_fd)


def write_part(folder: Path, row: Row, plan: Plan) -> None:
    """Write one row, whole or not at all.

    Raises:
        OutputNotWritable: the disk is full or read-only.
    """
    name = part_name(row)
    with _writing(folder / name):
        write_table(schema.to_table([row], plan), folder / name, folder / f"{name}.tmp")


def part_name(row: Row) -> str:
    """The file of one row: unique within its run, in the order of the passes."""
    return f"part-{row['replicate']:04d}-{row['device']}{row['device_index']:03d}-{row['sequence']:04d}.parquet"


def write_table(table: pa.Table, target: Path, temporary: Path) -> None:
    """Write a Parquet file beside, synchronise it, and rename it into place."""
    try:
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(target: Path, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    temporary = target.with_name(target.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _replace(temporary, target)


def result_path(out: Path, plan: Plan) -> Path:
    """Where a run's file lies: runs/<node>/<UTC start>-<suite>-<run id>.parquet"""
    start = plan.started_at[:19].replace("-", "").replace(":", "") + "Z"
    return out / "runs" / plan.node / f"{start}-{plan.suite}-{plan.run_id}.parquet"


def find(out: Path, text: str) -> list[Path]:
    """The result files behind a path (file or folder) or the beginning of a run's id.

    Raises:
        UnreadableResult: there are none.
    """
    path = Path(text)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
    else:
        found = sorted(file for file in (out / "runs").rglob("*.parquet") if _run_id(file).startswith(text))
    if not found:
        raise UnreadableResult(
            f"no result at {text!r}, and no run of that id in {out}", "Name a Parquet file, a folder, or a run id"
        )
    return found


def read(path: Path) -> tuple[Plan, list[Row]]:
    """A result file's plan and rows, with every column of this schema.

    Raises:
        UnreadableResult: the file is missing, truncated, not ours, or of a newer schema.
    """
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableResult(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    plan = schema.plan_of(table.schema.metadata)
    if plan is None:
        raise UnreadableResult(f"{path}: a Parquet file, but no result of vnbench")
    version = int(table.schema.metadata[schema.VERSION_KEY])
    if version > schema.VERSION:
        raise UnreadableResult(
            f"{path}: schema {version}, this vnbench reads up to {schema.VERSION}", "Upgrade vnbench"
        )
    empty: dict[str, Any] = dict.fromkeys(schema.SCHEMA.names)
    return plan, [empty | row for row in table.to_pylist()]


def _run_id(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _incomplete(out: Path) -> Path:
    return out / ".incomplete"


def _replace(temporary: Path, target: Path) -> None:
    temporary.replace(target)
    folder_fd = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder_fd)  # the rename itself has to reach the disk
    finally:
        os.close(folder_fd)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputNotWritable(
            f"cannot write {target}: {error.strerror or error}", "Free space or choose another folder with --out"
        ) from error

"""The results folder: an append-only dataset of Parquet files, each written whole or not at all.

    runs/<node>/<UTC start>-<suite>-<run id>.parquet   finished runs, nothing else
    telemetry/<node>/<run id>.parquet                  the devices' state over time, one file per run
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
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench import packed, schema, series
from bench.errors import UnreadableResult, UsageError
from bench.files import DAMAGE, write_atomically, write_table, writing
from bench.schema import Row
from bench.telemetry.reading import Reading
from bench.telemetry.sampler import read_back
from bench.types import SOAK_ARM, Plan

# Folders whose Parquet files are no results.
_NO_RESULTS = frozenset({".incomplete", ".arms", "baselines", "telemetry"})


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
            with contextlib.suppress(*DAMAGE):
                rows += _complete(pq.read_table(part))
        return rows

    @property
    def telemetry(self) -> Path:
        """The file that the sampler appends its readings to."""
        return self.path / "telemetry.jsonl"

    def readings(self) -> list[Reading]:
        """The time series so far, with that of an earlier attempt at this run."""
        found: list[Reading] = []
        with contextlib.suppress(UnreadableResult):
            found += series.read(series.path_of(self.out, self.plan))
        return found + (read_back(self.telemetry) if self.telemetry.exists() else [])

    def keep_calibration(self, key: str, before_ns: int, after_ns: int) -> None:
        """Keep what bracketed a pass of one worker, whose rows were written before the pass ended."""
        target = self.path / f"calibration-{key}.json"
        with writing(target):
            write_atomically(target, json.dumps([before_ns, after_ns]).encode())

    def calibrations(self) -> dict[str, tuple[int, int]]:
        """What was kept, by key."""
        found = {}
        for path in self.path.glob("calibration-*.json"):
            before_ns, after_ns = json.loads(path.read_text())
            found[path.stem.removeprefix("calibration-")] = before_ns, after_ns
        return found

    def commit(self, rows: Sequence[Row], readings: Sequence[Reading] = ()) -> Path:
        """Write the run's time series and its one file, take away its folder, and give the file's path.

        Raises:
            OutputNotWritable: the parts stay where they are; the next run recovers them.
        """
        target = result_path(self.out, self.plan)
        shutil.rmtree(self.scratch, ignore_errors=True)  # it may be what filled the disk
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if readings:
                series.write(self.out, self.plan, readings, self.path / "series.tmp")
            write_table(schema.to_table(rows, self.plan), target, self.path / "merged.tmp")
            # The plan goes first: of a folder taken away only in part, nothing is to be recovered over the result.
            (self.path / "plan.json").unlink()
        shutil.rmtree(self.path, ignore_errors=True)
        return target

    def abandon(self) -> None:
        """Take the folder away: nothing was measured."""
        shutil.rmtree(self.path, ignore_errors=True)

    def release(self) -> None:
        """Let the lock go. What is left in the folder, the next run recovers."""
        os.close(self.lock_fd)


def begin(out: Path, plan: Plan, kept: Sequence[Row] = ()) -> RunFolder:
    """Make and lock the folder of a run that is new, or that goes on after the rows it has kept.

    Raises:
        OutputNotWritable: the results folder cannot be written.
        UsageError: another process is at this run.
    """
    path = _incomplete(out) / plan.run_id
    with writing(path):
        (out / "runs").mkdir(parents=True, exist_ok=True)
        for folder in (path, path / "scratch", path / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(path / "lock", os.O_CREAT | os.O_RDWR)
        if not _try_lock(lock_fd):
            raise UsageError(f"run {plan.run_id} is in progress in another process", "Wait for it to end")
        for row in kept:
            write_part(path, row, plan)
        # The plan comes last: a folder without one has not begun, and holds nothing that is not in a result as well.
        write_atomically(path / "plan.json", json.dumps(dataclasses.asdict(plan)).encode())
    return RunFolder(out, plan, lock_fd)


def abandoned(out: Path, nodes: Collection[str]) -> Iterator[RunFolder]:
    """Lock and give the folders of this node's runs, under any of its names, whose processes are gone.

    Those of other nodes are theirs to recover: a shared file system need not share its locks.
    """
    for path in sorted(_incomplete(out).glob("*/plan.json")):
        try:
            plan = Plan.from_json(json.loads(path.read_text()))
            if plan.node not in nodes:
                continue
            lock_fd = os.open(path.with_name("lock"), os.O_RDWR)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just being made or taken away, or not ours
        # A run that ended between the reading and the locking has taken its folder away.
        if _try_lock(lock_fd) and os.fstat(lock_fd).st_nlink and path.exists():
            yield RunFolder(out, plan, lock_fd)
        else:
            os.close(lock_fd)


def write_part(folder: Path, row: Row, plan: Plan) -> None:
    """Write one row, whole or not at all.

    Raises:
        OutputNotWritable: the disk is full or read-only.
    """
    name = part_name(row)
    with writing(folder / name):
        write_table(schema.to_table([row], plan), folder / name, folder / f"{name}.tmp")


def part_name(row: Row) -> str:
    """The file of one row: unique within its run, in the order of the passes."""
    stage = "soak-" if row["arm"] == SOAK_ARM else ""
    place = f"{row['device']}{row['device_index']:03d}-{row['sequence']:04d}"
    return f"part-{stage}{row['replicate']:04d}-{place}.parquet"


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
        found = result_files(path)
        if not found:
            raise UnreadableResult(f"no result in the folder {path}", "Name another one, or measure: vnbench run")
    else:
        matching = [file for file in result_files(out / "runs") if _holds(file, text)]
        # A run that is there by itself as well is shown from there.
        found = [file for file in matching if not file.name.startswith(packed.PREFIX)] or matching
    if not found:
        raise UnreadableResult(
            f"no result at {text!r}, and no run of that id in {out}", "Name a Parquet file, a folder, or a run id"
        )
    return found


def result_files(folder: Path) -> list[Path]:
    """The Parquet files of runs below a folder, sorted; in folders that it links to as well, each of them once."""
    found: list[Path] = []
    entered: set[str] = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(name)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(set(folders) - _NO_RESULTS)
        found += [Path(name, file) for file in files if file.endswith(".parquet")]
    return sorted(found)


def find_one(out: Path, text: str) -> Path:
    """The one result file behind a path or the beginning of a run's id.

    Raises:
        UnreadableResult: there is none.
        UsageError: there are several.
    """
    paths = find(out, text)
    if len(paths) > 1:
        raise UsageError(f"{text!r} stands for {len(paths)} results", "Name one file, or more of the run's id")
    return paths[0]


def read(path: Path) -> tuple[Plan, list[Row]]:
    """A result file's plan and rows, with every column of this schema.

    Raises:
        UnreadableResult: the file is missing, truncated, not ours, or of a newer schema.
        UsageError: the file is a packed one, of many runs.
    """
    try:
        metadata = pq.read_metadata(path).metadata
        if packed.is_packed(metadata):
            raise UsageError(
                f"{path} holds many runs, packed",
                f"To see one of them: vnbench pack {path} --run RUN_ID --to FOLDER; vnbench compare reads them all",
            )
        version = schema.version_of(metadata)
        if version is None:
            raise UnreadableResult(f"{path}: a Parquet file, but no result of vnbench")
        if version > schema.VERSION:
            raise UnreadableResult(
                f"{path}: schema {version}, this vnbench reads up to {schema.VERSION}", "Upgrade vnbench"
            )
        return schema.plan_of(metadata), _complete(_typed(pq.read_table(path, partitioning=None)))
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableResult(f"{path}: not a readable Parquet file ({reason})") from None


def _typed(table: pa.Table) -> pa.Table:
    """The table with figures and texts as this schema has them; `pa.ArrowException` where one cannot be."""
    for i, field in enumerate(table.schema):
        known = schema.SCHEMA.field(field.name) if field.name in schema.SCHEMA.names else field
        if known.type != field.type and not pa.types.is_nested(known.type):
            table = table.set_column(i, known.name, table.column(i).cast(known.type))
    return table


def _complete(table: pa.Table) -> list[Row]:
    """The rows of a file, with a null for each column that was added after it was written."""
    empty: dict[str, Any] = dict.fromkeys(schema.SCHEMA.names)
    return [empty | row for row in table.to_pylist()]


def _try_lock(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holds(path: Path, run_id: str) -> bool:
    """Whether a file's name says that its run's id begins so; a packed file is looked into."""
    if not path.name.startswith(packed.PREFIX):
        return path.stem.rpartition("-")[2].startswith(run_id)
    with contextlib.suppress(*DAMAGE):
        found = pq.read_metadata(path)
        return any(entry.run_id.startswith(run_id) for entry in packed.runs(found.metadata, found.num_rows))
    return False


def _incomplete(out: Path) -> Path:
    return out / ".incomplete"

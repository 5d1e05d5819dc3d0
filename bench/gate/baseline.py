"""Baselines: results kept under a name, for gates to compare with.

    <results>/baselines/<name>/*.parquet    copies, so that a baseline outlives the runs it was made of

A baseline appears whole or not at all. Whoever changes the folder holds its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from bench import dataset, errors, pack, packed, schema, store
from bench.errors import OutputNotWritable, UnreadableResult, UsageError
from bench.files import DAMAGE, writing
from bench.fitness import is_unfit
from bench.gate import side, source
from bench.gate.side import Key, Side
from bench.gate.source import Source
from bench.types import Plan

FOLDER = "baselines"
FEWEST_REPLICATES = 5  # that a regression can be found in

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NEW, _OLD = ".new-", ".old-"  # names that no baseline can have


def check_name(name: str) -> str:
    """The name, if a baseline can have it.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.fullmatch(name) or name.endswith(".parquet"):
        raise UsageError(
            f"{name!r} is no name for a baseline", "Use up to 64 letters, digits, dots, dashes and underscores"
        )
    return name


def keep(
    out: Path, name: str, paths: Sequence[Path], *, runs: Collection[str] | None = None, replace: bool = False
) -> Side:
    """Copy result files, or only these runs in them, into the baseline of that name, and say what is in it.

    Raises:
        UsageError: the name is taken and ``replace`` is not given, or no row is ok.
        UnreadableResult: one is no result.
        OutputNotWritable: the results folder cannot be written.
    """
    target = _folder(out) / check_name(name)
    files = list(dict.fromkeys(path.resolve() for path in paths))
    content = side.load(files, runs)
    if not any(cell.processes for cell in content.cells.values()):
        raise UsageError("none of these results has a figure: they cannot be a baseline", "Name others")
    with _locked(out), writing(target):
        _put_back(out)
        if _is_taken(target) and not replace:
            raise UsageError(f"there is a baseline {name!r} already", "Use --replace to put this in its place")
        new, old = (target.with_name(f"{prefix}{name}") for prefix in (_NEW, _OLD))
        try:
            _copy(_extract(files, runs, new), new)
            if target.exists():
                target.rename(old)
            new.rename(target)  # between the two, the old one is found by `_mend`
            _sync(target.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return content


def names(out: Path) -> list[str]:
    """The baselines of a results folder; also those in which nothing is."""
    _mend(out)
    return sorted(path.name for path in _folder(out).glob("*") if path.is_dir() and _NAME.fullmatch(path.name))


def listed(out: Path) -> dict[str, list[Plan] | UnreadableResult]:
    """The baselines with the plans that each is made of, the newest last; or with why it cannot be read."""
    found: dict[str, list[Plan] | UnreadableResult] = {}
    for name in names(out):
        try:
            found[name] = plans(files(out, name))
        except UnreadableResult as error:
            found[name] = error
    return found


def files(out: Path, name: str) -> list[Path]:
    """The files of a baseline.

    Raises:
        UsageError: there is no such baseline.
        UnreadableResult: there is, and nothing is in it.
    """
    target = _existing(out, name)
    found = sorted(target.glob("*.parquet"))
    if not found:
        raise UnreadableResult(f"there is no result in the baseline {target}", _hint(out, name))
    return found


def find(out: Path, text: str) -> Source:
    """What a baseline's name stands for or, where there is none of that name, a path, a run, a node or a label.

    Raises:
        UsageError: there is nothing of that name, or a file in the results folder cannot be read.
    """
    if text in names(out):
        return Source(tuple(files(out, text)))
    try:
        return source.find(out, [text])
    except UnreadableResult as error:
        raise UsageError(f"no baseline {text!r} in {_folder(out)}, and {error.what}", _hint(out, text)) from None


def remove(out: Path, name: str) -> None:
    """Take a baseline away.

    Raises:
        UsageError: there is none of that name.
        OutputNotWritable: it cannot be taken away.
    """
    target = _existing(out, name)
    doomed = target.with_name(f"{_NEW}{name}")  # what is left of such a folder counts as nothing
    with _locked(out), writing(target):
        shutil.rmtree(doomed, ignore_errors=True)
        target.rename(doomed)
        shutil.rmtree(doomed)


def newest(out: Path) -> Source:
    """The newest run.

    Raises:
        UsageError: there is none.
        UnreadableResult: a packed file cannot be read.
    """
    found: dict[str, Source] = {}  # by the names of runs' own files, which begin with the start, in UTC
    for path in store.result_files(out / "runs"):
        if path.name.startswith(packed.PREFIX):
            for plan in plans([path]):
                found.setdefault(store.result_path(out, plan).name, Source((path,), frozenset({plan.run_id})))
        else:
            found[path.name] = Source((path,))
    if not found:
        raise UsageError(f"no run in {out}", "Measure first: vnbench run")
    return found[max(found)]


def warnings(content: Side) -> list[str]:
    """What will keep gates from a clear answer."""
    cells = content.cells.items()
    few = [key for key, cell in cells if 0 < cell.processes < FEWEST_REPLICATES]
    failed = [key for key, cell in cells if cell.has_failed]
    flags = sorted({flag for _, cell in cells for flag in cell.flags if is_unfit(flag)})
    found = []
    if few:
        found.append(f"{_named(few)}: fewer than {FEWEST_REPLICATES} processes, so no gate will find a regression")
    if failed:
        found.append(f"{_named(failed)}: failed, so no gate will judge it")
    if flags:
        found.append(f"the machine was not fit ({', '.join(flags)}): every gate will exit with {errors.UNFIT}")
    return found


def _named(keys: Sequence[Key]) -> str:
    workload, device = min(keys)
    return f"{workload} on {device}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


def plans(paths: Sequence[Path], runs: Collection[str] | None = None) -> list[Plan]:
    """The plans of result files, or of these runs in them, the newest last.

    Raises:
        UnreadableResult: a file is none of ours.
    """
    found: list[Plan] = []
    for path in paths:
        try:
            metadata = pq.read_metadata(path).metadata or {}
            if schema.version_of(metadata) is None and not packed.is_packed(metadata):
                raise UnreadableResult(f"{path}: a Parquet file, but no result of vnbench")
            found += packed.plans(metadata)
        except DAMAGE as error:
            raise UnreadableResult(f"{path}: not a readable Parquet file ({error})") from None
    wanted = [plan for plan in found if runs is None or plan.run_id in runs]
    return sorted(wanted, key=lambda plan: plan.started_at)


# ---------------------------------------------------------------- the folder


def _folder(out: Path) -> Path:
    return out / FOLDER


def _existing(out: Path, name: str) -> Path:
    """The folder of a baseline.

    Raises:
        UsageError: there is no such baseline.
    """
    _mend(out)
    target = _folder(out) / check_name(name)
    if not target.is_dir():
        raise UsageError(f"no baseline {name!r} in {_folder(out)}", _hint(out, name))
    return target


def _is_taken(target: Path) -> bool:
    """Whether there is a baseline; an empty folder is free for one."""
    return target.exists() and (not target.is_dir() or any(target.iterdir()))


def _hint(out: Path, name: str) -> str:
    there = [each for each in names(out) if any((_folder(out) / each).glob("*.parquet"))]
    listed = f"There are: {', '.join(there)}" if there else "There are none yet"
    return f"{listed}; make one with: vnbench baseline set {name if _NAME.fullmatch(name) else 'NAME'} RUN"


def _extract(files: Sequence[Path], runs: Collection[str] | None, folder: Path) -> list[Path]:
    """Write each of these runs that has others beside it in its file into the folder; the files that are to be copied.

    A run that is there by itself as well is copied from there.
    """
    if runs is None:
        return list(files)
    held = [(path, {entry.run_id for entry in entries}) for path, entries in dataset.index(files)]
    whole = [(path, ids) for path, ids in held if ids <= set(runs)]
    left = set(runs).difference(*(ids for _, ids in whole))
    for path, ids in held:
        for run_id in sorted(ids & left):
            pack.pack([path], folder, only=run_id)
        left -= ids
    return [path for path, _ in whole]


def _copy(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        copy = folder / file.name
        if copy.exists():  # of another folder
            copy = folder / f"{file.stem}-{number}{file.suffix}"
        shutil.copyfile(file, copy)
        _sync(copy)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mend(out: Path) -> None:
    """Put back a baseline whose replacement was killed between taking the old one away and bringing the new one."""
    if any(_folder(out).glob(f"{_OLD}*")):
        with contextlib.suppress(OSError, OutputNotWritable), _locked(out):
            _put_back(out)


def _put_back(out: Path) -> None:
    """As `_mend`, for who holds the lock; and take away what a killed one had not finished."""
    for new in _folder(out).glob(f"{_NEW}*"):
        shutil.rmtree(new, ignore_errors=True)
    for old in _folder(out).glob(f"{_OLD}*"):
        target = old.with_name(old.name.removeprefix(_OLD))
        if _is_taken(target):
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    with writing(_folder(out)):
        _folder(out).mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(_folder(out) / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        with writing(_folder(out)):
            fcntl.flock(lock_fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock_fd)

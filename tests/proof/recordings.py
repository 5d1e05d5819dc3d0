"""The recorded sessions as arrays, and what the machine did while they were taken."""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from bench import sessions
from bench.types import Duet

FOLDER = Path(__file__).resolve().parent.parent.parent / "results" / "proof"
RUNS = FOLDER / "runs"
UNMOVED = FOLDER / "unmoved"  # taken before both bursts of a pair began on one CPU

Condition = Literal["quiet", "contended"]

# By the share of all CPUs' time that went to others while a block of sessions was taken: that of `unfit:foreign-load`,
# and half a CPU of two. In between, a block is neither. What came out has no say in it.
QUIET_UP_TO, CONTENDED_FROM = 0.05, 0.25
COLUMNS = (
    *("run_id", "started_at", "session", "arm", "elapsed_ns", "burst_samples", "value", "median_ns"),
    "foreign_cpu_fraction",
)


READINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "lower quartile": lambda bursts_ns: np.quantile(bursts_ns, 0.25, axis=1),
    "median": lambda bursts_ns: np.median(bursts_ns, axis=1),
    "mean": lambda bursts_ns: np.mean(bursts_ns, axis=1),
    "minimum": lambda bursts_ns: np.min(bursts_ns, axis=1),
}


@dataclass(frozen=True)
class Process:
    """One arm's process: its samples in the order they were taken, in ns."""

    elapsed_ns: tuple[int, ...]

    @property
    def median_ns(self) -> float:
        return statistics.median(self.elapsed_ns)

    @property
    def mean_ns(self) -> float:
        return statistics.fmean(self.elapsed_ns)

    @property
    def min_ns(self) -> float:
        return min(self.elapsed_ns)


@dataclass(frozen=True)
class Session:
    """One recorded session: its log-ratio as `ab` sees it, and both processes as anything else would."""

    log_ratio: float
    a: Process
    b: Process
    foreign_cpu_fraction: float = 0.0  # of all CPUs' time, used by others meanwhile
    started_at_s: float = 0.0  # since the epoch


Block = Sequence[Session]  # taken one after the other, as one run


def load(slowdown: int, condition: Condition, folder: Path = RUNS) -> list[Block]:
    """The blocks of that truth and condition in the order they were taken."""
    return [block for block, share in _blocks(slowdown, folder) if condition_of(share) == condition]


def counts(condition: Condition, folder: Path = RUNS) -> Counter[str]:
    """How many sessions of that condition each suite has, without their samples."""
    shares: dict[tuple[str, str], list[float]] = {}
    columns = ["suite", "run_id", "foreign_cpu_fraction"]
    for path in folder.rglob("*.parquet"):
        table = pq.read_table(path, columns=columns, filters=[("arm", "=", "A")], partitioning=None)
        for row in table.to_pylist():
            shares.setdefault((row["suite"], row["run_id"]), []).append(row["foreign_cpu_fraction"])
    found: Counter[str] = Counter()
    for (suite, _), of_block in shares.items():
        if condition_of(statistics.fmean(of_block)) == condition:
            found[suite] += len(of_block)
    return found


def sessions_of(condition: Condition, folder: Path) -> list[Session]:
    """The single sessions of that condition in which nothing was changed, whatever the rest of their block was."""
    found = (session for block, _ in _blocks(0, folder) for session in block)
    return [session for session in found if condition_of(session.foreign_cpu_fraction) == condition]


def condition_of(foreign_cpu_fraction: float) -> Condition | None:
    if foreign_cpu_fraction <= QUIET_UP_TO:
        return "quiet"
    return "contended" if foreign_cpu_fraction >= CONTENDED_FROM else None


def readings(blocks: Sequence[Block]) -> dict[str, list[float]]:
    """The log-ratios of sessions, had their bursts been read in other ways; a session is the median over its pairs."""
    found: dict[str, list[float]] = {name: [] for name in READINGS}
    for session in (one for block in blocks for one in block):
        for name, read in READINGS.items():
            a_ns, b_ns = (read(np.reshape(one.elapsed_ns, (Duet().pairs, -1))) for one in (session.a, session.b))
            found[name].append(float(np.median(np.log(b_ns / a_ns))))
    return found


@functools.cache
def _blocks(slowdown: int, folder: Path) -> Sequence[tuple[Block, float]]:
    """Each run with the mean share of the CPUs' time that went to others while it lasted."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.parquet")):  # runs by themselves, and packed ones
        rows += pq.read_table(
            path, columns=list(COLUMNS), filters=[("suite", "=", f"proof-{slowdown}")], partitioning=None
        ).to_pylist()
    runs: dict[str, dict[int, dict[str, dict[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: row["started_at"]):
        runs.setdefault(row["run_id"], {}).setdefault(row["session"], {})[row["arm"]] = row
    found: list[tuple[Block, float]] = []
    for sessions_ in runs.values():
        pairs = [pair for _, pair in sorted(sessions_.items()) if pair.keys() == {"A", "B"}]
        block = [_session(pair) for pair in pairs]
        found.append((block, statistics.fmean(session.foreign_cpu_fraction for session in block)))
    return found


def _session(pair: dict[str, dict[str, Any]]) -> Session:
    a, b = (Process(tuple(pair[arm]["elapsed_ns"])) for arm in ("A", "B"))
    started_at_s = min(one["started_at"].timestamp() for one in pair.values())
    return Session(sessions.log_ratio(pair["A"], pair["B"]), a, b, pair["A"]["foreign_cpu_fraction"], started_at_s)

"""Records the experiment: ``make proof``. It goes on where it stopped, and may be stopped at any time.

Sessions of `ab` with known truths are written as runs of their own into results/proof/, in blocks that take turns, so
that what the machine does over the hours befalls all conditions alike. What a session was, quiet or contended, is
decided later by what the machine did meanwhile (`tests.proof.recordings`), not by what came out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from bench import ab, recovery
from bench.device import select
from bench.plan import make_ab_plan
from bench.suite import Suite
from bench.types import Arm, Trial

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "results" / "proof"
# One thread: an idle pool of threads that spins in one arm would be felt by the other.
VARIABLES = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SLOWDOWNS = (0, 1, 2, 5, 10)  # percent
_BLOCK = 50  # sessions in a run


def target(slowdown: int) -> str:
    return f"call/tests/proof/workload.py:{f'slower_{slowdown}' if slowdown else 'as_it_is'}"


def record(slowdown: int, sessions: int, out: Path) -> Path:
    """One block of sessions with that slowdown of arm B."""
    arms = [Arm(name, variables=VARIABLES, workload=target(share)) for name, share in (("A", 0), ("B", slowdown))]
    plan = make_ab_plan(
        Suite(f"proof-{slowdown}"),
        select.cpu_info("asked for by the experiment"),
        arms,
        Trial(looks=(sessions,)),
        tags={"slowdown_percent": str(slowdown)},
        telemetry_hz=0.0,
    )
    return ab.execute(plan, out)


def recorded(out: Path) -> dict[int, int]:
    """How many sessions there are of each slowdown."""
    found: set[tuple[str, str, int]] = set()
    for path in (out / "runs").rglob("*.parquet"):
        columns = pq.read_table(path, columns=["suite", "run_id", "session"], partitioning=None).to_pydict()
        found |= set(zip(*columns.values(), strict=True))
    return {slowdown: sum(suite == f"proof-{slowdown}" for suite, _, _ in found) for slowdown in SLOWDOWNS}


_SPIN = """
import os
while os.path.exists("/proc/{pid}"):
    for _ in range(1_000_000):
        pass
"""


@contextlib.contextmanager
def hogs(count: int) -> Iterator[None]:
    """So many processes that do nothing but use a CPU, as long as this one lives.

    They are nobody's children: the work of a run's own processes is not foreign to it.
    """
    spin = shlex.join([sys.executable, "-c", _SPIN.format(pid=os.getpid())])
    command = ["sh", "-c", f"{spin} > /dev/null 2>&1 & echo $!"]
    pids = [int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(count)]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs=5, default=(3000, 600, 600, 300, 300), metavar="N")
    parser.add_argument("--hogs", type=int, default=0, help="processes that contend for the CPUs meanwhile")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    recovery.recover(arguments.out, print)  # a block that was killed counts with the sessions it has
    wanted = dict(zip(SLOWDOWNS, arguments.sessions, strict=True))
    done = recorded(arguments.out)
    with hogs(arguments.hogs):
        while missing := [one for one in SLOWDOWNS if done[one] < wanted[one]]:
            slowdown = min(missing, key=lambda one: done[one] / wanted[one])
            record(slowdown, _BLOCK, arguments.out)
            done[slowdown] += _BLOCK
            print(f"sessions so far, by slowdown in percent: {done}", flush=True)


if __name__ == "__main__":
    main()

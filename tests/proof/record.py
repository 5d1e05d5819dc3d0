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

from bench import ab, recovery
from bench.device import select
from bench.plan import make_ab_plan
from bench.suite import Suite
from bench.types import Arm, Trial
from tests.proof import recordings
from tests.proof.recordings import FOLDER, Condition

ROOT = Path(__file__).resolve().parent.parent.parent
# One thread: an idle pool of threads that spins in one arm would be felt by the other.
VARIABLES = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SLOWDOWNS = (0, 1, 2, 5, 10)  # percent
# Sessions of each. For every rule: 300 trials alike in quiet, 100 contended, and 40 in quiet of each slowdown.
WANTED: dict[Condition, tuple[int, ...]] = {
    "quiet": (3120, 830, 440, 480, 540),
    "contended": (1050, 250, 200, 200, 200),
}
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


def recorded(out: Path, condition: Condition) -> dict[int, int]:
    """How many sessions there are of each slowdown."""
    found = recordings.counts(condition, out / "runs")
    return {slowdown: found[f"proof-{slowdown}"] for slowdown in SLOWDOWNS}


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
    parser.add_argument("--sessions", type=int, nargs=len(SLOWDOWNS), metavar="N", help="instead of those of the plan")
    parser.add_argument("--hogs", type=int, default=0, help="processes that contend for the CPUs meanwhile")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    recovery.recover(arguments.out, print)  # a block that was killed counts with the sessions it has
    condition: Condition = "contended" if arguments.hogs else "quiet"
    wanted = dict(zip(SLOWDOWNS, arguments.sessions or WANTED[condition], strict=True))
    done = recorded(arguments.out, condition)
    with hogs(arguments.hogs):
        while missing := [one for one in SLOWDOWNS if done[one] < wanted[one]]:
            record(min(missing, key=lambda one: done[one] / wanted[one]), _BLOCK, arguments.out)
            done = recorded(arguments.out, condition)
            print(f"{condition} sessions so far, by slowdown in percent: {done}", flush=True)


if __name__ == "__main__":
    main()

"""Records the experiment: ``make proof-accept``. It goes on where it stopped, and may be stopped at any time.

First come calibration acceptances, whose slowest replicate sets the floors, once and for all; then sound ones and such
with a fault in the code of a kernel, in turns, so that what the machine does befalls all alike. Each is an acceptance
like any other, with its own result file. One that was stopped does not count, and is taken again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import accept, recovery
from bench.criteria.model import Criteria
from bench.errors import Interrupted
from tests.checkout import Checkout
from tests.proof_accept import criteria as of_criteria
from tests.proof_accept import faults, recordings, scripted
from tests.proof_accept.criteria import FIGURE
from tests.proof_accept.recordings import CALIBRATION, FOLDER, HEALTHY, TRUTH, Acceptance

ROOT = Path(__file__).resolve().parent.parent.parent
SLOWER_KERNEL, FLIPPED_BIT = "slower kernel", "flipped bit"

CALIBRATIONS = 8  # that have an interval
WANTED = {HEALTHY: 36, SLOWER_KERNEL: 5, FLIPPED_BIT: 1}
NAMED_BY = {SLOWER_KERNEL: FIGURE, FLIPPED_BIT: "answers"}  # the criterion that has to name the fault


def usable(calibrations: Sequence[Acceptance], found: Criteria) -> list[Acceptance]:
    """Those that say how wide an interval is: in the others too many replicates were disturbed."""
    return [one for one in calibrations if faults.finding_of(one, found, FIGURE).interval is not None]


def record(truth: str, found: Criteria, out: Path, **tags: str) -> Path:
    """One acceptance by this process."""
    plan = accept.plan_of(found, accept.devices_of(found), tags={TRUTH: truth, **tags}, anonymous=True)
    return accept.execute(plan, found, out)


def record_with_fault(truth: str, slowdown: float, out: Path) -> None:
    """One acceptance by a checkout with that fault in a kernel's code."""
    edit = faults.slower_kernel(slowdown) if truth == SLOWER_KERNEL else faults.flipped_bit()
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder))
        checkout.edit(*edit)
        command = [sys.executable, "-m", "tests.proof_accept.record", "--out", str(out.resolve())]
        done = subprocess.run(
            [*command, "--one", truth, "--slowdown", f"{slowdown:.4f}"],
            cwd=checkout.root,  # whose `bench` and `kernels` come first; `tests` are ours
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
    if done.returncode:
        sys.exit(done.returncode)


def step(out: Path) -> str | None:
    """Record the next acceptance and say which it was; None where nothing is missing."""
    there = recordings.load(out)
    missing = [truth for truth in scripted.SCRIPTS if not recordings.of(truth, there)]
    if missing:
        scripted.record(missing[0], out)
        return missing[0]
    uncalibrated = of_criteria.before_calibration(out)
    calibrations = usable(recordings.of(CALIBRATION, there), uncalibrated)
    if len(calibrations) < CALIBRATIONS:
        record(CALIBRATION, uncalibrated, out)
        return CALIBRATION
    found = of_criteria.calibrated(out, calibrations)
    done = {truth: len(recordings.of(truth, there)) for truth in WANTED}
    missing = [truth for truth in WANTED if done[truth] < WANTED[truth]]
    if not missing:
        return None
    truth = min(missing, key=lambda one: done[one] / WANTED[one])
    if truth == HEALTHY:
        record(HEALTHY, found, out)
    else:
        is_slower = truth == SLOWER_KERNEL
        record_with_fault(truth, faults.needed_slowdown(calibrations, found, FIGURE) if is_slower else 1.0, out)
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no other one is begun")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a checkout with a fault
    parser.add_argument("--slowdown", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.one:
            found = of_criteria.load(arguments.out)
            assert found is not None, "floors are set before any fault is made"
            record(arguments.one, found, arguments.out, slowdown=arguments.slowdown)
            return
        recovery.recover(arguments.out, print)
        end_s = time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < end_s:
            began_s = time.monotonic()
            truth = step(arguments.out)
            if truth is None:
                return
            print(f"{truth}: {time.monotonic() - began_s:.0f} s", flush=True)
    except Interrupted as interrupt:
        sys.exit(interrupt.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

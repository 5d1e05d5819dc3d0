"""The child process of one arm of an A/B session: a workload → bursts, each when the parent says so.

It runs under the arm's own interpreter, which may have none of the libraries that vnbench itself needs: so it imports
the standard library and, where a workload needs them, the workload's own. The parent writes the rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import random
import signal
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bench import registry
from bench.device.base import Device
from bench.device.select import open_device
from bench.errors import Unsupported, UsageError, VnbenchError
from bench.link import WorkerLink
from bench.measure import bursts
from bench.ready import WrongAnswer, checked, outcome, prepared
from bench.types import Job

# Times are kept in whole ns per launch: half of one is then 0.05 % at most.
_SHORTEST_LAUNCH_NS = 1000


def main(job_path: str, events_fd: str) -> None:
    """Do the job that a file describes, telling the parent through a pipe."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to a whole job; ending this process is the parent's part
    link = WorkerLink(int(events_fd))
    try:
        job = Job.from_json(json.loads(Path(job_path).read_text()))
        device = open_device(job.device, Path(job.scratch), job.indices)
        gc.collect()
        gc.freeze()
        link.begin(0)
        link.tell("measured", item=0, columns=_measured(job, device, link))
        link.tell("done", item=0)
    except VnbenchError as error:
        link.tell("fatal", code=error.exit_code, what=error.what, remedy=error.remedy)


def _measured(job: Job, device: Device, link: WorkerLink) -> dict[str, Any]:
    """The columns of the row that only this process knows. Whatever goes wrong is the row's outcome."""
    try:
        return _bursts(job, device, link)
    except WrongAnswer as wrong:
        return {"status": "wrong", "reason": str(wrong), "check_error": wrong.check.error}
    except UsageError:  # a misspelt function: for whoever asked, and no outcome of an arm
        raise
    except Exception as error:
        traceback.print_exc()
        status, reason = outcome(error)
        return {"status": status, "reason": reason}


def _bursts(job: Job, device: Device, link: WorkerLink) -> dict[str, Any]:
    """A turn to warm up, one for each burst, and one to check the answer again when the other arm is done as well.

    The parent gives both arms one size of burst: a quartile of two samples and one of three are different figures.
    """
    workload = registry.resolve(job.items[0].workload)
    with prepared(workload, device, job.plan.timeout_s) as ready:
        case = ready.case
        first = dataclasses.replace(checked(case), output=None)  # it would take memory while the case is timed
        link.meet(0)
        own = bursts(case, device, job.plan.duet).warm_up(job.plan.duet)
        launch_ns = statistics.median(own.warmup_ns)
        if launch_ns < _SHORTEST_LAUNCH_NS:
            raise Unsupported(f"a launch of {launch_ns:.0f} ns is too short to be told from another: do more in one")
        link.tell("sized", item=0, samples=own.samples, launches=own.launches_per_sample)
        samples, launches = map(int, link.meet(0).split())
        taken = dataclasses.replace(own, samples=samples, launches_per_sample=launches)
        elapsed_ns: list[int] = []
        spans_ns: list[tuple[int, int]] = []
        for pair in range(job.plan.duet.pairs):
            _move(job, pair)
            began_ns = time.monotonic_ns()
            elapsed_ns += taken.burst()
            spans_ns.append((began_ns, time.monotonic_ns()))
            link.meet(0)
        last = checked(case)
        worst = max(first, last, key=lambda check: check.error)
        median_ns = statistics.median(elapsed_ns)
        value = case.work.rate(median_ns)
        if value is None:
            raise ValueError(f"no {case.work.unit} can be had from {case.work} in {median_ns} ns")
        return {
            **dataclasses.asdict(case.work),
            "value": value,
            "median_ns": median_ns,
            "elapsed_ns": elapsed_ns,
            "warmup_ns": taken.warmup_ns,
            "burst_samples": taken.samples,
            "launches_per_sample": taken.launches_per_sample,
            "check_error": worst.error,
            "check_tolerance": worst.tolerance,
            "output_sha256": last.output_sha256,
            "threads": device.threads,
            "window_ns": (spans_ns[0][0], spans_ns[-1][1]),
        }


def _move(job: Job, pair: int) -> None:
    """Go to the CPU that both arms begin this pair's bursts on, drawn by lot; the scheduler may move it on from there.

    A process that sleeps between its bursts wakes up where it was, so each arm would keep a CPU of its own; and those
    of a machine are not alike: on a virtual one, a neighbour on the other half of a core slows down one of them.
    """
    cpus = os.sched_getaffinity(0)
    lot = random.Random(f"{job.plan.run_id}-{job.replicate}-{pair}")  # the same in both arms
    with contextlib.suppress(OSError):  # it may have been taken away meanwhile
        os.sched_setaffinity(0, {lot.choice(sorted(cpus))})
        os.sched_setaffinity(0, cpus)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # libraries may take their time to shut down, and the next session waits for it

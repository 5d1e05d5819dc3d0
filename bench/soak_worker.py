"""The child process of a soak: one case, prepared once, under load for as many stretches as its job has items.

Each stretch is a row, written as soon as its answer has been checked. A wrong answer ends nothing: how many there are
is what a soak is to tell. After any other failure this process ends, and a fresh one may go on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from bench import environment, registry, schema, store
from bench.device.base import Device
from bench.device.select import open_device
from bench.errors import OutputNotWritable, VnbenchError
from bench.kernel import Case
from bench.link import WorkerLink
from bench.measure import measure
from bench.outputs import Watch
from bench.ready import WrongAnswer, outcome, prepared
from bench.telemetry import host
from bench.types import Check, Job
from bench.worker import DEVICE_LOST_CODE, check_columns, result_columns, sample_columns, seen, settle


def main(job_path: str, events_fd: str) -> None:
    """Do the job that a file describes, telling the parent through a pipe."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to a whole job; ending this process is the parent's part
    link = WorkerLink(int(events_fd))
    try:
        job = Job.from_json(json.loads(Path(job_path).read_text()))
        _Soaking(job, open_device(job.device, Path(job.scratch), job.indices), link).run()
    except VnbenchError as error:
        link.tell("fatal", code=error.exit_code, what=error.what, remedy=error.remedy)


class _Soaking:
    """The stretch in hand: which one it is, and its row."""

    def __init__(self, job: Job, device: Device, link: WorkerLink) -> None:
        self.job = job
        self.device = device
        self.link = link
        self.workload = registry.resolve(job.items[0].workload)
        self.known = environment.capture(job.device).columns | {"threads": device.threads}
        self.before: Check | None = None  # the answer before the stretch, which is the last one's after it
        settle(device)
        self._begin(0)

    def run(self) -> None:
        """One stretch after the other, between which the answer is checked."""
        try:
            with prepared(self.workload, self.device, self.job.plan.timeout_s) as ready:
                self.link.meet(0)
                self._stretch(ready.case)
                for index in range(1, len(self.job.items)):
                    self._begin(index)
                    self._stretch(ready.case)
        except OutputNotWritable:
            raise
        except Exception as error:
            traceback.print_exc()
            status, reason = outcome(error)
            self.row |= {"status": status, "reason": reason}
            self._end()
            if status != "unsupported":
                os._exit(DEVICE_LOST_CODE)  # an orderly end would call into what may be a broken context

    def _begin(self, index: int) -> None:
        self.index = index
        self.link.begin(index)
        self.begun_ns = time.monotonic_ns()
        self.row = schema.blank_row(self.job, index, self.workload, "ok") | self.known

    def _stretch(self, case: Case) -> None:
        watch = Watch(Path(self.job.scratch) / "outputs", self.row)
        try:
            self.before = self.before or seen(case, watch.before_timing)
            before = host.read(os.getppid())
            measurement = measure(case, self.device, self.job.plan.policy)
            window = host.window(before, host.read(os.getppid()))
            self.row |= sample_columns(measurement, self.job.clock_offset_ns) | window.columns
            metrics = case.metrics(measurement)
            after = seen(case, watch.after_timing)
            self.row |= result_columns(case, measurement, metrics) | check_columns(self.before, after)
            self.before = after
        except WrongAnswer as wrong:
            self.row |= {"status": "wrong", "reason": str(wrong)} | check_columns(wrong.check, wrong.check)
        self.row |= watch.columns
        self._end()

    def _end(self) -> None:
        """Write the row, and say that the stretch is done; and with it all others, where none of them can be."""
        if self.row["timed_from"] is None:
            self.row |= schema.window_columns(self.begun_ns, time.monotonic_ns(), self.job.clock_offset_ns)
        store.write_part(Path(self.job.folder), self.row, self.job.plan)
        last = len(self.job.items) - 1 if self.row["status"] == "unsupported" else self.index
        told = {name: self.row[name] for name in ("status", "value", "unit")}
        self.link.tell("done", item=last, **told)


if __name__ == "__main__":
    main(*sys.argv[1:])

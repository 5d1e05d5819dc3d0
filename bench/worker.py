"""The child process: a list of items on one device → measurements, each written as soon as it is finished."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from bench import environment, registry, schema, search, store
from bench.device.base import Device
from bench.device.select import open_device
from bench.errors import OutputNotWritable, VnbenchError, is_device_lost
from bench.kernel import Case
from bench.link import WorkerLink
from bench.measure import measure
from bench.outputs import Watch
from bench.ready import WrongAnswer, checked, fits, outcome, prepared, probe
from bench.registry import Workload
from bench.schema import Row
from bench.spec import SEED, workload_name
from bench.telemetry import host
from bench.types import BUDGET_SPENT, FAILURES, Check, Item, Job, Measurement, Metric, Policy, Status

# A GEMM uses every core and vector unit, so whatever takes a share of the machine shows in it.
CALIBRATION = {"cpu": "matmul/fp32/1024", "cuda": "matmul/fp32/4096", "fake": "matmul/fp32/64"}
CALIBRATION_POLICY = Policy(warmup_rule="count", warmup_min_samples=3, min_samples=10, max_samples=10, max_s=0.001)
CALIBRATION_PAUSE_S = 1.0  # between the two where nothing is measured

# The exit code of a worker that has written its row but cannot use its device any more.
DEVICE_LOST_CODE = 70


def main(job_path: str, events_fd: str) -> None:
    """Do the job that a file describes, telling the parent through a pipe."""
    # Sent to a whole job, it reaches this process too; ending it is the parent's part, and no crash.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    link = WorkerLink(int(events_fd))
    try:
        job = Job.from_json(json.loads(Path(job_path).read_text()))
        device = open_device(job.device, Path(job.scratch), job.indices)
        if job.task == "search":
            _search(job, device, link)
        elif job.task == "probe":
            _try_each(job, device, link)
        elif job.task == "calibrate":
            before_ns = _calibrate(device)
            time.sleep(CALIBRATION_PAUSE_S)
            link.tell("calibration", before_ns=before_ns, after_ns=_calibrate(device))
        else:
            _measure_pass(job, device, link)
    except VnbenchError as error:
        link.tell("fatal", code=error.exit_code, what=error.what, remedy=error.remedy)


def _search(job: Job, device: Device, link: WorkerLink) -> None:
    settle(device)  # loading the libraries takes as long as a search may
    for index, item in enumerate(job.items):
        link.begin(index)
        if _budget_is_spent(job):  # the item's row will say so
            link.tell("done", item=index)
            continue
        try:
            winner = search.search(registry.resolve(item.workload), device, job.search_budget_s)
            link.tell("winner", item=index, **dataclasses.asdict(winner))
        except Exception as error:
            status, reason = outcome(error)
            link.tell("no-winner", item=index, status=status, reason=reason)
            if is_device_lost(error):
                link.tell("done", item=index)
                os._exit(DEVICE_LOST_CODE)
        link.tell("done", item=index)


def settle(device: Device) -> int:
    """Load the libraries, calibrate, and let the collector pass over what they hold; the calibration in ns."""
    calibration_ns = _calibrate(device)
    gc.collect()
    gc.freeze()  # what the libraries hold stays: looking through it costs each measurement some 90 ms
    return calibration_ns


def _try_each(job: Job, device: Device, link: WorkerLink) -> None:
    tried: dict[str, str | None] = {}  # many workloads have one probe, which answers for all of them
    for index, item in enumerate(job.items):
        link.begin(index)
        workload = registry.resolve(item.workload)
        reason = _obstacle(fits, workload, device)
        if reason is None:
            small = workload.kernel.probe(workload.params) or workload.params
            name = workload_name(workload.kernel.name, small)
            if name not in tried:
                tried[name] = _obstacle(_try, workload, device)
            reason = tried[name]
        link.tell("probed", item=index, reason=reason)
        link.tell("done", item=index)


def _obstacle(attempt: Callable[[Workload, Device], None], workload: Workload, device: Device) -> str | None:
    try:
        attempt(workload, device)
    except Exception as error:
        return outcome(error)[1]
    return None


def _try(workload: Workload, device: Device) -> None:
    kernel, params = workload.kernel, workload.params
    if kernel.probe(params) is not None:
        probe(kernel, params, device)
    else:
        with contextlib.closing(kernel.prepare(params, device, SEED)) as case:
            checked(case)


def _measure_pass(job: Job, device: Device, link: WorkerLink) -> None:
    captured = environment.capture(job.device)
    before_ns = settle(device)
    for index, item in enumerate(job.items):
        link.begin(index)
        begun_ns = time.monotonic_ns()
        row = schema.blank_row(job, index, registry.resolve(item.workload), "ok") | captured.columns
        row |= {"threads": device.threads, "calibration_before_ns": before_ns, "candidate": item.candidate}
        device_is_lost = False
        try:
            row["validity"] += _measure_into(row, item, job, device, functools.partial(link.meet, index))
        except _DeviceLost as lost:
            device_is_lost = True
            row |= {"status": "failed", "reason": str(lost)}
        # What befell the device meanwhile is worth knowing, unless the outcome was settled before.
        if row["status"] in FAILURES and row["timed_from"] is None and item.status is None:
            row |= schema.window_columns(begun_ns, time.monotonic_ns(), job.clock_offset_ns)
        store.write_part(Path(job.folder), row, job.plan)
        link.tell("done", item=index, status=row["status"])
        if device_is_lost:
            os._exit(DEVICE_LOST_CODE)  # an orderly end would call into the broken context; a fresh process goes on
    link.tell("calibration", before_ns=before_ns, after_ns=_calibrate(device))


def _measure_into(row: Row, item: Item, job: Job, device: Device, meet: Callable[[], object]) -> list[str]:
    """Measure one item into its row. Whatever goes wrong is the row's outcome. Returns the flags.

    Args:
        meet: waits for the workers that are to be timed together with this one.
    """
    watch = Watch(Path(job.scratch) / "outputs", row)
    try:
        _stop_if_decided(item, job)
        workload = registry.resolve(item.candidate or item.workload)
        with prepared(workload, device, job.plan.timeout_s) as ready:
            case = ready.case
            first = seen(case, watch.before_timing)
            meet()
            device.forget_peak_memory()
            before = host.read(os.getppid())
            measurement = measure(case, device, job.plan.policy, _deadline_ns(job, device))
            window = host.window(before, host.read(os.getppid()))
            row |= sample_columns(measurement, job.clock_offset_ns) | window.columns
            metrics = [*case.metrics(measurement), *item.candidate_metrics, *_expense(ready.prepare_s, device)]
            last = seen(case, watch.after_timing)
            row |= result_columns(case, measurement, metrics)
        row |= check_columns(first, last) | watch.columns
    except _Decided as decided:
        row |= {"status": decided.status, "reason": decided.reason}
        return []
    except WrongAnswer as wrong:
        row |= {"status": "wrong", "reason": str(wrong)} | check_columns(wrong.check, wrong.check)
        row |= watch.columns
        return []
    except OutputNotWritable:
        raise
    except Exception as error:
        traceback.print_exc()
        if is_device_lost(error):
            raise _DeviceLost(outcome(error)[1]) from error
        row["status"], row["reason"] = outcome(error)
        return []
    return _flags(measurement)


def seen(case: Case, see: Callable[[Check], None]) -> Check:
    """The case's check, shown to ``see`` and without its output, which would take memory while the case is timed."""
    try:
        check = checked(case)
    except WrongAnswer as wrong:
        see(wrong.check)
        raise
    see(check)
    return dataclasses.replace(check, output=None)


class _DeviceLost(Exception):
    """CUDA failed in a way that leaves this process's context unusable."""


class _Decided(Exception):
    """The item's outcome was settled before it could be measured."""

    def __init__(self, status: Status, reason: str | None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def _stop_if_decided(item: Item, job: Job) -> None:
    if item.status is not None:
        raise _Decided(item.status, item.reason)
    if _budget_is_spent(job):
        raise _Decided("timeout", BUDGET_SPENT)


def _budget_is_spent(job: Job) -> bool:
    return job.deadline_s is not None and time.monotonic() >= job.deadline_s


def _calibrate(device: Device) -> int:
    workload = registry.resolve(CALIBRATION[device.info.kind])
    with contextlib.closing(workload.kernel.prepare(workload.params, device, SEED)) as case:
        return round(statistics.median(measure(case, device, CALIBRATION_POLICY).elapsed_ns))


def _deadline_ns(job: Job, device: Device) -> int | None:
    """The job's deadline on the device's own clock."""
    if job.deadline_s is None:
        return None
    return device.now_ns() + round((job.deadline_s - time.monotonic()) * 1e9)


def sample_columns(measurement: Measurement, clock_offset_ns: int) -> Row:
    return {
        "elapsed_ns": list(measurement.elapsed_ns),
        "warmup_ns": list(measurement.warmup_ns),
        "sample_flags": list(measurement.sample_flags),
        "marks": [dataclasses.asdict(mark) for mark in measurement.marks],
        "launches_per_sample": measurement.launches_per_sample,
        **schema.window_columns(measurement.timed_from_ns, measurement.timed_until_ns, clock_offset_ns),
    }


def result_columns(case: Case, measurement: Measurement, metrics: list[Metric]) -> Row:
    work, median_ns = case.work, statistics.median(measurement.elapsed_ns)
    value = work.rate(median_ns)
    if value is None:
        raise ValueError(f"no {work.unit} can be had from {work} in {median_ns} ns")
    return {
        "flops": work.flops,
        "bytes_moved": work.bytes_moved,
        "items": work.items,
        "item_unit": work.item_unit,
        "value": value,
        "unit": work.unit,
        "median_ns": median_ns,
        "metrics": [dataclasses.asdict(metric) for metric in metrics],
    }


def _expense(prepare_s: float, device: Device) -> list[Metric]:
    """What a measurement took beside its time; between two of them it decides nothing."""
    peak_bytes = device.peak_memory_bytes()
    peak = [] if peak_bytes is None else [Metric("peak_memory_bytes", peak_bytes, "B")]
    return [Metric("prepare_s", prepare_s, "s"), *peak]


def check_columns(first: Check, last: Check) -> Row:
    worst = max(first, last, key=lambda check: check.error)
    return {"check_error": worst.error, "check_tolerance": worst.tolerance}


def _flags(measurement: Measurement) -> list[str]:
    """What only this process knows; the rest follows from the columns when the run is merged."""
    flags = {"no-steady-state": not measurement.steady, "cut-short": measurement.cut_short}
    return [flag for flag, is_set in flags.items() if is_set]


if __name__ == "__main__":
    main(*sys.argv[1:])

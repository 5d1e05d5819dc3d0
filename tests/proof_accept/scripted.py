"""Acceptances of eight GPUs that are not there: `accept` itself, with the state that the scripted NVML library shows.

The sampler is a process of its own and reads the library by pynvml, as beside any run. The workers' part is a script,
which takes as long as it says, and flags each row as simulated.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from unittest import mock

from bench import accept, choices, schema
from bench.criteria import file
from bench.criteria.model import Criteria
from bench.launch import local
from bench.schema import Row
from bench.types import DeviceInfo, Job
from tests import nvml
from tests.acceptance.results import FIRST_LOOK
from tests.proof_accept.recordings import TRUTH
from tests.scripted_run import Script

CRITERIA = Path(__file__).with_name("eight_gpus.toml")
PASS_S = 0.9

SOUND = nvml.SCENARIOS["healthy"]
# Three of them are sick, each in its own way; seconds count from the sampler's start, a moment before the first pass.
SICK = SOUND + "1 reasons 0x48\n1 sm_clock_mhz 900\n2 ecc_uncorrected 1 @1.5-\n3 xid 79 @1.5\n"
# truth → script
SCRIPTS = {"eight sound GPUs, scripted": SOUND, "three sick GPUs of eight, scripted": SICK}
# Who is sick, and of what, by the criterion that has to name it.
FOUND = {
    "throttled": ("cuda:1", "throttling"),
    "ecc": ("cuda:2", "an uncorrected ECC error"),
    "xid": ("cuda:3", "an XID"),
}


def criteria() -> Criteria:
    return file.load(str(CRITERIA))


def record(truth: str, out: Path) -> Path:
    """One acceptance, which takes some seconds."""
    found = criteria()
    gpus = [DeviceInfo("cuda", index, "NVIDIA H100 80GB HBM3") for index in range(8)]  # the library knows their UUIDs
    plan = accept.plan_of(found, gpus, tags={TRUTH: truth}, anonymous=True)
    script = Script()
    script.value_of = lambda job, workload: 200e12 * FIRST_LOOK[job.replicate % len(FIRST_LOOK)]
    script.columns_of = _Windows()
    with tempfile.TemporaryDirectory() as folder:
        variables = nvml.environment(SCRIPTS[truth], Path(folder))
        with (
            mock.patch.dict(os.environ, variables),
            mock.patch.object(local, "run_group", script.run_group),
            mock.patch.object(choices, "_has_candidates", lambda name: False),
        ):
            return accept.execute(plan, found, out)


class _Windows:
    """Each pass takes its time, and all devices of it were timed meanwhile."""

    def __init__(self) -> None:
        self._window_ns: dict[int, tuple[int, int]] = {}  # by replicate

    def __call__(self, job: Job, workload: str) -> Row:
        if job.replicate not in self._window_ns:
            _wait_for_readings(Path(job.folder) / "telemetry.jsonl")
            began_ns = time.monotonic_ns()
            time.sleep(PASS_S)
            self._window_ns[job.replicate] = began_ns, time.monotonic_ns()
        timed = schema.window_columns(*self._window_ns[job.replicate], job.clock_offset_ns)
        return timed | {"check_error": 0.0, "check_tolerance": 0.0, "validity": ["simulated"]}


def _wait_for_readings(path: Path) -> None:
    end_s = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size):
        if time.monotonic() > end_s:
            raise TimeoutError(f"no reading in {path}")
        time.sleep(0.02)

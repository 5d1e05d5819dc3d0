"""A/B tests of functions of a user's own that take next to no time: real processes, as few and short as can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import ab, sessions, store
from bench.judgement import Judgement
from bench.plan import make_ab_plan
from bench.schema import Row
from bench.suite import Suite
from bench.types import Arm, DeviceInfo, Duet, Plan, Trial

# Three pairs of bursts of a few samples.
SHORTEST = Duet(pairs=3, burst_s=0.004, burst_max_samples=4, warmup_min_s=0.0, warmup_min_samples=1)

# As few sessions as there can be, and on a noisy machine some more: a factor of twenty is clear, beside this tolerance.
TRIAL = Trial(looks=(3, 5, 8), tolerance=0.3)
SLOWER = Arm("B", variables={"NAP_S": "0.02"})

CPU = DeviceInfo("cpu", 0, "this CPU", reason="a test")

FUNCTIONS = """
import os, signal, sys, time

def nap():
    time.sleep(float(os.environ.get("NAP_S", "0.001")))

def longer_nap():
    time.sleep(0.02)

def fails():
    raise ValueError("it would not [/as code does]")

def wrong():
    pass

def check_wrong():
    return False

asked = []

def wrong_later():
    time.sleep(0.001)

def check_wrong_later():
    \"\"\"Right before it is timed, and wrong after.\"\"\"
    asked.append(1)
    return len(asked) == 1

def ends_at_the_second():
    \"\"\"In the session that finds the file there.\"\"\"
    if "BOOM" in os.environ and os.path.exists(os.environ["BOOM"]):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001)

def hangs():
    time.sleep(3600)
"""


def write_functions(folder: Path) -> None:
    (folder / "naps.py").write_text(FUNCTIONS)


def plan_of(
    *functions: str,
    a: Arm | None = None,
    b: Arm | None = None,
    device: DeviceInfo = CPU,
    trial: Trial = TRIAL,
    name: str = "ab",
    **changes: Any,
) -> Plan:
    """The plan of a test of functions in ``naps.py``; where none is named, the arms have their own."""
    workloads = tuple(f"call/naps.py:{function}" for function in functions)
    arms = a or Arm("A"), b or SLOWER
    plan = make_ab_plan(Suite(name, workloads=workloads), device, arms, trial, telemetry_hz=0)
    return dataclasses.replace(plan, duet=SHORTEST, **changes)


def played(plan: Plan, out: Path, **options: Any) -> tuple[list[Row], list[Judgement]]:
    """Execute a plan; its rows and verdicts as its file has them."""
    kept, rows = store.read(ab.execute(plan, out, **options))
    assert kept == dataclasses.replace(plan, timeout_s=kept.timeout_s)  # a budget shortens that
    return rows, judge(plan, rows)


def judge(plan: Plan, rows: Sequence[Row]) -> list[Judgement]:
    return sessions.judge(plan, sessions.collect(plan, rows))

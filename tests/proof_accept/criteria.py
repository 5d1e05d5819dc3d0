"""The criteria that the experiment judges by, and the floors that calibration acceptances set in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.acceptance import rows as of_rows
from bench.criteria import file
from bench.criteria.model import Criteria
from tests.proof_accept.recordings import FOLDER, Acceptance

# Kept beside the recordings: a verdict is a function of both.
CALIBRATION, NODE = "calibration.toml", "node.toml"

FIGURE = "products"  # the criterion that an interval decides
PRODUCTS = "roof/compute/fp32@shape=2048,backend=onednn"
SHARE = 0.95  # of the least that a calibration's replicate reached
_MEMORY_SHARE = 0.99  # a kernel takes some more or less of it for itself

_TEXT = """# Written by tests/proof_accept/record.py: the limits that a calibration set are the machine's own.
format = 1
title = "CPU node of the experiment in docs/proof-accept.md"
device = "cpu"
confidence = 0.95
looks = [3, 5, 8]

[[inventory]]
id = "cpu"
what = "devices"
equal = 1
source = "the CPUs of a node are one device"

[[inventory]]
id = "cores"
what = "cpu_cores"
at_least = {cores}
source = "{source}"

[[inventory]]
id = "memory"
what = "memory"
at_least = {memory_mb}
unit = "MB"
source = "{source}"

[[performance]]
id = "products"
workload = "roof/compute/fp32@shape=2048,backend=onednn"
at_least = {floor_gflops}
unit = "GFLOP/s"
source = "{source}"

[[state]]
id = "swap"
column = "swapped_bytes"
at_most = 1
unit = "MB"
source = "bench/criteria/cpu-node.toml"

[[answers]]
id = "answers"
workloads = ["roof/compute/fp32@shape=2048,backend=onednn"]
source = "docs/method.md: a wrong answer has no value, only an error"
"""


def load(folder: Path = FOLDER, name: str = NODE) -> Criteria | None:
    """None where no calibration has set them yet."""
    path = folder / name
    return file.load(str(path)) if path.exists() else None


def before_calibration(folder: Path) -> Criteria:
    """The same workloads, and limits of the machine's own that anything meets."""
    return _written(folder / CALIBRATION, cores=1, memory_mb=1, floor_gflops=0.001, source="none yet")


def calibrated(folder: Path, calibrations: Sequence[Acceptance]) -> Criteria:
    """With the limits that these acceptances set: `SHARE` of their slowest fit replicate, the memory and the cores."""
    rows = [row for one in calibrations for row in one.rows]
    reached = [row["value"] for row in rows if row["value"] is not None and not of_rows.disturbances(row)]
    return _written(
        folder / NODE,
        cores=min(row["cpu_cores"] for row in rows),
        memory_mb=int(_MEMORY_SHARE * min(row["memory_bytes"] for row in rows) / 1e6),
        floor_gflops=float(f"{SHARE * min(reached) / 1e9:.4g}"),
        source=f"{len(calibrations)} calibration acceptances of this machine, tests/proof_accept/criteria.py",
    )


def _written(path: Path, **limits: object) -> Criteria:
    if not path.exists():  # those that acceptances were begun with stay as they are
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_TEXT.format(**limits))
    return file.load(str(path))

"""The Arrow schema of a result file: one row per measurement (workload × device × replicate).

History
    1  2026-11  the first.

Columns may be added within a version; readers pass over those they do not know and read a missing one as null. A
column is never renamed or given another meaning: that is a new version, and version 1 stays readable for ever.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from bench.registry import Workload
from bench.spec import canonical_json
from bench.types import Job, Plan, Status

VERSION = 1
VERSION_KEY = b"vnbench.schema_version"
PLAN_KEY = b"vnbench.plan"

Row = dict[str, Any]

_MARK = pa.struct([("name", pa.string()), ("ns", pa.int64())])
_METRIC = pa.struct([("name", pa.string()), ("value", pa.float64()), ("unit", pa.string()), ("better", pa.string())])
_ROOF = pa.struct(
    [
        ("name", pa.string()),
        ("value", pa.float64()),
        ("unit", pa.string()),
        ("source", pa.string()),
        ("fraction", pa.float64()),
    ]
)
_STRINGS = pa.list_(pa.string())

# (name, type, what it holds); the order is that of the file, the titles are those of results/README.md
COLUMNS: dict[str, Sequence[tuple[str, pa.DataType, str]]] = {
    "Identity": (
        ("schema_version", pa.int32(), "version of this schema"),
        ("vnbench_version", pa.string(), "version of vnbench that measured"),
        ("source_commit", pa.string(), "git commit of the checkout it ran from, `+` behind it if modified; else null"),
        ("run_id", pa.string(), "one execution of a suite on one node"),
        ("node", pa.string(), "host name, in characters that are safe in a path"),
        ("suite", pa.string(), "name of the suite, `custom` for workloads named by hand"),
        ("candidate", pa.string(), "the workload that performed this one, where a search chose it"),
        ("started_at", pa.timestamp("us", tz="UTC"), "when this measurement began"),
        ("workload", pa.string(), "name, one-to-one with its spec"),
        ("kernel", pa.string(), "the code that performs it"),
        ("kernel_version", pa.int32(), "raised whenever the work changes"),
        (
            "spec_id",
            pa.string(),
            "hash of kernel, version, params, dtype, backend, cache and seed: equal for equal work",
        ),
        ("policy_id", pa.string(), "hash of the warm-up and sampling rules"),
        ("params", pa.string(), "parameters as canonical JSON"),
        ("dtype", pa.string(), "number format"),
        ("backend", pa.string(), "library that performs it"),
        ("seed", pa.int64(), "seed of the inputs"),
        ("cache_state", pa.string(), "hot, cold or warm, where the workload distinguishes them"),
        ("device", pa.string(), "cpu, cuda or fake"),
        ("device_index", pa.int32(), "which of them"),
        ("device_uuid", pa.string(), "the GPU's UUID"),
        ("device_reason", pa.string(), "why this device was chosen"),
        ("threads", pa.int32(), "host threads a launch may use"),
        ("replicate", pa.int32(), "which of the repeated measurements in fresh processes, from 0"),
        ("session", pa.int32(), "which interleaved A/B pairing; null outside `ab`"),
        ("arm", pa.string(), "A or B; null outside `ab`"),
        ("sequence", pa.int32(), "place in the random order of its pass, from 0"),
        ("world_size", pa.int32(), "processes loaded together"),
        ("rank", pa.int32(), "which of them, from 0"),
        ("concurrency_group", pa.string(), "rows that share it were loaded together"),
        ("label", pa.string(), "the user's --label"),
        ("tags", pa.map_(pa.string(), pa.string()), "the user's --tag k=v"),
    ),
    "The work of one launch": (
        ("flops", pa.int64(), "arithmetic operations, worked out from the shapes"),
        ("bytes_moved", pa.int64(), "bytes that have to be read and written at least"),
        ("items", pa.int64(), "things done, of the next column's kind"),
        ("item_unit", pa.string(), "token, image, row, …"),
    ),
    "The samples": (
        ("elapsed_ns", pa.list_(pa.int64()), "time per launch of each sample, in the order taken; none is left out"),
        ("warmup_ns", pa.list_(pa.int64()), "the launches before them"),
        ("sample_flags", pa.list_(pa.uint16()), "per sample, bits: 1 far above the others (Tukey's outer fence)"),
        ("marks", pa.list_(_MARK), "named moments, sample after sample, each counted from its sample's start"),
        ("launches_per_sample", pa.int32(), "launches in a sample, so that the timer's resolution drowns"),
    ),
    "The headline": (
        ("value", pa.float64(), "work per second at the median sample, in base units"),
        ("unit", pa.string(), "FLOP/s, OP/s, B/s, token/s, …"),
        ("better", pa.string(), "higher or lower"),
        ("median_ns", pa.float64(), "median of elapsed_ns"),
        ("metrics", pa.list_(_METRIC), "further figures"),
    ),
    "Against the limit": (
        ("roofs", pa.list_(_ROOF), "limits, measured in the same run or from the datasheet, and the fraction reached"),
        ("fraction_of_roof", pa.float64(), "the fraction of the tightest measured roof"),
    ),
    "The check": (
        ("check_error", pa.float64(), "worst error against the reference, before and after timing"),
        ("check_tolerance", pa.float64(), "what the arithmetic allows"),
        ("output_sha256", pa.string(), "hash of the checked output, where it is cheap"),
    ),
    "The outcome": (
        ("status", pa.string(), "ok, failed, wrong, unsupported, timeout, crashed, oom or interrupted"),
        ("reason", pa.string(), "why it is not ok"),
        ("validity", _STRINGS, "what speaks against the figure: see docs/method.md; empty is good"),
    ),
    "The machine's state while timing": (
        ("power_w_mean", pa.float64(), "mean power of the device"),
        ("energy_j", pa.float64(), "energy of the device"),
        ("sm_clock_mhz_min", pa.float64(), "lowest SM clock"),
        ("sm_clock_mhz_mean", pa.float64(), "mean SM clock"),
        ("mem_clock_mhz_mean", pa.float64(), "mean memory clock"),
        ("temperature_c_max", pa.float64(), "highest temperature"),
        ("throttle_s", pa.float64(), "seconds throttled"),
        ("throttle_reasons", _STRINGS, "the driver's reasons"),
        ("ecc_corrected_delta", pa.int64(), "corrected memory errors"),
        ("ecc_uncorrected_delta", pa.int64(), "uncorrected memory errors"),
        ("pcie_replay_delta", pa.int64(), "PCIe replays"),
        ("steal_fraction", pa.float64(), "CPU time that the hypervisor gave to others"),
        ("foreign_cpu_fraction", pa.float64(), "share of all CPU time used by other processes"),
        ("involuntary_switches", pa.int64(), "times the scheduler took the CPU away"),
        ("load_1m", pa.float64(), "load average at the end"),
        ("calibration_before_ns", pa.int64(), "median of the calibration workload before the pass"),
        ("calibration_after_ns", pa.int64(), "and after it"),
    ),
    "The environment": (
        ("env_id", pa.string(), "hash of the checked keys below"),
        ("device_name", pa.string(), "model of the device"),
        ("driver", pa.string(), "NVIDIA driver"),
        ("cuda", pa.string(), "CUDA that torch was built with"),
        ("torch", pa.string(), "torch"),
        ("cupy", pa.string(), "CuPy"),
        ("numpy", pa.string(), "NumPy"),
        ("python", pa.string(), "Python"),
        ("cpu_model", pa.string(), "CPU model as the kernel shows it"),
        ("cpu_cores", pa.int32(), "physical cores"),
        ("memory_bytes", pa.int64(), "main memory"),
        ("os", pa.string(), "distribution"),
        ("os_kernel", pa.string(), "kernel release"),
        ("virtualization", pa.string(), "vm, container, vm+container or none, as far as can be seen"),
        ("environment", pa.string(), "the rest, as JSON"),
    ),
}

SCHEMA = pa.schema([pa.field(name, kind) for group in COLUMNS.values() for name, kind, _ in group])


def blank_row(job: Job, index: int, workload: Workload, status: Status, reason: str | None = None) -> Row:
    """A row's identity, for the ``index``-th item of a job; all that is not known yet is null."""
    plan, spec = job.plan, workload.spec
    return dict.fromkeys(SCHEMA.names) | {
        "schema_version": VERSION,
        "vnbench_version": plan.vnbench_version,
        "source_commit": plan.source_commit,
        "run_id": plan.run_id,
        "node": plan.node,
        "suite": plan.suite,
        "started_at": dt.datetime.now(dt.UTC),
        "workload": workload.name,
        "kernel": spec.kernel,
        "kernel_version": spec.version,
        "spec_id": spec.spec_id,
        "policy_id": plan.policy.policy_id,
        "params": canonical_json(spec.params),
        "dtype": spec.dtype,
        "backend": spec.backend,
        "seed": spec.seed,
        "cache_state": spec.cache,
        "device": job.device.kind,
        "device_index": job.device.index,
        "device_uuid": job.device.uuid,
        "device_reason": job.device.reason,
        "device_name": job.device.name,
        "replicate": job.replicate,
        "sequence": job.sequence + index,
        "world_size": job.world_size,
        "rank": job.rank,
        "concurrency_group": job.concurrency_group,
        "label": plan.label,
        "tags": list(plan.tags.items()),
        "better": "higher",
        "status": status,
        "reason": reason,
        "validity": ["simulated"] if job.device.kind == "fake" else [],
    }


def to_table(rows: Iterable[Row], plan: Plan) -> pa.Table:
    """Rows as an Arrow table whose metadata holds the schema's version and the run's plan."""
    metadata = {VERSION_KEY: str(VERSION), PLAN_KEY: json.dumps(dataclasses.asdict(plan))}
    return pa.Table.from_pylist(list(rows), schema=SCHEMA.with_metadata(metadata))


def version_of(metadata: Mapping[bytes, bytes] | None) -> int | None:
    """The schema's version in a file's metadata; None where the file is not a run of ours."""
    if not metadata or PLAN_KEY not in metadata or VERSION_KEY not in metadata:
        return None
    return int(metadata[VERSION_KEY])


def plan_of(metadata: Mapping[bytes, bytes]) -> Plan:
    """The plan in the metadata of a run's file."""
    return Plan.from_json(json.loads(metadata[PLAN_KEY]))


def markdown() -> str:
    """The columns as the tables of ``results/README.md``."""
    lines: list[str] = []
    for title, columns in COLUMNS.items():
        lines += [f"### {title}", "", "| column | type | what it holds |", "| --- | --- | --- |"]
        lines += [f"| `{name}` | `{str(kind).replace('|', '/')}` | {text} |" for name, kind, text in columns]
        lines.append("")
    return "\n".join(lines)

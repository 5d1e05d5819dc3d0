"""SuperBench's ``results-summary.jsonl`` as rows: one line is one node, one metric on one rank is one row.

The format is that of SuperBench's runner and its result tools (microsoft/superbenchmark, docs/user-tutorial and
superbench/runner/runner.py): a flat object with ``node`` and keys ``benchmark[:annotation]/[run/]metric[:rank]``.
``run`` counts repetitions inside one process; a metric without rank was reduced over all of them; ``return_code`` is 0
unless a benchmark failed; ``monitor/…`` is what the node's sensors showed.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from bench import environment
from bench.environment import Environment
from bench.importing import foreign
from bench.importing.foreign import NO_SAMPLES, Foreign, finite, metric, printable
from bench.schema import Row
from bench.spec import Spec
from bench.types import Better, DeviceInfo, DeviceKind, Plan

SUITE = "superbench"
BACKEND = "superbench"

_KEY = re.compile(r"(?P<path>.+)/(?P<metric>[^/]+?)(:(?P<rank>\d{1,9}))?")
_RUN = re.compile(r"(?P<benchmark>.+)/(?P<run>\d{1,9})")


@dataclass(frozen=True)
class Unit:
    """What a metric counts: its unit without prefix, how many of it one is, and which way is good."""

    unit: str
    factor: float
    better: Better


_S, _MS, _US = (Unit("s", factor, "lower") for factor in (1.0, 1e-3, 1e-6))
_GB, _MB = Unit("B/s", 1e9, "higher"), Unit("B/s", 1e6, "higher")

# By "benchmark/metric", without annotation; the first that fits. SuperBench's docs/user-tutorial/benchmarks: the tables
# of micro-benchmarks.md and model-benchmarks.md. What fits none has no unit, and which way is good is not known.
UNITS: tuple[tuple[str, Unit], ...] = (
    (r"gemm-flops/.*_flops", Unit("FLOP/s", 1e9, "higher")),
    (r"gemm-flops/.*_iops", Unit("OP/s", 1e9, "higher")),
    (r"(cublaslt|hipblaslt)-gemm/.*_flops", Unit("FLOP/s", 1e12, "higher")),
    (r"kernel-launch/(event|wall)_time", _MS),
    (r"kernel-launch/.*_us", _US),
    (r"(pytorch-)?matmul/.*_time", _MS),
    (r"(cublas|cudnn)-function/.*_time", _US),
    (r"tensorrt-inference/.*_time_(mean|99)", _MS),
    (r"ort-inference/.*_time(_[\d.]+)?", _MS),
    (r"cpu-hpl/throughput", Unit("FLOP/s", 1e9, "higher")),
    (r"cpu-stream/.*_throughput", _MB),
    (r"cpu-stream/.*_time_(avg|min|max)", _S),
    (r"cpu-memory-bw-latency/.*_bw", _MB),
    (r"cpu-memory-bw-latency/.*_lat", Unit("s", 1e-9, "lower")),
    (r"mem-bw/.*_bw", _GB),
    (r"gpu-copy-bw/.*_bw", _GB),
    (r"gpu-stream/.*_bw", _GB),
    (r"ib-loopback/ib_(write|read|send)_bw_.*", _GB),
    (r"(nccl|rccl)-bw/.*_(algbw|busbw)", _GB),
    (r"(nccl|rccl)-bw/.*_time", _US),
    (r".+/.*_(train|inference)_step_time(_[\d.]+)?", _MS),
    (r".+/.*_(train|inference)_throughput(_[\d.]+)?", Unit("sample/s", 1.0, "higher")),
)


@dataclass(frozen=True)
class SavedNode:
    """One line of a file: what one execution of SuperBench found on one node."""

    source: str
    content_id: str
    name: str  # as the file writes it
    figures: Mapping[str, Any]

    @property
    def node(self) -> str:
        return re.sub(r"[^A-Za-z0-9._-]+", "_", self.name).strip("._-") or "unnamed"


def parse(source: str, content_id: str, data: Any) -> SavedNode:
    """The node behind one line's JSON.

    Raises:
        ValueError: it is not of SuperBench.
    """
    if not isinstance(data, dict) or not isinstance(data.get("node"), str):
        raise ValueError("a line in it names no node")
    figures = {printable(key): value for key, value in data.items() if _KEY.fullmatch(key)}
    if not figures:
        raise ValueError(f"node {printable(data['node'])!r} in it has no benchmark")
    return SavedNode(printable(source), content_id, data["node"], figures)


def rows(plan: Plan, saved: SavedNode, replicate: int) -> Iterator[Row]:
    """A row for each metric on each rank, in the order of the file; one for a benchmark that failed without any."""
    failures = _failures(saved)
    columns = _environment_columns(saved)
    values: dict[tuple[str, str, int | None], list[Any]] = {}
    for key, value in saved.figures.items():
        benchmark, name, rank = _split(key)
        if name != "return_code" and not key.startswith("monitor/"):
            values.setdefault((benchmark, name, rank), []).append(value)
    silent = failures.keys() - {benchmark for benchmark, _, _ in values}
    values |= {(benchmark, "return_code", None): [] for benchmark in sorted(silent)}
    for sequence, ((benchmark, name, rank), found) in enumerate(values.items()):
        row = foreign.make_row(
            plan, _workload(benchmark, name), _device(rank), "ok", replicate=replicate, sequence=sequence
        )
        yield row | columns | _outcome(benchmark, name, found, failures.get(benchmark))


def unit_of(benchmark: str, name: str) -> Unit | None:
    """What a metric counts; None where its name does not tell."""
    text = f"{benchmark.partition(':')[0]}/{name}"
    return next((unit for pattern, unit in UNITS if re.fullmatch(pattern, text)), None)


def _outcome(benchmark: str, name: str, values: list[Any], failure: str | None) -> Row:
    unit = unit_of(benchmark, name)
    known: Row = {
        "unit": unit and unit.unit,
        "better": unit and unit.better,
        "validity": [foreign.UNWATCHED, NO_SAMPLES],
    }
    if failure is not None:
        return known | {"status": "failed", "reason": failure}
    numbers = [number for number in map(finite, values) if number is not None]
    if len(numbers) < len(values):
        return known | {"status": "failed", "reason": "its figure is no finite number"}
    value = statistics.median(numbers) * (unit.factor if unit else 1.0)
    if value <= 0 or not math.isfinite(value):  # small rates are printed with two decimals
        return known | {"status": "unsupported", "reason": f"SuperBench says {value:g}, of which no ratio can be had"}
    repeated = [each for run, number in enumerate(numbers) for each in metric(f"run/{run}", number, "1")]
    return known | {"value": value, "metrics": repeated if len(numbers) > 1 else []}


def _split(key: str) -> tuple[str, str, int | None]:
    """Benchmark, metric and rank of a key; repetitions in one process are one."""
    match = _KEY.fullmatch(key)
    assert match is not None
    run = _RUN.fullmatch(match["path"])
    benchmark = run["benchmark"] if run else match["path"]
    return benchmark, match["metric"], None if match["rank"] is None else int(match["rank"])


def _failures(saved: SavedNode) -> dict[str, str]:
    """The benchmarks that failed, and how."""
    found = {}
    for key, value in saved.figures.items():
        benchmark, name, _ = _split(key)
        if name == "return_code" and finite(value) != 0:
            found[benchmark] = f"SuperBench's return_code is {value!r}"
    return found


def _workload(benchmark: str, name: str) -> Foreign:
    params = {"benchmark": benchmark, "metric": name}
    return Foreign(f"superbench/{benchmark}/{name}", Spec("superbench", 1, params, backend=BACKEND))


def _device(rank: int | None) -> DeviceInfo:
    """A process of SuperBench, which may or may not have had a GPU of that number to itself; or the whole node."""
    kind, index = ("node", 0) if rank is None else ("rank", rank)
    return DeviceInfo(cast(DeviceKind, kind), index, None, reason="imported from SuperBench")


def _environment_columns(saved: SavedNode) -> Row:
    """Nothing is told of machine or software; the sensors' figures are kept."""
    keys = dict.fromkeys(key for group in environment.KEYS.values() for key in group)
    sensors = {key: finite(value) for key, value in saved.figures.items() if key.startswith("monitor/")}
    return Environment(keys, {"monitor": sensors}).columns

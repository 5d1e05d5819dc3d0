"""What `compare`, `gate` and `pack` take for a fleet, and how it grows: time, and the peak of a process's memory.

A fleet of 10,000 nodes takes minutes to make and some 3 GB of disk: it is measured where VNBENCH_FLEET_NODES asks for
it, as in ``VNBENCH_FLEET_NODES=100,1000,10000 make benchmarks``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import pack, store
from tests.benchmarks import make_fleet
from tests.checkout import ROOT

NODES = tuple(map(int, os.environ.get("VNBENCH_FLEET_NODES", "100,1000").split(",")))

# In a process of its own, as a user would, so that its peak is that of this alone.
_COMPARE = """
import sys
from pathlib import Path
from bench.comparison import compare as comparing
from bench.comparison import selection
found = comparing.compare_selected(selection.gather(Path("results"), [sys.argv[1]], by="label"))
assert {one.side: round(one.ratio.ratio, 1) for one in found.suite_ratios}, "no suite ratio"
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(len(found.cells), status["VmHWM"].split()[0])  # getrusage would count the process that forked this one
"""

# One half of the nodes is the baseline of the other.
_GATE = """
import sys
from pathlib import Path
from bench import dataset, store
from bench.gate import judge, side
paths = store.find(Path("results"), sys.argv[1])
runs = sorted(entry.run_id for _, entries in dataset.index(paths) for entry in entries)
halves = [side.load(paths, frozenset(runs[start::2])) for start in (0, 1)]
outcome = judge.judge(*halves, judge.Rule(0.02))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(len(outcome.judgements), status["VmHWM"].split()[0])
"""


@pytest.fixture(scope="module", params=NODES)
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    nodes: int = request.param
    out = tmp_path_factory.mktemp(f"fleet-{nodes}")
    make_fleet.write(out / "loose", nodes)
    pack.pack(store.find(out, str(out / "loose")), out / "packed" / "runs")
    return nodes, out


@pytest.mark.parametrize("kind", ["packed", "loose"])
@pytest.mark.parametrize(("use", "script", "answers"), [("compare", _COMPARE, 4 * 200), ("gate", _GATE, 200)])
def test_judge_a_fleet(
    benchmark: BenchmarkFixture,
    fleet: tuple[int, Path],
    use: str,
    script: str,
    answers: int,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nodes, out = fleet

    def judge() -> tuple[int, int]:
        command = [sys.executable, "-c", script, str(out / kind)]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        return int(found[0]), int(found[1])

    run: Any = benchmark.pedantic
    found, peak_kib = run(judge, rounds=3 if nodes <= 1000 else 1)
    assert found == answers
    benchmark.extra_info.update(nodes=nodes, measurements=nodes * 600, peak_mib=peak_kib // 1024)
    stats: Any = benchmark.stats
    with capsys.disabled():  # how it grows is read line by line
        print(f"\n{use}, {nodes} nodes, {kind}: {stats['median']:.1f} s, {peak_kib / 2**20:.2f} GiB")
    assert peak_kib < 4 * 2**20


def test_pack_a_fleet(benchmark: BenchmarkFixture, fleet: tuple[int, Path], tmp_path: Path) -> None:
    nodes, out = fleet
    paths = store.find(out, str(out / "loose"))
    run: Any = benchmark.pedantic
    done = run(pack.pack, args=(paths, tmp_path), rounds=1)
    benchmark.extra_info.update(nodes=nodes, bytes_before=done.bytes_before, bytes_after=done.bytes_after)
    assert done.rows == nodes * 600

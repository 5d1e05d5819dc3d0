"""``bench.pytest_plugin`` and its writer: a user's own suite in a real pytest, kept as a result and else untouched."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench import child, recovery, store
from bench.schema import Row
from bench.types import Plan
from tests import nvml
from tests.checkout import PATIENCE_S, wait_until

IS_ENTRY_POINT = bool(importlib.metadata.entry_points(group="pytest11", name="vnbench"))
PLUGIN = ("-p", "vnbench" if IS_ENTRY_POINT else "bench.pytest_plugin", "-p", "no:cacheprovider")
QUICK = (
    *PLUGIN,
    *("--benchmark-max-time=0.001", "--benchmark-min-rounds=3", "--benchmark-time-unit=us"),
    *("--benchmark-sort=fullname", "--benchmark-columns=min,rounds,iterations"),
)
SUITE = """
import sys
import pytest

@pytest.mark.parametrize("n", [10, 1000])
def test_sum(benchmark, n):
    benchmark.extra_info.update(size=n, words="text")
    assert benchmark(sum, range(n)) == n * (n - 1) // 2

def test_pedantic(benchmark):
    benchmark.pedantic(sorted, args=([3, 1, 2],), rounds=7, iterations=3)

def test_raises(benchmark):
    benchmark(lambda: 1 // 0)

def test_wrong_answer(benchmark):
    assert benchmark(sum, [1, 2]) == 4

def test_skips(benchmark):
    pytest.skip("no licence here")

@pytest.mark.skip(reason="not today")
def test_is_skipped(benchmark):
    benchmark(sum, [1])

@pytest.mark.xfail(reason="known")
def test_fails_as_expected(benchmark):
    benchmark(lambda: 1 // 0)

def test_measures_nothing(benchmark):
    pass

@pytest.fixture
def broken():
    raise OSError("no disk")

def test_has_no_setup(broken, benchmark):
    benchmark(sum, [1])

def test_asks_late(request):
    request.getfixturevalue("benchmark")(sum, [1, 2, 3])

def test_is_no_benchmark():
    assert not {"pyarrow", "numpy", "psutil", "pynvml", "torch"} & set(sys.modules)
"""
SLOW = """
import pathlib, time

def test_first(benchmark):
    benchmark(sum, [1])

def test_second(benchmark):
    benchmark(sum, [1])

def test_waits(benchmark):
    pathlib.Path("waiting").touch()
    benchmark.pedantic(time.sleep, args=(600,))

def test_last(benchmark):
    benchmark(sum, [1])
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def _environment() -> dict[str, str]:
    """A user's: pytest-benchmark takes a child of one of pytest-xdist's workers for a worker."""
    return {name: value for name, value in child.environment().items() if not name.startswith("PYTEST_XDIST")}


class Project:
    """A folder with a user's tests in it."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "test_mine.py").write_text(suite)
        (folder / "pytest.ini").write_text("[pytest]\n")
        self.started: list[subprocess.Popen[str]] = []
        self.variables: dict[str, str] = {}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *QUICK, *arguments],
            cwd=self.folder,
            env={**_environment(), "COLUMNS": "160", "NO_COLOR": "1", **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def pytest(self, *arguments: str) -> Answer:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return Answer(process.returncode, out, err)

    def files(self, out: str = "results") -> list[Path]:
        return sorted((self.folder / out / "runs").rglob("*.parquet"))

    def read(self) -> tuple[Plan, dict[str, Row]]:
        (path,) = self.files()
        plan, rows = store.read(path)
        return plan, {row["workload"].rpartition("::")[2]: row for row in rows}

    def writers(self) -> list[int]:
        """The writers of the tests that were started here."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (
                    b"bench.pytest_writer" in (path / "cmdline").read_bytes()
                    and (path / "cwd").resolve() == self.folder
                ):
                    found.append(int(path.name))
            except OSError:
                continue  # it has just ended
        return found

    def wait_until_waiting(self) -> None:
        wait_until((self.folder / "waiting").exists, "test_waits")


Make = Callable[[str], Project]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Project] = []

    def project(suite: str) -> Project:
        made.append(Project(tmp_path / "project", suite))
        return made[-1]

    yield project
    for process in (process for each in made for process in each.started):
        if process.poll() is None:
            process.kill()
        process.communicate()


@dataclass(frozen=True)
class Both:
    """The same suite without the plugin and with it."""

    plain: Answer
    kept: Answer
    plain_json: Any
    kept_json: Any
    project: Project


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    project = Project(tmp_path_factory.mktemp("both") / "project", SUITE)
    plain = project.pytest("--benchmark-json=plain.json")
    assert not project.files()
    kept = project.pytest("--benchmark-json=kept.json", "--vnbench", "--vnbench-label=before")
    plain_json, kept_json = (json.loads((project.folder / f"{name}.json").read_text()) for name in ("plain", "kept"))
    return Both(plain, kept, plain_json, kept_json, project)


def without_figures(value: Any) -> Any:
    """JSON or text less what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_figures(each) for key, each in value.items() if key not in ("data", "datetime")}
    if isinstance(value, list):
        return [without_figures(each) for each in value]
    if isinstance(value, str):
        return re.sub(r"0x[0-9a-f]+|-+|=+|\s+|\b(plain|kept)\.json|[\d.,:;()]+", " ", value)
    return None if isinstance(value, float | int) else value


def test_what_pytest_prints_saves_and_returns_is_the_same_with_the_plugin(both: Both) -> None:
    assert both.plain.code == both.kept.code == 1
    assert without_figures(both.plain.out).split() == without_figures(both.kept.out).split()
    # pytest itself names what is installed.
    assert "vnbench" not in re.sub(r"^plugins: .*$", "", both.kept.out, flags=re.MULTILINE)
    assert without_figures(both.plain_json) == without_figures(both.kept_json)


def test_the_last_line_on_stderr_says_where_the_result_is(both: Both) -> None:
    (path,) = both.project.files()
    assert both.kept.err.endswith(f"vnbench: 4 benchmarks are kept in {path}\n")
    assert not list((both.project.folder / "results" / ".incomplete").iterdir())


def test_every_round_is_kept_in_nanoseconds_per_call(both: Both) -> None:
    rows = both.project.read()[1]
    assert len(both.kept_json["benchmarks"]) >= 4
    for entry in both.kept_json["benchmarks"]:
        row, data = rows[entry["fullname"].rpartition("::")[2]], entry["stats"]["data"]
        assert row["elapsed_ns"] == [round(each * 1e9) for each in data]
        assert row["launches_per_sample"] == entry["stats"]["iterations"]
        if row["status"] == "ok":
            assert row["median_ns"] == pytest.approx(statistics.median(data) * 1e9)
            assert row["value"] == pytest.approx(1 / statistics.median(data))
            assert (row["unit"], row["better"], row["items"]) == ("call/s", "higher", 1)
    assert len(rows["test_pedantic"]["elapsed_ns"]) == 7
    assert {metric["name"]: metric["value"] for metric in rows["test_sum[10]"]["metrics"]}["extra/size"] == 10


def test_each_outcome_is_a_row_with_its_reason(both: Both) -> None:
    plan, rows = both.project.read()
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == {
        "test_sum[10]": ("ok", None),
        "test_sum[1000]": ("ok", None),
        "test_pedantic": ("ok", None),
        "test_asks_late": ("ok", None),
        "test_raises": ("failed", "ZeroDivisionError: integer division or modulo by zero"),
        "test_wrong_answer": ("failed", "assert 3 == 4"),
        "test_skips": ("unsupported", "skipped: no licence here"),
        "test_is_skipped": ("unsupported", "skipped: not today"),
        "test_fails_as_expected": ("unsupported", "expected to fail: known"),
        "test_measures_nothing": ("failed", "the test did not use its benchmark fixture"),
        "test_has_no_setup": ("failed", "OSError: no disk"),
    }
    assert all(row["value"] is None for row in rows.values() if row["status"] != "ok")
    assert (plan.suite, plan.label, plan.replicates) == ("pytest", "before", 1)


def test_a_row_says_what_machine_it_was_and_how_busy(both: Both) -> None:
    row = both.project.read()[1]["test_pedantic"]
    assert row["python"] == ".".join(map(str, sys.version_info[:3]))
    assert row["cpu_model"] == both.kept_json["machine_info"]["cpu"]["brand_raw"]
    assert row["env_id"] and row["os_kernel"] and row["memory_bytes"]
    assert row["load_1m"] is not None and row["host_cpu_s"] is not None
    assert json.loads(row["environment"])["packages"]["pytest-benchmark"] == both.kept_json["version"]
    assert "unwatched" in row["validity"]


def test_the_gpus_are_named_by_the_driver_and_never_touched(make: Make, tmp_path: Path) -> None:
    project = make("def test_one(benchmark):\n    benchmark(sum, [1])\n")
    found = []
    for scenario in ("idle", "healthy"):
        project.variables = nvml.environment(nvml.SCENARIOS[scenario], tmp_path)
        assert project.pytest("--vnbench", f"--vnbench-out={scenario}").code == 0
        (path,) = project.files(scenario)
        found.append(store.read(path)[1][0])
    one, eight = found
    assert one["driver"] and one["device_uuid"].startswith("GPU-")
    assert one["device_name"].endswith(" + 1 × NVIDIA H100 80GB HBM3")
    assert eight["device_name"].endswith(" + 8 × NVIDIA H100 80GB HBM3") and eight["device_uuid"] is None
    assert len({gpu["uuid"] for gpu in json.loads(eight["environment"])["gpus"]}) == 8
    assert one["env_id"] != eight["env_id"]


def test_a_folder_that_pytest_would_take_for_one_of_tests_is_refused(make: Make) -> None:
    project = make("def test_one(benchmark):\n    benchmark(sum, [1])\n")
    (project.folder / "there").mkdir()
    found = project.pytest("--vnbench", "--vnbench-out", "there")
    assert found.code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: write --vnbench-out=there, with =" in found.err
    assert project.pytest("--vnbench", "--vnbench-out=there").code == 0
    assert len(project.files("there")) == 1


def test_without_the_switch_nothing_is_loaded_or_registered() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import bench.pytest_plugin; new = set(sys.modules) - before;"
        "print(sorted(name for name in new if name.partition('.')[0] not in sys.stdlib_module_names))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=dict(child.environment()), capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "['bench', 'bench.child', 'bench.pytest_plugin']"


def test_an_interrupt_keeps_what_was_finished_and_names_the_rest(make: Make) -> None:
    project = make(SLOW)
    process = project.start("--vnbench")
    project.wait_until_waiting()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
    assert process.wait(PATIENCE_S) == pytest.ExitCode.INTERRUPTED
    rows = project.read()[1]
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "interrupted", "interrupted"]
    assert rows["test_last"]["reason"] == "pytest ended before this was measured"


def test_a_killed_pytest_leaves_a_result_behind(make: Make) -> None:
    project = make(SLOW)
    process = project.start("--vnbench")
    project.wait_until_waiting()
    (folder,) = (project.folder / "results" / ".incomplete").iterdir()
    assert len(list(folder.glob("part-*.parquet"))) == 2  # on disk before the next test began
    process.kill()
    wait_until(project.files, "the result")
    wait_until(lambda: not project.writers(), "the writer's end")
    assert [row["status"] for row in project.read()[1].values()] == ["ok", "ok", "interrupted", "interrupted"]


def test_the_next_run_recovers_what_a_killed_writer_left(make: Make) -> None:
    project = make(SLOW)
    process = project.start("--vnbench")
    project.wait_until_waiting()
    (writer,) = project.writers()
    os.kill(writer, signal.SIGKILL)
    process.kill()
    process.wait(PATIENCE_S)
    notes: list[str] = []

    def is_recovered() -> bool:
        recovery.recover(project.folder / "results", notes.append)
        return bool(notes)

    wait_until(is_recovered, "its lock, which is free when the system has cleared up after it")
    assert len(notes) == 1 and "recovered the killed run" in notes[0] and "2 measurements" in notes[0]
    assert [row["status"] for row in project.read()[1].values()] == ["ok", "ok"]


WRITER_KILLER = """
import os, pathlib, signal

def test_first(benchmark):
    benchmark(sum, [1])
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            is_ours = f"PPid:\\t{os.getpid()}\\n" in status.read_text()
        except OSError:
            continue
        if is_ours:
            os.kill(int(status.parent.name), signal.SIGKILL)

def test_second(benchmark):
    benchmark(sum, [1])
"""


def test_a_writer_that_dies_costs_neither_a_test_nor_the_exit_code(make: Make) -> None:
    answer = make(WRITER_KILLER).pytest("--vnbench")
    assert answer.code == 0 and "2 passed" in answer.out
    assert "vnbench: the process that writes the results gave no answer" in answer.err


def test_an_unwritable_folder_is_named_and_the_tests_go_on(make: Make) -> None:
    project = make("def test_one(benchmark):\n    benchmark(sum, [1])\n")
    (project.folder / "results").write_text("a file")
    answer = project.pytest("--vnbench")
    assert answer.code == 0
    assert "vnbench: cannot write" in answer.err and "no benchmark is kept" in answer.err


def test_two_at_once_in_one_folder_are_two_results(make: Make) -> None:
    project = make("def test_one(benchmark):\n    benchmark(sum, [1])\n")
    processes = [project.start("--vnbench") for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    plans, rows = zip(*map(store.read, project.files()), strict=True)
    assert len({plan.run_id for plan in plans}) == 2
    assert rows[0][0]["spec_id"] == rows[1][0]["spec_id"]
    assert rows[0][0]["policy_id"] == rows[1][0]["policy_id"]
    assert rows[0][0]["env_id"] == rows[1][0]["env_id"]


def test_where_nothing_is_measured_nothing_is_kept(make: Make) -> None:
    project = make("def test_one(benchmark):\n    benchmark(sum, [1])\n")
    off = "vnbench: nothing is kept, since pytest-benchmark is off"
    expected: dict[tuple[str, ...], tuple[int, str]] = {
        ("--benchmark-disable",): (0, off),
        ("--benchmark-skip",): (0, off),
        **({("-n", "2"): (0, off)} if find_spec("xdist") else {}),
        ("--collect-only",): (0, ""),
        ("-k", "nothing"): (5, ""),
    }
    processes = {arguments: project.start("--vnbench", *arguments) for arguments in expected}
    for arguments, (code, words) in expected.items():
        _, err = processes[arguments].communicate(timeout=120)
        assert processes[arguments].returncode == code
        assert err.count(words) == 1 if words else err == ""
    assert not (project.folder / "results").exists()


def test_without_pytest_benchmark_the_switch_is_a_mistake_in_words(make: Make) -> None:
    project = make("def test_one():\n    pass\n")
    found = subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:benchmark", "--vnbench"],
        cwd=project.folder,
        env=dict(child.environment()),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--vnbench keeps what pytest-benchmark measures: install it" in found.stderr

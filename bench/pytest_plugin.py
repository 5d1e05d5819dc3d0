"""The plugin for pytest: with ``--vnbench``, what pytest-benchmark measures is kept as a result of ours as well.

Nothing of pytest's or pytest-benchmark's own is changed: neither what they print and save, nor the exit code. A process
beside the tests writes (``bench/pytest_writer.py``), so that the one that is measured loads nothing of ours; the two
speak only between tests. Without ``--vnbench`` there are three options in ``pytest --help``, and nothing else.
"""

from __future__ import annotations

import importlib
import json
import select
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import pytest

from bench import child

_PATIENCE_S = 60.0  # for an answer of the writer: it asks the NVIDIA driver, and that may hang

_OFF = "vnbench: nothing is kept, since pytest-benchmark is off (see above, or its options)"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vnbench", "keep what pytest-benchmark measures as a result of vnbench")
    group.addoption("--vnbench", action="store_true", help="Keep each benchmark in vnbench's results folder as well.")
    group.addoption(
        "--vnbench-out",
        default="results",
        metavar="DIR",
        help="The results folder, always as --vnbench-out=DIR.  [default: results]",
    )
    group.addoption("--vnbench-label", metavar="TEXT", help="A name to find this run by.")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--vnbench") or hasattr(config, "workerinput"):  # or a worker of pytest-xdist
        return
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError(
            "--vnbench keeps what pytest-benchmark measures: install it, or leave out -p no:benchmark"
        )
    if "--vnbench-out" in map(str, config.invocation_params.args):
        # pytest takes the folder for one of tests: it would look for its ini file there, and name the tests from there.
        raise pytest.UsageError(f"write --vnbench-out={config.getoption('--vnbench-out')}, with =")
    config.pluginmanager.register(_Recorder(config), "vnbench-recorder")


class _Recorder:
    """Tells the writer what pytest-benchmark measured, test after test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._writer: _Writer | None = None
        self._planned: list[str] = []
        self._told = 0  # of the session's benchmarks
        self._last_words: list[str] = []

    @property
    def _session(self) -> Any:
        """pytest-benchmark's own, which it registers under this name."""
        return self._config.pluginmanager.get_plugin("pytest-benchmark")

    @property
    def _is_off(self) -> bool:
        return self._session is None or self._session.disabled or self._session.skip

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._planned = [item.nodeid for item in session.items if _is_benchmark(item)]
        if self._config.option.collectonly or not self._planned:
            return
        if self._is_off:
            self._last_words.append(_OFF)
        else:
            self._start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self) -> None:
        """The tests are the workers' of pytest-xdist; here none is collected."""
        self._last_words.append(_OFF)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        if self._writer is not None and _is_benchmark(item):
            self._ask(watch=True)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if not self._is_off and (report.when == "call" or (report.when == "setup" and not report.passed)):
            self._keep(item, call, report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        try:
            return (yield)
        finally:
            if self._writer is not None:
                answer = self._ask(end=True)
                if answer.get("path"):
                    words = f"{answer['finished']} benchmarks are kept in {answer['path']}"
                    self._last_words.append(f"vnbench: {words}")
                self._writer.close()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        for line in self._last_words:
            print(line, file=sys.stderr)

    def _start(self) -> None:
        self._writer = _Writer()
        self._ask(
            out=self._config.getoption("--vnbench-out"),
            label=self._config.getoption("--vnbench-label"),
            planned=self._planned,
        )

    def _keep(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Tell the writer of a test that has ended, if it was to measure anything."""
        new, self._told = self._session.benchmarks[self._told :], len(self._session.benchmarks)
        if not new and not _is_benchmark(item):
            return
        status, reason = _outcome(call, report)
        if status == "ok" and not new:
            status, reason = "failed", "the test did not use its benchmark fixture"
        if self._writer is None:  # of a fixture that is asked for inside the test
            self._start()
        entry = _entry(new[-1]) if new else {"fullname": item.nodeid}
        self._ask(entry=entry, status=status, reason=reason, began_s=call.start)

    def _ask(self, **message: Any) -> dict[str, Any]:
        """The writer's answer. It may fail as it likes: the tests go on, and their exit code is their own."""
        if self._writer is None or self._writer.has_failed:
            return {}
        answer = self._writer.ask(message)
        if self._writer.has_failed:
            self._last_words.append(f"vnbench: {answer['error']}. From there on, no benchmark is kept")
        return answer


class _Writer:
    """The process that writes. It has a session of its own: a Ctrl-C is for the tests, and it ends when they have."""

    def __init__(self) -> None:
        self.has_failed = False
        self._process = subprocess.Popen(
            child.command("bench.pytest_writer"),
            env=child.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Its answer to one message, which has the key ``error`` from its first failure on."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            is_there = select.select([self._process.stdout], [], [], _PATIENCE_S)[0]
            line = self._process.stdout.readline() if is_there else b""
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError):
            answer = {"error": "the process that writes the results gave no answer"}
        self.has_failed = "error" in answer
        return answer

    def close(self) -> None:
        """Let it end, and see that it has."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(_PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _is_benchmark(item: pytest.Item) -> bool:
    return "benchmark" in getattr(item, "fixturenames", ())


def _outcome(call: pytest.CallInfo[None], report: pytest.TestReport) -> tuple[str, str | None]:
    """The status of a row, and why it is not ok. What was skipped, or failed as expected, is not to be had here."""
    if report.skipped:
        words = getattr(report, "wasxfail", None)
        return "unsupported", f"expected to fail: {words}" if words is not None else f"skipped: {_skip_reason(report)}"
    if report.passed:
        return "ok", None
    return "failed", call.excinfo.exconly(tryshort=True).partition("\n")[0] if call.excinfo else "the test failed"


def _skip_reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return str(text).removeprefix("Skipped: ").partition("\n")[0]


def _entry(benchmark: Any) -> dict[str, Any]:
    """What pytest-benchmark would save of a benchmark; its figures are not asked for, since that would fill caches."""
    utils: Any = importlib.import_module("pytest_benchmark.utils")
    return {
        "fullname": benchmark.fullname,
        "options": {
            name: utils.funcname(value) if callable(value) else value for name, value in benchmark.options.items()
        },
        "extra_info": {str(name): value for name, value in benchmark.extra_info.items() if _is_number(value)},
        "stats": {
            "data": list(map(float, benchmark.stats.data)),
            "rounds": len(benchmark.stats.data),
            "iterations": benchmark.iterations,
        },
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

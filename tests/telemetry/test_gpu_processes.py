"""``bench.telemetry.gpu_processes``: real processes, in and outside of a PID namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.telemetry import gpu_processes
from bench.telemetry.gpu_processes import foreign

ABOVE_ANY_PID = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h: a pid is below
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=-1)
child.stdout.readline()
print(child.pid, flush=True)
input()
child.communicate()
"""


@pytest.fixture
def start() -> Iterator[Callable[[], tuple[int, int]]]:
    """Starts a process and one below it, and tells their pids."""
    started = []

    def begin() -> tuple[int, int]:
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        return process.pid, int(process.stdout.readline())

    yield begin
    for process in started:
        process.communicate("\n")


@pytest.fixture
def in_namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Puts this process into a PID namespace of that number, as far as can be seen."""

    def enter(number: str) -> None:
        link = tmp_path / number
        link.symlink_to(f"pid:[{number}]")
        monkeypatch.setattr(gpu_processes, "_PID_NAMESPACE", link)

    return enter


@pytest.fixture
def on_host(in_namespace: Callable[[str], None]) -> None:
    in_namespace("4026531836")


@pytest.fixture
def in_container(in_namespace: Callable[[str], None]) -> None:
    in_namespace("4026532201")


@pytest.mark.usefixtures("on_host")
def test_the_runs_processes_are_its_own_and_all_others_foreign(start: Callable[[], tuple[int, int]]) -> None:
    run, worker = start()
    other, below_other = start()
    assert foreign([], run) == 0
    assert foreign([run, worker, worker], run) == 0
    assert foreign([worker, other, below_other], run) == 2
    assert foreign([run], worker) == 1, "what is above is not below"
    assert foreign([run, worker, os.getpid()]) == 0, "without a run, all below this process"
    assert foreign([os.getppid()]) == 1


@pytest.mark.usefixtures("on_host")
def test_a_process_that_has_ended_is_nobodys(start: Callable[[], tuple[int, int]]) -> None:
    run, _ = start()
    assert foreign([ABOVE_ANY_PID, run], run) == 0


@pytest.mark.usefixtures("in_container")
def test_in_a_container_what_is_recognised_is_told_apart(start: Callable[[], tuple[int, int]]) -> None:
    run, worker = start()
    other, _ = start()
    assert foreign([worker, other], run) == 1
    assert foreign([worker], run) is None, "processes outside may be hidden"
    assert foreign([], run) is None


@pytest.mark.usefixtures("in_container")
def test_in_a_container_one_of_the_hosts_pids_is_the_runs_worker(start: Callable[[], tuple[int, int]]) -> None:
    run, _ = start()
    hosts = [ABOVE_ANY_PID, ABOVE_ANY_PID + 1, ABOVE_ANY_PID + 2]
    assert foreign(hosts[:1], run) is None
    assert foreign(hosts, run) == 2
    assert foreign(hosts) == 3, "without a run there is no worker"


def test_where_the_namespace_is_not_told_it_is_taken_for_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_processes, "_PID_NAMESPACE", tmp_path / "no-proc")
    assert foreign([]) is None

"""The barrier and the watchdog, with real processes that need no libraries and follow a script."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import Interrupted, OutputNotWritable
from bench.launch import local, process
from bench.types import DeviceInfo, Item, Job, Plan, Policy
from tests.checkout import wait_until

PRELUDE = """
import json, os, sys, time
events = os.fdopen(int(sys.argv[1]), "w", buffering=1)
def tell(event, **fields): events.write(json.dumps({"event": event, **fields}) + "\\n")
def begin(item): tell("begin", item=item, log_bytes=os.fstat(1).st_size)
def meet(item):
    tell("ready", item=item)
    assert sys.stdin.readline() == "go\\n"
def measure(item):
    begin(item)
    meet(item)
    tell("past", item=item)
    tell("done", item=item)
"""
WELL = "measure(0); measure(1)"


class Scripts:
    """Workers that follow a script each, by the index of their device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.of: dict[int, str] = {}
        (folder / "logs").mkdir()

    def command(self, module: str, job_file: str, events_fd: str) -> list[str]:
        index = int(Path(job_file).stem.split("-")[2].removeprefix("cpu"))
        return [sys.executable, "-c", PRELUDE + self.of[index], events_fd]

    def jobs(self, timeout_s: float = 1000.0, deadline_s: float | None = None) -> list[Job]:
        devices = tuple(DeviceInfo("cpu", index, "test") for index in self.of)
        plan = Plan("run", "node", "suite", "", {}, devices, Policy(), 1, timeout_s, "0")
        items = (Item("first"), Item("second"))
        return [Job(plan, device, items, 0, str(self.folder), "", deadline_s=deadline_s) for device in devices]


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    scripts = Scripts(tmp_path)
    monkeypatch.setattr("bench.child.command", scripts.command)
    monkeypatch.setattr(local, "_POLL_S", 0.02)
    return scripts


@pytest.fixture
def lock_fd(tmp_path: Path) -> Iterator[int]:
    lock_fd = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    yield lock_fd
    os.close(lock_fd)


def gone(pid: int) -> bool:
    """The process has ended, whether or not anybody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_an_item_begins_when_the_last_worker_is_ready_for_it(scripts: Scripts, lock_fd: int, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waiting = f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    scripts.of = {0: WELL, 1: waiting + "time.sleep(0.2)\n" + WELL}
    seen: list[tuple[str, int, int]] = []

    def on_event(job: Job, event: process.Event) -> None:
        seen.append((event["event"], event["item"], job.device.index))
        if seen[-1] == ("ready", 0, 0):
            go.touch()

    outcomes = local.run_group(scripts.jobs(), lock_fd, on_event)
    assert [(outcome.finished, outcome.death) for outcome in outcomes] == [(2, None), (2, None)]
    for item in (0, 1):
        assert max(seen.index(("ready", item, one)) for one in (0, 1)) < min(
            seen.index(("past", item, one)) for one in (0, 1)
        )


def test_a_worker_that_dies_holds_up_no_other(scripts: Scripts, lock_fd: int) -> None:
    scripts.of = {0: WELL, 1: "begin(0); sys.exit('these are its last words')", 2: WELL}
    first, second, third = local.run_group(scripts.jobs(), lock_fd)
    assert (first.finished, third.finished) == (2, 2)
    assert (second.begun, second.finished) == (1, 0)
    assert second.death == ("crashed", "the worker ended with exit code 1: these are its last words")


def test_a_worker_that_fails_before_the_barrier_meets_the_others_at_the_next(scripts: Scripts, lock_fd: int) -> None:
    scripts.of = {0: WELL, 1: "begin(0); tell('done', item=0); measure(1)"}
    outcomes = local.run_group(scripts.jobs(), lock_fd)
    assert [(outcome.finished, outcome.death) for outcome in outcomes] == [(2, None), (2, None)]


def test_last_words_are_of_the_item_at_hand(scripts: Scripts, lock_fd: int) -> None:
    scripts.of = {
        0: "begin(0); print('of the first', flush=True); tell('done', item=0)\nmeet(0); begin(1); meet(1); os._exit(5)"
    }
    (outcome,) = local.run_group(scripts.jobs(), lock_fd)
    assert outcome.death == ("crashed", "the worker ended with exit code 5")


@pytest.mark.parametrize(
    ("script", "timeout_s", "deadline_s", "words"),
    [
        ("begin(0); time.sleep(3600)", 0.2, None, "no answer within 0.2 s"),
        ("begin(0); meet(0); time.sleep(3600)", 0.2, None, "no answer within 0.2 s"),
        ("begin(0); time.sleep(3600)", 1000.0, 0.0, "no answer 0.1 s after the end of the budget"),
        ("time.sleep(3600)", 0.01, None, "no start within 0.5 s"),
    ],
    ids=["before the barrier", "behind it", "under a budget", "at the start"],
)
def test_a_hang_ends(
    script: str,
    timeout_s: float,
    deadline_s: float | None,
    words: str,
    scripts: Scripts,
    lock_fd: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "_GRACE_S", 0.1)
    monkeypatch.setattr(process, "_START_S", 0.5 if "start" in words else 1000.0)
    scripts.of = {0: script}
    (outcome,) = local.run_group(scripts.jobs(timeout_s, deadline_s), lock_fd)
    assert (outcome.finished, outcome.death) == (0, ("timeout", words))


def test_who_waits_for_others_is_not_late(
    scripts: Scripts, lock_fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long after its own time is up, by a clock that leaps, the other worker begins."""
    monkeypatch.setattr(process, "_START_S", 1e9)
    real_s, leap_s = time.monotonic, [0.0]
    monkeypatch.setattr("bench.launch.process.time.monotonic", lambda: real_s() + leap_s[0])
    go = tmp_path / "go"
    scripts.of = {0: WELL, 1: f"while not os.path.exists({str(go)!r}): time.sleep(0.1)\n" + WELL}

    def on_event(job: Job, event: process.Event) -> None:
        if event["event"] == "ready" and not go.exists():
            leap_s[0] = 1e6
            go.touch()

    outcomes = local.run_group(scripts.jobs(), lock_fd, on_event)
    assert [(outcome.finished, outcome.death) for outcome in outcomes] == [(2, None), (2, None)]


def test_a_dead_worker_is_noticed_and_its_children_end_though_they_hold_its_pipe(
    scripts: Scripts, lock_fd: int
) -> None:
    """Data-loader processes are forked, and inherit all that their worker has open."""
    scripts.of = {
        0: "child = os.fork()\nif child == 0: time.sleep(3600)\nbegin(0); tell('child', item=0, pid=child); os._exit(9)"
    }
    (outcome,) = local.run_group(scripts.jobs(), lock_fd)
    assert outcome.death == ("crashed", "the worker ended with exit code 9")
    (child,) = (event["pid"] for event in outcome.events if event["event"] == "child")
    wait_until(lambda: gone(child), "the end of the child")


def test_a_worker_that_cannot_shut_down_is_ended_and_keeps_its_results(
    scripts: Scripts, lock_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_EXIT_S", 0.1)
    scripts.of = {0: WELL + "\nevents.close(); time.sleep(3600)"}
    (outcome,) = local.run_group(scripts.jobs(), lock_fd)
    assert outcome.finished == 2


def test_what_a_poll_raises_ends_every_worker(scripts: Scripts, lock_fd: int) -> None:
    pids: list[int] = []

    def on_event(job: Job, event: process.Event) -> None:
        if event["event"] == "pid":
            pids.append(event["pid"])

    def on_poll() -> None:
        if len(pids) == 2:
            raise Interrupted(15, "told to")

    script = "tell('pid', item=0, pid=os.getpid()); time.sleep(3600)"
    scripts.of = {0: script, 1: script}
    with pytest.raises(Interrupted):
        local.run_group(scripts.jobs(), lock_fd, on_event, on_poll)
    assert all(map(gone, pids))


def test_a_folder_that_cannot_be_written_is_said_so(scripts: Scripts, lock_fd: int) -> None:
    scripts.of = {0: WELL}
    (scripts.folder / "logs").rmdir()
    with pytest.raises(OutputNotWritable, match="cannot write"):
        local.run_group(scripts.jobs(), lock_fd)


def test_threads_are_shared_out_and_the_users_own_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.setattr("bench.device.cpu.usable_cores", lambda: 8)
    variables = process.thread_variables(4, os.environ)
    assert (variables["OMP_NUM_THREADS"], variables["MKL_NUM_THREADS"]) == ("2", "3")

"""Sessions with real processes that need no libraries and follow a script each."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bench.errors import Interrupted, OutputNotWritable
from bench.launch import duet, process
from bench.launch.process import Outcome, Place
from bench.types import Arm, DeviceInfo, Duet, Item, Job, Plan, Policy
from tests.checkout import wait_until
from tests.launch.test_local import gone

PAIRS = 6
PRELUDE = f"""
import json, os, signal, sys, time
events = os.fdopen(int(sys.argv[2]), "w", buffering=1)
def tell(event, **fields): events.write(json.dumps({{"event": event, **fields}}) + "\\n")
def meet():
    tell("ready", item=0)
    tell("heard", line=sys.stdin.readline())
def prepare(samples=10, launches=1):
    tell("pid", pid=os.getpid())
    tell("begin", item=0, log_bytes=0)
    tell("sized", item=0, samples=samples, launches=launches)
def turns(count):
    for _ in range(count):
        meet()
        began_ns = time.monotonic_ns()
        time.sleep(0.002)
        tell("turn", began_ns=began_ns, ended_ns=time.monotonic_ns())
def end(**columns):
    tell("measured", item=0, columns=columns)
    tell("done", item=0)
ALL = 1 + {PAIRS}
FOR_EVER = 120
"""
WELL = "prepare(); turns(ALL); meet(); end(status='ok')"
WAITS_FOR_EVER = "prepare(); time.sleep(FOR_EVER)"


class InOrder(Random):
    """A lot that always falls on the first."""

    def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
        return list(population)


class Session:
    """Two scripts, played against each other."""

    def __init__(self, folder: Path, lock_fd: int) -> None:
        self.folder = folder
        self.lock_fd = lock_fd
        self.timeout_s = 1000.0
        self.variables: dict[str, str] = dict(os.environ)
        self.cwd: str | None = None
        (folder / "logs").mkdir()

    def jobs(self) -> list[Job]:
        device = DeviceInfo("cpu", 0, "test")
        arms = Arm("A"), Arm("B")
        duet_ = Duet(pairs=PAIRS)
        plan = Plan("r", "n", "ab", "", {}, (device,), Policy(), 1, self.timeout_s, "0", arms=arms, duet=duet_)
        return [
            Job(plan, device, (Item("x"),), 0, str(self.folder), "", arm=arm, sequence=index)
            for index, arm in enumerate(arms)
        ]

    def play(self, a: str, b: str, lot: Random | None = None, **more: Any) -> list[Outcome]:
        places = [Place([sys.executable, "-c", PRELUDE + script], self.variables, self.cwd) for script in (a, b)]
        return duet.play(self.jobs(), places, self.lock_fd, lot or InOrder(), **more)

    def pids(self) -> list[int]:
        """Of all processes that have this session's job files in their command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(self.folder).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return [pid for pid in found if not gone(pid)]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setattr(duet, "_POLL_S", 0.02)
    lock_fd = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    session = Session(tmp_path, lock_fd)
    yield session
    os.close(lock_fd)
    assert session.pids() == []


def told(outcome: Outcome, event: str) -> list[dict[str, Any]]:
    return [each for each in outcome.events if each["event"] == event]


def turns(outcomes: Sequence[Outcome]) -> list[tuple[int, int, int]]:
    """When each turn began and ended, and whose it was, in the order of time."""
    return sorted(
        (event["began_ns"], event["ended_ns"], index)
        for index, outcome in enumerate(outcomes)
        for event in told(outcome, "turn")
    )


# ---------------------------------------------------------------- taking turns


def test_both_arms_take_bursts_of_one_size(session: Session) -> None:
    """The fewer samples of either, of the more launches: other counts have other quartiles."""
    a, b = (f"prepare({samples}, {launches}); turns(ALL); meet(); end()" for samples, launches in ((7, 3), (5, 4)))
    for outcome in session.play(a, b):
        assert [event["line"] for event in told(outcome, "heard")] == ["warm up\n", *["5 4\n"] * PAIRS, "go\n"]


def test_one_burst_is_over_before_the_next_begins_and_each_pair_has_one_of_each_arm(session: Session) -> None:
    outcomes = session.play(WELL, WELL)
    assert [(outcome.finished, outcome.death) for outcome in outcomes] == [(1, None), (1, None)]
    found = turns(outcomes)
    assert len(found) == 2 * (1 + PAIRS)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(found))
    assert all({found[i][2], found[i + 1][2]} == {0, 1} for i in range(0, len(found), 2))


def test_who_goes_first_in_a_pair_is_drawn_by_lot(session: Session) -> None:
    outcomes = session.play(WELL, WELL, Random("a lot"))
    lot = Random("a lot")
    lot.sample((0, 1), 2)  # who is started first
    expected = [index for _ in range(1 + PAIRS) for index in lot.sample((0, 1), 2)]
    assert [index for _, _, index in turns(outcomes)] == expected
    assert {(0, 1), (1, 0)} == set(zip(expected[::2], expected[1::2], strict=True))  # both ways were seen


def test_neither_warms_up_while_the_other_prepares(session: Session, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waits = f"tell('pid', pid=os.getpid())\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    seen: list[float] = []

    def on_poll() -> None:
        if not seen and len(list((tmp_path / "logs").glob("*.json"))) == 2:
            seen.append(time.monotonic())
        if seen and time.monotonic() > seen[0] + 0.2:
            go.touch()

    outcomes = session.play(WELL, waits + WELL, on_poll=on_poll)
    assert turns(outcomes)[0][0] > seen[0] * 1e9 + 0.2e9
    assert len(turns(outcomes)) == 2 * (1 + PAIRS)


def test_the_place_gives_variables_and_folder_and_the_job_says_the_arm(session: Session, tmp_path: Path) -> None:
    session.variables |= {"WHO": "an arm", "OMP_NUM_THREADS": "3"}
    session.variables.pop("MKL_NUM_THREADS", None)
    session.cwd = str(tmp_path / "logs")
    says = (
        "prepare()\n"
        "job = json.load(open(sys.argv[1]))\n"
        "end(arm=job['arm']['name'], who=os.environ['WHO'], omp=os.environ['OMP_NUM_THREADS'], "
        "mkl=os.environ['MKL_NUM_THREADS'], cwd=os.getcwd())"
    )
    a, _ = session.play(says, WELL)
    (event,) = told(a, "measured")
    assert event["columns"]["arm"] == "A"
    assert (event["columns"]["who"], event["columns"]["omp"]) == ("an arm", "3")
    assert int(event["columns"]["mkl"]) >= 1
    assert event["columns"]["cwd"] == str(tmp_path / "logs")


# ---------------------------------------------------------------- failures

FAILS = "end(status='failed', reason='told to')"


@pytest.mark.parametrize(
    ("fails", "other"),
    [
        (f"prepare(); {FAILS}", WAITS_FOR_EVER),
        (f"prepare(); {FAILS}", WELL),
        (f"prepare(); turns(3); {FAILS}", WELL),
        (f"prepare(); tell('ready', item=0); time.sleep(0.2); {FAILS}", "prepare(); meet(); time.sleep(FOR_EVER)"),
        (f"prepare(); turns(ALL); {FAILS}", WELL),
        (f"prepare(); turns(3); {FAILS}; time.sleep(FOR_EVER)", WELL),
    ],
    ids=[
        "while the other prepares",
        "at once",
        "in its turn",
        "in the other's turn",
        "after its last turn",
        "and cannot shut down",
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_an_arm_that_fails_ends_the_other_at_once(session: Session, fails: str, other: str, first: int) -> None:
    order = (fails, other) if first == 0 else (other, fails)
    # In the other's turn, it has to be the other's.
    lot = Reversed() if "ready" in fails and first == 0 else InOrder()
    outcomes = session.play(*order, lot=lot)
    failed, ended = outcomes if first == 0 else outcomes[::-1]
    assert (failed.finished, failed.death, len(told(failed, "measured"))) == (1, None, 1)
    assert (ended.finished, ended.death, told(ended, "measured")) == (0, None, [])


class Reversed(InOrder):
    def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
        return list(population)[::-1]


@pytest.mark.parametrize(
    ("dies", "other"),
    [
        ("prepare(); os.kill(os.getpid(), signal.SIGKILL)", WAITS_FOR_EVER),
        ("prepare(); turns(3); os.kill(os.getpid(), signal.SIGKILL)", WELL),
        (
            "prepare(); tell('ready', item=0); os.kill(os.getpid(), signal.SIGKILL)",
            "prepare(); meet(); time.sleep(FOR_EVER)",
        ),
        ("prepare(); turns(ALL); meet(); os.kill(os.getpid(), signal.SIGKILL)", WELL),
    ],
    ids=["while it prepares", "in its turn", "while it waits for its turn", "at its last check"],
)
def test_a_crash_is_reported_and_says_by_what(session: Session, dies: str, other: str) -> None:
    a, b = session.play(other, dies)
    assert b.death is not None
    assert b.death[0] == "crashed"
    assert "killed by SIGKILL" in b.death[1]
    assert a.death is None


def test_a_worker_that_dies_while_the_other_has_its_turn_is_asked_for_nothing_more(session: Session) -> None:
    """Its pipe is closed by then: to write into it would be an error of ours."""
    dies = "prepare(); tell('ready', item=0); os._exit(9)"
    a, b = session.play("prepare(); meet(); time.sleep(0.5); turns(ALL); meet(); end()", dies)
    assert b.death == ("crashed", "the worker ended with exit code 9")
    assert told(a, "measured") == []


def test_its_last_words_are_in_the_reason(session: Session) -> None:
    a, b = session.play("prepare(); sys.exit('out of paper')", WELL)
    assert a.death == ("crashed", "the worker ended with exit code 1: out of paper")
    assert b.death is None


@pytest.mark.parametrize(
    "hangs",
    [
        WAITS_FOR_EVER,
        "prepare(); turns(2); meet(); time.sleep(FOR_EVER)",
        "prepare(); turns(ALL); meet(); time.sleep(FOR_EVER)",
    ],
    ids=["while it prepares", "in its turn", "at its last check"],
)
def test_a_hang_ends(session: Session, hangs: str) -> None:
    session.timeout_s = 2.0  # within which the other has to answer, whatever else the machine does
    a, b = session.play(WELL, hangs)
    assert b.death == ("timeout", "no answer within 2 s")
    assert a.death is None


def test_an_arm_that_never_starts_is_a_timeout(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_START_S", 0.5)
    a, _ = session.play("time.sleep(FOR_EVER)", "time.sleep(FOR_EVER)")
    assert a.death == ("timeout", "no start within 0.5 s")


def test_who_waits_for_an_other_that_is_slow_to_start_is_not_late(session: Session) -> None:
    session.timeout_s = 2.0
    outcomes = session.play(WELL, "time.sleep(3)\n" + WELL)
    assert [(outcome.finished, outcome.death) for outcome in outcomes] == [(1, None), (1, None)]


def test_a_worker_that_gives_up_is_fatal(session: Session) -> None:
    a, b = session.play("tell('fatal', code=4, what='no device', remedy='Plug it in')", WELL)
    assert a.fatal is not None
    assert (a.fatal["code"], a.fatal["what"], b.fatal) == (4, "no device", None)


@pytest.mark.parametrize("error", [Interrupted(15, "told to"), KeyboardInterrupt()])
def test_what_a_poll_raises_ends_both(session: Session, error: BaseException) -> None:
    def on_poll() -> None:
        if len(session.pids()) == 2:
            raise error

    with pytest.raises(type(error)):
        session.play(WAITS_FOR_EVER, WAITS_FOR_EVER, on_poll=on_poll)
    assert session.pids() == []


def test_children_of_an_arm_end_with_it(session: Session, tmp_path: Path) -> None:
    child = tmp_path / "child"
    forks = "child = os.fork()\nif child == 0: time.sleep(FOR_EVER)\n"
    session.play(forks + f"open({str(child)!r}, 'w').write(str(child))\n" + WELL, WELL)
    wait_until(lambda: gone(int(child.read_text())), "the end of the child")


def test_a_folder_that_cannot_be_written_is_said_so(session: Session, tmp_path: Path) -> None:
    (tmp_path / "logs").rmdir()
    with pytest.raises(OutputNotWritable, match="cannot write"):
        session.play(WELL, WELL)


def test_the_job_file_can_be_read_back(session: Session, tmp_path: Path) -> None:
    session.play(WELL, WELL)
    paths = sorted((tmp_path / "logs").glob("*.json"))
    assert [Job.from_json(json.loads(path.read_text())).arm for path in paths] == [Arm("A"), Arm("B")]

"""``bench.ab``: whole tests with real processes, of functions that only sleep."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import ab, arms, libraries, recovery, store
from bench.errors import ImpossibleDevice, Interrupted, OutputNotWritable, UsageError, VnbenchError
from bench.judgement import exit_code
from bench.launch import duet
from bench.observer import Silent
from bench.schema import Row, window_ns
from bench.types import Arm, DeviceInfo, Plan, Trial
from tests.checkout import ROOT, wait_until
from tests.duets import SHORTEST, SLOWER, judge, plan_of, played, write_functions
from tests.launch.test_local import gone
from tests.results import make_row


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder, beside the functions in the working directory."""
    write_functions(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def incomplete(out: Path) -> list[Path]:
    return sorted((out / ".incomplete").glob("*"))


class AtSession(Silent):
    """Does something as a session begins."""

    def __init__(self, session: int, does: Any) -> None:
        self.session, self.does, self.said = session, does, list[str]()

    def advance(self, done: int, total: int, left_s: float | None, doing: str) -> None:
        self.said.append(doing)
        if done == self.session:
            self.does()


# ---------------------------------------------------------------- what is measured


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, Path]]:
    """The result of a test whose B sleeps five times as long."""
    folder = tmp_path_factory.mktemp("slower")
    write_functions(folder)
    before = Path.cwd()
    os.chdir(folder)
    plan = plan_of("nap", tags={"why": "a test"}, telemetry_hz=10.0)
    yield plan, ab.execute(plan, folder / "results", observer=Silent())
    os.chdir(before)


def test_a_function_that_takes_five_times_as_long_is_regressed_at_the_first_clear_look(
    slower: tuple[Plan, Path],
) -> None:
    plan, path = slower
    _, rows = store.read(path)
    (found,) = judge(plan, rows)
    assert (found.workload, found.device, found.verdict) == ("call/naps.py:nap", "cpu", "REGRESSED")
    assert found.n in plan.trial.looks
    assert len(rows) == 2 * found.n  # and no session more
    assert found.ratio is not None
    assert found.ratio > 1.3
    assert exit_code([found]) == 5


def test_what_takes_several_gpus_is_unsupported_in_both_arms_without_a_worker(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duet, "play", lambda *arguments: pytest.fail("a worker was started"))
    plan = plan_of("nap", device=DeviceInfo("cuda", 0, "GPU"), telemetry_hz=0.0)
    plan = dataclasses.replace(plan, workloads={"cuda": ("collective/all-reduce/w2/kib1",)})
    _, rows = store.read(ab.execute(plan, out))
    assert {row["arm"] for row in rows} == {"A", "B"}
    assert {(row["status"], row["reason"]) for row in rows} == {("unsupported", "takes 2 GPUs, the run has 1")}


def test_a_row_is_an_arm_of_a_session(slower: tuple[Plan, Path]) -> None:
    plan, path = slower
    _, rows = store.read(path)
    sessions = range(len(rows) // 2)
    assert sorted((row["session"], row["arm"]) for row in rows) == [(i, arm) for i in sessions for arm in "AB"]
    for row in rows:
        assert row["replicate"] == row["session"]
        assert (row["status"], row["unit"], row["better"], row["suite"]) == ("ok", "call/s", "higher", "ab")
        assert row["policy_id"] == plan.duet.policy_id != plan.policy.policy_id
        assert len(row["elapsed_ns"]) == len(row["sample_flags"]) == SHORTEST.pairs * row["burst_samples"]
        assert row["value"] == pytest.approx(1e9 / row["median_ns"])
        assert dict(row["tags"]) == {"why": "a test"}
        arm = json.loads(row["environment"])["arm"]
        assert arm["variables"] == (SLOWER.variables if row["arm"] == "B" else {})
        assert row["involuntary_switches"] is None or row["involuntary_switches"] >= 0
        assert "mixed-environment" not in row["validity"]
        window = window_ns(row)
        assert window is not None
        assert window[1] - window[0] >= sum(row["elapsed_ns"]) * row["launches_per_sample"]
    a, b = ([row for row in rows if row["arm"] == arm] for arm in "AB")
    assert all(row["median_ns"] >= 1e6 for row in a)
    assert all(row["median_ns"] >= 5e6 for row in b)
    assert len({store.part_name(row) for row in rows}) == len(rows)  # or one would overwrite the other


def test_the_result_is_a_table_like_any_other(slower: tuple[Plan, Path]) -> None:
    import pandas as pd

    _, path = slower
    out = path.parents[2]
    table = pd.read_parquet(out / "runs")
    assert len(table) >= 6
    medians = table.groupby("arm")["median_ns"].median()
    assert medians["B"] > medians["A"]
    assert incomplete(out) == []


def test_the_state_of_the_machine_is_recorded_beside_it(slower: tuple[Plan, Path]) -> None:
    plan, path = slower
    series = path.parents[2] / "telemetry" / plan.node / f"{plan.run_id}.parquet"
    assert series.is_file()
    assert all(row["telemetry_readings"] is not None for row in store.read(path)[1])


def test_alike_arms_are_no_regression(out: Path) -> None:
    _, (found,) = played(plan_of("nap", b=Arm("B", variables={"OTHER": "1"})), out)
    assert found.verdict in ("PASS", "INCONCLUSIVE")


def test_arms_with_workloads_of_their_own_are_one_test(out: Path) -> None:
    names = [f"call/naps.py:{name}" for name in ("nap", "longer_nap")]
    rows, (found,) = played(plan_of(a=Arm("A", workload=names[0]), b=Arm("B", workload=names[1])), out)
    assert {(row["arm"], row["workload"]) for row in rows} == {("A", names[0]), ("B", names[1])}
    assert (found.workload, found.verdict) == (" : ".join(names), "REGRESSED")


def test_workloads_take_turns_and_each_ends_when_it_is_clear(out: Path) -> None:
    """Two fail, and are not asked again."""
    observer = AtSession(-1, None)
    plan = plan_of("nap", "fails", "wrong")
    rows, found = played(plan, out, observer=observer)
    said = [text.rpartition(":")[2] for text in observer.said]
    assert said == ["nap", "fails", "wrong", *["nap"] * (len(said) - 3)]
    assert {one.workload.rpartition(":")[2]: one.verdict for one in found} == {
        "nap": "REGRESSED",
        "fails": "ERROR",
        "wrong": "ERROR",
    }
    assert len({store.part_name(row) for row in rows}) == len(rows)
    assert exit_code(found) == 5


def test_when_the_budget_is_spent_no_session_begins(out: Path) -> None:
    rows, _ = played(plan_of("nap", "longer_nap"), out, budget_s=0.0)
    assert sorted((row["workload"].rpartition(":")[2], row["session"]) for row in rows) == [
        ("longer_nap", 0),
        ("longer_nap", 0),
        ("nap", 0),
        ("nap", 0),
    ]


def test_a_spent_budget_is_inconclusive(out: Path) -> None:
    _, (found,) = played(plan_of("nap"), out, budget_s=0.0)
    assert (found.verdict, found.reason) == ("INCONCLUSIVE", "1 sessions, where the first look is after 3")
    assert exit_code([found]) == 6


# ---------------------------------------------------------------- arms that differ


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """The interpreter of an environment without any library."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    return str(tmp_path / "bare" / "bin" / "python")


def test_arms_with_other_libraries_are_incomparable_and_the_keys_are_named(out: Path, bare: str) -> None:
    with pytest.raises(ab.Incomparable) as raised:
        ab.execute(plan_of("nap", b=Arm("B", python=bare)), out, vary={"torch"})
    numpy = libraries.version("numpy")
    assert str(raised.value) == (
        f"the arms differ in numpy ({numpy} and None). Make them alike, or say that it is meant: --vary numpy"
    )
    assert raised.value.exit_code == 6
    assert incomplete(out) == []
    assert list((out / "runs").rglob("*.parquet")) == []


def test_arms_may_differ_in_what_is_varied_and_each_row_has_its_own(out: Path, bare: str) -> None:
    """And an arm needs no library at all to be measured."""
    b = Arm("B", python=bare, variables=SLOWER.variables)
    rows, (found,) = played(plan_of("nap", b=b), out, vary={"torch", "numpy", "cuda"})
    assert found.verdict == "REGRESSED"
    assert {(row["arm"], row["numpy"]) for row in rows} == {("A", libraries.version("numpy")), ("B", None)}
    assert len({row["env_id"] for row in rows}) == 2
    assert not any("mixed-environment" in row["validity"] for row in rows)


def test_two_revisions_of_ones_own_code(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    code = tmp_path / "code.py"
    git("init", "--quiet")
    for seconds in ("0.001", "0.005"):
        code.write_text(f"import time\ndef work(): time.sleep({seconds})\n")
        git("add", "code.py")
        git("commit", "--quiet", "--message", seconds)
    code.write_text("raise RuntimeError('the working tree is none of the two')\n")
    real = arms._run

    def without_pip(arm: Arm, command: list[str], *rest: Any) -> None:
        real(arm, [*command[:3], "--without-pip", *command[3:]] if "venv" in command else command, *rest)

    monkeypatch.setattr(arms, "_run", without_pip)
    pair = (Arm("A", revision="HEAD~1"), Arm("B", revision="HEAD"))
    plan = plan_of("nap", a=pair[0], b=pair[1])
    realised = tuple(arms.realise(arm, out, None, print) for arm in pair)
    plan = dataclasses.replace(plan, arms=realised, workloads={"cpu": ("call/code.py:work",)})
    _, (found,) = played(plan, out)
    assert found.verdict == "REGRESSED"
    assert found.ratio is not None
    assert found.ratio > 1.3
    assert store.find(out, str(out)) == store.find(out, plan.run_id)  # a tree of ours is no folder of results


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("function", "status", "words"),
    [
        ("fails", "failed", "ValueError: it would not [/as code does] (naps.py:"),
        ("wrong", "wrong", "says its own check"),
        ("wrong_later", "wrong", "says its own check"),
    ],
)
def test_a_function_that_fails_is_an_error_after_one_session(out: Path, function: str, status: str, words: str) -> None:
    rows, (found,) = played(plan_of(function), out)
    assert {row["session"] for row in rows} == {0}
    assert found.verdict == "ERROR"
    assert f": {status}: " in found.reason
    assert words in found.reason
    assert all(row["value"] is None for row in rows)
    assert exit_code([found]) == 3
    assert incomplete(out) == []


def test_a_function_that_is_not_there_is_the_users_to_mend_and_leaves_nothing_behind(out: Path) -> None:
    with pytest.raises(VnbenchError, match=r"naps\.py:nowhere: there is no function 'nowhere'") as raised:
        ab.execute(plan_of("nowhere"), out)
    assert raised.value.exit_code == UsageError.exit_code
    assert incomplete(out) == []
    assert not list((out / "runs").rglob("*.parquet"))


def test_a_module_that_is_not_there_is_an_error_in_its_own_words(out: Path) -> None:
    plan = dataclasses.replace(plan_of("nap"), workloads={"cpu": ("call/no_such_module:f",)})
    _, (found,) = played(plan, out)
    assert "ModuleNotFoundError: No module named 'no_such_module'" in found.reason


def test_an_arm_that_dies_in_a_later_session_is_an_error_and_the_sessions_before_it_are_kept(
    out: Path, tmp_path: Path
) -> None:
    boom = tmp_path / "boom"
    b = Arm("B", variables={"BOOM": str(boom)})
    rows, (found,) = played(plan_of("ends_at_the_second", b=b), out, observer=AtSession(1, boom.touch))
    assert (found.verdict, found.reason.partition(" (")[0]) == (
        "ERROR",
        "arm B: crashed: the worker was killed by SIGKILL",
    )
    assert [(row["session"], row["arm"], row["status"]) for row in rows if row["arm"] == "B"] == [
        (0, "B", "ok"),
        (1, "B", "crashed"),
    ]


def test_an_arm_that_hangs_is_a_timeout(out: Path) -> None:
    _, (found,) = played(plan_of("hangs", timeout_s=1.0), out)
    assert found.verdict == "ERROR"
    assert "timeout: no answer within 1 s" in found.reason


def test_the_budget_ends_an_arm_that_hangs(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ab, "_LEAST_TIMEOUT_S", 0.5)
    plan, rows = store.read(ab.execute(plan_of("hangs", timeout_s=3600.0), out, budget_s=1.0))
    (found,) = judge(plan, rows)
    assert "timeout: no answer within 1 s" in found.reason


def test_a_device_that_cannot_be_opened_is_an_error_of_its_own(out: Path) -> None:
    plan = plan_of("nap", device=DeviceInfo("fake", 0, None, scenario="no such script"))
    with pytest.raises(VnbenchError, match="no fake scenario 'no such script'") as raised:
        ab.execute(plan, out)
    assert raised.value.exit_code == ImpossibleDevice.exit_code


# ---------------------------------------------------------------- signals, killed processes, disks


@pytest.mark.parametrize(("signum", "code", "taken"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1)])
def test_a_signal_keeps_the_sessions_so_far(out: Path, signum: signal.Signals, code: int, taken: int) -> None:
    plan = plan_of("nap", b=Arm("B", variables={"OTHER": "1"}), trial=Trial(looks=(20,)))
    with pytest.raises(Interrupted) as raised:
        ab.execute(plan, out, observer=AtSession(taken, lambda: os.kill(os.getpid(), signum)))
    assert raised.value.exit_code == code
    (path,) = store.find(out, plan.run_id)
    assert str(raised.value) == (
        f"interrupted by {signum.name}; {taken} sessions are kept in {path}. "
        f"vnbench show {plan.run_id} says what they show"
    )
    _, rows = store.read(path)
    assert sorted((row["session"], row["arm"], row["status"]) for row in rows) == [
        (i, arm, "ok") for i in range(taken) for arm in "AB"
    ]
    assert [(one.verdict, one.n) for one in judge(plan, rows)] == [("INCONCLUSIVE", taken)]
    assert incomplete(out) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_impatient_user_leaves_nothing_behind_before_the_first_session(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(place: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arms, "versions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ab.execute(plan_of("nap"), out)
    assert incomplete(out) == []


EXECUTES = """
import sys
from pathlib import Path
from bench import ab
from bench.types import Arm, Trial
from tests.duets import plan_of
ab.execute(plan_of("nap", b=Arm("B", variables={"OTHER": "1"}), trial=Trial(looks=(200,))), Path(sys.argv[1]))
"""


def workers_of(out: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        if "bench.duet_worker" in arguments and any(one.startswith(str(out)) for one in arguments):
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_a_killed_test_is_recovered_by_the_next_command_and_judged_from_what_it_had(out: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", EXECUTES, str(out)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: len(list(out.glob(".incomplete/*/part-*.parquet"))) >= 4, "two sessions")
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: all(map(gone, workers_of(out))), "the end of the workers")  # nobody ended them but themselves
    assert list((out / "runs").rglob("*.parquet")) == []
    notes: list[str] = []

    def is_recovered() -> bool:  # not yet while a worker holds the lock that was only about to start
        recovery.recover(out, notes.append)
        return bool(notes)

    wait_until(is_recovered, "the folder's lock")
    (path,) = store.find(out, str(out))
    plan, rows = store.read(path)
    assert f"recovered the killed run {plan.run_id}: {len(rows)} measurements" in notes[0]
    assert len(rows) >= 4
    assert {row["status"] for row in rows} == {"ok"}  # an A/B test has no fixed number of sessions to miss
    (found,) = judge(plan, rows)
    assert found.verdict == "INCONCLUSIVE"
    assert incomplete(out) == []


@pytest.mark.slow
def test_two_tests_at_once_into_one_folder_do_not_meet(out: Path) -> None:
    code = EXECUTES.replace("looks=(200,)", "looks=(3,)")
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", code, str(out)], env=variables) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    results = [store.read(path)[1] for path in store.find(out, str(out))]
    assert [len(rows) for rows in results] == [6, 6]
    assert incomplete(out) == []


def mount(folder: Path, *options: str) -> None:
    command = ["mount", *options, str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"a file system cannot be mounted here: {answer.stderr.strip()}")


@pytest.fixture
def small_disk(out: Path) -> Iterator[Path]:
    """The results folder on a disk of two megabytes."""
    out.mkdir()
    mount(out, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    yield out
    subprocess.run(["umount", str(out)], check=True)


def test_a_full_disk_ends_the_test_and_loses_no_finished_session(small_disk: Path) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\1" * 4096)
            except OSError:
                return

    plan = plan_of("nap", trial=Trial(looks=(20,)))
    with pytest.raises(OutputNotWritable, match="No space left on device"):
        ab.execute(plan, small_disk, observer=AtSession(2, fill))
    assert len(incomplete(small_disk)) == 1
    filler.unlink()
    recovery.recover(small_disk, print)
    _, rows = store.read(store.find_one(small_disk, plan.run_id))
    assert sorted((row["session"], row["arm"], row["status"]) for row in rows) == [
        (i, arm, "ok") for i in range(2) for arm in "AB"
    ]
    assert incomplete(small_disk) == []


def test_a_read_only_disk_is_said_before_anything_is_started(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputNotWritable, match="Read-only file system"):
        ab.execute(plan_of("nap"), small_disk)


# ---------------------------------------------------------------- the noise of this machine


def aa_result(out: Path, started_at: str, run_id: str, log_sd: float = 0.01, **changes: Any) -> Path:
    """The result of an A/A test, without one."""
    plan = plan_of("nap", name="aa", a=Arm("A"), b=Arm("B"), started_at=started_at, run_id=run_id, **changes)
    folder = store.begin(out, plan)
    rows: list[Row] = []
    for session in range(6):
        for arm, factor in (("A", 1.0), ("B", math.exp(log_sd * (-1) ** session))):
            ns = round(1e9 * factor)
            row = make_row(plan, "call/naps.py:nap", replicate=session, median_ns=ns, value=1e9 / ns)
            samples = {"elapsed_ns": [ns] * 3, "burst_samples": 1, "sequence": "AB".index(arm)}
            rows.append(row | {"arm": arm, "session": session} | samples)
    path = folder.commit(rows)
    folder.release()
    return path


def test_the_latest_test_of_this_node_and_workload_says_what_is_known(out: Path) -> None:
    aa_result(out, "2026-01-01T00:00:00.000000+00:00", "a" * 10, log_sd=0.5)
    aa_result(out, "2026-03-01T00:00:00.000000+00:00", "b" * 10)
    aa_result(out, "2026-04-01T00:00:00.000000+00:00", "c" * 10, node="another")
    broken = aa_result(out, "2026-05-01T00:00:00.000000+00:00", "d" * 10)
    broken.write_bytes(broken.read_bytes()[:-100])
    ((noise, run_id),) = ab.noise_known(plan_of("nap"), out)
    assert (noise.workload, run_id, noise.sessions) == ("call/naps.py:nap", "b" * 10, 6)
    assert noise.log_sd == pytest.approx(0.01 * math.sqrt(6 / 5), rel=1e-3)
    assert ab.noise_known(plan_of("longer_nap"), out) == []
    assert ab.noise_known(plan_of("nap", device=DeviceInfo("fake", 0, "a script", scenario="steady")), out) == []
    assert ab.noise_known(plan_of("nap"), out / "nowhere") == []

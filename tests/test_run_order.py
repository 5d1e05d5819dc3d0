"""The order of a run: passes, budgets, what is resumed and recovered. Scripted workers write the rows."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import choices, recovery, registry, run, store
from bench.errors import UsageError
from bench.launch import local, process
from bench.observer import Silent
from bench.plan import make_plan, node_names
from bench.schema import Row
from bench.suite import Suite
from bench.types import DeviceInfo, Job, Plan
from tests.checkout import by_status
from tests.scripted_run import Script, script

__all__ = ["script"]  # the fixture

CPU = DeviceInfo("cpu", 0, "test")
WORKLOADS = ("matmul/fp32/64", "matmul/fp32/96", "matmul/fp32/128")
POLICY = (Suite("s").policy, 1, 1.0, "")


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def plan_of(workloads: Sequence[str] = WORKLOADS, devices: Sequence[DeviceInfo] = (CPU,), replicates: int = 5) -> Plan:
    return make_plan(Suite("test", workloads=tuple(workloads)), devices, replicates=replicates)


def test_a_budget_ends_the_run_after_the_last_pass_that_fits(script: Script, tmp_path: Path) -> None:
    script.pass_s = itertools.repeat(10.0)
    notes = Notes()
    plan, rows = store.read(run.execute(plan_of(), tmp_path, budget_s=35.0, observer=notes))
    assert plan.replicates == 3
    assert Counter(row["replicate"] for row in rows) == Counter({0: 4, 1: 4, 2: 4})  # three workloads and their roof
    assert by_status(rows).keys() == {"ok"}
    assert notes.texts == ["the budget allows 3 of 5 replicates"]


def test_a_budget_reckons_with_the_longest_pass(script: Script, tmp_path: Path) -> None:
    script.pass_s = iter([5.0, 20.0, 5.0])
    plan, _ = store.read(run.execute(plan_of(), tmp_path, budget_s=40.0))
    assert plan.replicates == 2


def test_only_the_first_pass_is_cut_short_by_a_budget(script: Script, tmp_path: Path) -> None:
    run.execute(plan_of(), tmp_path, budget_s=100.0)
    assert [job.deadline_s for job in script.jobs] == [1100.0, None, None, None, None]


def test_nothing_is_searched_once_the_budget_is_spent(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "_has_candidates", lambda name: True)
    run.execute(plan_of(replicates=1), tmp_path, budget_s=0.0)
    assert [job.task for job in script.jobs] == ["measure"]


def test_the_two_best_of_a_search_take_turns_and_a_resumed_run_goes_on_with_them(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "_has_candidates", lambda name: name.startswith("roof/"))
    first, second = script.winners

    def roofs(rows: Sequence[Row]) -> list[str]:
        return [row["candidate"] for row in rows if row["kernel"] == "roof/compute"]

    _, rows = store.read(run.execute(plan_of(replicates=3), tmp_path))
    assert roofs(rows) == [first, second, first]
    assert [job.task for job in script.jobs].count("search") == 1
    script.jobs.clear()
    _, rows = store.read(
        run.execute(plan_of(replicates=5), tmp_path, kept=[row for row in rows if row["replicate"] < 2])
    )
    assert roofs(rows) == [first, second, first, second, first]
    assert [job.task for job in script.jobs].count("search") == 0


def test_a_resumed_run_keeps_within_its_own_budget(script: Script, tmp_path: Path) -> None:
    _, rows = store.read(run.execute(plan_of(replicates=2), tmp_path))
    script.jobs.clear()
    run.execute(plan_of(replicates=4), tmp_path, budget_s=100.0, kept=rows)
    assert [(job.replicate, job.deadline_s is None) for job in script.jobs] == [(2, False), (3, True)]


def test_a_resumed_pass_measures_what_is_missing_and_loses_nothing(script: Script, tmp_path: Path) -> None:
    """A pass that was broken off goes on behind its kept rows: neither their parts nor their calibration is touched."""
    plan = plan_of(replicates=2)
    _, rows = store.read(run.execute(plan, tmp_path))
    kept = [row | {"calibration_after_ns": 77} for row in rows if row["replicate"] == 0 or row["sequence"] < 2]
    script.jobs.clear()
    _, resumed = store.read(run.execute(plan, tmp_path, kept=kept))
    (job,) = script.jobs
    assert {item.workload for item in job.items} == {row["workload"] for row in rows if row not in kept} - {
        row["workload"] for row in kept if row["replicate"] == 1
    }
    assert len(resumed) == len(rows)
    assert by_status(resumed).keys() == {"ok"}
    after = {(row["workload"], row["replicate"]): row for row in resumed}
    for row in kept:
        again = after[row["workload"], row["replicate"]]
        assert (again["started_at"], again["calibration_after_ns"]) == (row["started_at"], 77)


def test_a_kill_while_a_resumed_run_begins_costs_no_finished_row(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(replicates=1)
    _, rows = store.read(run.execute(plan, tmp_path))
    written: list[Row] = []

    def killed(folder: Path, row: Row, plan: Plan) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(row)

    monkeypatch.setattr(store, "write_part", killed)
    with pytest.raises(KeyboardInterrupt):
        run.execute(plan, tmp_path, kept=rows)
    recovery.recover(tmp_path, print)
    _, after = store.read(store.find(tmp_path, plan.run_id)[0])
    assert by_status(after) == by_status(rows)


def test_a_run_in_progress_is_neither_recovered_nor_resumed(tmp_path: Path) -> None:
    plan = plan_of()
    folder = store.begin(tmp_path, plan)
    recovery.recover(tmp_path, print)
    with pytest.raises(UsageError, match="in progress"):
        store.begin(tmp_path, plan)
    assert folder.path.exists()
    folder.release()
    notes = Notes()
    recovery.recover(tmp_path, notes.note)
    assert len(notes.texts) == 1
    assert not folder.path.exists()


def test_a_folder_that_vanished_under_the_recovery_is_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process recovered it between this one's reading of the plan and its locking."""
    folder = store.begin(tmp_path, plan_of())
    folder.release()
    try_lock = store._try_lock

    def late(lock_fd: int) -> bool:
        monkeypatch.setattr(store, "_try_lock", try_lock)
        recovery.recover(tmp_path, print)
        return try_lock(lock_fd)

    monkeypatch.setattr(store, "_try_lock", late)
    notes = Notes()
    recovery.recover(tmp_path, notes.note)
    assert notes.texts == []
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_killed_run_of_unknown_workloads_stays_and_stops_nobody(tmp_path: Path) -> None:
    folder = store.begin(
        tmp_path, Plan("1234", node_names()[0], "s", "2026-11-01T00:00:00", {"cpu": ("gone/1",)}, (CPU,), *POLICY)
    )
    folder.release()
    notes = Notes()
    recovery.recover(tmp_path, notes.note)
    assert "stays in" in notes.texts[0]
    assert "gone/1" in notes.texts[0]
    assert folder.path.exists()


def test_isolated_workloads_have_a_process_of_their_own(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = registry.resolve(WORKLOADS[0]).kernel
    monkeypatch.setattr(alone, "isolated", True, raising=False)
    run.execute(plan_of(replicates=1), tmp_path)
    assert sorted(len(job.items) for job in script.jobs) == [1, 1, 1, 1]
    assert sorted(job.sequence for job in script.jobs) == [0, 1, 2, 3]


def test_what_takes_several_devices_is_measured_by_the_first_one_alone(script: Script, tmp_path: Path) -> None:
    """Those of as many devices share a process, in which nothing else is measured."""
    devices = [DeviceInfo("fake", index, "fake", scenario="steady") for index in range(3)]
    together = [f"collective/{op}/w2/kib1" for op in ("all-reduce", "all-gather")]
    plan = plan_of(("matmul/fp32/64", *together, "collective/all-reduce/w3/kib1"), devices, 2)
    path = run.execute(plan, tmp_path)
    for job in script.jobs:
        names = sorted(item.workload for item in job.items)
        spanning = [name for name in names if name.startswith("collective/")]
        if spanning:
            assert names in (sorted(together), ["collective/all-reduce/w3/kib1"])
            assert (job.device.index, job.rank, job.world_size) == (0, 0, 3 if "/w3/" in names[0] else 2)
        else:
            assert job.world_size == 3
    _, rows = store.read(path)
    assert by_status(rows).keys() == {"ok"}
    found = Counter(row["workload"] for row in rows)
    assert {found[name] for name in (*together, "collective/all-reduce/w3/kib1")} == {2}
    assert found["matmul/fp32/64"] == 2 * 3
    script.jobs.clear()
    run.execute(plan, tmp_path / "again", kept=rows)
    assert script.jobs == []


def test_what_takes_more_gpus_than_the_run_has_is_unsupported_without_a_worker(script: Script, tmp_path: Path) -> None:
    devices = [DeviceInfo("cuda", index, "GPU") for index in (2, 3)]
    small, large = "collective/all-reduce/w2/kib1", "collective/all-reduce/w8/kib1"
    _, rows = store.read(run.execute(plan_of((small, large), devices, 2), tmp_path))
    assert [[item.workload for item in job.items] for job in script.jobs] == [[small]] * 2
    assert {job.indices for job in script.jobs} == {(2, 3)}
    reasons = {(row["workload"], row["status"], row["reason"]) for row in rows}
    assert reasons == {
        (small, "ok", None),
        (large, "unsupported", "takes 8 GPUs, the run has 2"),
    }
    assert len(rows) == 4


def test_workers_that_died_over_the_same_item_go_on_together(script: Script, tmp_path: Path) -> None:
    """Devices 0 and 1 lose theirs over the second item, device 2 over the third: it must not meet the others."""
    devices = [DeviceInfo("fake", index, "fake", scenario="steady") for index in range(3)]
    deaths = {0: 1, 1: 1, 2: 2}
    groups: list[list[tuple[int, int, int, int]]] = []

    def dying(jobs: Sequence[Job], *arguments: object) -> list[process.Outcome]:
        groups.append([(job.device.index, job.sequence, job.rank, job.world_size) for job in jobs])
        outcomes = []
        for job in jobs:
            finished = deaths.pop(job.device.index, len(job.items))
            short = Job(
                job.plan, job.device, job.items[:finished], job.replicate, job.folder, "", sequence=job.sequence
            )
            script.run_group([short], 0)
            death = None if finished == len(job.items) else ("crashed", "it died")
            outcomes.append(process.Outcome(job, finished + (death is not None), finished, [], death))  # type: ignore[arg-type]
        return outcomes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "run_group", dying)
        _, rows = store.read(run.execute(plan_of((*WORKLOADS, "matmul/fp32/160"), devices, 1), tmp_path))
    assert groups == [
        [(0, 0, 0, 3), (1, 0, 1, 3), (2, 0, 2, 3)],
        [(0, 2, 0, 2), (1, 2, 1, 2)],
        [(2, 3, 0, 1)],
    ]
    assert Counter(row["status"] for row in rows) == Counter(ok=12, crashed=3)


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    ("node", "safe"),
    [("gpu-07", "gpu-07"), ("a node", "a_node"), ("../../etc", "etc"), ("máy*[1]", "m_y_1"), ("đ", "unnamed")],
)
def test_a_node_name_is_safe_in_a_path_and_a_glob(node: str, safe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: node)
    assert plan_of().node == safe


def test_a_run_of_another_node_is_not_resumed(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(replicates=1)
    run.execute(plan, tmp_path)
    monkeypatch.setattr("platform.node", lambda: "another")
    with pytest.raises(UsageError, match="this is 'another'"):
        recovery.resumable(tmp_path, plan.run_id)


def test_a_run_is_resumed_by_the_beginning_of_its_id_under_this_version(script: Script, tmp_path: Path) -> None:
    plan = plan_of(replicates=1)
    run.execute(plan, tmp_path)
    old, kept = recovery.resumable(tmp_path, plan.run_id[:6])
    assert old.run_id == plan.run_id
    assert dt.datetime.fromisoformat(old.started_at).tzinfo is not None
    assert len(kept) == 4


def test_a_run_ends_after_the_pass_that_is_enough(script: Script, tmp_path: Path) -> None:
    seen: list[tuple[int, int, set[str]]] = []

    def enough(plan: Plan, rows: Sequence[Row]) -> bool:
        seen.append((plan.replicates, len(rows), {row["status"] for row in rows}))
        return plan.replicates == 3

    plan, rows = store.read(run.execute(plan_of(), tmp_path, enough=enough))
    assert plan.replicates == 3
    assert by_status(rows).keys() == {"ok"}
    assert seen == [(1, 4, {"ok"}), (2, 8, {"ok"}), (3, 12, {"ok"})], "as the result would have been then"

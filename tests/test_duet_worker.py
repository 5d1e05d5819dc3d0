"""``bench.duet_worker``: where its bursts begin. What it measures and how it fails is seen in ``test_ab``."""

from __future__ import annotations

import os

import pytest

from bench import duet_worker
from bench.types import Arm, Item, Job
from tests.results import CPU, make_plan

CPUS = {0, 2, 3, 7}
PAIRS = 40


class Scheduler:
    """Stands for the kernel: where a process may run, and what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = set(CPUS)
        self.told: list[set[int]] = []
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(self.allowed))
        monkeypatch.setattr(os, "sched_setaffinity", self.set)

    def set(self, pid: int, cpus: set[int]) -> None:
        assert pid == 0
        self.allowed = set(cpus)
        self.told.append(set(cpus))


def job_of(arm: str, session: int = 0) -> Job:
    return Job(make_plan(), CPU, (Item("x"),), session, "", "", arm=Arm(arm))


def begins_on(monkeypatch: pytest.MonkeyPatch, job: Job) -> list[int]:
    """The CPU that each pair's burst begins on."""
    scheduler = Scheduler(monkeypatch)
    found = []
    for pair in range(PAIRS):
        scheduler.told.clear()
        duet_worker._move(job, pair)
        (cpu,), rest = scheduler.told
        assert rest == CPUS  # it may be moved on from there
        found.append(cpu)
    return found


def test_both_arms_begin_a_pair_on_the_same_cpu_and_pairs_on_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (begins_on(monkeypatch, job_of(arm)) for arm in "AB")
    assert a == b
    assert set(a) == CPUS
    assert begins_on(monkeypatch, job_of("A", session=1)) != a


def test_a_cpu_that_was_taken_away_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, cpus: set[int]) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", gone)
    duet_worker._move(job_of("A"), 0)


def test_the_process_may_run_where_it_could_before() -> None:
    before = os.sched_getaffinity(0)
    duet_worker._move(job_of("A"), 0)
    assert os.sched_getaffinity(0) == before

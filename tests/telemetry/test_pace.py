"""``bench.telemetry.pace``: readings at fixed moments."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import pytest

from bench.telemetry import pace
from bench.telemetry.reading import Reading


class Clock:
    """A clock that moves only when someone sleeps or reads, and a source that takes its time."""

    def __init__(self, takes_s: list[float]) -> None:
        self.now_s = 1000.0
        self.takes_s = iter(takes_s)
        self.began_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def read(self) -> list[Reading]:
        self.began_s.append(self.now_s - 1000.0)
        self.now_s += next(self.takes_s)
        return []

    def close(self) -> None:
        pass


def began(monkeypatch: pytest.MonkeyPatch, takes_s: list[float], period_s: float = 1.0) -> list[float]:
    """When each reading began."""
    clock = Clock(takes_s)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: clock.now_s, sleep=clock.sleep))
    list(pace.paced(clock, period_s, len(takes_s)))
    return clock.began_s


def test_the_first_reading_comes_at_once_and_the_others_a_period_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert began(monkeypatch, [0.3, 0.1, 0.0, 0.2]) == pytest.approx([0, 1, 2, 3])


def test_a_slow_reading_leaves_moments_out_and_shifts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert began(monkeypatch, [2.3, 0.1, 1.7, 0.0]) == pytest.approx([0, 3, 4, 6])


def test_it_goes_on_without_a_count() -> None:
    clock = Clock([0.0] * 5)
    assert len(list(itertools.islice(pace.paced(clock, 0.0001), 5))) == 5


def test_nothing_waits_behind_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock([0.0])
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: pytest.fail()))
    assert list(pace.paced(clock, 60.0, 1)) == [[]]

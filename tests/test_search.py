"""``bench.search`` on a scripted clock: every candidate costs what the test says it costs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import search
from bench.device.base import Device
from bench.device.fake import FakeDevice, Scenario
from bench.errors import Unsupported
from bench.kernel import Case
from bench.registry import Workload
from bench.spec import parse_params
from bench.types import Check, DeviceInfo, Work
from tests.small_kernel import Small, SmallParams

MS = 1_000_000


class ScriptedCase(Case):
    def __init__(self, device: FakeDevice, size: int, launch_ns: int) -> None:
        self.work = Work("FLOP/s", flops=size)
        self.device, self.launch_ns = device, launch_ns
        self.closed = False

    def launch(self) -> None:
        self.device.advance(self.launch_ns)

    def check(self) -> Check:
        raise AssertionError("a search ranks; the run checks")

    def close(self) -> None:
        self.closed = True


class Scripted(Small):
    """Candidates of all sizes of ``coarse``; a launch takes what ``launch_ns`` says, or raises it."""

    def __init__(self, coarse: Sequence[int], launch_ns: Callable[[int], int | Exception]) -> None:
        self.coarse, self.launch_ns = coarse, launch_ns
        self.cases: dict[int, ScriptedCase] = {}
        self.visits: Counter[int] = Counter()
        self.bytes_of: Callable[[int], int] = lambda size: 0

    def prepare(self, params: Any, device: Device, seed: int) -> ScriptedCase:
        assert isinstance(device, FakeDevice)
        self.visits[params.size] += 1
        assert self.visits[params.size] <= 2, "once to find it, once to meet the others"
        launch_ns = self.launch_ns(params.size)
        if isinstance(launch_ns, Exception):
            raise launch_ns
        self.cases[params.size] = ScriptedCase(device, params.size, launch_ns)
        return self.cases[params.size]

    def work(self, params: Any) -> Work:
        return Work("FLOP/s", flops=params.size)

    def memory_bytes(self, params: Any) -> int:
        return self.bytes_of(params.size)

    def candidates(self, params: Any) -> Sequence[Any]:
        return [SmallParams(size) for size in self.coarse]

    def neighbours(self, params: Any) -> Sequence[Any]:
        return [SmallParams(size) for size in (params.size - 1, params.size + 1) if size >= 1]


@pytest.fixture
def device(tmp_path: Path) -> FakeDevice:
    return FakeDevice(DeviceInfo("fake", 0, "fake"), tmp_path, Scenario(launch_ns=0))


def winner(kernel: Scripted, device: Device, budget_s: float = 1000.0) -> search.Winner:
    return search.search(Workload("small/n1", kernel, parse_params("small", SmallParams, "small/n1")), device, budget_s)


def best_at(best: int) -> Callable[[int], int]:
    """Rates fall off on both sides of the best size: a hill."""
    return lambda size: size * (MS + MS // 10 * abs(size - best))


def test_it_climbs_from_the_best_of_the_coarse_ones_to_the_top(device: FakeDevice) -> None:
    kernel = Scripted((10, 20, 30), best_at(23))
    found = winner(kernel, device)
    assert found.candidate == "small/n23"
    assert found.runner_up in ("small/n22", "small/n24")
    assert found.rate == pytest.approx(1e9 / MS)
    assert set(kernel.cases) == {10, 20, 30, 19, 21, 22, 23, 24}
    assert found.tried == len(kernel.cases)
    assert found.spent_s == pytest.approx(device.now_ns() * 1e-9)
    assert found.budget_s == 1000.0


def test_the_best_six_meet_again_and_half_of_them_leave(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Scripted((10, 20, 30), best_at(23))
    order = visits_of(monkeypatch)
    winner(kernel, device)
    assert {size for size, visits in kernel.visits.items() if visits == 2} == {19, 20, 21, 22, 23, 24}
    turns = order[-(2 * 6 + 2 * 3 + 6 * 2) :]
    assert set(turns[:12]) == {19, 20, 21, 22, 23, 24}
    assert set(turns[12:18]) == {22, 23, 24}
    assert set(turns[18:]) in ({22, 23}, {23, 24})


def test_a_lucky_moment_does_not_win(device: FakeDevice) -> None:
    """Size 20 is three times faster than it is when it is seen first."""
    kernel = Scripted((10, 20), lambda size: MS if size == 10 else (MS if kernel.visits[20] == 1 else 3 * MS))
    kernel.neighbours = lambda params: ()  # type: ignore[method-assign]
    assert winner(kernel, device).candidate == "small/n10"


def visits_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes in the order of their visits."""
    order: list[int] = []
    rate = search._Trial._rate

    def noted(self: search._Trial, params: Any, case: Case) -> float:
        order.append(params.size)
        return rate(self, params, case)

    monkeypatch.setattr(search._Trial, "_rate", noted)
    return order


def test_one_that_no_longer_fits_beside_the_others_does_not_win_by_its_one_visit(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Scripted((10, 20, 30), lambda size: MemoryError() if (size, kernel.visits[size]) == (30, 2) else MS)
    kernel.neighbours = lambda params: ()  # type: ignore[method-assign]
    order = visits_of(monkeypatch)
    found = winner(kernel, device)
    assert (found.candidate, found.runner_up) == ("small/n20", "small/n10")
    assert order[:3] == [10, 20, 30]
    assert set(order[3:]) <= {10, 20}


def test_one_candidate_without_neighbours_is_the_best(device: FakeDevice) -> None:
    kernel = Scripted((5,), lambda size: MS if size == 5 else Unsupported("only 5"))
    found = winner(kernel, device)
    assert (found.candidate, found.runner_up) == ("small/n5", None)


def test_every_case_is_closed(device: FakeDevice) -> None:
    kernel = Scripted((10, 20), best_at(12))
    winner(kernel, device)
    assert all(case.closed for case in kernel.cases.values())


class Disturbed(Scripted):
    """Three of five launches of size 10 take five times as long."""

    def prepare(self, params: Any, device: Device, seed: int) -> ScriptedCase:
        case = super().prepare(params, device, seed)
        if params.size == 10:
            factors = itertools.cycle((1, 5, 5, 5, 1))
            case.launch = lambda: case.device.advance(MS * next(factors))  # type: ignore[method-assign]
        return case

    def neighbours(self, params: Any) -> Sequence[Any]:
        return ()


def test_a_candidate_does_not_lose_its_place_by_a_disturbance(device: FakeDevice) -> None:
    assert winner(Disturbed((10, 20), lambda size: 2 * MS + 1), device).candidate == "small/n10"
    assert winner(Disturbed((10, 20), lambda size: 2 * MS - 1), device).candidate == "small/n20"


# ---------------------------------------------------------------- the budget


def test_the_budget_is_kept_by_what_the_work_would_take(device: FakeDevice) -> None:
    # At one size a nanosecond, a candidate of size n takes n ns; three launches of the last would take 30 s.
    kernel = Scripted((10**6, 10**8, 10**10), lambda size: size)
    found = winner(kernel, device, budget_s=3.0)
    assert found.candidate == f"small/n{10**6}"
    assert found.spent_s < 3.0 + 2 * 0.1, "what is at hand is finished"
    assert 10**10 not in kernel.cases, "what does not fit is not even prepared"


def test_a_long_candidate_takes_few_launches_so_that_it_fits(device: FakeDevice) -> None:
    """A launch of 150 ms at one size a nanosecond: three, with the kernel's own, are less than a sixth of it."""
    long = 150 * MS
    kernel = Scripted((MS, long), lambda size: size)
    kernel.neighbours = lambda params: ()  # type: ignore[method-assign]
    found = winner(kernel, device, budget_s=10.0)
    assert kernel.visits[long] == 2
    assert found.spent_s == pytest.approx((1 + 10) * 2 * 0.150, abs=1.0), "two launches in each of its turns"


def test_once_the_budget_is_spent_no_candidate_is_begun(device: FakeDevice) -> None:
    kernel = Scripted(range(1000, 100, -10), lambda size: 100 * MS)
    kernel.work = lambda params: None  # type: ignore[method-assign,assignment,return-value]
    found = winner(kernel, device, budget_s=2.0)
    assert len(kernel.cases) < 10
    assert 2.0 <= found.spent_s < 3.0, "the one at hand is finished"
    assert found.tried == len(kernel.cases)


def test_the_first_candidate_is_tried_whatever_it_takes(device: FakeDevice) -> None:
    kernel = Scripted((10, 20), lambda size: 1000 * MS)
    assert winner(kernel, device, budget_s=0.5).candidate == "small/n10"


# ---------------------------------------------------------------- what does not run


def test_what_does_not_fit_into_memory_is_not_prepared(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Scripted((10, 20), best_at(100))
    kernel.bytes_of = lambda size: size
    monkeypatch.setattr(device, "free_bytes", lambda: 12)
    assert winner(kernel, device).candidate == "small/n12"
    assert max(kernel.cases) == 12


@pytest.mark.parametrize(
    "error",
    [Unsupported("no such product"), RuntimeError("CUBLAS_STATUS"), MemoryError("20"), ImportError("cupy")],
)
def test_a_candidate_that_fails_is_passed_over(device: FakeDevice, error: Exception) -> None:
    script = best_at(30)
    kernel = Scripted((10, 20, 28), lambda size: error if size == 20 else script(size))
    found = winner(kernel, device)
    assert found.candidate == "small/n30"
    assert found.tried == len(kernel.cases), "what could not run was not tried"


def test_where_none_runs_the_words_are_the_librarys(device: FakeDevice) -> None:
    kernel = Scripted((10, 20), lambda size: Unsupported(f"this library has no product of {size}"))
    with pytest.raises(Unsupported, match="this library has no product of 20"):
        winner(kernel, device)


def test_where_none_fits_the_words_say_what_it_takes(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Scripted((10,), best_at(10))
    kernel.bytes_of = lambda size: 1 << 40
    monkeypatch.setattr(device, "free_bytes", lambda: 1 << 30)
    with pytest.raises(Unsupported, match=r"needs 1.00 TiB, 1.00 GiB are free"):
        winner(kernel, device)


def test_without_time_there_is_no_winner(device: FakeDevice) -> None:
    with pytest.raises(Unsupported, match="no candidate fits into 0 s"):
        winner(Scripted((10,), best_at(10)), device, budget_s=0)


def test_a_lost_device_ends_the_search(device: FakeDevice) -> None:
    import torch

    kernel = Scripted((10, 20), lambda size: MS if size == 10 else torch.AcceleratorError("CUDA error"))
    with pytest.raises(torch.AcceleratorError):
        winner(kernel, device)


def test_a_bug_is_not_taken_for_a_candidate_that_cannot_run(device: FakeDevice) -> None:
    kernel = Scripted((10, 20), lambda size: TypeError("a bug"))
    with pytest.raises(TypeError):
        winner(kernel, device)

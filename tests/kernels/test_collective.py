"""Collectives between real processes: every rank's every element is checked, and one wrong one is found."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.kernel import Case
from bench.ready import outcome
from bench.spec import parse_params, workload_name
from bench.types import DeviceInfo, Measurement
from kernels import _rank, _ranks, collective
from kernels.collective import KERNEL, OPS, Collective, CollectiveCase, CollectiveParams
from tests.checkout import PATIENCE_S, ROOT, wait_until
from tests.conftest import prepare

PATIENCE = 7  # launches before each check: the ranks have to stay in step


@pytest.fixture(scope="module", autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    _ranks.end_ranks()


@pytest.fixture
def opened(cpu_device: CpuDevice) -> Iterator[Any]:
    """A case of a workload, for whose parts another class may stand in."""
    cases: list[Case] = []

    def open_case(text: str, make: type[Collective] = Collective) -> CollectiveCase:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collective, "Collective", make)
            case = prepare(KERNEL, f"collective/{text}", cpu_device)
        assert isinstance(case, CollectiveCase)
        cases.append(case)
        return case

    yield open_case
    for case in cases:
        case.close()


# ---------------------------------------------------------------- faults, as a rank other than the timed one has them


class WrongElement(Collective):
    def launch(self) -> None:
        super().launch()
        if self._rank == 1:
            self.received[-1] *= 2


class WrongInput(Collective):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self._rank == 1:
            self.sent[17] *= 2


class Swapped(Collective):
    def launch(self) -> None:
        super().launch()
        if self._rank == 1:
            self.received.copy_(self.received.roll(1))


class Idle(Collective):
    def launch(self) -> None:
        pass


class Failing(Collective):
    error: Exception = ValueError("enough of it")

    def launch(self) -> None:
        super().launch()
        self.launches = getattr(self, "launches", 0) + 1
        if self._rank == 1 and self.launches == 5:
            raise self.error


class Full(Failing):
    error = torch.cuda.OutOfMemoryError("CUDA out of memory")


class FullAtOnce(Collective):
    """It has no room for its own part, when the other rank has made its own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self._rank == 1:
            raise Full.error


class FullHere(Full):
    """Rank 0 alone: the other one sees only that it is gone."""

    def launch(self) -> None:
        self._rank = 1 - self._rank
        super().launch()
        self._rank = 1 - self._rank


class Unable(Collective):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self._rank == 1:
            raise Unsupported("no such thing here")


# ---------------------------------------------------------------- names, work


@pytest.mark.parametrize("name", KERNEL.catalogue)
def test_names_are_read_back(name: str) -> None:
    assert workload_name("collective", parse_params("collective", CollectiveParams, name)) == name


@given(st.integers(1, 2000), st.sampled_from(["kib", "mib", "gib"]))
def test_a_size_has_one_spelling(number: int, unit: str) -> None:
    text = f"{unit}{number}"
    if number % 1024 == 0 and unit != "gib":
        with pytest.raises(ValueError, match=text):
            collective._parse_size(text)
    else:
        size = collective._parse_size(text)
        assert size == number * 1024 ** (["kib", "mib", "gib"].index(unit) + 1)
        assert collective._show_size(size) == text


@pytest.mark.parametrize("text", ["kib0", "kib-1", "kib01", "tib1", "1024", "kib", "mib1.5"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        collective._parse_size(text)


def pieces_sent(op: str, world: int) -> set[int]:
    """What each rank sends where pieces go round a ring, or straight to who wants them; counted one by one."""
    sent = [0] * world
    rounds = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "all-to-all": 1}[op]
    for _ in range(rounds):
        for rank in range(world):
            for other in range(world):
                sent[rank] += other != rank
    return set(sent)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_work_is_what_each_rank_has_to_send(op: str, world: int, dtype: str) -> None:
    params = CollectiveParams(op, world, 1 << 20, dtype)
    item_bytes = {"fp32": 4, "bf16": 2}[dtype]
    piece_bytes = (1 << 20) // (world * item_bytes) * item_bytes
    work = KERNEL.work(params)
    assert work.unit == "B/s"
    assert {work.bytes_moved} == {count * piece_bytes for count in pieces_sent(op, world)}


def test_bus_and_algorithm_bandwidth_are_those_of_nccl_tests(opened: Any) -> None:
    """1 MiB in 1 ms: 1.05 GB/s; two ranks' all-reduce has 2 (2-1)/2 of that on the bus, an all-gather (2-1)/2."""
    measurement = Measurement((900_000, 1_000_000, 1_100_000), (), (0, 0, 0), (), 1, True, False)
    for op, factor in {"all-reduce": 1.0, "all-gather": 0.5}.items():
        case = opened(f"{op}/w2/mib1")
        figures = {metric.name: metric.value for metric in case.metrics(measurement)}
        assert figures == {"algbw": pytest.approx((1 << 20) / 1e-3), "latency_s": pytest.approx(1e-3)}
        busbw = case.work.rate(statistics.median(measurement.elapsed_ns))
        assert busbw == pytest.approx(factor * figures["algbw"])


def test_the_generator_is_splitmix64() -> None:
    """The first numbers of the seed 0, from the authors' C (prng.di.unimi.it/splitmix64.c)."""
    bits = collective.mixed(torch.arange(1, 4)).tolist()
    assert [value % 2**64 for value in bits] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


# ---------------------------------------------------------------- the check


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("size", ["kib1", "mib4", "kib3@dtype=bf16"])
def test_every_rank_receives_what_it_should_before_and_after_launches(opened: Any, op: str, size: str) -> None:
    case = opened(f"{op}/w2/{size}")
    for launches in (0, PATIENCE, 0, 1):
        for _ in range(launches):
            case.launch()
        check = case.check()
        assert check.ok, check
    received = case.part.received.float() / collective._SCALE
    assert received.isfinite().all()
    assert len(received.unique()) > 50


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("fault", "least"), [(WrongElement, 1), (WrongInput, 1), (Swapped, 2), (Idle, 100)])
def test_what_goes_wrong_on_another_rank_fails(opened: Any, op: str, fault: type[Collective], least: int) -> None:
    case = opened(f"{op}/w2/kib1", fault)
    case.launch()
    check = case.check()
    assert check.error >= least
    assert not check.ok
    assert "on rank" in check.detail


@pytest.mark.parametrize("op", OPS)
def test_one_wrong_element_of_this_rank_is_found(opened: Any, op: str) -> None:
    case = opened(f"{op}/w2/kib1")
    assert case.check().error == 0
    case.part.received[3] = math.nan
    assert case.part.wrong() == 1


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_sums_in_place_stay_numbers_however_often_they_are_taken(opened: Any, dtype: str) -> None:
    case = opened(f"all-reduce/w2/kib1@dtype={dtype}")
    largest = 0.0
    for _ in range(450):
        case.launch()
        largest = max(largest, float(case.part.received.abs().max()))
    assert 2.0**90 < largest < 2.0**126
    assert int((case.part.received == 0).sum()) < 0.05 * len(case.part.received)
    assert case.check().ok


class Counting(Collective):
    def __init__(self, *arguments: Any) -> None:
        self.threads = torch.get_num_threads()
        super().__init__(*arguments)


def test_ranks_share_the_threads_and_give_them_back(cpu_device: CpuDevice) -> None:
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collective, "Collective", Counting)
        case = prepare(KERNEL, "collective/all-to-all/w2/kib1", cpu_device)
    assert isinstance(case, CollectiveCase)
    assert isinstance(case.part, Counting)
    share = max(1, cpu_device.threads // 2)
    assert (case.part.threads, torch.get_num_threads()) == (share, share)
    case.close()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("text", ["all-reduce/w1/kib1", "all-reduce/w512/kib1"])
def test_a_collective_needs_two_ranks_and_an_element_for_each(cpu_device: CpuDevice, text: str) -> None:
    with pytest.raises(Unsupported, match="between two ranks"):
        prepare(KERNEL, f"collective/{text}", cpu_device)


def test_memory_is_that_of_what_is_sent_and_received_on_one_rank() -> None:
    for op, buffers in {"all-reduce": 2, "all-to-all": 2, "all-gather": 1 + 1 / 8, "reduce-scatter": 1 + 1 / 8}.items():
        params = CollectiveParams(op, 8, 1 << 30)
        assert 0 <= KERNEL.memory_bytes(params) - buffers * (1 << 30) < 1 << 28


def test_a_capture_is_refused_and_ends_neither_the_run_nor_the_group(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timing loop then enqueues launch after launch, as the other ranks do."""
    case = opened("all-reduce/w2/kib1")
    case.launch()
    with monkeypatch.context() as patch:
        patch.setattr(_rank.Place, "is_gpu", True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(RuntimeError, match="do not capture"):
            case.launch()
    case.launch()
    assert case.check().ok


def test_ranks_take_the_gpus_that_they_are_given_in_order() -> None:
    given: Any = SimpleNamespace(info=DeviceInfo("cuda", 3, "GPU"), indices=(3, 5, 6), threads=8)
    assert [place.torch_device for place in _ranks._places(2, given, "")] == ["cuda:3", "cuda:5"]
    with pytest.raises(Unsupported, match="there are 3 to take"):
        _ranks._places(4, given, "")


# ---------------------------------------------------------------- ranks that fail; the last ones: they end the group


def test_the_words_of_a_rank_that_fails_are_the_error(opened: Any) -> None:
    case = opened("all-reduce/w2/kib1", Failing)
    with pytest.raises(RuntimeError, match="rank 1: ValueError: enough of it"):
        for _ in range(10):
            case.launch()


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (Failing, "failed", "RuntimeError: rank 1: ValueError: enough of it"),
        (Full, "oom", "rank 1: OutOfMemoryError: CUDA out of memory"),
        (FullAtOnce, "oom", "rank 1: OutOfMemoryError: CUDA out of memory"),
        (FullHere, "oom", "CUDA out of memory"),
        (Unable, "unsupported", "rank 1: no such thing here"),
    ],
)
def test_what_befalls_another_rank_has_the_status_that_it_has_here(
    opened: Any, make: type[Collective], status: str, words: str
) -> None:
    with pytest.raises(Exception, match=words.split(": ", 1)[-1]) as raised:
        case = opened("all-reduce/w2/kib1", make)
        for _ in range(10):
            case.launch()
    found, reason = outcome(raised.value)
    assert (found, reason[: len(words)]) == (status, words)


def test_a_rank_that_dies_after_the_last_check_spoils_nothing(cpu_device: CpuDevice) -> None:
    for launches in (0, 3):
        case = prepare(KERNEL, "collective/all-reduce/w2/kib1", cpu_device)
        assert isinstance(case, CollectiveCase)
        assert case.check().ok
        for _ in range(launches):
            case.launch()
        case._ranks._peers[0].kill()
        case.close()
        assert not hasattr(case, "part")


def test_three_ranks_and_the_death_of_one(opened: Any) -> None:
    """Three do not divide 256 elements: one is left out."""
    for op in OPS:
        case = opened(f"{op}/w3/kib1")
        assert case.part._params.whole_bytes == 1020
        case.launch()
        assert case.check().ok
    case.launch()
    case._ranks._peers[1].kill()
    with pytest.raises(_ranks.RankLost, match="rank 2 was killed by SIGKILL"):
        for _ in range(3):
            case.launch()
    assert not case._ranks.is_whole


LED = """
import os, sys, time
from pathlib import Path
from bench.device.cpu import CpuDevice
from bench.types import DeviceInfo
from kernels.collective import KERNEL, CollectiveParams

if __name__ == "__main__":
    case = KERNEL.prepare(CollectiveParams("all-reduce", 2, 1024), CpuDevice(DeviceInfo("cpu", 0, "test"), Path()), 0)
    case.launch()  # the other rank waits in the next one
    print(case._ranks._peers[0]._process.pid, flush=True)
    time.sleep(600)
"""


def test_the_other_ranks_end_with_the_process_that_leads_them(tmp_path: Path) -> None:
    script = tmp_path / "led.py"
    script.write_text(LED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        led = Path("/proc") / leader.stdout.readline().strip()
        assert led.name.isdigit()
        assert led.exists()
        leader.kill()
    wait_until(lambda: not led.exists(), f"the end of {led}")


STUCK = """
import sys, time
from pathlib import Path
from bench.device.cpu import CpuDevice
from bench.types import DeviceInfo
from kernels import _rank, _ranks, collective

class Failing(collective.Collective):
    def launch(self):
        super().launch()
        if self._rank == 1:
            raise ValueError("enough of it")

if __name__ == "__main__":
    if sys.argv[1] == "raises":
        collective.Collective = Failing
    _ranks.STUCK_S = 0.2
    params = collective.CollectiveParams("all-reduce", 2, 1024)
    case = collective.KERNEL.prepare(params, CpuDevice(DeviceInfo("cpu", 0, "test"), Path()), 0)
    _rank.Place.is_gpu = True  # in this process alone
    case._begin_run()
    case.part.launch()
    if sys.argv[1] == "dies":
        case._ranks._peers[0].kill()
    time.sleep(600)  # as it would in a kernel that waits for the other rank
"""


@pytest.mark.parametrize(
    ("how", "words"), [("raises", "rank 1: ValueError: enough of it"), ("dies", "rank 1 was killed by SIGKILL")]
)
def test_a_process_that_waits_for_a_rank_that_has_failed_ends_with_its_words(
    tmp_path: Path, how: str, words: str
) -> None:
    script = tmp_path / "stuck.py"
    script.write_text(STUCK)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, script, how], env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == _ranks.STUCK_CODE, ended.stderr
    assert ended.stderr.splitlines()[-1] == words


# ---------------------------------------------------------------- on GPUs


@pytest.mark.gpu
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("size", ["kib1", "mib64", "mib1@dtype=bf16"])
def test_check_passes_between_gpus_and_a_wrong_rank_fails(cuda_device: Any, op: str, size: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    cuda_device.indices = (0, 1)
    for make, ok in ((Collective, True), (WrongElement, False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collective, "Collective", make)
            case = prepare(KERNEL, f"collective/{op}/w2/{size}", cuda_device)
        block = cuda_device.repeat(case.launch, 300)  # so many that it tries to capture them, and is refused
        block()
        block()
        assert case.check().ok == ok
        case.close()


@pytest.mark.gpu
def test_more_ranks_than_gpus_are_unsupported(cuda_device: Any) -> None:
    with pytest.raises(Unsupported, match="2 ranks need a GPU each; there are 1 to take"):
        prepare(KERNEL, "collective/all-reduce/w2/mib1", cuda_device)

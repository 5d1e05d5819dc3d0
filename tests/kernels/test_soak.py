"""The mix of a soak: every part of a round is checked, and each kind of wrong one fails."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
import torch

from bench.device.cpu import CpuDevice
from bench.errors import UsageError
from bench.measure import measure
from bench.spec import parse_params, workload_name
from bench.types import Mark, Measurement, Policy
from kernels.soak import KERNEL, PARTS, SoakCase, SoakParams
from tests.conftest import prepare

SMALL = "soak/320/mib1/tiny@products=2,moves=2,copies=1,steps=3"


@pytest.fixture
def case(cpu_device: CpuDevice) -> SoakCase:
    case = prepare(KERNEL, SMALL, cpu_device)
    assert isinstance(case, SoakCase)
    return case


def test_a_sound_round_passes_and_leaves_the_same_bits_each_time(case: SoakCase) -> None:
    checks = [case.check() for _ in range(2)]
    case.launch()
    checks.append(case.check())
    assert all(check.ok for check in checks), checks
    assert 0 < checks[0].error < 1
    assert len({check.output_sha256 for check in checks}) == 1


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_left_out_fails(case: SoakCase, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setitem(case.parts, part, lambda: None)
    check = case.check()
    assert not check.ok
    assert part in check.detail


def after(case: SoakCase, monkeypatch: pytest.MonkeyPatch, part: str, spoil: Any) -> None:
    """The part as it is, and something spoilt after it."""
    perform = case.parts[part]
    monkeypatch.setitem(case.parts, part, lambda: (perform(), spoil()))


@pytest.mark.parametrize("pair", ["memory", "h2d", "d2h"])
def test_a_flipped_bit_of_a_copy_fails(case: SoakCase, monkeypatch: pytest.MonkeyPatch, pair: str) -> None:
    def flip() -> None:
        case.pairs[pair].target[777] ^= 1 << 40

    after(case, monkeypatch, pair, flip)
    assert f"largest in {pair}" in case.check().detail


def test_a_wrong_tile_of_the_product_fails(case: SoakCase, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil() -> None:
        tile = case.product.out_MN[16:32, 64:80]
        tile += torch.linspace(20, 40, 256).view(16, 16)

    after(case, monkeypatch, "product", spoil)
    check = case.check()
    assert not check.ok
    assert "largest in product" in check.detail


@pytest.mark.parametrize("place", ["keys", "values", "logits", "token"])
def test_what_decoding_leaves_behind_is_that_of_the_round_under_test(
    case: SoakCase, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The burst that is traced is sound; only the one within the round is spoilt."""
    tokens = case.tokens

    def spoil() -> None:
        keys_BGSE, values_BGSE = tokens._cache[1]
        if place == "keys":
            keys_BGSE[:, 1, -1] = keys_BGSE[:, 0, -1]
        elif place == "values":
            values_BGSE[:, 1, -1] = values_BGSE[:, 0, -1]
        elif place == "logits":
            tokens._logits_BV[:, 8:16] += 1
        else:
            tokens._chosen_BT[:, -1] = (tokens._chosen_BT[:, -1] + 1) % tokens._logits_BV.shape[1]

    after(case, monkeypatch, "decode", spoil)
    check = case.check()
    assert not check.ok
    assert "largest in decode" in check.detail


def test_a_nan_is_found_and_named(case: SoakCase, monkeypatch: pytest.MonkeyPatch) -> None:
    after(case, monkeypatch, "product", lambda: case.product.out_MN[5, 5].fill_(float("nan")))
    check = case.check()
    assert check.error == float("inf")
    assert "largest in product" in check.detail


# ---------------------------------------------------------------- streams


class Stream:
    """Writes down what a stream is told, in the place of one of CUDA's."""

    def __init__(self, name: str, told: list[tuple[str, ...]]) -> None:
        self.name, self.told = name, told

    def wait_event(self, event: Event) -> None:
        self.told.append((self.name, "waits for", event.name))


class Event:
    def __init__(self, name: str) -> None:
        self.name = name

    def record(self, stream: Stream) -> None:
        stream.told.append((stream.name, "records", self.name))


def test_parts_begin_after_what_came_before_and_the_round_ends_after_all_of_them(
    case: SoakCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of streams and events, on stand-ins; that CUDA keeps to it only a GPU can tell."""
    told: list[tuple[str, ...]] = []
    for name in PARTS:
        after(case, monkeypatch, name, lambda name=name: told.append((name, "performs")))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("outer", told))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    case._is_overlapped = True
    case._streams = {name: Stream(name, told) for name in PARTS}
    case._begun, case._done = Event("begun"), {name: Event(f"{name} done") for name in PARTS}
    assert case.check().ok
    expected: list[tuple[str, ...]] = [("outer", "records", "begun")]
    for name in PARTS:
        expected += [(name, "waits for", "begun"), (name, "performs"), (name, "records", f"{name} done")]
    expected += [("outer", "waits for", f"{name} done") for name in PARTS]
    traced = [("decode", "performs")]
    assert [one for one in told if one not in traced] == [one for one in expected if one not in traced]


# ---------------------------------------------------------------- work, metrics, names


def test_the_parts_times_are_apart_on_a_cpu_and_add_up_to_the_round(case: SoakCase) -> None:
    ends = [(10, 15, 17, 20, 50), (10, 15, 17, 20, 70)]
    marks = tuple(Mark(name, ns) for sample in ends for name, ns in zip(PARTS, sample, strict=True))
    found = case.metrics(Measurement((50, 70), (), (0, 0), marks, 1, True, False))
    assert {one.name: round(one.value * 1e9, 6) for one in found} == {
        **{"product_s": 10, "memory_s": 5, "h2d_s": 2, "d2h_s": 3, "decode_s": 40}
    }


def test_of_several_rounds_in_a_sample_the_first_one_tells(case: SoakCase) -> None:
    sample = [Mark(name, ns) for ns, name in zip(itertools.count(1), PARTS * 2, strict=False)]
    found = case.metrics(Measurement((5,), (), (0,), tuple(sample), 2, True, False))
    assert [one.value for one in found] == pytest.approx([1e-9] * 5)


def test_it_is_measured_like_any_other(case: SoakCase, cpu_device: CpuDevice) -> None:
    policy = Policy("count", 1, warmup_min_s=0.0, min_samples=3, max_samples=3)
    assert len(case.metrics(measure(case, cpu_device, policy))) == len(PARTS)


def test_the_work_is_that_of_all_parts() -> None:
    params = SoakParams(1024, 4, "llama-3.2-1b", products=3, moves=5, copies=2, steps=1)
    work = params.work
    parameters = 1_235_814_400  # of its model card; the head is the embedding
    assert work.flops is not None and work.bytes_moved is not None
    assert work.flops - 3 * 2 * 1024**3 == pytest.approx(2 * parameters, rel=0.05)
    assert work.bytes_moved - (2 * 5 + 2 * 2) * (4 << 20) == pytest.approx(2 * parameters, rel=0.05)
    assert (work.items, work.item_unit, work.unit) == (1, "token", "FLOP/s")


def test_names_and_memory() -> None:
    for workload in KERNEL.catalogue:
        params = parse_params("soak", SoakParams, workload)
        assert workload_name("soak", params) == workload
        assert KERNEL.memory_bytes(params) > 6 * params.copied_bytes + 6 * params.n**2


@pytest.mark.parametrize("option", ["products", "moves", "copies", "steps"])
def test_a_round_without_a_part_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"a round without {option}"):
        parse_params("soak", SoakParams, f"soak/64/mib1/tiny@{option}=0")


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
def test_a_round_on_a_gpu_passes_overlaps_and_is_over_when_all_parts_are(cuda_device: Any) -> None:
    case = prepare(KERNEL, "soak/1024/mib16/tiny@products=8,moves=8,copies=2,steps=2", cuda_device)
    assert isinstance(case, SoakCase)
    for _ in range(3):
        assert case.check().ok
    cuda_device.start()
    case.launch()
    elapsed_ns = cuda_device.stop()
    marks = {mark.name: mark.ns for mark in cuda_device.take_marks()}
    assert set(marks) == set(PARTS)
    assert max(marks.values()) <= elapsed_ns


@pytest.mark.gpu
@pytest.mark.parametrize("part", PARTS)
def test_a_part_left_out_fails_on_a_gpu_too(cuda_device: Any, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    case = prepare(KERNEL, "soak/1024/mib16/tiny@products=8,moves=8,copies=2,steps=2", cuda_device)
    assert isinstance(case, SoakCase)
    monkeypatch.setitem(case.parts, part, lambda: None)
    assert not case.check().ok

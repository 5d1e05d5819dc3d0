"""Outputs held against each other: each fault is found and named, and nothing but equal terms is compared."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import outputs
from bench.device.cpu import CpuDevice
from bench.outputs import Watch
from bench.schema import Row
from bench.types import Check
from kernels import decode, matmul
from kernels._output import taken
from tests import faults
from tests.conftest import prepare
from tests.results import make_plan, make_row

GEMM = "matmul/bf16/96"
DECODE = "decode/tiny/b1/ctx40@steps=3"


def row(**changes: Any) -> Row:
    plan = make_plan()
    return make_row(plan, replicate=changes.pop("replicate", 0)) | {"device_name": "a CPU", "torch": "2.13"} | changes


def check_of(tensor: torch.Tensor, error: float = 0.0) -> Check:
    return Check(error, 0.5, taken(tensor))


def watched(folder: Path, before: torch.Tensor, after: torch.Tensor, **changes: Any) -> dict[str, Any]:
    """The columns of a measurement with these outputs."""
    watch = Watch(folder, row(**changes))
    watch.before_timing(check_of(before))
    watch.after_timing(check_of(after))
    return watch.columns


# ---------------------------------------------------------------- what a difference says


def test_an_output_is_hashed_as_its_bytes_lie() -> None:
    tensor = torch.arange(6, dtype=torch.float32).view(2, 3)
    assert taken(tensor).sha256 == hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    assert taken(tensor.t()).sha256 == hashlib.sha256(tensor.t().contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (
            torch.float32,
            "element [1, 2] is 0x3f800001 (1.0000001192092896) where it was 0x3f800000 (1.0), xor 0x00000001",
        ),
        (torch.bfloat16, "element [1, 2] is 0x3f81 (1.0078125) where it was 0x3f80 (1.0), xor 0x0001"),
        (torch.float16, "element [1, 2] is 0x3c01 (1.0009765625) where it was 0x3c00 (1.0), xor 0x0001"),
        (torch.int32, "element [1, 2] is 0x00000000 (0) where it was 0x00000001 (1), xor 0x00000001"),
    ],
)
def test_a_flipped_bit_is_named_with_its_element_bits_and_both_values(dtype: torch.dtype, words: str) -> None:
    kept = torch.ones(3, 4, dtype=dtype)
    seen = kept.clone()
    faults.flip_a_bit(seen, element=6)
    assert outputs.difference(taken(seen), taken(kept)) == f"{words}; 1 of 12 elements differ"


@given(st.integers(0, 511), st.integers(0, 15))
def test_any_flipped_bit_is_found(element: int, bit: int) -> None:
    kept = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    seen = kept.clone()
    faults.flip_a_bit(seen, bit, element)
    words = outputs.difference(taken(seen), taken(kept))
    assert f"element [{element // 64}, {element % 64}]" in words
    assert f"xor 0x{1 << bit:04x}; 1 of 512" in words


# ---------------------------------------------------------------- what a run keeps


def test_the_first_output_is_kept_and_a_later_one_is_held_against_it(tmp_path: Path) -> None:
    right, wrong = torch.ones(4), torch.ones(4)
    faults.flip_a_bit(wrong, element=2)
    first = watched(tmp_path, right, right)
    assert first == {"output_sha256": taken(right).sha256, "output_difference": None}
    assert watched(tmp_path, right, right, replicate=1)["output_difference"] is None
    for before, after, when in ((right, wrong, "after"), (wrong, right, "before"), (wrong, wrong, "before")):
        found = watched(tmp_path, before, after, replicate=2)
        assert found["output_sha256"] == taken(wrong).sha256
        assert found["output_difference"] == (
            f"cpu, replicate 2, check {when} timing: element [2] is 0x3f800001 (1.0000001192092896) where it was "
            "0x3f800000 (1.0), xor 0x00000001; 1 of 4 elements differ, "
            "compared with cpu, replicate 0, check after timing"
        )


def test_a_first_measurement_that_contradicts_itself_says_so_and_is_not_kept(tmp_path: Path) -> None:
    found = watched(tmp_path, torch.ones(4), torch.zeros(4))
    assert "check after timing: sha256" in found["output_difference"]
    assert watched(tmp_path, torch.ones(4), torch.ones(4), replicate=1)["output_difference"] is None


def test_a_wrong_answer_is_compared_and_never_kept(tmp_path: Path) -> None:
    watch = Watch(tmp_path, row())
    watch.before_timing(check_of(torch.zeros(4)))
    watch.after_timing(check_of(torch.zeros(4), error=1.0))
    assert watched(tmp_path, torch.ones(4), torch.ones(4), replicate=1)["output_difference"] is None
    watch = Watch(tmp_path, row(replicate=2))
    watch.before_timing(check_of(torch.zeros(4), error=1.0))
    assert "element [0]" in watch.columns["output_difference"]


@pytest.mark.parametrize(
    "change",
    [{"torch": "2.14"}, {"threads": 3}, {"candidate": "matmul/fp32/96"}, {"device_name": "another"}, {"driver": "580"}],
    ids=str,
)
def test_what_may_differ_in_its_bits_is_not_compared(tmp_path: Path, change: dict[str, Any]) -> None:
    watched(tmp_path, torch.ones(4), torch.ones(4))
    assert watched(tmp_path, torch.zeros(4), torch.zeros(4), **change)["output_difference"] is None


def test_of_two_that_come_at_once_the_second_is_compared(tmp_path: Path) -> None:
    one, two = (Watch(tmp_path, row(device_index=index)) for index in (0, 1))
    one.before_timing(check_of(torch.ones(4)))
    two.before_timing(check_of(torch.zeros(4)))
    one.after_timing(check_of(torch.ones(4)))
    two.after_timing(check_of(torch.zeros(4)))
    assert one.columns["output_difference"] is None
    assert "element [0]" in two.columns["output_difference"]


def test_what_is_too_large_is_compared_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MOST_KEPT_BYTES", 8)
    watched(tmp_path, torch.ones(4), torch.ones(4))
    assert all(path.stat().st_size < 400 for path in tmp_path.iterdir())
    assert "too large" in watched(tmp_path, torch.zeros(4), torch.zeros(4))["output_difference"]


def test_where_nothing_can_be_kept_nothing_fails_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert watched(tmp_path, torch.ones(4), torch.ones(4))["output_sha256"] is not None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_kept_output_is_passed_over(tmp_path: Path) -> None:
    watched(tmp_path, torch.ones(4), torch.ones(4))
    for path in tmp_path.iterdir():
        path.write_bytes(b"not ours")
    assert watched(tmp_path, torch.zeros(4), torch.zeros(4))["output_difference"] is None


# ---------------------------------------------------------------- faults in a GEMM and in a step of decoding


@pytest.mark.parametrize("fault", ["flipped bit", "NaN", "stuck lane"])
def test_a_fault_in_the_output_of_a_gemm_is_found(tmp_path: Path, cpu_device: CpuDevice, fault: str) -> None:
    case: Any = prepare(matmul.KERNEL, GEMM, cpu_device)
    sound = case.check()
    watch = Watch(tmp_path, row())
    watch.before_timing(sound)
    watch.after_timing(case.check())
    enqueue = case._enqueue

    def faulty() -> None:
        enqueue()
        faults.OF_AN_OUTPUT[fault](case._product.out_MN)

    case._enqueue = faulty
    check = case.check()
    assert check.ok is (fault == "flipped bit")  # float64 sees all but an error within the rounding
    found = _seen(tmp_path, check)
    assert "element [0, " in found


@pytest.mark.parametrize("operand", ["a_MK", "b_KN"])
def test_a_bit_that_flipped_in_an_operand_is_found_by_the_hash_alone(
    tmp_path: Path, cpu_device: CpuDevice, operand: str
) -> None:
    _kept(tmp_path, prepare(matmul.KERNEL, GEMM, cpu_device))
    case: Any = prepare(matmul.KERNEL, GEMM, cpu_device)
    tensor = getattr(case._product, operand)
    faults.flip_a_bit(tensor if tensor.is_contiguous() else tensor.t(), bit=6)
    check = case.check()
    assert check.ok  # the reference reads the same operand
    assert "elements differ" in _seen(tmp_path, check)


def test_an_operand_that_changes_after_the_first_check_is_found_by_float64(cpu_device: CpuDevice) -> None:
    case: Any = prepare(matmul.KERNEL, GEMM, cpu_device)
    assert case.check().ok
    faults.flip_a_bit(case._product.a_MK, bit=14)
    assert not case.check().ok


@pytest.mark.parametrize("fault", ["flipped bit", "NaN", "stuck lane"])
def test_a_fault_in_the_logits_of_a_decode_step_is_found(
    tmp_path: Path, cpu_device: CpuDevice, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kept(tmp_path, prepare(decode.KERNEL, DECODE, cpu_device))
    case: Any = prepare(decode.KERNEL, DECODE, cpu_device)
    forward = case.model.forward

    def faulty(*args: Any) -> torch.Tensor:
        logits_BV: torch.Tensor = forward(*args)
        faults.OF_AN_OUTPUT[fault](logits_BV)
        return logits_BV

    monkeypatch.setattr(case.model, "forward", faulty)
    check = case.check()
    assert fault == "flipped bit" or not check.ok
    assert "differ" in _seen(tmp_path, check)


def test_a_bit_that_flipped_in_a_weight_of_a_model_is_found_by_the_hash_alone(
    tmp_path: Path, cpu_device: CpuDevice
) -> None:
    _kept(tmp_path, prepare(decode.KERNEL, DECODE, cpu_device))
    case: Any = prepare(decode.KERNEL, DECODE, cpu_device)
    faults.flip_a_bit(case.model.layers[0].mlp_norm.weight, bit=6, element=3)
    check = case.check()
    assert check.ok  # each link is held against the weights that are there
    assert "differ" in _seen(tmp_path, check)


def _kept(folder: Path, case: Any) -> None:
    watch = Watch(folder, row())
    watch.before_timing(case.check())
    watch.after_timing(case.check())
    assert watch.columns["output_difference"] is None


def _seen(folder: Path, check: Check) -> str:
    watch = Watch(folder, row(replicate=3))
    watch.before_timing(check)
    found: str = watch.columns["output_difference"]
    assert found.startswith("cpu, replicate 3, check before timing: ")
    return found

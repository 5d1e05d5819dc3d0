"""``matmul``: its names, that every dtype is what it says, and that its check finds what it must."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.device.fake import FakeDevice
from bench.errors import Unsupported, UsageError
from bench.measure import measure
from bench.spec import SEED, parse_params, spec_of, workload_name
from bench.types import Check, DeviceInfo, Policy
from kernels import _gemm, _gemm_product
from kernels._gemm import DTYPES, Shape
from kernels._gemm_product import Product
from kernels.matmul import KERNEL, MatmulParams
from tests.conftest import prepare


def params(workload: str) -> MatmulParams:
    return parse_params(KERNEL.name, KERNEL.params_type, workload)


def checked(workload: str, device: Device) -> Check:
    case = prepare(KERNEL, workload, device)
    try:
        return case.check()
    finally:
        case.close()


def tampered(workload: str, device: Device, tamper: Callable[[Any], object]) -> Check:
    """The check of a case whose library computes almost the right thing: ``tamper(product)`` follows every launch."""
    case: Any = prepare(KERNEL, workload, device)
    enqueue = case._enqueue

    def launch() -> None:
        enqueue()
        tamper(case._product)

    case._enqueue = launch
    check: Check = case.check()
    case.close()
    return check


# ---------------------------------------------------------------- names and formulas


@pytest.mark.parametrize("text", ["512x512x512", "0", "01", "4x4", "4x04x8", "-4", "4X4X8", "4x4x8x8", "", "٤"])
def test_a_shape_has_one_spelling(text: str) -> None:
    with pytest.raises(UsageError):
        params(f"matmul/fp32/{text}")


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 10**6)] * 3))
def test_names_and_shapes_are_one_to_one(sizes: tuple[int, int, int]) -> None:
    shape = Shape(*sizes)
    assert Shape.parse(str(shape)) == shape
    assert ("x" in str(shape)) == (len(set(sizes)) > 1)


def test_every_catalogued_workload_is_named_canonically() -> None:
    assert len(set(KERNEL.catalogue)) == len(KERNEL.catalogue)
    for workload in KERNEL.catalogue:
        assert workload_name(KERNEL.name, params(workload)) == workload


def test_dtype_backend_and_cache_are_columns_and_the_shape_a_parameter() -> None:
    spec = spec_of(KERNEL.name, KERNEL.version, params("matmul/bf16/1x4096x14336@cache=cold"))
    assert (spec.dtype, spec.backend, spec.cache) == ("bf16", "torch", "cold")
    assert spec.params == {"shape": {"m": 1, "k": 4096, "n": 14336}}


def test_work_is_two_operations_a_product_and_each_matrix_moved_once() -> None:
    work = _gemm.work("bf16", Shape(2, 3, 5).stack)
    assert (work.unit, work.flops, work.bytes_moved) == ("FLOP/s", 60, 2 * (2 * 3 + 3 * 5 + 2 * 5))
    assert _gemm.work("int8", Shape(2, 3, 5).stack).unit == "OP/s"
    assert _gemm.work("int8", Shape(2, 3, 5).stack).bytes_moved == 2 * 3 + 3 * 5 + 4 * 2 * 5
    nvfp4 = _gemm.work("nvfp4", Shape(32, 64, 128).stack)  # half a byte an element, a byte for 16
    assert nvfp4.bytes_moved == (32 * 64 + 64 * 128) // 2 + (32 * 64 + 64 * 128) // 16 + 2 * 32 * 128


def test_operations_are_those_that_torch_counts() -> None:
    with FlopCounterMode(display=False) as counter:
        torch.mm(torch.empty(2, 3, device="meta"), torch.empty(3, 5, device="meta"))
    assert _gemm.work("fp32", Shape(2, 3, 5).stack).flops == counter.get_total_flops()


def test_a_large_product_is_probed_small_and_a_small_one_is_not() -> None:
    probe = KERNEL.probe(params("matmul/bf16/4096@cache=cold"))
    assert probe is not None
    assert workload_name(KERNEL.name, probe) == "matmul/bf16/256@cache=cold"
    assert KERNEL.probe(probe) is None


def test_the_roof_is_the_dtype_s_whichever_library_computes() -> None:
    assert KERNEL.roofs(params("matmul/fp32/64@backend=numpy"), "cpu") == ("roof/compute/fp32",)


def test_what_is_cold_has_to_be_read_from_memory_too() -> None:
    cold = params("matmul/bf16/1x4096x14336@cache=cold")
    assert KERNEL.roofs(cold, "cuda") == ("roof/compute/bf16", "roof/memory/read")


def test_memory_covers_operands_result_and_check() -> None:
    operands_and_result = 8192 * 8192 * (2 + 2 + 2)
    needed = KERNEL.memory_bytes(params("matmul/bf16/8192"))
    assert operands_and_result < needed < 2 * operands_and_result
    packed = KERNEL.memory_bytes(params("matmul/bf16/8192@backend=onednn"))
    assert packed == needed + 2 * 8192 * 8192  # B a second time


def test_importing_the_kernel_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, kernels.matmul; print({'torch', 'numpy', 'cupy', 'scipy'} & set(sys.modules) or 'none')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


# ---------------------------------------------------------------- every dtype, on a CPU


@pytest.mark.parametrize(
    "workload",
    [
        "matmul/fp64/96",
        "matmul/fp32/96",
        "matmul/bf16/96",
        "matmul/int8/96",
        "matmul/fp64/70x33x600",  # three blocks of columns, the last one partial
        "matmul/fp32/1x40x300",
        "matmul/bf16/7x3x5",  # fewer rows and columns than samples
        "matmul/int8/33x64x17",
        "matmul/fp64/96@backend=numpy",
        "matmul/fp32/50x60x300@backend=numpy",
        "matmul/fp32/96@cache=cold",
        "matmul/fp32/96@backend=onednn",
        "matmul/int8/300x400x500@backend=onednn",
    ],
)
def test_a_product_passes_its_own_check(workload: str, cpu_device: CpuDevice) -> None:
    check = checked(workload, cpu_device)
    assert check.ok, check
    assert check.output_sha256 is not None


@pytest.mark.parametrize("text", ["fp16/64", "fp8-e4m3/64", "fp8-e5m2xe4m3/64", "nvfp4/64", "bf16/64@backend=onednn"])
def test_a_dtype_that_not_every_cpu_has_is_right_or_unsupported(text: str, cpu_device: CpuDevice) -> None:
    with contextlib.suppress(Unsupported):
        assert checked(f"matmul/{text}", cpu_device).ok


def test_operands_of_mixed_formats_are_what_the_dtype_says(cpu_device: CpuDevice) -> None:
    product = Product("fp8-e5m2xe4m3", Shape.square(64).stack, cpu_device, SEED)
    assert (product.a_MK.dtype, product.b_KN.dtype) == (torch.float8_e5m2, torch.float8_e4m3fn)


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_one_wrong_tile_of_a_packed_product_fails(dtype: str, cpu_device: CpuDevice) -> None:
    def zero_a_tile(product: Any) -> None:
        product.out_MN[48:64, 16:32] = 0

    assert not tampered(f"matmul/{dtype}/96@backend=onednn", cpu_device, zero_a_tile).ok


@pytest.mark.parametrize("width", [2, 4, 16, 128])
def test_equal_errors_in_a_tile_fail_wherever_it_lies(width: int, cpu_device: CpuDevice) -> None:
    product = Product("fp32", Shape(32, 32, 512).stack, cpu_device, SEED)
    torch.mm(product.a_MK, product.b_KN, out=product.out_MN)
    tolerance = _gemm.tolerance("fp32", 32)
    assert product.error() <= tolerance
    for column in range(0, 512, width):
        tile = product.out_MN[10:26, column : column + width]
        right = tile.clone()
        tile += 0.5
        assert product.error() > tolerance, column  # random signs alone cancel in some of them
        tile.copy_(right)


def test_a_library_that_takes_memory_finds_the_last_result_s_free(cpu_device: CpuDevice) -> None:
    product = Product("fp32", Shape.square(8).stack, cpu_device, SEED)
    freed = []

    def compute() -> torch.Tensor:
        freed.append(not hasattr(product, "out_MN"))
        return product.a_MK @ product.b_KN

    product.keep(compute)()
    assert freed == [True]
    assert product.error() <= _gemm.tolerance("fp32", 8)


def test_integers_are_exact(cpu_device: CpuDevice) -> None:
    check = checked("matmul/int8/300x400x500", cpu_device)
    assert (check.error, check.tolerance) == (0.0, 0.0)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(cpu_device: CpuDevice) -> None:
    def digest(seed: int) -> str | None:
        return KERNEL.prepare(params("matmul/int8/64"), cpu_device, seed).check().output_sha256

    assert digest(SEED) == digest(SEED) != digest(SEED + 1)


def test_operands_are_random_and_b_lies_column_by_column(cpu_device: CpuDevice) -> None:
    case = KERNEL.prepare(params("matmul/fp32/40x50x60"), cpu_device, SEED)
    a_MK, b_KN = case._product.a_MK, case._product.b_KN
    assert (a_MK.shape, b_KN.shape) == ((40, 50), (50, 60))
    assert (a_MK.stride(), b_KN.stride()) == ((50, 1), (1, 50))
    assert a_MK.unique().numel() > 1990
    assert 0.9 < float(a_MK.std()) < 1.1
    assert not torch.equal(a_MK.flatten()[:64], b_KN.t().flatten()[:64])


def test_results_go_to_one_preallocated_place(cpu_device: CpuDevice) -> None:
    case = KERNEL.prepare(params("matmul/fp32/64"), cpu_device, SEED)
    out_MN = case._product.out_MN
    before = out_MN.clone()
    out_MN.zero_()
    case.launch()
    assert torch.equal(out_MN, before)


def test_a_library_without_the_dtype_is_unsupported(cpu_device: CpuDevice) -> None:
    for workload, words in [
        ("matmul/bf16/64@backend=numpy", "numpy has no BLAS product for bf16"),
        ("matmul/tf32/64@backend=numpy", "numpy has no BLAS product for tf32"),
        ("matmul/fp32/64@backend=cupy", "NVIDIA GPUs only"),
        ("matmul/fp8-e4m3/64@backend=onednn", "."),
        ("matmul/nvfp4/64@backend=onednn", "4-bit floats"),
    ]:
        with pytest.raises(Unsupported, match=words):
            prepare(KERNEL, workload, cpu_device)


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (RuntimeError('"addmm" not implemented for this\nC++ frames'), Unsupported),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasGemmEx"), Unsupported),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"), RuntimeError),
        (RuntimeError("CUDA error: CUSPARSE_STATUS_INTERNAL_ERROR when calling cusparseLtMatmul"), RuntimeError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
    ],
)
def test_a_refusal_is_unsupported_and_a_failure_is_not(
    error: Exception, becomes: type[Exception], cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "mm", refuse)
    with pytest.raises(becomes) as raised:
        prepare(KERNEL, "matmul/fp32/64", cpu_device)
    assert type(raised.value) is becomes
    assert str(raised.value) == str(error).split("\n", maxsplit=1)[0]


# ---------------------------------------------------------------- fp32 and tf32


def rounded_as_tf32(x: torch.Tensor) -> torch.Tensor:
    return (x.view(torch.int32) & ~0x1FFF).view(torch.float32)


@pytest.fixture
def tf32_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch.mm that does what a tensor core does where tf32 is allowed."""
    multiply = torch.mm

    def mm(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        if a.dtype == torch.float32 and torch.get_float32_matmul_precision() == "high":
            a, b = rounded_as_tf32(a), rounded_as_tf32(b)
        return multiply(a, b, out=out)

    monkeypatch.setattr(torch, "mm", mm)


@pytest.fixture
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_tf32_that_changes_nothing_is_unsupported(cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = torch.mm

    def full_precision(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        return out.copy_(multiply(a.double(), b.double()))

    monkeypatch.setattr(torch, "mm", full_precision)
    with pytest.raises(Unsupported, match="allowing tf32 changes nothing"):
        prepare(KERNEL, "matmul/tf32/64", cpu_device)


@pytest.mark.usefixtures("tf32_hardware")
def test_tf32_is_allowed_for_tf32_and_for_nothing_else(cpu_device: CpuDevice) -> None:
    before = torch.get_float32_matmul_precision()
    tf32 = checked("matmul/tf32/256", cpu_device)
    assert tf32.ok
    assert torch.get_float32_matmul_precision() == before
    fp32 = checked("matmul/fp32/256", cpu_device)
    assert fp32.ok
    assert fp32.error < tf32.error / 20


@pytest.mark.usefixtures("tf32_hardware", "precision")
def test_fp32_is_full_precision_even_where_the_process_allowed_tf32(cpu_device: CpuDevice) -> None:
    torch.set_float32_matmul_precision("high")
    case = prepare(KERNEL, "matmul/fp32/256", cpu_device)
    assert case.check().ok
    case.close()
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.usefixtures("precision")
def test_a_refused_case_leaves_no_setting_behind(cpu_device: CpuDevice) -> None:
    torch.set_float32_matmul_precision("highest")
    with contextlib.suppress(Unsupported):
        prepare(KERNEL, "matmul/tf32/64", cpu_device).close()
    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_passed_off_as_fp32_is_wrong(cpu_device: CpuDevice) -> None:
    def compute_in_tf32(product: Any) -> None:
        torch.mm(rounded_as_tf32(product.a_MK), rounded_as_tf32(product.b_KN.t()).t(), out=product.out_MN)

    assert not tampered("matmul/fp32/256", cpu_device, compute_in_tf32).ok


# ---------------------------------------------------------------- mutations


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "bf16", "int8"])
@pytest.mark.parametrize("row", [0, 160, 304])
@pytest.mark.parametrize("column", [0, 256, 496, 584])
def test_one_wrong_tile_fails_wherever_it_is(dtype: str, row: int, column: int, cpu_device: CpuDevice) -> None:
    def swap_two_rows_of_a_tile(product: Any) -> None:
        tile = product.out_MN[row : row + 16, column : column + 16]
        tile.copy_(tile.roll(1, 0))

    assert not tampered(f"matmul/{dtype}/320x64x600", cpu_device, swap_two_rows_of_a_tile).ok


@pytest.fixture(scope="module")
def bf16_case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    device = CpuDevice(DeviceInfo("cpu", 0, "test"), tmp_path_factory.mktemp("scratch"))
    case = prepare(KERNEL, "matmul/bf16/300x64x600", device)
    yield case
    case.close()


@settings(deadline=None)
@given(row=st.integers(0, 299), column=st.integers(0, 599))
def test_one_wrong_element_fails_wherever_it_is(bf16_case: Any, row: int, column: int) -> None:
    bf16_case.launch()
    bf16_case._product.out_MN[row, column] += 2 * math.sqrt(64)  # two root mean squares
    assert bf16_case._product.error() > bf16_case._tolerance


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "bf16", "int8"])
def test_a_result_that_was_not_written_fails(dtype: str, cpu_device: CpuDevice) -> None:
    def keep_poison(product: Any) -> None:
        product.poison()

    assert not tampered(f"matmul/{dtype}/64", cpu_device, keep_poison).ok


def test_one_element_not_written_fails(cpu_device: CpuDevice) -> None:
    def skip_one(product: Any) -> None:
        product.out_MN[13, 37] = math.nan

    check = tampered("matmul/fp32/64", cpu_device, skip_one)
    assert math.isnan(check.error)
    assert not check.ok


def test_a_missing_slice_of_k_fails(cpu_device: CpuDevice) -> None:
    def forget_the_last_products(product: Any) -> None:
        torch.mm(product.a_MK[:, :-8], product.b_KN[:-8], out=product.out_MN)

    assert not tampered("matmul/bf16/64x512x64", cpu_device, forget_the_last_products).ok


def test_a_change_beyond_rounding_in_fp64_fails(cpu_device: CpuDevice) -> None:
    def compute_in_fp32(product: Any) -> None:
        product.out_MN.copy_(product.a_MK.float() @ product.b_KN.float())

    assert not tampered("matmul/fp64/64", cpu_device, compute_in_fp32).ok


def test_samples_are_held_against_fsum_and_not_only_against_a_float64_gemm(cpu_device: CpuDevice) -> None:
    case = KERNEL.prepare(params("matmul/fp64/90"), cpu_device, SEED)
    product = case._product
    product.error()
    expected = [
        [math.fsum((product.a_MK[i] * product.b_KN[:, j]).tolist()) for j in product._sampled_columns]
        for i in product._sampled_rows
    ]
    assert np.array_equal(product._exact, expected)
    # A GEMM that is wrong everywhere, and wrong in the same way where the reference leans on it.
    case.launch()
    product.out_MN.mul_(2)
    product._exact_sums *= 2
    assert product.error() > case._tolerance


@settings(deadline=None)
@given(st.integers(1, 100_000), st.integers(0, 100))
def test_samples_are_spread_over_the_whole_range(size: int, seed: int) -> None:
    positions = _gemm_product._spread(size, seed)
    assert positions == sorted(positions)
    assert 0 <= positions[0] <= size / 8
    assert size * 7 / 8 - 1 <= positions[-1] < size


def test_tolerances_are_those_of_the_sources() -> None:
    assert _gemm.tolerance("fp64", 256) == 8 * 16 * 2**-53
    assert _gemm.tolerance("fp32", 256) == 8 * 16 * 2**-24
    assert _gemm.tolerance("bf16", 256) == 8 * (16 * 2**-24 + 2**-8)
    assert _gemm.tolerance("int8", 256) == 0.0


# ---------------------------------------------------------------- cold cache


def test_a_cold_product_flushes_before_every_sample_and_a_hot_one_never(fake_device: FakeDevice) -> None:
    policy = Policy(warmup_rule="count", warmup_min_samples=2, warmup_min_s=0.0, min_samples=3, max_samples=3)
    measure(prepare(KERNEL, "matmul/fp32/16@cache=cold", fake_device), fake_device, policy)
    assert fake_device.events == ["flush", "start", "launch", "stop"] * 5
    fake_device.events.clear()
    measure(prepare(KERNEL, "matmul/fp32/16", fake_device), fake_device, policy)
    assert "flush" not in fake_device.events


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_passes_on_a_gpu_that_has_it(dtype: str, cuda_device: Device) -> None:
    since = {
        "tf32": (8, 0),
        "bf16": (8, 0),
        "int8": (7, 5),
        "fp8-e4m3": (8, 9),
        "fp8-e5m2xe4m3": (8, 9),
        "nvfp4": (10, 0),
    }
    try:
        for shape in ("512", "256x1024x768"):
            assert checked(f"matmul/{dtype}/{shape}", cuda_device).ok
    except Unsupported:
        assert torch.cuda.get_device_capability() < since.get(dtype, (0, 0))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["fp64", "fp32", "tf32", "fp16"])
def test_cupy_agrees_and_runs_on_torch_s_stream(dtype: str, cuda_device: Device) -> None:
    pytest.importorskip("cupy")
    workload = f"matmul/{dtype}/512@backend=cupy"
    assert checked(workload, cuda_device).ok
    case: Any = prepare(KERNEL, workload, cuda_device)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        case._product.poison()  # a launch on another stream would overtake it, and be overwritten
        case.launch()
        side.synchronize()
        assert case._product.error() <= case._tolerance


@pytest.mark.gpu
def test_cupy_has_no_int8_product(cuda_device: Device) -> None:
    with pytest.raises(Unsupported, match="modulo 256"):
        prepare(KERNEL, "matmul/int8/64@backend=cupy", cuda_device)


@pytest.mark.gpu
def test_tf32_is_less_accurate_than_fp32_by_either_library(cuda_device: Device) -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("no tf32 before compute capability 8.0")
    for backend in ("torch", "cupy"):
        if backend == "cupy":
            pytest.importorskip("cupy")
        fp32 = checked(f"matmul/fp32/1024@backend={backend}", cuda_device)
        tf32 = checked(f"matmul/tf32/1024@backend={backend}", cuda_device)
        assert fp32.ok and tf32.ok
        assert tf32.error > 20 * fp32.error


@pytest.mark.gpu
def test_numpy_does_not_pretend_to_use_a_gpu(cuda_device: Device) -> None:
    with pytest.raises(Unsupported, match="CPU only"):
        prepare(KERNEL, "matmul/fp32/64@backend=numpy", cuda_device)


@pytest.mark.gpu
def test_one_wrong_tile_fails_on_a_gpu(cuda_device: Device) -> None:
    def zero_a_tile(product: Any) -> None:
        product.out_MN[1024 : 1024 + 64, 3072 : 3072 + 64] = 0

    assert not tampered("matmul/bf16/4096", cuda_device, zero_a_tile).ok


@pytest.mark.gpu
@pytest.mark.parametrize("cache", ["hot", "cold"])
def test_hot_and_cold_are_measured(cache: str, cuda_device: Device) -> None:
    option = "" if cache == "hot" else "@cache=cold"
    case = prepare(KERNEL, f"matmul/bf16/1x4096x4096{option}", cuda_device)
    measured = measure(case, cuda_device, Policy(max_samples=5, max_s=0.2))
    assert (measured.launches_per_sample == 1) == (cache == "cold")
    assert case.check().ok

"""``roof/compute``: where its search may look, and that each candidate is a checked product."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported, UsageError
from bench.spec import parse_params, spec_of, workload_name
from bench.types import Measurement
from kernels._gemm import DTYPES, Shape
from kernels.roof_compute import KERNEL, RoofComputeParams
from tests.conftest import prepare


def params(workload: str) -> RoofComputeParams:
    return parse_params(KERNEL.name, KERNEL.params_type, workload)


def name(candidate: RoofComputeParams) -> str:
    return workload_name(KERNEL.name, candidate)


MEASUREMENT = Measurement((1,), (), (0,), (), 1, steady=True, cut_short=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_candidates_are_workloads_of_this_dtype_in_ascending_work(dtype: str) -> None:
    candidates = KERNEL.candidates(params(f"roof/compute/{dtype}"))
    names = [name(candidate) for candidate in candidates]
    assert len(set(names)) == len(names)
    assert [params(candidate_name) for candidate_name in names] == list(candidates)
    assert {candidate.dtype for candidate in candidates} == {dtype}
    flops = [candidate.shape.flops for candidate in candidates if candidate.shape]
    assert len(flops) == len(names)
    assert flops == sorted(flops)


def test_candidates_suit_two_slow_cores_and_a_large_gpu() -> None:
    flops = [candidate.shape.flops for candidate in KERNEL.candidates(params("roof/compute/bf16")) if candidate.shape]
    assert flops[0] < 1e10
    assert flops[-1] > 1e11


def test_published_shapes_are_turned_from_m_n_k_to_m_k_n() -> None:
    shapes = [candidate.shape for candidate in KERNEL.candidates(params("roof/compute/bf16"))]
    assert Shape(m=2048, k=13312, n=2048) in shapes  # H100: 2048 x 2048 x 13312
    assert Shape(m=1024, k=5120, n=10240) in shapes  # A100: 1024 x 10240 x 5120


def test_a_named_shape_is_not_searched_for() -> None:
    assert KERNEL.candidates(params("roof/compute/bf16@shape=512")) == ()


def test_other_libraries_compete_where_they_can_be_ahead() -> None:
    others = {"fp64": {"numpy"}, "fp32": {"numpy", "onednn"}}
    others |= {dtype: {"onednn"} for dtype in ("bf16", "fp16", "int8")}
    for dtype in DTYPES:
        backends = {candidate.backend for candidate in KERNEL.candidates(params(f"roof/compute/{dtype}"))}
        assert backends == {"torch"} | others.get(dtype, set())


@pytest.mark.parametrize("text", ["1024", "2048x13312x2048", "256", "32768", "1792x3072x16128"])
def test_neighbours_differ_in_one_aligned_dimension(text: str) -> None:
    start = params(f"roof/compute/fp8-e4m3@shape={text}")
    assert start.shape is not None
    neighbours = KERNEL.neighbours(start)
    assert len(set(neighbours)) == len(neighbours) >= 6
    for neighbour in neighbours:
        assert neighbour.shape is not None
        pairs = [(getattr(start.shape, axis), getattr(neighbour.shape, axis)) for axis in "mkn"]
        (changed,) = [(before, after) for before, after in pairs if before != after]
        assert changed[1] % 64 == 0
        assert 0.45 < changed[1] / changed[0] < 2.05
        assert 256 <= changed[1] <= 32768
        assert params(name(neighbour)) == neighbour


def test_neighbours_keep_the_library_and_lead_back() -> None:
    start = params("roof/compute/fp32@shape=1024,backend=numpy")
    for neighbour in KERNEL.neighbours(start):
        assert neighbour.backend == "numpy"
        assert start in KERNEL.neighbours(neighbour)


def test_a_roof_without_a_shape_has_no_neighbours_and_says_how_to_time_one() -> None:
    start = params("roof/compute/bf16")
    assert KERNEL.neighbours(start) == ()
    with pytest.raises(UsageError, match="@shape="):
        KERNEL.prepare(start, None, 0)  # type: ignore[arg-type]  # the device is not looked at


def test_the_shape_is_part_of_the_spec() -> None:
    roof = spec_of(KERNEL.name, KERNEL.version, params("roof/compute/bf16"))
    candidate = spec_of(KERNEL.name, KERNEL.version, params("roof/compute/bf16@shape=64"))
    assert roof.params == {"shape": None}
    assert candidate.params == {"shape": {"m": 64, "k": 64, "n": 64}}
    assert roof.spec_id != candidate.spec_id


def test_a_probe_has_a_small_shape_even_where_the_roof_has_none() -> None:
    assert name(KERNEL.probe(params("roof/compute/int8"))) == "roof/compute/int8@shape=256"


def test_memory_of_a_roof_is_what_its_smallest_candidate_takes() -> None:
    roof = params("roof/compute/fp64")
    assert KERNEL.memory_bytes(roof) == KERNEL.memory_bytes(KERNEL.candidates(roof)[0])
    assert KERNEL.memory_bytes(params("roof/compute/fp64@shape=8192")) > 3 * 8 * 8192**2


@pytest.mark.parametrize(
    "workload", ["fp64@shape=64", "bf16@shape=64x32x96", "fp32@shape=64,backend=numpy", "int8@shape=64,backend=onednn"]
)
def test_a_candidate_passes_its_check_and_tells_its_shape(workload: str, cpu_device: CpuDevice) -> None:
    case = prepare(KERNEL, f"roof/compute/{workload}", cpu_device)
    assert case.check().ok
    shape = params(f"roof/compute/{workload}").shape
    assert shape is not None
    assert {metric.name: metric.value for metric in case.metrics(MEASUREMENT)} == {
        "shape_m": shape.m,
        "shape_k": shape.k,
        "shape_n": shape.n,
    }
    case.close()


def test_a_candidate_with_one_wrong_tile_fails(cpu_device: CpuDevice) -> None:
    case: Any = prepare(KERNEL, "roof/compute/bf16@shape=128", cpu_device)
    enqueue = case._enqueue

    def launch() -> None:
        enqueue()
        case._product.out_MN[96:112, 32:48] = 0

    case._enqueue = launch
    assert not case.check().ok


def test_importing_the_kernel_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, kernels.roof_compute; print({'torch', 'numpy', 'scipy'} & set(sys.modules) or 'none')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_candidate_of_moderate_size_passes_on_a_gpu(dtype: str, cuda_device: Device) -> None:
    for candidate in KERNEL.candidates(params(f"roof/compute/{dtype}")):
        if candidate.shape is None or candidate.shape.flops > 2e11 or candidate.backend != "torch":
            continue
        try:
            case = KERNEL.prepare(candidate, cuda_device, 0)
        except Unsupported:
            assert torch.cuda.get_device_capability() < ((10, 0) if dtype == "nvfp4" else (8, 9))
            continue
        check = case.check()
        case.close()
        assert check.ok, (name(candidate), check)
        assert math.isfinite(check.error)

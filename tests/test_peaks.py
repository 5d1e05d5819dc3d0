"""``bench.peaks``: names as reported, dense figures, and no guesses."""

from __future__ import annotations

import pytest

from bench import peaks
from bench.peaks import peak

NAMES = sorted(peaks._BY_NAME)


@pytest.mark.parametrize(
    ("name", "roof", "value", "unit"),
    [
        ("NVIDIA A100-SXM4-80GB", "roof/compute/bf16", 312e12, "FLOP/s"),
        ("NVIDIA A100-SXM4-80GB", "roof/memory/read", 2039e9, "B/s"),
        ("NVIDIA A100-SXM4-40GB", "roof/memory/read", 1555e9, "B/s"),
        ("NVIDIA A100 80GB PCIe", "roof/memory/copy", 1935e9, "B/s"),
        ("NVIDIA A100-PCIE-40GB", "roof/compute/fp64", 19.5e12, "FLOP/s"),
        ("NVIDIA A100-PCIE-40GB", "roof/compute/fp64-vector", 9.7e12, "FLOP/s"),
        ("NVIDIA H100 80GB HBM3", "roof/compute/fp32", 67e12, "FLOP/s"),
        ("NVIDIA H100 80GB HBM3", "roof/memory/read", 3.35e12, "B/s"),
        ("NVIDIA H100 PCIe", "roof/memory/read", 2e12, "B/s"),
        ("NVIDIA H200", "roof/memory/read", 4.8e12, "B/s"),
        ("NVIDIA H200", "roof/memory/read@backend=cupy", 4.8e12, "B/s"),
        ("NVIDIA H200", "roof/compute/fp8-e5m2xe4m3", 1979e12, "FLOP/s"),  # FP8 is FP8
        ("NVIDIA L40S", "roof/compute/bf16", 362.05e12, "FLOP/s"),
        ("NVIDIA L40S", "roof/compute/int8", 733e12, "OP/s"),
        ("NVIDIA GB200", "roof/memory/read", 8e12, "B/s"),
        ("Tesla T4", "roof/compute/int8", 130e12, "OP/s"),
    ],
)
def test_figures_of_the_datasheets(name: str, roof: str, value: float, unit: str) -> None:
    found = peak(name, roof)
    assert found is not None
    assert found.value == pytest.approx(value)
    assert found.unit == unit


@pytest.mark.parametrize(
    ("name", "dtype", "with_sparsity"),
    [
        ("NVIDIA H100 80GB HBM3", "tf32", 989e12),
        ("NVIDIA H100 80GB HBM3", "bf16", 1979e12),
        ("NVIDIA H100 80GB HBM3", "fp8-e4m3", 3958e12),
        ("NVIDIA H100 PCIe", "bf16", 1513e12),
        ("NVIDIA H100 NVL", "fp16", 1671e12),
        ("NVIDIA H200", "int8", 3958e12),
        ("NVIDIA L4", "bf16", 242e12),
        ("NVIDIA B200", "bf16", 4500e12),
        ("NVIDIA GB200", "fp8-e4m3", 10000e12),
    ],
)
def test_dense_is_half_of_the_figure_with_sparsity(name: str, dtype: str, with_sparsity: float) -> None:
    found = peak(name, f"roof/compute/{dtype}")
    assert found is not None
    assert found.value == pytest.approx(with_sparsity / 2)
    assert "half of its figure with sparsity" in found.source


# Achieved TFLOP/s and its share of the peak: stas00/ml-engineering, "Maximum Achievable Matmul FLOPS".
@pytest.mark.parametrize(
    ("name", "dtype", "achieved_tflops", "share_percent"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 271.2, 86.9),
        ("NVIDIA H100 80GB HBM3", "bf16", 794.5, 80.3),
        ("NVIDIA GH200 144G HBM3e", "bf16", 828.6, 83.8),
        ("NVIDIA B200", "bf16", 1745.0, 77.6),
        ("NVIDIA B300 SXM6 AC", "bf16", 1769.0, 78.6),
        ("NVIDIA GB200", "bf16", 1822.0, 72.9),
        ("NVIDIA H100 80GB HBM3", "fp8-e4m3", 1402.6, 70.9),
        ("NVIDIA H200", "fp8-e4m3", 1453.4, 73.4),
        ("NVIDIA B200", "fp8-e4m3", 3432.5, 76.3),
    ],
)
def test_published_shares_of_the_peak(name: str, dtype: str, achieved_tflops: float, share_percent: float) -> None:
    found = peak(name, f"roof/compute/{dtype}")
    assert found is not None
    assert achieved_tflops * 1e12 / found.value * 100 == pytest.approx(share_percent, abs=0.1)


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA H100",
        "NVIDIA A10G",
        "NVIDIA L40S-48Q",
        "NVIDIA GeForce RTX 4090",
        "nvidia l40s",
        "AMD Instinct MI300X",
        "Intel(R) Xeon(R) Processor",
    ],
)
@pytest.mark.parametrize("roof", ["roof/compute/bf16", "roof/memory/read"])
def test_an_unknown_device_has_no_peak(name: str | None, roof: str) -> None:
    assert peak(name, roof) is None


@pytest.mark.parametrize(
    ("name", "roof"),
    [
        ("Tesla V100-SXM2-16GB", "roof/compute/bf16"),
        ("NVIDIA A100-SXM4-80GB", "roof/compute/fp8-e4m3"),
        ("NVIDIA B200", "roof/compute/fp64"),
        ("NVIDIA B200", "roof/memory/read"),
        ("Tesla T4", "roof/memory/read"),
        ("NVIDIA H200", "roof/link/p2p"),
        ("NVIDIA H200", "roof/compute"),
        ("NVIDIA H200", "bf16"),
        ("NVIDIA H200", "matmul/bf16/4096"),
    ],
)
def test_an_unpublished_figure_has_no_peak(name: str, roof: str) -> None:
    assert peak(name, roof) is None


def test_the_roof_of_the_hosts_memory_is_not_the_cards() -> None:
    assert peak("NVIDIA H200", "roof/memory/copy@where=host") is None


def test_every_name_belongs_to_one_card() -> None:
    assert len(NAMES) == sum(len(card.names) for card in peaks._CARDS)
    assert not [name for name in NAMES if "MIG" in name]


@pytest.mark.parametrize("name", NAMES)
def test_every_card_is_consistent_and_sourced(name: str) -> None:
    keys = ("fp64-vector", "fp32", "tf32", "bf16", "fp8-e4m3")
    found = [value for key in keys if (value := peak(name, f"roof/compute/{key}"))]
    rates = [value.value for value in found]
    assert rates == sorted(rates)
    assert all("https://" in value.source and "NVIDIA" in value.source for value in found)
    card = peaks._BY_NAME[name]
    assert not set(card.dense) & set(card.with_sparsity)
    bf16, fp16 = peak(name, "roof/compute/bf16"), peak(name, "roof/compute/fp16")
    assert bf16 is None or bf16 == fp16

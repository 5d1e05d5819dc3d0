"""``bench.telemetry.nvml_facts``: what a device is, through the real pynvml on a fake NVML, and on a real GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.telemetry import nvml, nvml_facts
from bench.telemetry.nvml_facts import facts
from bench.types import DeviceInfo
from tests import nvml as fake
from tests.telemetry import nvml_child
from tests.telemetry.nvml_child import in_child, one_of

H100: dict[str, Any] = {
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-00000000-0000-4000-8000-000000000000",
    "serial": "1650223000000",
    "vbios": "96.00.74.00.01",
    "board_part_number": "692-2G520-0200-000",
    "architecture": "hopper",
    "compute_capability": "9.0",
    "memory_bytes": 81559 << 20,
    "pci_bus_id": "00000000:10:00.0",
    "numa_node": None,
    "driver": "580.65.06",
    "driver_cuda": "12.8",
    "nvml": "12.580.65.06",
    "power_limit_w": 700.0,
    "power_limit_default_w": 700.0,
    "power_limit_min_w": 200.0,
    "power_limit_max_w": 700.0,
    "sm_clock_max_mhz": 1980,
    "mem_clock_max_mhz": 2619,
    "applications_sm_clock_mhz": 1980,
    "applications_sm_clock_default_mhz": 1980,
    "applications_mem_clock_mhz": 2619,
    "applications_mem_clock_default_mhz": 2619,
    "temperature_slowdown_c": 89,
    "temperature_shutdown_c": 92,
    "temperature_gpu_max_c": None,
    "temperature_memory_max_c": 95,
    "pcie_generation": 5,
    "pcie_generation_max": 5,
    "pcie_generation_gpu_max": None,
    "pcie_width": 16,
    "pcie_width_max": 16,
    "nvlinks": 18,
    "nvlinks_active": 18,
    "nvlink_version": "4.0",
    "nvlink_errors": {"replay": 0, "recovery": 0, "crc_flit": 0, "crc_data": 0, "ecc_data": 0},
    "persistence_mode": True,
    "compute_mode": "default",
    "ecc_mode": True,
    "mig_mode": False,
    "mig_slice": None,
    "ecc_corrected": 0,
    "ecc_uncorrected": 0,
    "sram_corrected": 0,
    "sram_uncorrected": 0,
    "sram_threshold_exceeded": False,
    "retired_pages_single_bit": None,
    "retired_pages_double_bit": None,
    "retired_pages_pending": None,
    "remapped_rows_corrected": 0,
    "remapped_rows_uncorrected": 0,
    "row_remap_pending": False,
    "row_remap_failed": False,
}

# What a script changes in them.
CHANGES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "nothing": ("", {}),
    "power limit": (
        "* power_limit_w 500\n* power_limit_max_w 650",
        {"power_limit_w": 500.0, "power_limit_max_w": 650.0},
    ),
    "only the limit that is set": ("* fail nvmlDeviceGetEnforcedPowerLimit 3", {}),
    "only the limit that is enforced": ("* fail nvmlDeviceGetPowerManagementLimit 3", {}),
    "clocks": (
        "* app_clock_mhz 1200\n* sm_clock_max_mhz 1755",
        {"applications_sm_clock_mhz": 1200, "sm_clock_max_mhz": 1755},
    ),
    "links": (
        "* pcie_width 8\n* pcie_generation 4\n* nvlinks_down 1\n* nvlink_errors 12",
        {
            "pcie_width": 8,
            "pcie_generation": 4,
            "nvlinks_active": 17,
            "nvlink_errors": H100["nvlink_errors"] | {"replay": 12},
        },
    ),
    "modes": (
        "* persistence 0\n* compute_mode 3\n* mig 2",
        {"persistence_mode": False, "compute_mode": "exclusive_process", "mig_mode": True},
    ),
    "a mode of the future": ("* compute_mode 9\n* nvlink_version 77", {"compute_mode": None, "nvlink_version": None}),
    "memory errors of a lifetime": (
        "* ecc_corrected 1\n* ecc_corrected_before 40\n* sram_uncorrected 3\n* sram_threshold 1\n"
        "* remap_corrected 1\n* remap_uncorrected 2\n* remap_pending 1\n* remap_failed 1",
        {
            "ecc_corrected": 41,
            "sram_uncorrected": 3,
            "sram_threshold_exceeded": True,
            "remapped_rows_corrected": 1,
            "remapped_rows_uncorrected": 2,
            "row_remap_pending": True,
            "row_remap_failed": True,
        },
    ),
    "retired pages": (
        "* retired_pages 3\n* retired_pending 1",
        {"retired_pages_single_bit": 0, "retired_pages_double_bit": 3, "retired_pages_pending": True},
    ),
    "no error correction": (
        "* ecc_mode 0",
        {
            "ecc_mode": False,
            **dict.fromkeys(("ecc_corrected", "ecc_uncorrected")),
            **dict.fromkeys(("sram_corrected", "sram_uncorrected", "sram_threshold_exceeded")),
        },
    ),
}


SYSTEM = "* driver 580.65.06\n* cuda 12080\n* nvlink_version 6\n"  # NVML_NVLINK_VERSION_4_0


def facts_of(script: str, folder: Path, device: str = one_of(None), old_driver: bool = False) -> Any:
    variables = fake.environment(SYSTEM + fake.SCENARIOS.get(script, script), folder, old_driver=old_driver)
    return in_child(nvml_child.tell_facts, variables, device)


@pytest.mark.parametrize("case", CHANGES)
def test_facts_are_those_of_the_device(tmp_path: Path, case: str) -> None:
    script, changes = CHANGES[case]
    assert facts_of(script, tmp_path) == {**H100, **changes}


def test_a_laptop_has_fewer(tmp_path: Path) -> None:
    told = facts_of("laptop", tmp_path)
    assert told.keys() == H100.keys()
    assert told["name"] == "NVIDIA GeForce RTX 4070 Laptop GPU"
    assert (told["architecture"], told["compute_capability"]) == ("ada", "8.9")
    assert (told["power_limit_w"], told["power_limit_default_w"]) == (80.0, None)
    for name in ("serial", "board_part_number", "nvlinks", "nvlinks_active", "nvlink_version", "ecc_mode", "mig_mode"):
        assert told[name] is None
    assert set(told["nvlink_errors"].values()) == {None}


def test_a_mig_slice_is_told_from_its_gpu(tmp_path: Path) -> None:
    uuid = "MIG-00000001-0000-4000-8000-000000000000"
    assert facts_of("* mig 2", tmp_path, one_of(uuid)) == H100 | {
        "name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "uuid": uuid,
        "memory_bytes": 9856 << 20,
        "mig_mode": True,
        "mig_slice": {
            "profile": "1g.10gb",
            "memory_bytes": 9856 << 20,
            "multiprocessors": 16,
            "gpu_slices": 1,
            "compute_slices": 1,
            "gpu_uuid": H100["uuid"],
        },
    }


def test_an_old_driver_tells_less_and_nothing_wrong(tmp_path: Path) -> None:
    told = facts_of("", tmp_path, old_driver=True)
    assert told.keys() == H100.keys()
    different = {name for name in H100 if told[name] is not None and told[name] != H100[name]}
    assert different <= {"driver", "driver_cuda", "nvml"}
    assert told["driver_cuda"]
    assert (told["sram_corrected"], told["row_remap_pending"]) == (None, None)


@pytest.mark.parametrize("script", ["init 18", "* fail all 15", "* fail nvmlDeviceGetSerial 15", "devices 0"])
def test_what_does_not_answer_has_no_facts(tmp_path: Path, script: str) -> None:
    assert facts_of(script, tmp_path) == {}


@pytest.mark.parametrize(("text", "node"), [("1\n", 1), ("0\n", 0), ("-1\n", None), ("?\n", None), (None, None)])
def test_the_numa_node_is_the_one_that_the_slot_belongs_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, node: int | None
) -> None:
    monkeypatch.setattr(nvml_facts, "_PCI", tmp_path)
    if text is not None:
        (tmp_path / "0000:9b:00.0").mkdir()
        (tmp_path / "0000:9b:00.0" / "numa_node").write_text(text)
    assert nvml_facts._numa_node("00000000:9B:00.0") == node
    assert nvml_facts._numa_node(None) is None


@pytest.mark.gpu
def test_the_facts_of_a_real_gpu_are_complete() -> None:
    obstacle = nvml.obstacle()
    if obstacle is not None:
        pytest.skip(str(obstacle))
    (device, *_) = nvml.devices()
    told = facts(device)
    assert json.loads(json.dumps(told)) == told
    assert told.keys() == H100.keys()
    for name in ("name", "uuid", "pci_bus_id", "architecture", "compute_capability", "memory_bytes", "driver", "nvml"):
        assert told[name], name
    assert told["uuid"] == device.uuid
    assert told["sm_clock_max_mhz"] > 500
    assert told["pcie_width_max"] in (1, 2, 4, 8, 16)
    assert told["compute_mode"] in ("default", "exclusive_process")
    assert facts(DeviceInfo("cuda", 0, None, "GPU-of-another-node")) == {}

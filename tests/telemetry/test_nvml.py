"""``bench.telemetry.nvml``: the real pynvml in child processes on a fake NVML, and at the end on a real GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest

from bench.telemetry import nvml
from bench.telemetry.nvml import NvmlSource
from bench.telemetry.reading import Reading
from bench.types import DeviceInfo
from tests import nvml as fake
from tests.telemetry import nvml_child
from tests.telemetry.nvml_child import in_child, one_of

# ---------------------------------------------------------------- what keeps it from working


@pytest.mark.parametrize(
    ("script", "words", "remedy"),
    [
        ("init 18", "RM has detected an NVML/RM version mismatch", "reboot"),
        ("init 4", "Insufficient Permissions", "/dev/nvidiactl"),
        ("init 9", "Driver Not Loaded", "modprobe nvidia"),
        ("init 999", "Unknown Error", "container"),
        ("init 20", "Insufficient Memory", "nvidia-smi"),
        ("devices 0", "NVML works but shows no GPU", "nvidia-smi -L"),
    ],
)
def test_what_keeps_nvml_from_working_is_told_with_a_remedy(
    tmp_path: Path, script: str, words: str, remedy: str
) -> None:
    variables = fake.environment(script, tmp_path)
    told = in_child(nvml_child.look, variables)
    assert told["obstacle"][0] == words
    assert remedy in told["obstacle"][1]
    assert told["devices"] == []
    (readings,) = in_child(nvml_child.read_devices, variables, json.dumps([{"kind": "cuda", "index": 0, "name": None}]))
    assert readings[0]["obstacle"].startswith(words if script.startswith("init") else "Invalid Argument")
    assert readings[0].keys() == {"at_ns", "device", "device_index", "took_ns", "cpu_ns", "obstacle"}


def test_no_library_is_an_obstacle_too(tmp_path: Path) -> None:
    (tmp_path / fake.LIBRARY).write_text("no library")  # found before a real one, and not to be loaded
    told = in_child(nvml_child.look, {"LD_LIBRARY_PATH": str(tmp_path)})
    assert told == {"devices": [], "obstacle": ["NVML Shared Library Not Found", ANY], "driver": None}
    assert "driver" in told["obstacle"][1]


def test_an_obstacle_reads_as_a_line() -> None:
    assert str(nvml.Obstacle("Driver Not Loaded", "Load it")) == "Driver Not Loaded. Load it"


# ---------------------------------------------------------------- which devices


def test_devices_are_found_without_cuda(tmp_path: Path) -> None:
    told = in_child(nvml_child.look, fake.environment("healthy", tmp_path))
    assert told["obstacle"] is None
    assert told["driver"]
    assert [device["index"] for device in told["devices"]] == list(range(8))
    assert told["devices"][3] == dataclasses.asdict(
        DeviceInfo(
            "cuda",
            3,
            "NVIDIA H100 80GB HBM3",
            "GPU-00000000-0000-4000-8000-000000000003",
            81559 << 20,
            "shown by NVML",
        )
    )


def test_a_lost_device_keeps_its_place(tmp_path: Path) -> None:
    devices = in_child(nvml_child.look, fake.environment("gpu-lost", tmp_path, second=10.0))["devices"]
    assert [device["index"] for device in devices if device["name"] is None] == [2]
    assert len(devices) == 8


def test_a_device_is_found_by_its_uuid_whatever_its_index(tmp_path: Path) -> None:
    variables = fake.environment("hot", tmp_path)
    uuid = "GPU-00000000-0000-4000-8000-000000000005"
    ((reading,),) = in_child(nvml_child.read_devices, variables, one_of(uuid, index=1))
    assert (reading["device_index"], reading["temperature_c"]) == (1, 86)
    ((reading,),) = in_child(nvml_child.read_devices, variables, one_of(None, index=5, kind="fake"))
    assert (reading["device"], reading["device_index"], reading["temperature_c"]) == ("fake", 5, 86)
    ((reading,),) = in_child(nvml_child.read_devices, variables, one_of("GPU-of-another-node", index=5))
    assert reading["obstacle"].startswith("Not Found"), "never another device's figures"


# ---------------------------------------------------------------- reading


def test_a_gpu_lost_in_mid_run_is_an_error_and_the_others_go_on(tmp_path: Path) -> None:
    script = fake.SCENARIOS["healthy"] + "1 xid 79 @1\n1 fail all 15 @1-\n2 fail all 15 @1-\n"
    before, after, later = in_child(nvml_child.read_across, fake.environment(script, tmp_path), "1.0")
    assert not [reading for reading in before if "error" in reading or reading["xids"]]
    for readings in (after, later):
        assert [reading.get("error") for reading in readings] == [None, "GPU is lost", "GPU is lost", *[None] * 5]
        assert all(reading["sm_clock_mhz"] == 1755 for reading in readings if "error" not in reading)
        assert not any("power_w" in reading for reading in readings if "error" in reading)
    assert [reading.get("xids") for reading in after] == [[], [79], None, *[[]] * 5]
    assert not [reading for reading in later if reading.get("xids")], "an Xid is told once"


def test_the_moment_is_the_middle_of_the_reading(tmp_path: Path) -> None:
    at_ns, after_ns = in_child(nvml_child.scripted_clock, fake.environment("idle", tmp_path))
    assert (at_ns, after_ns) == (3500, 5000)


def test_whatever_fails_is_told_and_not_raised(tmp_path: Path) -> None:
    (reading,) = in_child(nvml_child.break_down, fake.environment("idle", tmp_path))
    assert reading["error"] == "not a number"


# ---------------------------------------------------------------- given back


def test_nvml_is_given_back_after_every_use(tmp_path: Path) -> None:
    still_open, counts = in_child(nvml_child.use_and_return, fake.environment("healthy", tmp_path))
    assert still_open == [None] * 4
    assert counts == {"nvmlEventSetCreate": 8, "nvmlEventSetFree": 8}


# ---------------------------------------------------------------- a real GPU


@pytest.fixture
def real() -> Iterator[tuple[DeviceInfo, NvmlSource]]:
    obstacle = nvml.obstacle()
    if obstacle is not None:
        pytest.skip(str(obstacle))
    device = nvml.devices()[0]
    source = NvmlSource([device], os.getpid())
    yield device, source
    source.close()


def read_at_work(device: DeviceInfo, source: NvmlSource, for_s: float) -> list[Reading]:
    """Readings while that GPU multiplies."""
    import torch

    # CUDA may count the GPUs in another order than NVML.
    uuids = [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(torch.cuda.device_count())]
    a_NN = torch.randn(4096, 4096, device=f"cuda:{uuids.index(device.uuid or '')}")
    readings = []
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        for _ in range(20):
            torch.matmul(a_NN, a_NN)
        readings += source.read()
        torch.cuda.synchronize()
    return readings


@pytest.mark.gpu
def test_a_real_gpu_is_read(real: tuple[DeviceInfo, NvmlSource]) -> None:
    device, source = real
    (reading,) = source.read()
    assert reading.error is None
    assert (reading.device, reading.device_index) == ("cuda", device.index)
    assert device.name
    assert (device.uuid or "").startswith("GPU-")
    assert device.memory_bytes is not None
    assert device.memory_bytes > 1e9
    assert reading.power_w is not None
    assert 2 < reading.power_w < 2000
    assert reading.sm_clock_mhz is not None
    assert reading.sm_clock_mhz > 100
    assert reading.temperature_c is not None
    assert 5 < reading.temperature_c < 110
    assert reading.throttle_reasons is not None
    assert reading.pcie_width in (1, 2, 4, 8, 16)
    assert nvml.driver_version()


@pytest.mark.gpu
def test_a_real_gpu_works_harder_when_it_has_work(real: tuple[DeviceInfo, NvmlSource]) -> None:
    device, source = real
    (idle,) = source.read()
    readings = read_at_work(device, source, for_s=2.0)
    last = readings[-1]
    assert not [reading.error for reading in readings if reading.error]
    assert "gpu_idle" not in (last.throttle_reasons or ())
    assert idle.power_w is not None
    assert last.power_w is not None
    assert last.power_w > idle.power_w
    if idle.energy_j is not None:  # consumer cards have no counter
        energies = [reading.energy_j for reading in readings if reading.energy_j is not None]
        assert energies == sorted(energies)
        assert energies[-1] > idle.energy_j
    for name in ("throttled_s_total", "power_capped_s_total", "pcie_replays_total"):
        values = [getattr(reading, name) for reading in readings if getattr(reading, name) is not None]
        assert values == sorted(values), name
    assert last.foreign_processes in (0, None), "this process's own work is not foreign"

"""What several tests share: opened devices, and a kernel's params from a workload's name."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from bench.device.base import Device
from bench.device.cpu import CpuDevice
from bench.device.fake import FakeDevice
from bench.kernel import Case, Kernel
from bench.spec import SEED, parse_params
from bench.types import DeviceInfo

# How long an example takes is the machine's affair: beside others at work, any may take longer than hypothesis allows.
settings.register_profile("patient", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def cpu_device(tmp_path: Path) -> CpuDevice:
    return CpuDevice(DeviceInfo("cpu", 0, "test"), tmp_path)


@pytest.fixture
def fake_device(tmp_path: Path) -> FakeDevice:
    return FakeDevice(DeviceInfo("fake", 0, "fake", scenario="steady"), tmp_path)


@pytest.fixture
def cuda_device(tmp_path: Path) -> Iterator[Device]:
    """The first NVIDIA GPU; tests that ask for it are marked ``gpu``."""
    import torch

    from bench.device.cuda import CudaDevice

    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    device = CudaDevice(DeviceInfo("cuda", 0, torch.cuda.get_device_name(0)), tmp_path)
    yield device
    torch.cuda.empty_cache()


def prepare(kernel: Kernel[Any], workload: str, device: Device) -> Case:
    """The case behind a workload's name."""
    return kernel.prepare(parse_params(kernel.name, kernel.params_type, workload), device, SEED)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail if a test was skipped (continuous integration)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: where two run at a time, none is left to run alone in the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """The collector runs before every measurement: let it pass over what tests and libraries are made of."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None and reporter.stats.get("skipped"):
        for report in reporter.stats["skipped"]:
            reporter.write_line(f"skipped, and --no-skips was given: {report.nodeid}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""``bench.device.select``: which devices, why, and what is an error rather than a fall-back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import child, errors
from bench.device import select
from bench.device.cpu import CpuDevice
from bench.device.fake import SCENARIOS, FakeDevice
from bench.errors import ImpossibleDevice, UnusableGpu
from bench.types import DeviceInfo


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without NVIDIA hardware, whatever this one has."""
    monkeypatch.setattr(select, "_NVIDIA_NODES", (str(tmp_path / "nvidiactl"),))
    monkeypatch.setattr(select, "_PCI", tmp_path / "pci")


@pytest.fixture
def driver(tmp_path: Path) -> str:
    """A sign of an NVIDIA driver."""
    (tmp_path / "nvidiactl").touch()
    return str(tmp_path / "nvidiactl")


def plug(tmp_path: Path, slot: str, vendor: str, device_class: str) -> str:
    folder = tmp_path / "pci" / slot
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor + "\n")
    (folder / "class").write_text(device_class + "\n")
    return str(folder)


def cuda_shows(monkeypatch: pytest.MonkeyPatch, count: int, error: str = "") -> None:
    gpus = [DeviceInfo("cuda", index, "a GPU", uuid=f"GPU-{index}", memory_bytes=2**36) for index in range(count)]
    monkeypatch.setattr(select, "_ask_cuda", lambda: (gpus, error))


# ---------------------------------------------------------------- without NVIDIA hardware


def test_auto_is_the_cpu_where_there_is_no_nvidia_hardware() -> None:
    (device,) = select.find("auto")
    assert (device.kind, device.index, device.label) == ("cpu", 0, "cpu")
    assert device.reason == "--device auto: no NVIDIA hardware here"
    assert device.memory_bytes is not None
    assert device.memory_bytes > 1 << 28


def test_the_cpu_may_be_asked_for(driver: str) -> None:
    (device,) = select.find("cpu")
    assert (device.kind, device.reason) == ("cpu", "asked for with --device cpu")


def test_all_is_the_cpu_alone_then() -> None:
    assert [device.kind for device in select.find("all")] == ["cpu"]


@pytest.mark.parametrize("selector", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there_is_impossible(selector: str) -> None:
    with pytest.raises(ImpossibleDevice, match=rf"--device {selector}: no NVIDIA GPU on this machine"):
        select.find(selector)


@pytest.mark.parametrize("selector", ["", "gpu", "CPU", "cpu:0", "cuda:a", "cuda:-1", "cuda:0:1", "tpu", "auto:1"])
def test_a_selector_that_is_none_names_those_there_are(selector: str) -> None:
    with pytest.raises(ImpossibleDevice, match=r"auto, cpu, cuda, cuda:N, all, fake:SCENARIO") as caught:
        select.find(selector)
    assert caught.value.exit_code == errors.USAGE


# ---------------------------------------------------------------- with it


def test_auto_takes_every_gpu_and_says_why(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    cuda_shows(monkeypatch, 2)
    devices = select.find("auto")
    assert [device.label for device in devices] == ["cuda:0", "cuda:1"]
    assert {device.reason for device in devices} == {"--device auto: every NVIDIA GPU that CUDA shows"}
    assert devices[1].uuid == "GPU-1"


def test_all_takes_the_cpu_as_well(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    cuda_shows(monkeypatch, 2)
    assert [device.label for device in select.find("all")] == ["cuda:0", "cuda:1", "cpu"]


def test_one_gpu_may_be_asked_for_and_keeps_its_index(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    cuda_shows(monkeypatch, 3)
    (device,) = select.find("cuda:2")
    assert (device.index, device.reason) == (2, "asked for with --device cuda:2")
    assert len(select.find("cuda")) == 3


def test_a_gpu_beyond_the_last_is_impossible(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    cuda_shows(monkeypatch, 2)
    with pytest.raises(ImpossibleDevice, match=r"this machine has 2 GPU\(s\)\. Use cuda:0 to cuda:1"):
        select.find("cuda:2")


@pytest.mark.parametrize("selector", ["auto", "all", "cuda", "cuda:0"])
def test_hardware_that_cuda_cannot_use_is_never_passed_over(
    monkeypatch: pytest.MonkeyPatch, driver: str, selector: str
) -> None:
    cuda_shows(monkeypatch, 0, "the driver is too old")
    with pytest.raises(UnusableGpu, match=r"the driver is too old.*--device cpu") as caught:
        select.find(selector)
    assert driver in str(caught.value)
    assert caught.value.exit_code == errors.UNFIT


def test_a_card_in_a_slot_is_a_sign_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plug(tmp_path, "0000:00:02.0", "0x8086", "0x030000")  # another vendor's display
    plug(tmp_path, "0000:00:03.0", "0x10de", "0x020000")  # that vendor's network card
    (tmp_path / "pci" / "0000:00:04.0").mkdir()  # one that cannot be read
    assert select.nvidia_hardware() is None
    card = plug(tmp_path, "0000:0a:00.0", "0x10de", "0x030200")
    assert select.nvidia_hardware() == card


# ---------------------------------------------------------------- what the child says


def answers(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "", code: int = 0) -> None:
    done = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)


def test_the_child_lists_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, json.dumps({"gpus": [{"kind": "cuda", "index": 0, "name": "a GPU"}], "error": ""}))
    gpus, _ = select._ask_cuda()
    assert list(gpus) == [DeviceInfo("cuda", 0, "a GPU")]


@pytest.mark.parametrize(
    ("stderr", "words"),
    [("Traceback (most recent call last):\n  x\nOSError: libcuda\n", "OSError: libcuda"), ("", "exit code -11")],
)
def test_a_child_that_dies_is_quoted(monkeypatch: pytest.MonkeyPatch, stderr: str, words: str) -> None:
    answers(monkeypatch, "", stderr, -11)
    assert select._ask_cuda() == ((), words)


def test_a_child_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, timeout: float, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert select._ask_cuda() == ((), "no answer within 120 s")


def fake_torch(monkeypatch: pytest.MonkeyPatch, cuda_version: str | None, **cuda: object) -> None:
    version = SimpleNamespace(cuda=cuda_version)
    torch = SimpleNamespace(
        version=version, __version__="2.13.0", cuda=SimpleNamespace(**cuda), zeros=lambda *_, **__: None
    )
    monkeypatch.setitem(sys.modules, "torch", torch)


def test_a_torch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch(monkeypatch, None)
    assert select._enumerate_cuda() == {"gpus": [], "error": "torch 2.13.0 is built without CUDA"}


def test_a_driver_that_fails_is_quoted_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA driver version is insufficient\nfor CUDA runtime version")

    fake_torch(monkeypatch, "13.0", init=fail)
    assert select._enumerate_cuda() == {"gpus": [], "error": "CUDA driver version is insufficient"}


def test_gpus_come_with_uuid_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def properties(index: int) -> SimpleNamespace:
        return SimpleNamespace(name="NVIDIA H200", uuid=f"1-{index}", total_memory=2**37)

    fake_torch(monkeypatch, "13.0", init=lambda: None, device_count=lambda: 2, get_device_properties=properties)
    gpus = select._enumerate_cuda()["gpus"]
    assert isinstance(gpus, list)
    assert DeviceInfo(**gpus[1]) == DeviceInfo("cuda", 1, "NVIDIA H200", uuid="GPU-1-1", memory_bytes=2**37)


# ---------------------------------------------------------------- fakes


def test_a_fake_has_the_devices_of_its_scenario() -> None:
    assert [device.label for device in select.find("fake:straggler")] == [f"fake:{index}" for index in range(4)]
    (device,) = select.find("fake")
    assert (device.scenario, device.name) == ("steady", "simulated")
    assert "simulated" in device.reason


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ImpossibleDevice, match=f"no fake scenario 'fast'. There are: {', '.join(SCENARIOS)}"):
        select.find("fake:fast")


# ---------------------------------------------------------------- opening


def test_a_device_is_opened_as_what_it_is(tmp_path: Path) -> None:
    assert isinstance(select.open_device(select.find("cpu")[0], tmp_path), CpuDevice)
    assert isinstance(select.open_device(select.find("fake")[0], tmp_path), FakeDevice)


def test_the_child_is_a_command_that_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [*child.command("bench.device.select")],
        cwd=tmp_path,
        env=child.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout).keys() == {"gpus", "error"}

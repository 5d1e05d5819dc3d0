"""``bench.environment``: what can be compared is a key, unknown is None, and no credential is read."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path

import pytest

from bench import columns as columns_module
from bench import environment, schema
from bench.device.select import cpu_model
from bench.environment import Environment
from tests.results import CPU, make_plan, make_row


@pytest.fixture(scope="module")
def captured() -> Environment:
    return environment.capture(CPU)


def test_the_columns_are_those_of_the_schema(captured: Environment) -> None:
    assert list(captured.columns) == [name for name, _, _ in columns_module.COLUMNS["The environment"]]


def test_the_columns_fit_into_a_row(captured: Environment) -> None:
    (row,) = schema.to_table([make_row(make_plan()) | captured.columns], make_plan()).to_pylist()
    assert {name: row[name] for name in captured.columns} == captured.columns
    assert json.loads(row["environment"]) == captured.details


def test_this_machine_is_described(captured: Environment) -> None:
    assert captured.keys["device_name"] == CPU.name
    assert captured.keys["python"] == platform.python_version()
    assert captured.keys["os_kernel"] == platform.release()
    assert captured.keys["memory_bytes"] > 1 << 28
    for package in ("torch", "numpy"):
        assert captured.keys[package][0].isdigit()
    assert captured.details["torch_threads"] >= 1
    assert captured.details["float32_matmul_precision"] == "highest"


def test_the_id_is_of_the_keys_alone(captured: Environment) -> None:
    same = dataclasses.replace(captured, details={"torch_threads": 99})
    assert same.env_id == captured.env_id
    assert Environment({**captured.keys, "memory_bytes": 1}, {}).env_id == captured.env_id  # changes with every boot
    for key in captured.keys.keys() - {"memory_bytes"}:
        assert Environment({**captured.keys, key: "another"}, {}).env_id != captured.env_id, key
    assert Environment(dict(reversed(list(captured.keys.items()))), {}).env_id == captured.env_id


def test_variables_that_change_libraries_are_kept_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NVIDIA_TF32_OVERRIDE": "0",
        "DNNL_PRIMITIVE_CACHE_CAPACITY": "0",
        "ATEN_CPU_CAPABILITY": "avx2",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F",
        "NCCL_ALGO": "Ring",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    others = {
        "NVIDIA_API_KEY": "nvapi-1",
        "TORCH_HUB_TOKEN": "t",
        "CUDA_SECRET_X": "s",
        "AWS_SECRET_ACCESS_KEY": "s",
        "TORCH_HOME": "/home/an/.cache/torch",
        "HOME_OMP_X": "x",
        "PATH": "/bin",
    }
    for name, value in {**kept, **others}.items():
        monkeypatch.setenv(name, value)
    found = environment.capture(CPU).details["variables"]
    assert kept.items() <= found.items()
    assert not others.keys() & found.keys()


def test_every_checked_key_has_one_kind() -> None:
    kinds = [key for keys in environment.KEYS.values() for key in keys]
    columns = [name for name, _, _ in columns_module.COLUMNS["The environment"]]
    assert columns == ["env_id", *kinds, "environment"]


def test_details_are_told_by_their_paths() -> None:
    assert dict(environment.details('{"host": {"smt": true, "cpus": [0]}}')) == {"host.smt": True, "host.cpus": [0]}
    assert dict(environment.details(None)) == {}
    assert dict(environment.details("{cut")) == {"unreadable": "{cut"}


@pytest.mark.parametrize(
    ("governor", "driver", "preference", "told"),
    [
        ("performance", "intel_pstate", "performance", "performance"),
        ("powersave", "intel_pstate", "balance_performance", "powersave/balance_performance"),
        ("powersave", "amd-pstate-epp", "power", "powersave/power"),
        ("powersave", "intel_pstate", None, "powersave"),
        ("powersave", "acpi-cpufreq", "balance_performance", "powersave"),
        ("schedutil", "amd-pstate", None, "schedutil"),
        (None, None, None, None),
    ],
)
def test_a_governor_is_told_with_the_preference_that_decides(
    governor: str | None, driver: str | None, preference: str | None, told: str | None
) -> None:
    machine = {"cpu_governor": governor, "scaling_driver": driver, "energy_performance_preference": preference}
    assert environment._governor(machine) == told


@pytest.mark.parametrize(
    ("sizes", "same"),
    [([100, 100.5], True), ([100, 102], False), ([None, None], True), ([100, None], False), ([0, 100], False)],
)
def test_memory_that_a_boot_took_is_the_same_machine(sizes: list[float | None], same: bool) -> None:
    assert environment.same_memory(sizes) is same


def test_a_machine_that_shows_nothing_of_itself_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(platform, "freedesktop_os_release", refuse)
    assert environment._cpu_flags() == []
    assert environment._distribution() is None
    assert cpu_model() is None


# ---------------------------------------------------------------- what decides speed


def test_what_decides_the_speed_of_a_product_is_kept(captured: Environment) -> None:
    details = captured.details
    build = " ".join(details["torch_build"])
    assert "PyTorch" not in build and "Build settings" not in build
    assert any("CPU capability" in line for line in details["torch_build"])
    assert set(details["matmul"]) == {
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
        "allow_fp16_accumulation",
        "onednn",
    }
    assert details["numpy_blas"] is None or len(details["numpy_blas"].split()) == 2
    assert {"nvidia-cublas", "nvidia-cusparselt", "scipy"} <= set(details["packages"])
    assert details["packages"]["scipy"] is not None


def test_switches_of_the_process_show(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    try:
        details = environment.capture(CPU).details
    finally:
        torch.set_float32_matmul_precision(before)
    assert details["float32_matmul_precision"] == "medium"
    assert details["matmul"]["onednn"] is False


def test_a_torch_that_cannot_list_what_the_cpu_has_is_asked_one_by_one() -> None:
    class Cpu:
        _is_amx_tile_supported = staticmethod(lambda: True)
        _is_avx2_supported = staticmethod(lambda: False)

    class Torch:
        cpu = Cpu

    assert environment._capabilities(Torch) == {"amx_tile": "True", "avx2": "False"}


def test_numpy_of_an_unknown_build_has_no_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr(np, "show_config", lambda mode: {})
    assert environment._numpy_blas() is None

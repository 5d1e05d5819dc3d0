"""The whole catalogue: what its kernels say holds for each workload, and is said without preparing any."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.kernel import Kernel
from bench.registry import Workload
from bench.report.catalogue import KINDS
from bench.spec import SEED, parameters, workload_name
from bench.types import Work
from tests.checkout import ROOT

KERNELS = tuple(registry.kernels().values())
NAMES = tuple(registry.catalogue())

each_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


@pytest.fixture
def no_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("prepared")

    for kernel in KERNELS:
        monkeypatch.setattr(type(kernel), "prepare", refused)


def amounts(work: Work) -> tuple[int, int, int]:
    return work.flops or 0, work.bytes_moved or 0, work.items or 0


def all_of(kernel: Kernel[Any]) -> list[Workload]:
    return [registry.resolve(name) for name in kernel.catalogue]


# ---------------------------------------------------------------- names


def test_every_listed_name_is_read_back_as_it_is_written() -> None:
    for name in NAMES:
        workload = registry.resolve(name)
        assert workload.name == name
        assert registry.resolve(workload.name).params == workload.params


def test_every_name_is_listed_once_and_by_its_own_kernel() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for kernel in KERNELS:
        assert {workload.kernel.name for workload in all_of(kernel)} <= {kernel.name}


def test_no_two_listed_workloads_have_one_spec() -> None:
    by_id: dict[str, str] = {}
    for name in NAMES:
        assert by_id.setdefault(registry.resolve(name).spec.spec_id, name) == name


# ---------------------------------------------------------------- what a kernel says of itself


def hold_about(kernel: Kernel[Any]) -> None:
    assert kernel.about is not None, f"kernel {kernel.name} has no `about`: see kernels/README.md"
    about = kernel.about
    assert set(about.parameters) == {one.name for one in parameters(kernel.params_type)}, "its axes and options"
    sentences = (about.stands_for, about.work, about.check, about.pitfalls)
    assert all(text.endswith(".") for text in sentences), "sentences"
    for text in (kernel.summary, *sentences, *about.parameters.values()):
        assert text and text == " ".join(text.split()), f"one paragraph, with single blanks: {text!r}"
        assert text.count("`") % 2 == 0, f"code that does not end: {text!r}"


@each_kernel
def test_a_kernel_says_what_it_is_about_and_names_just_its_axes_and_options(kernel: Kernel[Any]) -> None:
    hold_about(kernel)


@each_kernel
def test_a_summary_is_a_line_of_a_list(kernel: Kernel[Any]) -> None:
    assert len(kernel.summary) <= 100
    assert not kernel.summary.endswith(".")


# ---------------------------------------------------------------- what it says of a workload


@pytest.mark.usefixtures("no_preparing")
@each_kernel
def test_every_roof_is_in_the_catalogue(kernel: Kernel[Any]) -> None:
    for workload in all_of(kernel):
        for kind in KINDS:
            roofs = workload.kernel.roofs(workload.params, kind)
            assert set(roofs) <= set(NAMES), workload.name
            assert workload.name not in roofs


@pytest.mark.usefixtures("no_preparing")
@each_kernel
def test_memory_and_work_are_told_as_whole_numbers(kernel: Kernel[Any]) -> None:
    for workload in all_of(kernel):
        needed = kernel.memory_bytes(workload.params)
        assert isinstance(needed, int) and needed >= 0, workload.name
        work = kernel.work(workload.params)
        if work is not None:
            assert all(isinstance(amount, int) for amount in amounts(work)), workload.name
            assert work.rate(1e9) is not None, f"{workload.name}: no {work.unit} can be had from {work}"


@pytest.mark.usefixtures("no_preparing")
@each_kernel
def test_a_probe_is_a_workload_of_its_own_and_no_larger(kernel: Kernel[Any]) -> None:
    for workload in all_of(kernel):
        small = kernel.probe(workload.params)
        if small is None or small == workload.params:
            continue
        name = workload_name(kernel.name, small)
        assert registry.resolve(name).params == small
        assert kernel.memory_bytes(small) <= kernel.memory_bytes(workload.params), f"{name} for {workload.name}"
        less, more = kernel.work(small), kernel.work(workload.params)
        if less is not None and more is not None:
            assert amounts(less) < amounts(more), f"{name} is no less work than {workload.name}"


@each_kernel
def test_the_work_that_is_told_beforehand_is_that_of_the_case(kernel: Kernel[Any], cpu_device: CpuDevice) -> None:
    for workload in all_of(kernel):
        small = kernel.probe(workload.params)
        if small is None or kernel.work(small) is None:
            continue
        with contextlib.suppress(Unsupported), contextlib.closing(kernel.prepare(small, cpu_device, SEED)) as case:
            assert case.work == kernel.work(small)
            return  # one that this CPU can do stands for the others


def test_the_catalogue_is_told_without_the_libraries_that_do_the_work() -> None:
    program = (
        "import sys; from bench import registry; from bench.report import workloads; "
        "workloads.markdown(registry.families()); print([name for name in ('torch', 'cupy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---------------------------------------------------------------- the example


def test_the_example_of_the_kernels_readme_is_a_whole_workload(cpu_device: CpuDevice, tmp_path: Path) -> None:
    import importlib.util

    _, _, rest = (ROOT / "kernels" / "README.md").read_text().partition("```python\n")
    path = tmp_path / "transpose.py"
    path.write_text(rest.partition("```")[0])
    spec = importlib.util.spec_from_file_location("transpose_of_the_readme", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look for their own module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    kernel: Kernel[Any] = module.KERNEL
    hold_about(kernel)
    case: Any = kernel.prepare(kernel.params_type(n=64), cpu_device, SEED)
    assert case.check().ok
    case.launch = lambda: case.b_NN.copy_(case.a_NN)
    assert not case.check().ok

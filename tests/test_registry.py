"""``bench.registry``: kernels are found by walking a folder, workloads by their name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import registry
from bench.errors import UnknownWorkload, UsageError
from tests.checkout import ROOT, Checkout
from tests.small_kernel import KERNELS, Small

LISTED = ["small/n1", "small/n2", "small/n2@variant=b", "roof/compute/fp32", "roof/compute/bf16", "roof/memory/copy"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "kernels", lambda: KERNELS)


# ---------------------------------------------------------------- names


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("small/n7", "small/n7"),  # not in the catalogue
        ("small/n7@variant=b", "small/n7@variant=b"),
        ("small/n7@variant=a", "small/n7"),  # the default is left out
        ("roof/compute/bf16", "roof/compute/bf16"),
    ],
)
def test_a_name_resolves_to_its_kernel_and_its_canonical_form(text: str, canonical: str) -> None:
    workload = registry.resolve(text)
    assert workload.name == canonical
    assert workload.kernel is KERNELS[canonical.rpartition("/")[0]]
    assert (workload.spec.kernel, workload.spec.version) == (workload.kernel.name, 3)


def test_the_longest_kernel_name_owns_a_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    class Family(Small):
        name = "roof"

    monkeypatch.setattr(registry, "kernels", lambda: {**KERNELS, "roof": Family()})
    assert registry.resolve("roof/memory/copy").kernel is KERNELS["roof/memory"]
    assert registry.resolve("roof/n3").kernel.name == "roof"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["smal/n1", "smaller/n1", "small.n1", "roof", "", "@variant=b"])
def test_a_name_of_no_kernel_is_unknown(name: str) -> None:
    with pytest.raises(UnknownWorkload, match="no workload or suite") as caught:
        registry.resolve(name)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("small")
def test_the_nearest_names_are_named() -> None:
    with pytest.raises(UnknownWorkload, match=r"Nearest: roof/compute/fp32, .*`vnbench list`"):
        registry.resolve("rof/compute/fp32")


@pytest.mark.usefixtures("small")
def test_where_nothing_is_near_the_families_are_named() -> None:
    with pytest.raises(UnknownWorkload, match=r"There are: small/<size>\[@variant=…\], roof/compute/<what>"):
        registry.resolve("zzzzzzzz")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["small", "small/7", "small/n0", "small/n1/n2", "small/n1@variant=c", "small/n1@x=1"])
def test_a_kernel_that_has_no_such_axis_or_option_says_so(name: str) -> None:
    with pytest.raises(UsageError, match="small"):
        registry.resolve(name)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("small/*", LISTED[:3]),
        ("*", LISTED),
        ("roof/*/[fc]*", ["roof/compute/fp32", "roof/memory/copy"]),
        ("small/n?", ["small/n1", "small/n2"]),
        ("small/n9", ["small/n9"]),
    ],
)
def test_a_glob_is_over_the_catalogue(text: str, names: list[str]) -> None:
    assert registry.match(text) == names


@pytest.mark.usefixtures("small")
def test_a_glob_that_matches_nothing_is_unknown() -> None:
    with pytest.raises(UnknownWorkload, match=r"'large/\*'"):
        registry.match("large/*")


@pytest.mark.usefixtures("small")
def test_roofs_are_added_once_and_behind() -> None:
    assert registry.with_roofs(["small/n1", "small/n2"], "cpu") == (
        "small/n1",
        "small/n2",
        "roof/compute/fp32",
        "roof/memory/copy",
    )
    assert registry.with_roofs(["roof/memory/copy", "small/n1"], "cpu") == (
        "roof/memory/copy",
        "small/n1",
        "roof/compute/fp32",
    )


# ---------------------------------------------------------------- families


def chosen(*texts: str) -> dict[str, list[str]]:
    return {one.kernel.name: [workload.name for workload in one.workloads] for one in registry.families(texts)}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], {"small": LISTED[:3], "roof/compute": LISTED[3:5], "roof/memory": LISTED[5:]}),
        (["small"], {"small": LISTED[:3]}),
        (["roof"], {"roof/compute": LISTED[3:5], "roof/memory": LISTED[5:]}),
        (["roof/memory", "small/n9"], {"roof/memory": LISTED[5:], "small": ["small/n9"]}),
        (["small/n2", "small/*"], {"small": ["small/n2", "small/n1", "small/n2@variant=b"]}),
        (["*/n1"], {"small": ["small/n1"]}),
    ],
)
def test_families_are_asked_for_by_name_or_by_their_workloads(texts: list[str], found: dict[str, list[str]]) -> None:
    assert chosen(*texts) == found


@pytest.mark.usefixtures("small")
def test_a_family_that_lists_nothing_is_there_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "catalogue", ())
    assert chosen("small") == {"small": []}
    assert chosen()["small"] == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("text", ["smal", "roof/", "roof/comp", "roo", ""])
def test_part_of_a_word_is_no_family(text: str) -> None:
    assert registry.kernels_named(text) == []
    with pytest.raises(UnknownWorkload):
        registry.families([text])


# ---------------------------------------------------------------- the folder


NEW_KERNEL = """
from dataclasses import dataclass

from bench.device.base import Device
from bench.kernel import Case, Kernel
from bench.spec import axis
from bench.types import Check, Work


@dataclass(frozen=True)
class Params:
    size: int = axis()


class Sum(Case):
    def __init__(self, size: int) -> None:
        self.size = size
        self.work = Work("item/s", items=size, item_unit="item")

    def launch(self) -> None:
        self.sum = sum(range(self.size))

    def check(self) -> Check:
        self.sum = -1
        self.launch()
        return Check(abs(self.sum - self.size * (self.size - 1) // 2), 0)


class Summing(Kernel[Params]):
    name = "summing"
    version = 1
    summary = "adds up integers"
    params_type = Params
    catalogue = ("summing/1000",)

    def prepare(self, params: Params, device: Device, seed: int) -> Sum:
        return Sum(params.size)


KERNEL = Summing()
"""


def test_one_new_file_is_a_workload_that_is_found_listed_and_run(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    folder = checkout.root / "kernels"
    (folder / "summing.py").write_text(NEW_KERNEL)
    (folder / "_shared.py").write_text("raise RuntimeError('imported, though it is no workload')")

    listed = checkout.vnbench("list", "summing/*", "--device", "cpu", "--no-probe")
    assert "summing: adds up integers\n  summing/1000\n" in listed.stdout, listed.stderr

    ran = checkout.run("summing/1000", "--replicates", "1", "--json")
    assert ran.returncode == 0, ran.stderr
    assert '"workload": "summing/1000"' in ran.stdout
    assert '"unit": "item/s"' in ran.stdout


def shadowed(folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "bench", "list", "--device", "cpu", "--no-probe"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("other", ["kernels/__init__.py", "kernels.py"])
def test_another_package_of_that_name_is_refused_before_it_is_imported(tmp_path: Path, other: str) -> None:
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("raise RuntimeError('imported')")
    done = shadowed(tmp_path, tmp_path, ROOT)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / other) in done.stderr
    assert str(ROOT / "kernels" / "__init__.py") in done.stderr


def test_another_package_installed_over_ours_is_refused(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=ignore)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("__version__ = '0.4.0'")
    done = shadowed(tmp_path, tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "kernels") in done.stderr

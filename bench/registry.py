"""Finds the kernels by walking ``kernels/``, and the workload behind a name."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import bench
from bench.errors import ShadowedKernels, UnknownWorkload, UsageError
from bench.kernel import Kernel
from bench.spec import Spec, parse_params, pattern, spec_of, workload_name
from bench.types import DeviceInfo

D = TypeVar("D")


@dataclass(frozen=True)
class Workload:
    """A kernel with parameters, under its canonical name."""

    name: str
    kernel: Kernel[Any]
    params: Any

    @property
    def spec(self) -> Spec:
        return spec_of(self.kernel.name, self.kernel.version, self.params)


@dataclass(frozen=True)
class Family:
    """A kernel and workloads of it."""

    kernel: Kernel[Any]
    workloads: tuple[Workload, ...]


@functools.cache
def kernels() -> dict[str, Kernel[Any]]:
    """Every kernel by its name.

    Raises:
        ShadowedKernels: another package named ``kernels`` comes first on the path, or was installed over ours.
        UsageError: a file in ``kernels/`` offers no kernel.
    """
    expected = Path(bench.__file__).resolve().parent.parent / "kernels" / "__init__.py"
    spec = importlib.util.find_spec("kernels")  # not imported yet: another one may fail at that
    found = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
    if found != expected:
        raise ShadowedKernels(
            f"the package 'kernels' is found at {found}, but vnbench's is {expected}",
            "Uninstall or rename the other one, or leave the folder or PYTHONPATH entry that brings it",
        )
    package = importlib.import_module("kernels")
    if getattr(package, "DISTRIBUTION", None) != "vnbench":
        raise ShadowedKernels(
            f"another package named 'kernels' was installed over vnbench's in {expected.parent}",
            "Uninstall it and install vnbench again",
        )
    modules = (
        importlib.import_module(f"kernels.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    )
    found_kernels = {}
    for module in modules:
        if not hasattr(module, "KERNEL"):
            raise UsageError(f"{module.__file__} has no KERNEL", "kernels/README.md shows what a workload's file needs")
        found_kernels[module.KERNEL.name] = module.KERNEL
    return found_kernels


def catalogue() -> list[str]:
    """The names of all listed workloads, kernel after kernel."""
    return [name for kernel in kernels().values() for name in kernel.catalogue]


def resolve(name: str, others: Sequence[str] = ()) -> Workload:
    """The workload of that name, listed or not.

    Raises:
        UnknownWorkload: no kernel has that name; the text names the nearest.
        UsageError: the kernel has it, but not these axes or options.
    """
    path = name.partition("@")[0]
    owners = [kernel for kernel in kernels().values() if f"{path}/".startswith(f"{kernel.name}/")]
    if not owners:
        raise _unknown(name, others)
    kernel = max(owners, key=lambda owner: len(owner.name))
    params = parse_params(kernel.name, kernel.params_type, name)
    return Workload(workload_name(kernel.name, params), kernel, params)


def match(text: str, others: Sequence[str] = ()) -> list[str]:
    """The canonical names behind a workload name or a glob over the catalogue.

    Args:
        others: what else could have been meant (suites), for the hint.

    Raises:
        UnknownWorkload: nothing has that name or matches the glob.
    """
    if not is_glob(text):
        return [resolve(text, others).name]
    names = fnmatch.filter(catalogue(), text)
    if not names:
        raise _unknown(text, others)
    return names


def is_glob(text: str) -> bool:
    """Whether it stands for all that match, and not for one workload."""
    return any(character in text for character in "*?[")


def families(texts: Sequence[str] = ()) -> list[Family]:
    """What names and globs stand for, kernel by kernel, each workload once; without any, the whole catalogue.

    A name without parameters is that of a family, ``matmul``, or of several, ``roof``: all that they list.

    Raises:
        UnknownWorkload, UsageError: see ``resolve`` and ``match``.
    """
    chosen: dict[str, dict[str, Workload]] = {}
    for text in texts or list(kernels()):
        owners = kernels_named(text)
        for kernel in owners:
            chosen.setdefault(kernel.name, {})  # one that lists nothing is shown, too
        names = [name for kernel in owners for name in kernel.catalogue] if owners else match(text, list(kernels()))
        for workload in map(resolve, names):
            chosen.setdefault(workload.kernel.name, {})[workload.name] = workload
    return [Family(kernels()[name], tuple(workloads.values())) for name, workloads in chosen.items()]


def kernels_named(text: str) -> list[Kernel[Any]]:
    """The kernel of that name, or those whose names begin with it: ``roof``; none where it is no such name."""
    found = kernels()
    return [found[text]] if text in found else [one for name, one in found.items() if name.startswith(f"{text}/")]


def devices_of(name: str) -> int:
    """How many devices of a kind a launch of that workload takes."""
    workload = resolve(name)
    return workload.kernel.devices(workload.params)


def measured_by(name: str, devices: Sequence[D]) -> Sequence[D]:
    """Those of a kind's devices that have a row for it: all, or the first where a launch takes several together."""
    return devices[:1] if devices_of(name) > 1 else devices


def shortage(name: str, devices: Sequence[DeviceInfo]) -> str | None:
    """Why a launch cannot be had of these devices, all of a kind: it takes more of them. A CPU has processes."""
    needed = devices_of(name)
    if devices[0].kind != "cuda" or needed <= len(devices):
        return None
    return f"takes {needed} GPUs, the run has {len(devices)}"


def with_roofs(names: Iterable[str], kind: Any) -> tuple[str, ...]:
    """The workloads, and the roofs that they name on such a device, each once."""
    chosen = dict.fromkeys(names)
    for name in list(chosen):
        workload = resolve(name)
        chosen.update(dict.fromkeys(workload.kernel.roofs(workload.params, kind)))
    return tuple(chosen)


def _unknown(name: str, others: Sequence[str]) -> UnknownWorkload:
    near = difflib.get_close_matches(name, [*others, *catalogue()], n=3, cutoff=0.4)
    families = ", ".join(pattern(kernel.name, kernel.params_type) for kernel in kernels().values())
    hint = f"Nearest: {', '.join(near)}" if near else f"There are: {families}"
    return UnknownWorkload(f"no workload or suite {name!r}", f"{hint}. `vnbench list` shows all")

"""``call``: any function of the user's own, ``module:function`` or ``path.py:function``, one call per launch."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.device.base import Device
from bench.errors import UsageError
from bench.kernel import About, Case, Kernel
from bench.spec import axis
from bench.types import Check, Work

_HINT = "module:function | path.py:function, from the working directory"
_TARGET = re.compile(r"(?P<path>[\w./-]+\.py|[A-Za-z_]\w*(\.\w+)*):(?P<function>[A-Za-z_]\w*(\.\w+)*)")


def _target(text: str) -> str:
    if not _TARGET.fullmatch(text):
        raise ValueError(text)
    return text


@dataclass(frozen=True)
class CallParams:
    target: str = axis(parse=_target, hint=_HINT, rest=True)


class Call(Case):
    """A function without arguments. Where its module has a ``check_<function>`` too, that says whether it is right."""

    work = Work("call/s", items=1, item_unit="call")

    def __init__(self, function: Callable[[], Any], check: Callable[[], Any] | None) -> None:
        self._function = function
        self._check = check

    def launch(self) -> None:
        self._function()

    def check(self) -> Check:
        """False, or an exception, is a wrong answer; anything else is right."""
        if self._check is None:
            return Check(0.0, 0.0, detail="not checked")
        return Check(float(self._check() is False), 0.0, detail="says its own check")


class CallKernel(Kernel[CallParams]):
    name = "call"
    version = 1
    summary = "a function of your own, call/<module:function> or call/<path.py:function>"
    about = About(
        stands_for=(
            "Any function of your own, called without arguments: `vnbench run` measures it and `vnbench ab` says "
            "whether a change made it slower, as with the workloads here."
        ),
        parameters={
            "target": (
                "the module or file, from the working directory, and behind the colon the function, or a method as "
                "`Class.method`"
            ),
        },
        work="A launch is one call, whatever that does, and one item. FLOPs and bytes are not known.",
        check=(
            "Where there is a function `check_<function>` beside it, that says whether it is right: `False` or an "
            "exception is a wrong answer, anything else a right one. Where there is none, nothing is checked."
        ),
        pitfalls=(
            "The `spec_id` is that of the name and does not change with the code behind it. What the function keeps in "
            "memory is there at its next call: where it caches its result, only the first call works. No roof is "
            "known, so the figure cannot say how much is left to win."
        ),
    )
    params_type = CallParams
    catalogue = ()
    isolated = True  # what it imports and leaves behind is no other workload's concern

    def prepare(self, params: CallParams, device: Device, seed: int) -> Call:
        """Import the module, with the working directory first on the path, as ``python -m`` would.

        Raises:
            UsageError: there is no such module or function.
        """
        path, _, name = params.target.rpartition(":")
        folder = str(Path.cwd())
        if sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
        module = _from_file(Path(path)) if path.endswith(".py") else importlib.import_module(path)
        owner, function = _found(module, name, params.target)
        check = getattr(owner, f"check_{name.rpartition('.')[2]}", None)
        return Call(function, check if callable(check) else None)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"no file {path} in {Path.cwd()}", "Name it from the working directory")
    name = f"vnbench_call_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.insert(1, folder)  # its neighbours, as for a script
    spec.loader.exec_module(module)
    return module


def _found(module: ModuleType, name: str, target: str) -> tuple[Any, Callable[[], Any]]:
    owner: Any = module
    *outer, last = name.split(".")
    for part in outer:
        owner = getattr(owner, part, None)
    function = getattr(owner, last, None)
    if not callable(function):
        there = ", ".join(other for other, each in vars(module).items() if inspect.isfunction(each)) or "none"
        raise UsageError(f"{target}: there is no function {name!r} in it", f"Its functions are: {there}")
    return owner, function


KERNEL = CallKernel()

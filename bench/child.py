"""Child interpreters: how a process started by vnbench finds this very package, installed or not."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path

import bench

_ROOT = Path(bench.__file__).resolve().parent.parent


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this package under the same interpreter.

    ``-P`` keeps the working directory off its path: a folder ``bench`` or ``kernels`` there is not ours.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**extra: str) -> Mapping[str, str]:
    """This process's environment, with the checkout on the path where it is not installed.

    An installed package needs nothing: naming site-packages again would put it before the standard library.
    """
    variables = {**os.environ, **extra}
    if _ROOT not in map(Path, [*site.getsitepackages(), site.getusersitepackages()]):
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return variables

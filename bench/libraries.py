"""Which versions of Python and the libraries an interpreter has, without loading them: the standard library will do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import platform
import runpy
from pathlib import Path
from typing import Any


def versions() -> dict[str, str | None]:
    """The software keys that belong to an interpreter (docs/environment.md); None for what it does not have."""
    torch = _torch()
    return {
        "cuda": torch.get("cuda"),
        "torch": torch.get("__version__"),
        "cupy": version("cupy", "cupy-cuda12x", "cupy-cuda13x"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
    }


def version(*distributions: str) -> str | None:
    """The version of the first of these distributions that is installed."""
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def _torch() -> dict[str, Any]:
    """What torch's file of versions says; importing torch itself takes seconds."""
    with contextlib.suppress(Exception):  # whatever is wrong with somebody's torch, it has no version then
        spec = importlib.util.find_spec("torch")
        if spec is not None and spec.origin is not None:
            return runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return {}


if __name__ == "__main__":
    print(json.dumps(versions()))

"""The peers' own environments, one folder each, and the models that they read: made once, then used as they are."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
DEFAULT = Path(os.environ.get("VNBENCH_PEERS", ROOT / ".peers"))

# What is installed from PyPI; torch and whatever else ours needs too, in the versions that ours is tested with.
PACKAGES: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "transformers": ("transformers", "torch", "numpy"),
    "llama-cpp": ("llama-cpp-python", "gguf", "numpy"),
}
_INSTALL_S = 3600  # llama.cpp is compiled here
_RECIPE = "peers.json"


class NotInstalled(Exception):
    """An environment cannot be made; with the last words of what tried."""


def interpreter(name: str, folder: Path) -> str:
    """The Python of an environment, which is installed first unless it is there with the same packages and versions.

    Raises:
        NotInstalled: pip or a compiler failed.
    """
    venv = folder / name
    python = venv / "bin" / "python"
    recipe = {"packages": PACKAGES[name], "constraints": CONSTRAINTS.read_text(), "python": sys.version}
    if not is_made(venv / _RECIPE, recipe):
        print(f"installing {' '.join(PACKAGES[name])} into {venv}", file=sys.stderr, flush=True)
        if not python.exists():
            _run([sys.executable, "-m", "venv", str(venv)])
        options = ["--disable-pip-version-check", "--quiet", "--constraint", str(CONSTRAINTS)]
        _run([str(python), "-m", "pip", "install", *options, *PACKAGES[name]])
        (venv / _RECIPE).write_text(json.dumps(recipe))
    return str(python)


def is_made(path: Path, recipe: object) -> bool:
    """Whether the file says that this was made, and nothing else since."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return bool(found == json.loads(json.dumps(recipe)))


def gguf(model: str, folder: Path) -> Path:
    """The file of a model for llama.cpp.

    Raises:
        NotInstalled: it cannot be written.
    """
    source = Path(__file__).with_name("gguf_file.py").read_bytes()
    path = folder / f"{model}-{hashlib.sha256(source).hexdigest()[:8]}.gguf"
    if not path.exists():
        print(f"writing {path}", file=sys.stderr, flush=True)
        unfinished = path.with_suffix(".part")
        _run([interpreter("llama-cpp", folder), "-m", "tests.peers.gguf_file", model, str(unfinished)])
        unfinished.rename(path)
    return path


def versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    """Which versions of these an interpreter has."""
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    ended = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(ended.stdout)
    return found


def _run(command: Sequence[str]) -> None:
    try:
        ended = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_INSTALL_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if ended.returncode != 0:
        raise NotInstalled(last_words(ended.stderr or ended.stdout))


def last_words(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][-200:] if lines else "without a word"

"""``bench.libraries``: versions without loading anything, in whatever state an interpreter is."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bench import libraries


def test_versions_are_those_that_the_libraries_themselves_say() -> None:
    import numpy as np
    import torch

    found = libraries.versions()
    assert found["numpy"] == np.__version__
    assert found["torch"] == torch.__version__
    assert found["cuda"] == torch.version.cuda
    assert found["python"] == platform.python_version()


def test_nothing_is_loaded_to_know_them() -> None:
    code = "import sys; from bench import libraries; libraries.versions(); print({'torch', 'numpy'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"


def test_as_a_program_it_prints_json() -> None:
    command = [sys.executable, "-m", "bench.libraries"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == libraries.versions()


def test_the_first_distribution_that_is_installed_counts() -> None:
    assert libraries.version("no-such-distribution", "numpy") == libraries.version("numpy")
    assert libraries.version("no-such-distribution") is None


@pytest.mark.parametrize(
    ("text", "version", "cuda"),
    [
        ("__version__ = '9.9'\ncuda = '13.0'\n", "9.9", "13.0"),
        ("__version__ = '9.9'\n", "9.9", None),
        ("cuda: None = None\n__version__ = '9.9+cpu'\n", "9.9+cpu", None),
        ("", None, None),
        ("raise SystemError('broken')", None, None),
        ("not Python", None, None),
        (None, None, None),
    ],
)
def test_a_torch_that_is_broken_has_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, version: str | None, cuda: str | None
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libc10.so: it is broken')")
    if text is not None:
        (tmp_path / "torch" / "version.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = libraries.versions()
    assert (found["torch"], found["cuda"]) == (version, cuda)

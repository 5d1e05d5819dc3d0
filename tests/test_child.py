"""``bench.child``: a process started by vnbench finds this very package, whatever lies in the working directory."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench import child


@pytest.fixture
def misleading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a ``bench`` and a ``kernels`` of its own, as a user's project may have them."""
    for name in ("bench", "kernels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("misleading")
def test_a_folder_of_that_name_in_the_working_directory_is_not_taken_for_ours() -> None:
    done = subprocess.run(
        child.command("bench.registry"), env=child.environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_interpreter_is_the_same() -> None:
    assert child.command("bench.worker", "a", "b") == [sys.executable, "-P", "-m", "bench.worker", "a", "b"]


def test_a_checkout_comes_first_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "getsitepackages", lambda: ["/elsewhere"])
    monkeypatch.setattr(site, "getusersitepackages", lambda: "/elsewhere/too")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    root = str(Path(bench.__file__).resolve().parent.parent)
    assert child.environment(X="1")["PYTHONPATH"] == f"{root}{os.pathsep}/mine"
    assert child.environment(X="1")["X"] == "1"
    monkeypatch.delenv("PYTHONPATH")
    assert child.environment()["PYTHONPATH"] == root


def test_an_installed_package_leaves_the_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(child._ROOT)])
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert child.environment()["PYTHONPATH"] == "/mine"
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in child.environment()

"""The arms of an A/B test: from what the user asks for to what their processes are started with.

A git revision gets a folder of its own, ``<results>/.arms/<commit>/``: ``tree``, a work tree of it, and ``venv-…``, an
environment, for each way to install it. They are used again while commit, interpreter and set-up are the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import bench
from bench.errors import UsageError
from bench.files import write_atomically, writing
from bench.launch.process import Place
from bench.spec import content_id
from bench.types import Arm

_OLDEST_PYTHON = (3, 11)
_ANSWER_S = 120.0  # what an interpreter may take to say what it is
_PACKAGES = ("bench", "kernels")
_SETUP = "python -m pip install --disable-pip-version-check --quiet ."
_PROBE = "import json, sys; print(json.dumps([sys.executable, sys.version_info[:2]]))"


def parse(name: str, texts: Sequence[str]) -> Arm:
    """An arm from ``python=PATH``, ``rev=REVISION``, ``workload=NAME`` and, for any other key, a variable's value.

    Raises:
        UsageError: a text has no ``=``, a key comes twice, or an interpreter and a revision exclude each other.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals) or key in values:
            raise UsageError(
                f"arm {name}: {text!r} is {'there twice' if key in values else 'not of the form key=value'}",
                "Write python=PATH, rev=REVISION, workload=NAME or VARIABLE=VALUE",
            )
        values[key] = value
    for key in ("python", "rev", "workload"):
        if values.get(key) == "":
            raise UsageError(f"arm {name}: {key}= names nothing", "Write what it is, or leave it out")
    python, revision, workload = (values.pop(key, None) for key in ("python", "rev", "workload"))
    for key in values:
        if key.islower():  # a variable's name is in capitals; this is a slip of the pen
            raise UsageError(f"arm {name}: no key {key!r}", "There are python, rev, workload and VARIABLES")
    if python and revision:
        raise UsageError(f"arm {name}: a revision has an interpreter of its own", "Leave out python= or rev=")
    return Arm(name, python, values, workload and workload_name(workload), revision)


def workload_name(text: str) -> str:
    """The name of what a user asks for: ``module:function`` and ``path.py:function`` are calls."""
    target, colon, function = text.rpartition(":")
    if not colon or "@" in text or text.startswith("call/") or not function.replace(".", "_").isidentifier():
        return text
    path = os.path.relpath(target) if target.endswith(".py") else target
    return f"call/{path}:{function}"


def realise(arm: Arm, out: Path, setup: str | None, note: Callable[[str], None]) -> Arm:
    """The arm with its interpreter found and, where it is a revision, its folder made.

    Args:
        setup: how the revision is installed into its environment; by default with pip, where it is a Python project.

    Raises:
        UsageError: no such interpreter or revision, or it cannot be installed.
    """
    if arm.revision is not None:
        return _checked_out(arm, out, setup, note)
    if arm.python is None:
        return arm
    path = Path(arm.python)
    python = path / "bin" / "python" if path.is_dir() else path
    found = shutil.which(str(python))
    if found is None:
        raise UsageError(f"arm {arm.name}: no interpreter {arm.python!r}", "Name a Python or the folder of a venv")
    # The path as it was named: resolved, the interpreter of a venv is that of the system.
    return _proven(dataclasses.replace(arm, python=str(Path(found).absolute())))


def place(arm: Arm, scratch: Path) -> Place:
    """What the arm's processes are started with.

    They find vnbench by a folder that has nothing else in it: beside an installed vnbench lie libraries of an
    environment that is not the arm's. A revision of vnbench itself is measured with its own code.
    """
    root = Path(bench.__file__).resolve().parent.parent
    if arm.tree is not None and (Path(arm.tree) / "bench" / "duet_worker.py").is_file():
        root = Path(arm.tree).resolve()
    harness = scratch / f"harness-{arm.name}"
    with writing(harness):
        harness.mkdir(exist_ok=True)
        for package in _PACKAGES:
            if not (harness / package).exists():
                (harness / package).symlink_to(root / package)
    python = arm.python or sys.executable
    variables = {**os.environ, **arm.variables}
    paths = [str(harness.resolve()), variables.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    variables["PATH"] = os.pathsep.join([str(Path(python).parent), variables.get("PATH", os.defpath)])
    return Place([python, "-P", "-m", "bench.duet_worker"], variables, _folder(arm))


def versions(arm_place: Place) -> dict[str, str | None]:
    """The versions of Python and its libraries in an arm (`bench.libraries`)."""
    command = [*arm_place.command[:-1], "bench.libraries"]
    ended = _asked(command, arm_place.variables)
    if ended.returncode != 0:
        raise UsageError(f"{shlex.join(command)} failed: {_last_line(ended)}", "Is it a Python that works?")
    found: dict[str, str | None] = json.loads(ended.stdout)
    return found


def _folder(arm: Arm) -> str | None:
    """Where the arm's processes work: at the same place of the revision's tree as the caller in the repository."""
    if arm.tree is None:
        return None
    beneath = Path(arm.tree) / Path.cwd().relative_to(_git("rev-parse", "--show-toplevel"))
    return str(beneath if beneath.is_dir() else arm.tree)


def _proven(arm: Arm) -> Arm:
    ended = _asked([str(arm.python), "-c", _PROBE])
    try:
        _, version = json.loads(ended.stdout)
    except (ValueError, TypeError):
        raise UsageError(
            f"arm {arm.name}: {arm.python} is no Python: {_last_line(ended)}", "Name an interpreter"
        ) from None
    if tuple(version) < _OLDEST_PYTHON:
        shown = ".".join(map(str, version))
        raise UsageError(f"arm {arm.name}: {arm.python} is Python {shown}", "vnbench measures with 3.11 or newer")
    return arm


def _asked(command: Sequence[str], variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What an interpreter answers. One that cannot be started, or never answers, has failed and says so itself."""
    try:
        return subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_S,
            check=False,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 126, "", error.strerror or str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {_ANSWER_S:g} s")


def _checked_out(arm: Arm, out: Path, setup: str | None, note: Callable[[str], None]) -> Arm:
    commit = _git("rev-parse", "--verify", f"{arm.revision}^{{commit}}")
    folder = (out / ".arms" / commit).resolve()
    tree = folder / "tree"
    with writing(folder), _locked(folder):
        if _head_of(tree) != commit:
            note(f"arm {arm.name}: checking out {arm.revision} ({commit[:12]})")
            shutil.rmtree(tree, ignore_errors=True)
            _git("worktree", "prune")
            _git("worktree", "add", "--detach", "--quiet", str(tree), commit)
        elif _git("-C", str(tree), "status", "--porcelain", "--untracked-files=no"):
            note(f"arm {arm.name}: {tree} was modified; its files are put back")
            _git("-C", str(tree), "checkout", "--quiet", "--force", commit)
        recipe = {"setup": setup or (_SETUP if _is_project(tree) else ""), "python": sys.version}
        venv = folder / f"venv-{content_id(recipe)[:8]}"  # of its own: another test may be using another
        if _recipe_of(venv) != recipe:
            note(f"arm {arm.name}: making its environment: {recipe['setup'] or 'nothing to install'}")
            _install(arm, tree, venv, recipe["setup"])
            write_atomically(venv / "vnbench.json", json.dumps(recipe).encode())
    return dataclasses.replace(arm, python=str(venv / "bin" / "python"), revision=commit, tree=str(tree))


def _install(arm: Arm, tree: Path, venv: Path, setup: str) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    _run(arm, [sys.executable, "-m", "venv", str(venv)], tree)
    if setup:
        variables = {**os.environ, "VIRTUAL_ENV": str(venv)}
        variables["PATH"] = os.pathsep.join([str(venv / "bin"), variables.get("PATH", os.defpath)])
        _run(arm, ["sh", "-c", setup], tree, variables)


def _run(arm: Arm, command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> None:
    ended = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise UsageError(
            f"arm {arm.name}: {shlex.join(command)} in {folder} failed: {_last_line(ended)}",
            "Say with --setup how it is installed",
        )


def _git(*arguments: str) -> str:
    try:
        ended = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"git cannot be run: {error.strerror}", "A revision needs git") from None
    if ended.returncode != 0:
        raise UsageError(
            f"git {shlex.join(arguments)}: {_last_line(ended)}", "Name a revision of the repository in this folder"
        )
    return ended.stdout.strip()


def _head_of(tree: Path) -> str | None:
    """The commit that a work tree is at; None where there is none, or the repository that it was made from is gone."""
    with contextlib.suppress(UsageError):
        return _git("-C", str(tree), "rev-parse", "HEAD") if (tree / ".git").exists() else None
    return None


def _is_project(tree: Path) -> bool:
    return (tree / "pyproject.toml").is_file() or (tree / "setup.py").is_file()


def _recipe_of(venv: Path) -> object:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((venv / "vnbench.json").read_text())
    return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two tests of one revision make its folder one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _last_line(ended: subprocess.CompletedProcess[str]) -> str:
    lines = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
    return lines[-1] if lines else f"exit code {ended.returncode}"

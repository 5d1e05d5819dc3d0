"""``bench.arms``: what the user asks for, with real interpreters, environments and a git repository of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import arms
from bench.errors import OutputNotWritable, UsageError
from bench.types import Arm
from tests.checkout import ROOT

# ---------------------------------------------------------------- what is asked for


def test_an_arm_is_read_from_its_texts() -> None:
    arm = arms.parse("B", ["python=/opt/py", "workload=matmul/fp32/64", "OMP_NUM_THREADS=1", "EMPTY=", "EQUALS=a=b"])
    assert arm == Arm("B", "/opt/py", {"OMP_NUM_THREADS": "1", "EMPTY": "", "EQUALS": "a=b"}, "matmul/fp32/64")
    assert arms.parse("A", ["rev=main~2"]) == Arm("A", revision="main~2")
    assert arms.parse("A", []) == Arm("A")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["matmul/fp32/64"], "arm B: 'matmul/fp32/64' is not of the form key=value. Write python=PATH"),
        (["=1"], "'=1' is not of the form key=value"),
        (["X=1", "X=1"], "'X=1' is there twice"),
        (["rev=main", "python=py"], "a revision has an interpreter of its own. Leave out python= or rev="),
        (["workload="], "workload= names nothing"),
        (["rev="], "rev= names nothing"),
        (["python="], "python= names nothing"),
    ],
)
def test_texts_that_are_no_arm_are_refused(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=r"^arm B: ") as raised:
        arms.parse("B", texts)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("my.code:encode", "call/my.code:encode"),
        ("my.code:Class.method", "call/my.code:Class.method"),
        ("sub/./code.py:encode", "call/sub/code.py:encode"),
        ("{cwd}/code.py:encode", "call/code.py:encode"),
        ("../code.py:encode", "call/../code.py:encode"),
        ("call/code.py:encode", "call/code.py:encode"),
        ("matmul/fp32/64", "matmul/fp32/64"),
        ("matmul/fp32/64@backend=numpy", "matmul/fp32/64@backend=numpy"),
        ("quick", "quick"),
        ("a:not a function", "a:not a function"),
    ],
)
def test_a_function_is_a_call_and_anything_else_a_workload(text: str, name: str) -> None:
    assert arms.workload_name(text.format(cwd=Path.cwd())) == name


# ---------------------------------------------------------------- interpreters


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A virtual environment with nothing in it."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    return tmp_path / "bare"


def realise(arm: Arm, out: Path, setup: str | None = None) -> tuple[Arm, list[str]]:
    notes: list[str] = []
    return arms.realise(arm, out, setup, notes.append), notes


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_an_arm_without_an_interpreter_is_left_as_it_is(tmp_path: Path) -> None:
    arm = Arm("A", variables={"X": "1"}, workload="matmul/fp32/64")
    assert realise(arm, tmp_path) == (arm, [])


def test_the_folder_of_an_environment_stands_for_its_interpreter(bare: Path, tmp_path: Path) -> None:
    expected = str(bare / "bin" / "python")  # not resolved: that would be the system's
    for named in (bare, bare / "bin" / "python"):
        assert realise(Arm("B", str(named)), tmp_path)[0].python == expected


def test_a_relative_folder_is_found_from_anywhere(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bare.parent)
    assert realise(Arm("B", "bare"), tmp_path)[0].python == str(bare / "bin" / "python")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no interpreter"),
        ("", "is no Python: "),
        ("#!/bin/sh\nexit 3", "is no Python: exit code 3"),
        ("#!/bin/sh\necho hello", "is no Python: hello"),
        ("#!/bin/sh\necho 5", "is no Python: 5"),
        ("#!/bin/sh\necho its own words >&2\nexit 1", "is no Python: its own words"),
        ("#!/bin/sh\nprintf '\\377\\376'", "is no Python: "),
        ("#!/nowhere/python", "is no Python: No such file or directory"),
        ("#!/bin/sh\necho '[\"/usr/bin/python\", [3, 10]]'", "is Python 3.10. vnbench measures with 3.11 or newer"),
        ("#!/bin/sh\necho '[\"/usr/bin/python\", [2, 7]]'", "is Python 2.7. vnbench measures"),
    ],
)
def test_what_is_no_python_is_refused_in_one_line(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "python"
    if text is not None:
        script(path, text)
    with pytest.raises(UsageError) as raised:
        realise(Arm("B", str(path)), tmp_path)
    assert str(raised.value).startswith("arm B: ")
    assert str(path) in str(raised.value)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_interpreter_that_never_answers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "_ANSWER_S", 0.1)
    with pytest.raises(UsageError, match=r"is no Python: no answer within 0\.1 s"):
        realise(Arm("B", str(script(tmp_path / "python", "#!/bin/sh\nexec sleep 3600"))), tmp_path)


@pytest.fixture
def typing() -> Iterator[None]:
    """A user who could yet type something."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    yield
    os.dup2(before, 0)
    for fd in (reading, writing, before):
        os.close(fd)


@pytest.mark.usefixtures("typing")
def test_an_interpreter_that_waits_for_input_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "_ANSWER_S", 5.0)
    with pytest.raises(UsageError, match="is no Python: exit code 0"):
        realise(Arm("B", str(script(tmp_path / "python", "#!/bin/sh\nexec cat"))), tmp_path)


# ---------------------------------------------------------------- what its processes are started with


def within(arm: Arm, scratch: Path, code: str) -> str:
    """What an arm's interpreter prints, started as its worker is."""
    place = arms.place(arm, scratch)
    assert place.command[1:] == ["-P", "-m", "bench.duet_worker"]
    ended = subprocess.run(
        [place.command[0], "-P", "-c", code],
        env=place.variables,
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.strip()


def test_an_arm_sees_our_packages_and_none_of_our_libraries(bare: Path, tmp_path: Path) -> None:
    arm, _ = realise(Arm("B", str(bare)), tmp_path)
    code = "import bench, kernels, importlib.util as u; print(bench.__file__, kernels.__file__, u.find_spec('numpy'))"
    bench_file, kernels_file, numpy = within(arm, tmp_path, code).split()
    assert Path(bench_file).resolve() == ROOT / "bench" / "__init__.py"
    assert Path(kernels_file).resolve() == ROOT / "kernels" / "__init__.py"
    assert numpy == "None"
    assert sorted(path.name for path in (tmp_path / "harness-B").iterdir()) == ["bench", "kernels"]


def test_versions_are_those_of_the_arm(bare: Path, tmp_path: Path) -> None:
    found = arms.versions(arms.place(realise(Arm("B", str(bare)), tmp_path)[0], tmp_path))
    assert found == {
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": None,
        "cuda": None,
        "cupy": None,
        "numpy": None,
    }
    import numpy as np

    assert arms.versions(arms.place(Arm("A"), tmp_path))["numpy"] == np.__version__


def test_an_interpreter_that_cannot_load_us_is_said_in_one_line(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "#!/bin/sh\necho 'half of it' >&2; echo 'the other' >&2; exit 4")
    with pytest.raises(UsageError, match=r"bench\.libraries failed: the other\. Is it a Python that works\?"):
        arms.versions(arms.place(Arm("B", str(python)), tmp_path))


def test_variables_reach_the_arm_and_its_own_interpreter_comes_first(bare: Path, tmp_path: Path) -> None:
    arm = Arm("B", str(bare / "bin" / "python"), {"GREETING": "xin chào", "PYTHONPATH": str(tmp_path)})
    code = "import os, shutil, sys; print(os.environ['GREETING'], shutil.which('python'), sys.path[0], sys.path[1])"
    *greeting, python, first, second = within(arm, tmp_path, code).split()
    assert " ".join(greeting) == "xin chào"
    assert python == str(bare / "bin" / "python")
    assert (first, second) == (str(tmp_path / "harness-B"), str(tmp_path))
    assert "GREETING" not in os.environ


def test_a_place_is_made_again_over_what_is_there(tmp_path: Path) -> None:
    assert arms.place(Arm("A"), tmp_path) == arms.place(Arm("A"), tmp_path)


def test_a_scratch_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputNotWritable, match="cannot write"):
        arms.place(Arm("A"), tmp_path / "file")


# ---------------------------------------------------------------- revisions

COUNTS = "echo once >> {count}; command -v python >> {count}"


class Repository:
    """Two commits of a folder with code in it, and results beside it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repository"
        self.out = folder / "results"
        self.count = folder / "count"
        self.setup = COUNTS.format(count=self.count)
        (self.root / "sub").mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.first, self.second = (self.commit(text) for text in ("first", "second"))

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=a test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(self.root), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, text: str) -> str:
        (self.root / "sub" / "code.py").write_text(f"NAME = {text!r}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", text)
        return self.git("rev-parse", "HEAD")

    def realise(self, revision: str, setup: str | None = None) -> tuple[Arm, list[str]]:
        return realise(Arm("B", revision=revision), self.out, setup or self.setup)

    @property
    def installs(self) -> int:
        return self.count.read_text().split().count("once") if self.count.exists() else 0


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    made = Repository(tmp_path)
    monkeypatch.chdir(made.root)
    real = subprocess.run

    def without_pip(command: list[str], **options: object) -> object:
        """Environments without pip: a tenth of the time."""
        if command[1:3] == ["-m", "venv"]:
            command = [*command[:3], "--without-pip", *command[3:]]
        return real(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("bench.arms.subprocess.run", without_pip)
    return made


def test_a_revision_has_a_tree_and_an_environment_of_its_own(repository: Repository, tmp_path: Path) -> None:
    arm, notes = repository.realise("HEAD~1")
    folder = repository.out / ".arms" / repository.first
    assert (arm.revision, arm.tree, arm.python) == (
        repository.first,
        str(folder / "tree"),
        str(next(folder.glob("venv-*")) / "bin" / "python"),
    )
    assert (folder / "tree" / "sub" / "code.py").read_text() == "NAME = 'first'\n"
    assert repository.git("rev-parse", "HEAD") == repository.second  # ours was not touched
    assert [note.partition(":")[0] for note in notes] == ["arm B", "arm B"]
    assert repository.count.read_text().splitlines() == ["once", arm.python]  # set up inside its environment
    assert within(arm, tmp_path, "import sys; print(sys.prefix)") == str(next(folder.glob("venv-*")))
    assert arms.place(arm, tmp_path).folder == str(folder / "tree")


def test_two_revisions_are_side_by_side(repository: Repository) -> None:
    trees = [Path(str(repository.realise(revision)[0].tree)) for revision in (repository.first, "main")]
    assert [(tree / "sub" / "code.py").read_text() for tree in trees] == ["NAME = 'first'\n", "NAME = 'second'\n"]


def test_an_unchanged_revision_is_used_again(repository: Repository) -> None:
    first, _ = repository.realise("main")
    again, notes = repository.realise(repository.second[:10])
    assert (again, notes, repository.installs) == (first, [], 1)


def test_another_setup_makes_an_environment_of_its_own_and_leaves_the_first_to_who_uses_it(
    repository: Repository,
) -> None:
    arm, _ = repository.realise("main")
    other, notes = repository.realise("main", f"{repository.setup}; true")
    assert repository.installs == 2
    assert arm.python != other.python
    assert Path(str(arm.python)).exists()
    assert len(notes) == 1
    assert repository.realise("main") == (arm, [])


def test_an_environment_that_was_never_finished_is_made_again(repository: Repository) -> None:
    with pytest.raises(UsageError):
        repository.realise("main", f"{repository.setup}; exit 1")
    repository.realise("main", f"{repository.setup}; exit 0")
    assert repository.installs == 2


def test_files_of_the_tree_that_were_changed_are_put_back(repository: Repository) -> None:
    arm, _ = repository.realise("main")
    code = Path(str(arm.tree)) / "sub" / "code.py"
    code.write_text("NAME = 'tampered'\n")
    (Path(str(arm.tree)) / "built").write_text("by a set-up, say")
    _, notes = repository.realise("main")
    assert code.read_text() == "NAME = 'second'\n"
    assert "was modified; its files are put back" in notes[0]
    assert (Path(str(arm.tree)) / "built").exists()
    assert repository.installs == 1


def test_a_tree_at_another_commit_is_made_again(repository: Repository) -> None:
    arm, _ = repository.realise("main")
    subprocess.run(["git", "-C", str(arm.tree), "checkout", "--quiet", repository.first], check=True)
    repository.realise("main")
    assert (Path(str(arm.tree)) / "sub" / "code.py").read_text() == "NAME = 'second'\n"


def test_a_tree_whose_repository_is_gone_is_made_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuous integration clones afresh every time, and may keep the results folder."""
    repository.realise("main")
    repository.root = repository.root.rename(tmp_path / "moved")
    monkeypatch.chdir(repository.root)
    arm, _ = repository.realise("main")
    assert (Path(str(arm.tree)) / "sub" / "code.py").read_text() == "NAME = 'second'\n"
    assert arms._head_of(Path(str(arm.tree))) == repository.second


def test_a_tree_that_was_deleted_is_checked_out_again(repository: Repository) -> None:
    arm, _ = repository.realise("main")
    shutil.rmtree(str(arm.tree))
    repository.realise("main")
    assert (Path(str(arm.tree)) / "sub" / "code.py").exists()


def test_an_arm_works_in_the_same_folder_of_its_own_tree(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository.root / "sub")
    arm, _ = repository.realise("HEAD~1")
    assert arms.place(arm, tmp_path).folder == f"{arm.tree}/sub"
    code = "import os, sys; sys.path.insert(0, os.getcwd()); import code; print(code.NAME)"
    assert within(arm, tmp_path, code) == "first"
    (repository.root / "new").mkdir()
    monkeypatch.chdir(repository.root / "new")  # which that commit does not have
    assert arms.place(arm, tmp_path).folder == arm.tree


@pytest.mark.parametrize(
    ("revision", "setup", "words"),
    [
        ("nowhere", None, "Name a revision of the repository in this folder"),
        ("main:sub", None, "Name a revision of the repository in this folder"),
        ("--help", None, "Name a revision of the repository in this folder"),
        ("main", "echo one >&2; echo two >&2; exit 1", "failed: two. Say with --setup how it is installed"),
        ("main", "exit 5", "failed: exit code 5. Say with --setup"),
    ],
)
def test_a_revision_that_cannot_be_had_is_one_line(
    repository: Repository, revision: str, setup: str | None, words: str
) -> None:
    with pytest.raises(UsageError) as raised:
        repository.realise(revision, setup)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_outside_a_repository_a_revision_is_refused(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UsageError, match=r"not a git repository.*Name a revision of the repository in this folder"):
        repository.realise("main")


def test_without_git_a_revision_is_refused(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="git cannot be run: No such file or directory"):
        repository.realise("main")


def test_a_results_folder_that_cannot_be_written_is_said_so(repository: Repository) -> None:
    repository.out.write_text("")
    with pytest.raises(OutputNotWritable, match="cannot write"):
        repository.realise("main")


def test_without_a_project_there_is_nothing_to_install_and_with_one_pip_does_it(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    real: Callable[..., None] = arms._run

    def noting(arm: Arm, command: list[str], *rest: object) -> None:
        if command[0] == "sh":
            ran.append(command[2])
        else:
            real(arm, command, *rest)

    monkeypatch.setattr(arms, "_run", noting)
    _, notes = realise(Arm("B", revision="main"), repository.out)
    assert (ran, notes[-1]) == ([], "arm B: making its environment: nothing to install")
    (repository.root / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    repository.commit("a project")
    realise(Arm("B", revision="main"), repository.out)
    assert ran == ["python -m pip install --disable-pip-version-check --quiet ."]


def test_two_tests_at_once_make_it_once(repository: Repository) -> None:
    found: list[Arm] = []
    slow = f"{repository.setup}; sleep 0.3"
    threads = [threading.Thread(target=lambda: found.append(repository.realise("main", slow)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert repository.installs == 1


def test_a_revision_of_vnbench_itself_is_measured_with_its_own_code(repository: Repository, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for package in ("bench", "kernels"):
        (tree / package).mkdir(parents=True)
        (tree / package / "__init__.py").write_text("")
    (tree / "bench" / "duet_worker.py").write_text("")
    arm = Arm("B", sys.executable, revision="0" * 40, tree=str(tree))
    assert json.loads(
        within(arm, tmp_path, "import bench, json, os; print(json.dumps(os.path.realpath(bench.__file__)))")
    ) == str(tree / "bench" / "__init__.py")
    (tree / "bench" / "duet_worker.py").unlink()  # an older vnbench, or another project's bench
    other = Arm("other", sys.executable, revision="0" * 40, tree=str(tree))
    assert within(other, tmp_path, "import bench.duet_worker; print('ours')") == "ours"

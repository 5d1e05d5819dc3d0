"""``call``: any function of a user's own, found as ``python -m`` and a script would find it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import registry
from bench.errors import UsageError
from bench.kernel import Case
from bench.measure import measure
from bench.registry import Workload
from bench.spec import SEED, parse_params, workload_name
from bench.types import Policy
from kernels.call import KERNEL, CallParams
from tests.conftest import prepare

MODULE = """
calls = []

def work():
    calls.append("work")

def returns_false():
    return False

def checked():
    pass

def check_checked():
    return ANSWER

class Coder:
    @staticmethod
    def encode():
        calls.append("encode")

    @staticmethod
    def check_encode():
        return False

check_work = "not to be called"
NUMBER = 5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; what was imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


def write(path: Path, text: str = MODULE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    importlib.invalidate_caches()
    return path


def case_of(target: str) -> Any:
    return prepare(KERNEL, f"call/{target}", None)  # type: ignore[arg-type]


def module_of(case: Any) -> Any:
    return sys.modules[case._function.__module__]


# ---------------------------------------------------------------- names

WORDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
DOTTED = st.lists(WORDS, min_size=1, max_size=3).map(".".join)
PATHS = st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True) | st.just(".."), min_size=1, max_size=4).map(
    lambda parts: "/".join(parts) + ".py"
)
TARGETS = st.tuples(DOTTED | PATHS, DOTTED).map(":".join)


@settings(max_examples=40, deadline=None)
@given(TARGETS)
def test_name_and_spec_are_one_to_one(target: str) -> None:
    workload = registry.resolve(f"call/{target}")
    assert workload.params == CallParams(target)
    assert workload.name == f"call/{target}" == workload_name("call", workload.params)


@settings(max_examples=40, deadline=None)
@given(TARGETS, TARGETS)
def test_different_targets_have_different_ids(a: str, b: str) -> None:
    ids = {registry.resolve(f"call/{target}").spec.spec_id for target in (a, b)}
    assert len(ids) == len({a, b})


@pytest.mark.parametrize(
    "name",
    [
        "call",
        "call/",
        "call/code",
        "call/code.py",
        "call/code.py:",
        "call/:work",
        "call/code.py:work()",
        "call/code.py:two words",
        "call/my folder/code.py:work",
        "call/sub/code:work",
        "call/a..b:work",
        "call/code:.work",
        "call/code:1st",
        "call/code:work@threads=2",
        "call/code;rm:work",
    ],
)
def test_other_spellings_are_refused_with_what_would_be_taken(name: str) -> None:
    with pytest.raises(UsageError) as raised:
        registry.resolve(name)
    assert "call/<target>" in str(raised.value) or "module:function | path.py:function" in str(raised.value)


# ---------------------------------------------------------------- what is found


def test_a_function_of_a_module_in_the_working_directory(folder: Path) -> None:
    write(folder / "mycode.py")
    case = case_of("mycode:work")
    case.launch()
    case.launch()
    assert module_of(case).calls == ["work"] * 2
    assert (case.work.unit, case.work.rate(1e9)) == ("call/s", 1.0)


def test_a_function_of_a_module_in_a_package(folder: Path) -> None:
    write(folder / "pack" / "__init__.py", "")
    write(folder / "pack" / "mycode.py")
    case = case_of("pack.mycode:Coder.encode")
    case.launch()
    assert module_of(case).calls == ["encode"]


def test_the_working_directory_comes_before_what_is_installed(folder: Path) -> None:
    write(folder / "xdrlib2.py", "def work(): pass")
    sys.path.insert(0, str(folder / "elsewhere"))
    write(folder / "elsewhere" / "xdrlib2.py", "other = True")
    assert Path(module_of(case_of("xdrlib2:work")).__file__) == folder / "xdrlib2.py"


def test_a_function_of_a_file_and_its_neighbours(folder: Path) -> None:
    write(folder / "sub" / "neighbour_of_it.py", "NAME = 'next door'")
    write(folder / "sub" / "my-code.py", "import neighbour_of_it\ndef work(): return neighbour_of_it.NAME")
    case = case_of("sub/my-code.py:work")
    assert case._function() == "next door"
    assert sys.path[0] == str(folder)


def test_a_file_outside_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "mycode.py")
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    case_of("../mycode.py:work").launch()


def test_files_of_one_name_are_two_modules(folder: Path) -> None:
    for name in ("one", "two"):
        write(folder / name / "code.py", f"def work(): return {name!r}")
    cases = [case_of(f"{name}/code.py:work") for name in ("one", "two")]
    assert [case._function() for case in cases] == ["one", "two"]
    assert [Path(module_of(case).__file__).parent.name for case in cases] == ["one", "two"]


def test_a_file_may_have_data_classes(folder: Path) -> None:
    """They look up their own module by its name."""
    text = "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 1\n"
    write(folder / "mycode.py", text + "def work(): return P()\n")
    case_of("mycode.py:work").launch()


def test_a_function_that_is_installed(folder: Path) -> None:
    case_of("os.path:devnull.upper").launch()
    case_of("time:monotonic").launch()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("gone.py:work", "no file gone.py in {folder}. Name it from the working directory"),
        ("mycode.py:gone", "mycode.py:gone: there is no function 'gone' in it"),
        ("mycode:gone", "mycode:gone: there is no function 'gone' in it. Its functions are: "),
        ("os.path:gone", "in it. Its functions are: commonprefix, "),
        ("mycode:Coder.gone", "no function 'Coder.gone'"),
        ("mycode:gone.gone", "no function 'gone.gone'"),
        ("mycode:NUMBER", "no function 'NUMBER'"),
    ],
)
def test_what_is_not_there_is_said(folder: Path, target: str, words: str) -> None:
    write(folder / "mycode.py")
    with pytest.raises(UsageError) as raised:
        case_of(target)
    assert words.format(folder=folder) in str(raised.value)


def test_what_goes_wrong_in_the_module_is_its_own_error(folder: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_mine"):
        case_of("no_such_module_of_mine:work")
    write(folder / "mycode.py", "1 / 0")
    with pytest.raises(ZeroDivisionError):
        case_of("mycode.py:work")


# ---------------------------------------------------------------- its own check


@pytest.mark.parametrize(
    ("answer", "is_right"), [("True", True), ("None", True), ("0.5", True), ("0", True), ("False", False)]
)
def test_a_check_of_that_name_says_whether_it_is_right(folder: Path, answer: str, is_right: bool) -> None:
    write(folder / "mycode.py", MODULE.replace("ANSWER", answer))
    assert case_of("mycode.py:checked").check().ok is is_right


def test_an_exception_of_the_check_is_not_swallowed(folder: Path) -> None:
    write(folder / "mycode.py", MODULE)  # ANSWER is no name
    with pytest.raises(NameError):
        case_of("mycode.py:checked").check()


def test_a_method_is_checked_by_its_neighbour(folder: Path) -> None:
    write(folder / "mycode.py")
    assert not case_of("mycode.py:Coder.encode").check().ok


@pytest.mark.parametrize("function", ["work", "returns_false"])
def test_without_a_check_nothing_is_called_to_find_out(folder: Path, function: str) -> None:
    write(folder / "mycode.py")
    case = case_of(f"mycode.py:{function}")
    check = case.check()
    assert (check.ok, check.detail) == (True, "not checked")
    assert module_of(case).calls == []


# ---------------------------------------------------------------- as a workload


def test_it_is_measured_like_any_other(folder: Path, cpu_device: Any) -> None:
    write(folder / "mycode.py")
    workload: Workload = registry.resolve("call/mycode.py:work")
    assert (workload.kernel.isolated, list(workload.kernel.catalogue)) == (True, [])
    params = parse_params("call", CallParams, workload.name)
    case: Case = workload.kernel.prepare(params, cpu_device, SEED)
    policy = Policy(warmup_rule="count", warmup_min_samples=1, warmup_min_s=0.0, max_samples=5)
    measurement = measure(case, cpu_device, policy)
    assert len(measurement.elapsed_ns) == 5
    assert len(module_of(case).calls) == 6

"""The house: every file has its row, and imports only from rows above its own or, without a circle, from its own."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent

DOCUMENT = ROOT / "docs" / "architecture.md"


def _rows_of(document: str) -> tuple[tuple[str, ...], ...]:
    """The file patterns of each row of the document's table; a folder stands for the files in it."""
    cells = re.findall(r"^\| \d+ \| ([^|]+) \|", document, flags=re.MULTILINE)
    names = (re.findall(r"`([^`]+)`", cell) for cell in cells)
    return tuple(tuple(f"{name}*.py" if name.endswith("/") else name for name in row) for row in names)


# A new file takes its place in the document's table in the commit that brings it.
ROWS = _rows_of(DOCUMENT.read_text())

# What a kernel may import of ours, and what it may not even load before it is prepared.
KERNELS_MAY_IMPORT = (
    "bench/errors.py",
    "bench/units.py",
    "bench/spec.py",
    "bench/types.py",
    "bench/device/base.py",
    "bench/kernel.py",
    "kernels/_*.py",
)
HEAVY = {"torch", "numpy", "scipy", "pandas", "pyarrow", "cupy"}


def violations(root: Path, rows: Sequence[Sequence[str]]) -> list[str]:
    """What is wrong with the tree under ``root``, in words; nothing where the house stands."""
    files = sorted(
        path.relative_to(root).as_posix() for package in ("bench", "kernels") for path in (root / package).rglob("*.py")
    )
    row_of = {file: [i for i, patterns in enumerate(rows) if _matches(file, patterns)] for file in files}
    found = [f"{file} has {len(its_rows)} rows" for file, its_rows in row_of.items() if len(its_rows) != 1]
    found += [
        f"no file is {pattern}"
        for patterns in rows
        for pattern in patterns
        if not any(_matches(file, [pattern]) for file in files)
    ]
    if found:
        return found
    imports = {file: _imports(root, file) for file in files}
    for file, imported_files in imports.items():
        is_kernel = file.startswith("kernels/")
        for imported in sorted(imported_files):
            if row_of[imported] > row_of[file]:
                found.append(f"{file} imports {imported} from a row below")
            if is_kernel and imported != "kernels/__init__.py" and not _matches(imported, KERNELS_MAY_IMPORT):
                found.append(f"{file} imports {imported}, which no kernel may")
            if not is_kernel and imported.startswith("kernels/"):
                found.append(f"{file} imports {imported} statically")
        if is_kernel:
            found += [f"{file} loads {module} at import" for module in _loaded_at_import(root, file) if module in HEAVY]
    return found + _circles(imports)


def _matches(file: str, patterns: Sequence[str]) -> bool:
    return any(PurePosixPath("/", file).match(f"/{pattern}") for pattern in patterns)


def _imports(root: Path, file: str) -> set[str]:
    """Our files that a file imports, anywhere in it: inside functions and for type checking too."""
    imported = set()
    for module in _modules(ast.walk(_parsed(root, file)), file):
        path = module.replace(".", "/")
        for candidate in (f"{path}.py", f"{path}/__init__.py"):
            if (root / candidate).is_file():
                imported.add(candidate)
    return imported - {file}


def _modules(nodes: Iterator[ast.AST], file: str) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = PurePosixPath(file).parts[: -node.level] if node.level else ()
            origin = ".".join([*package, *([node.module] if node.module else [])])
            submodules = {f"{origin}.{alias.name}" for alias in node.names}
            yield from submodules
            # "from bench import stats" is of stats; "from bench import __version__" is of bench.
            yield origin


def _loaded_at_import(root: Path, file: str) -> set[str]:
    """Top-level packages that are loaded with the module: not inside functions, not for type checking."""
    pending: list[ast.AST] = [_parsed(root, file)]
    loaded = []
    while pending:
        node = pending.pop()
        loaded.append(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)
    return {module.partition(".")[0] for module in _modules(iter(loaded), file)}


def _parsed(root: Path, file: str) -> ast.Module:
    return ast.parse((root / file).read_text(encoding="utf-8"), file)


def _circles(imports: Mapping[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return [f"a circle: {' imports '.join(reversed(error.args[1]))}"]
    return []


def test_the_house_stands() -> None:
    assert violations(ROOT, ROWS) == []


# ---------------------------------------------------------------- the test's own test

HOUSE = {
    "bench/__init__.py": "__version__ = '1'",
    "bench/errors.py": "",
    "bench/measure.py": "from bench import errors",
    "kernels/__init__.py": "",
    "kernels/_shared.py": "from bench.errors import x",
    "kernels/multiply.py": "from kernels import _shared\ndef f():\n    import torch",
    "bench/run.py": "from bench import __version__\nfrom bench.measure import x",
    "bench/cli/__init__.py": "from . import show",
    "bench/cli/show.py": "import bench.run",
}
HOUSE_ROWS = (
    ("bench/__init__.py", "bench/errors.py"),
    ("bench/measure.py",),
    ("kernels/*.py",),
    ("bench/run.py",),
    ("bench/cli/*.py",),
)


def built(root: Path, changes: Mapping[str, str]) -> Path:
    for file, text in {**HOUSE, **changes}.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    return root


def test_a_sound_house_has_no_violations(tmp_path: Path) -> None:
    assert violations(built(tmp_path, {}), HOUSE_ROWS) == []


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("bench/new.py", "", "bench/new.py has 0 rows"),
        ("bench/cli/deep/new.py", "", "bench/cli/deep/new.py has 0 rows"),
        ("bench/errors.py", "from bench.measure import x", "bench/errors.py imports bench/measure.py from a row below"),
        ("bench/errors.py", "def f():\n    import bench.run", "bench/errors.py imports bench/run.py from a row below"),
        ("bench/measure.py", "from . import run", "bench/measure.py imports bench/run.py from a row below"),
        ("bench/measure.py", "from .cli.show import x", "bench/measure.py imports bench/cli/show.py from a row below"),
        (
            "bench/errors.py",
            "if TYPE_CHECKING:\n    from bench import cli",
            "bench/errors.py imports bench/cli/__init__.py from a row below",
        ),
        (
            "bench/run.py",
            "def f():\n    import kernels.multiply",
            "bench/run.py imports kernels/multiply.py statically",
        ),
        (
            "kernels/multiply.py",
            "import bench.measure",
            "kernels/multiply.py imports bench/measure.py, which no kernel may",
        ),
        (
            "kernels/_shared.py",
            "from kernels.multiply import x",
            "kernels/_shared.py imports kernels/multiply.py, which no kernel may",
        ),
        ("kernels/multiply.py", "class A:\n    import torch.nn", "kernels/multiply.py loads torch at import"),
        ("kernels/multiply.py", "from numpy import array", "kernels/multiply.py loads numpy at import"),
        ("bench/cli/show.py", "from bench.cli import x", "a circle: "),
    ],
)
def test_a_violation_is_found(tmp_path: Path, file: str, text: str, words: str) -> None:
    found = violations(built(tmp_path, {file: text}), HOUSE_ROWS)
    assert [violation for violation in found if violation.startswith(words)]


def test_a_row_for_no_file_and_a_file_in_two_rows_are_found(tmp_path: Path) -> None:
    rows = (*HOUSE_ROWS, ("bench/gone.py", "bench/r*.py"))
    assert violations(built(tmp_path, {}), rows) == ["bench/run.py has 2 rows", "no file is bench/gone.py"]


def test_types_and_lazy_imports_load_nothing(tmp_path: Path) -> None:
    text = "if TYPE_CHECKING:\n    import torch\ndef f():\n    import numpy"
    assert violations(built(tmp_path, {"kernels/multiply.py": text}), HOUSE_ROWS) == []

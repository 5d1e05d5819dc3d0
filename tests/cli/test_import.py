"""``vnbench import`` as its users meet it, and what ``vnbench show`` makes of what it took over."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cli import cli
from bench.cli.import_ import import_
from tests.importing.saved import entry, session, write, write_lines

LONG = "tests/performance/serving/test_tokenizer.py::TestBatch::test_encode_many[vietnamese-nfd-4096-threads2]"

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def vnbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Program:
    """The program in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cli.commands, "import", import_)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vnbench", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit_:
            assert exit_.code is None or isinstance(exit_.code, int)
            code = exit_.code or 0
        return code, *capsys.readouterr()

    return call


def test_what_was_taken_over_is_said_on_stdout_and_shown_again(tmp_path: Path, vnbench: Program) -> None:
    saved = [session(entry(LONG, [1e-3] * 3, with_data=minute > 0), minute=minute) for minute in range(3)]
    code, out, err = vnbench("import", *write(tmp_path, *saved), "--label", "before")
    assert (code, err) == (0, "")
    assert "1 workloads, 3 replicates: results/runs/ci_runner_7/20261122T050000Z-pytest-" in out
    code, out, _ = vnbench("show", "results")
    assert code == 0 and "1000 call/s" in out.replace("1.000 kcall/s", "1000 call/s")
    assert max(map(len, out.splitlines())) <= 80
    first_column = "".join(line[:36].split(" ")[0] for line in out.splitlines() if not line.startswith(("run", "2026")))
    assert f"workloadpytest/{LONG}" in first_column
    assert "unwatched (1 of 1)" in out and "no-samples (1 of 1)" in out


def test_importing_again_says_so_and_is_no_error(tmp_path: Path, vnbench: Program) -> None:
    (path,) = write(tmp_path, session(entry("t::x", [1e-3])))
    vnbench("import", path)
    code, out, err = vnbench("import", path)
    assert (code, out) == (0, "")
    assert err.startswith(f"{path.name}: already imported, in run ")


def test_scripts_get_a_line_of_json_per_run(tmp_path: Path, vnbench: Program) -> None:
    path = write_lines(tmp_path, {"node": "n1", "a-b/c_time:0": 1.0}, {"node": "n2", "a-b/c_time:1": 2.0})
    code, out, _ = vnbench("import", path, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [one["node"] for one in found] == ["n1", "n2"]
    assert all(Path(one["path"]).is_file() for one in found)


def test_a_summary_of_superbench_is_shown_with_its_failures(tmp_path: Path, vnbench: Program) -> None:
    figures = {"mem-bw/return_code": 32, "gemm-flops/fp16_tc_flops:7": 279474.0, "some/thing:0": 12.5}
    vnbench("import", write_lines(tmp_path, {"node": "n1", **figures}))
    code, out, _ = vnbench("show", "results")
    assert code == 0 and "279.5 TFLOP/s" in out and "rank:7" in out and "12.50" in out
    assert "superbench/mem-bw/return_code on node:0: failed: SuperBench's return_code is 32" in " ".join(out.split())


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, vnbench: Program) -> None:
    path = tmp_path / "bad.json"
    path.write_text("[]")
    code, out, err = vnbench("import", path)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith(f"vnbench: {path}: not a result of pytest-benchmark")
    assert vnbench("import")[0] == 2
    assert vnbench("import", tmp_path / "gone.json")[0] == 2


def test_an_unwritable_folder_is_exit_code_7(tmp_path: Path, vnbench: Program) -> None:
    (tmp_path / "results").write_text("a file")
    code, _, err = vnbench("import", *write(tmp_path, session(entry("t::x", [1e-3]))), "--out", "results/deeper")
    assert code == 7 and err.count("\n") == 1

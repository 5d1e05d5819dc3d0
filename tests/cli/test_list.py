"""``vnbench list`` as its users meet it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from click.testing import Result

from bench import probe, registry
from bench.cli.list import list_
from bench.errors import UnknownWorkload, UsageError
from bench.types import DeviceInfo
from tests.checkout import ROOT
from tests.cli.test_gate import answer


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was tried; int8 is what this machine cannot do."""
    names: list[str] = []

    def obstacles(asked: Sequence[str], devices: Sequence[DeviceInfo]) -> dict[str, str | None]:
        names.extend(asked)
        return {name: "no int8 here" if "int8" in name else None for name in asked}

    monkeypatch.setattr(probe, "obstacles", obstacles)
    return names


def listed(*arguments: str) -> Result:
    found = answer(list_, *arguments, "--device", "cpu")
    assert found.exit_code == 0, found.output
    return found


def test_without_a_word_all_families_are_listed_and_tried_and_the_suites_below(tried: list[str]) -> None:
    text = listed().stdout
    for kernel in registry.kernels().values():
        assert f"{kernel.name}: {kernel.summary}" in " ".join(text.split())
    lines = text.splitlines()
    assert [name for name in registry.catalogue() if not any(line.startswith(f"  {name}  ") for line in lines)] == []
    assert tried == registry.catalogue()
    assert "  matmul/int8/1024  not on cpu: no int8 here\n" in text
    assert "\nsuites\n" in text
    assert "`vnbench list FAMILY` explains" in text


def test_a_family_is_explained_and_listed(tried: list[str]) -> None:
    text = listed("matmul").stdout
    assert text.startswith("matmul/<dtype>/<shape>[@backend=…")
    assert "stands for" in text and "pitfalls" in text
    assert "\n  matmul/bf16/4096  runs here\n" in text
    assert "suites" not in text
    assert tried == list(registry.kernels()["matmul"].catalogue)


def test_a_part_of_a_familys_name_lists_those_below_it() -> None:
    text = listed("roof", "--no-probe").stdout
    assert [line.split(":")[0] for line in text.splitlines() if line[0] != " "][:1] == ["roof/compute"]
    assert "\n  roof/compute/bf16\n" in text and "\n  roof/memory/copy\n" in text
    assert "stands for" not in text


@pytest.mark.parametrize("name", ["matmul/bf16/4096", "matmul/fp32/77@backend=numpy"])
def test_a_workload_is_explained_listed_or_not(tried: list[str], name: str) -> None:
    text = listed(name).stdout
    assert text.startswith(f"{name}\n")
    assert "stands for" in text
    assert text.endswith("\nruns here\n")
    assert tried == [name]


def test_a_glob_is_a_list_however_many_match() -> None:
    text = listed("matmul/int8/1024*", "--no-probe").stdout
    assert text.startswith("matmul: ") and text.endswith("\n  matmul/int8/1024\n")


def test_several_are_a_list_each_workload_once() -> None:
    text = listed("matmul/bf16/*", "roof/memory", "matmul/bf16/4096", "decode/tiny/b1/ctx7", "--no-probe").stdout
    assert text.count("  matmul/bf16/4096\n") == 1
    assert "  decode/tiny/b1/ctx7\n" in text
    headings = [line.partition(":")[0] for line in text.splitlines() if not line.startswith(" ") and ": " in line]
    assert headings[0] == "matmul" and set(headings) == {"matmul", "roof/memory", "decode"}


def test_the_json_has_name_spec_and_summary(tried: list[str]) -> None:
    found = json.loads(listed("matmul/int8/1024", "call", "--json").stdout)
    (one,) = found["workloads"]
    spec = registry.resolve("matmul/int8/1024").spec
    assert (one["name"], one["spec_id"], one["kernel"]) == ("matmul/int8/1024", spec.spec_id, "matmul")
    assert (one["runs_here"], one["reason"]) == (False, "no int8 here")
    assert "quick" in found["suites"]
    assert tried == ["matmul/int8/1024"]


def test_the_markdown_is_the_document() -> None:
    assert listed("--markdown").stdout == (ROOT / "docs" / "workloads.md").read_text()


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("matmull", UnknownWorkload, "no workload or suite 'matmull'. Nearest: matmul"),
        ("matmul/bf17/4096", UsageError, "'bf17' is no dtype"),
        ("large/*", UnknownWorkload, "no workload or suite 'large/*'"),
        ("", UnknownWorkload, "no workload or suite ''"),
    ],
)
def test_what_is_not_there_is_said(name: str, error: type[Exception], words: str) -> None:
    found = answer(list_, name)
    assert isinstance(found.exception, error)
    assert words in str(found.exception)


def test_nothing_is_tried_where_no_device_is_asked_for(tried: list[str]) -> None:
    found = answer(list_, "--no-probe", "--device", "cuda:7")
    assert found.exit_code == 0
    assert tried == []

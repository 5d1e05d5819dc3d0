"""``bench.report.catalogue`` and ``workloads``: what kernels say, on a terminal, in a pipe, as JSON and Markdown."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import registry
from bench.kernel import About
from bench.registry import Family
from bench.report import catalogue, table, workloads
from bench.report.catalogue import Attempt
from bench.spec import axis, option
from bench.types import DeviceKind, Work
from tests.checkout import ROOT
from tests.small_kernel import KERNELS, Small

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class StirParams:
    dtype: str = axis(choices=("fp32", "bf16"))
    size: int = axis(prefix="n")
    backend: str = option("torch", choices=("torch", "numpy"))
    limit: int | None = option(None, parse=int, hint="<number>")


class Stir(Small):
    name = "stir"
    summary = "stirs <size> spoons"
    about = About(
        stands_for="Stirring of tea | coffee, 2 * 3 times at $1.",
        parameters={
            "dtype": "the sort of spoon",
            "size": "how many",
            "backend": "who stirs, `a|b`",
            "limit": "when to stop",
        },
        work="2·size (Spoon, _Stirring_, 1999, x_1).",
        check="It is held against a spoon of another sort.",
        pitfalls="Sugar. " + "A very long sentence about the pitfalls of stirring is here to be wrapped. " * 3 + "End.",
    )
    params_type = StirParams
    catalogue = (
        *(f"stir/{dtype}/n{size}" for dtype in ("fp32", "bf16") for size in (8, 16, 2048)),
        "stir/fp32/n2048@backend=numpy",
    )

    def roofs(self, params: Any, kind: DeviceKind) -> Sequence[str]:
        roofs = (f"roof/compute/{params.dtype}", "roof/memory/copy")
        return roofs if kind == "cpu" else roofs[:1]

    def probe(self, params: Any) -> Any:
        return dataclasses.replace(params, size=8)

    def work(self, params: Any) -> Work:
        return Work("FLOP/s", flops=2 * params.size, bytes_moved=params.size, items=3, item_unit="spoon")

    def memory_bytes(self, params: Any) -> int:
        return 1 << 30


class Bare(Small):
    """A kernel that says nothing of itself and lists nothing: a user's own may."""

    name = "bare"
    catalogue = ()


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**KERNELS, "stir": Stir(), "bare": Bare()}
    monkeypatch.setattr(registry, "kernels", lambda: found)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def family(name: str) -> Family:
    (found,) = registry.families([name])
    return found


def attempt(**obstacles: str) -> Attempt:
    """All of stir's workloads run, but for those that begin with the name of an obstacle."""
    reasons: dict[str, str | None] = {}
    for name in Stir.catalogue:
        reasons[name] = next((reason for dtype, reason in obstacles.items() if f"/{dtype}/" in name), None)
    return Attempt("cpu", reasons)


def piped(render: Callable[..., None], *arguments: Any) -> str:
    out = table.console()
    out.file = io.StringIO()
    render(out, *arguments)
    return out.file.getvalue()


def on_terminal(monkeypatch: pytest.MonkeyPatch, render: Callable[..., None], *what: Any, columns: int = 80) -> str:
    for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return piped(render, *what)


def widest(text: str) -> int:
    return max(map(len, ESCAPES.sub("", text).splitlines()))


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (None, "–"),
        (Work("FLOP/s", flops=2**31, bytes_moved=12_582_912), "2.147 GFLOP, 12.58 MB"),
        (Work("OP/s", flops=9999, bytes_moved=10_000), "9999 OP, 10.00 kB"),
        (Work("token/s", items=1, item_unit="token"), "1 token"),
    ],
)
def test_the_work_of_a_launch_in_words(work: Work | None, words: str) -> None:
    assert catalogue.work_words(work) == words


def test_roofs_of_several_are_patterns_and_of_one_are_names() -> None:
    workloads_ = family("stir").workloads
    several = "on cpu: roof/compute/<dtype>, roof/memory/copy; on cuda: roof/compute/<dtype>"
    assert catalogue.roof_words(workloads_) == several
    one = "on cpu: roof/compute/fp32, roof/memory/copy; on cuda: roof/compute/fp32"
    assert catalogue.roof_words(workloads_[:1]) == one
    assert catalogue.roof_words(family("small").workloads) == "roof/compute/fp32, roof/memory/copy", "on both alike"
    assert catalogue.roof_words(family("roof/compute").workloads) == "none"


def test_what_is_tried_first_is_told_by_an_example() -> None:
    assert catalogue.probe_words(family("stir").workloads) == "stir/fp32/n8 before stir/fp32/n16"
    assert catalogue.probe_words(family("small").workloads) == "nothing smaller"


# ---------------------------------------------------------------- a list


def test_a_pipe_gets_a_line_for_each_workload() -> None:
    reason = " ".join(["no"] * 40)
    text = piped(catalogue.show, [family("stir")], attempt(bf16=reason))
    lines = text.splitlines()
    assert lines[0] == "stir: stirs <size> spoons"
    assert lines[1] == "  stir/fp32/n8  runs here"
    assert [line.split()[0] for line in lines[1:]] == list(Stir.catalogue)
    assert lines[4] == "  stir/bf16/n8  not on cpu: " + reason
    assert "\x1b" not in text


def test_a_library_that_talks_much_is_cut_short_in_a_list_and_heard_out_for_one_workload() -> None:
    reason = f"Could not do it. This could be because {'of many things ' * 50}"
    lines = piped(catalogue.show, [family("stir")], attempt(bf16=reason)).splitlines()
    assert lines[4] == "  stir/bf16/n8  not on cpu: Could not do it"
    lines = piped(catalogue.show, [family("stir")], attempt(bf16="on and " * 99)).splitlines()
    assert lines[4].endswith(" …") and len(lines[4]) < 200
    (workload, *_) = [one for one in family("stir").workloads if "bf16" in one.name]
    whole = piped(catalogue.show_answer, workload, attempt(bf16=reason))
    assert whole.split() == f"not on cpu: {reason}".split()


def test_without_a_try_there_are_but_names() -> None:
    assert piped(catalogue.show_workloads, family("stir"), None).split() == list(Stir.catalogue)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_gets_columns_that_fit(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    tried = attempt(bf16="this library says no")
    text = on_terminal(monkeypatch, catalogue.show, [family("stir")], tried, columns=columns)
    assert widest(text) <= min(80, columns)
    plain = ESCAPES.sub("", text)
    assert "\n  4 of 7 run on cpu\n" in plain
    assert plain.count("this library says no") == 1, "once for all that it befell"
    running, _, stopped = plain.partition("  not on cpu: this library says no\n")
    assert [word for word in running.split() if word.startswith("stir/")] == [*Stir.catalogue[:3], Stir.catalogue[6]]
    assert stopped.split() == list(Stir.catalogue[3:6])
    if columns == 80:
        assert f"  {'stir/fp32/n8':<31}stir/fp32/n16\n" in plain


NAMES = st.lists(st.text("abc/", min_size=1, max_size=60), max_size=30)


@given(NAMES, st.integers(20, 80))
def test_columns_lose_no_name_and_change_no_order(names: list[str], width: int) -> None:
    lines = catalogue._columns(names, width)
    assert " ".join(lines).split() == names
    assert all(len(line) <= width or line in names for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_a_long_name_does_not_cost_the_others_their_columns() -> None:
    assert catalogue._columns(["a1", "a2", "long" * 5, "a3", "a44", "a5", "a6", "a7", "a8"], 24) == [
        "a1   a2",
        "longlonglonglonglong",
        "a3   a44  a5   a6   a7",
        "a8",
    ]


def test_a_long_reason_is_wrapped_and_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = attempt(fp32=" ".join(["no"] * 40), bf16="no")
    lines = ESCAPES.sub("", on_terminal(monkeypatch, catalogue.show_workloads, family("stir"), tried)).splitlines()
    assert lines[0] == "  0 of 7 run on cpu"
    assert lines[1].startswith("  not on cpu: no no") and lines[2].startswith("    no no")
    assert max(map(len, lines)) <= 80


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = on_terminal(monkeypatch, catalogue.show, [family("stir")], attempt())
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)


def test_a_family_that_lists_nothing_says_how_it_is_named() -> None:
    assert piped(catalogue.show, [family("bare")], None) == (
        "bare: nothing\n  none listed; name one: bare/<size>[@variant=…]\n"
    )


# ---------------------------------------------------------------- an explanation


def words_of(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("columns", [60, 80])
def test_a_family_is_explained(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    text = on_terminal(monkeypatch, catalogue.explain_family, family("stir"), columns=columns)
    assert widest(text) <= columns
    plain = words_of(ESCAPES.sub("", text))
    assert plain.startswith("stir/<dtype>/<size>[@backend=…,limit=…] stirs <size> spoons; version 3 stands for")
    for words in (
        Stir.about.stands_for,
        "dtype fp32 | bf16 the sort of spoon size n<number> how many",
        "backend torch | numpy, an option; torch if left out who stirs, `a|b`",
        "limit <number>, an option when to stop",
        f"work {Stir.about.work} roofs on cpu: roof/compute/<dtype>, roof/memory/copy; on cuda:",
        f"check {Stir.about.check} pitfalls {Stir.about.pitfalls}",
        "tried first stir/fp32/n8 before stir/fp32/n16",
    ):
        assert words in plain


def test_a_workload_is_explained_with_its_own_values() -> None:
    workload = registry.resolve("stir/bf16/n2048")
    text = piped(catalogue.explain_workload, workload)
    assert widest(text) <= 80
    plain = words_of(text)
    assert plain.startswith(
        f"stir/bf16/n2048 stirs <size> spoons; version 3, spec_id {workload.spec.spec_id} stands for"
    )
    for words in (
        "dtype bf16 the sort of spoon size n2048 how many backend torch who stirs, `a|b` limit left out when to stop",
        f"work 4096 FLOP, 2048 B, 3 spoon a launch {Stir.about.work} memory 1.00 GiB at most",
        "roofs on cpu: roof/compute/bf16, roof/memory/copy; on cuda: roof/compute/bf16 check",
        "tried first stir/bf16/n8 before stir/bf16/n2048",
    ):
        assert words in plain
    tried = attempt(bf16="[no] such [/spoon]")
    assert piped(catalogue.show_answer, workload, tried) == "not on cpu: [no] such [/spoon]\n"
    assert piped(catalogue.show_answer, workload, attempt()) == "runs here\n"
    assert piped(catalogue.show_answer, workload, None) == ""


def test_a_kernel_that_says_nothing_of_itself_is_shown_with_what_is_known() -> None:
    text = words_of(piped(catalogue.explain_workload, registry.resolve("small/n1")))
    assert text.endswith("size n1 variant a roofs roof/compute/fp32, roof/memory/copy tried first nothing smaller")


# ---------------------------------------------------------------- JSON


def test_json_has_the_spec_of_each_workload_and_what_is_known_of_it() -> None:
    tried = attempt(bf16="no")
    found = json.loads(catalogue.to_json([family("stir")], tried, []))
    assert [one["name"] for one in found["workloads"]] == list(Stir.catalogue)
    one = found["workloads"][3]
    spec = registry.resolve("stir/bf16/n8").spec
    assert one | dataclasses.asdict(spec) == one
    assert (one["spec_id"], one["kernel"], one["version"], one["params"]) == (spec.spec_id, "stir", 3, spec.params)
    assert one["summary"] == "stirs <size> spoons"
    assert one["work"] == dataclasses.asdict(Work("FLOP/s", flops=16, bytes_moved=8, items=3, item_unit="spoon"))
    assert one["memory_bytes"] == 1 << 30
    assert one["roofs"] == {"cpu": ["roof/compute/bf16", "roof/memory/copy"], "cuda": ["roof/compute/bf16"]}
    assert (one["runs_here"], one["reason"]) == (False, "no")
    assert (found["workloads"][0]["runs_here"], found["workloads"][0]["reason"]) == (True, None)
    untried = json.loads(catalogue.to_json([family("small")], None, []))["workloads"][0]
    assert (untried["runs_here"], untried["work"], untried["memory_bytes"]) == (None, None, None)


# ---------------------------------------------------------------- the document


def section(name: str) -> str:
    return workloads.markdown([family(name)]).partition(f"\n## {name}\n")[2]


def test_a_section_says_all_of_a_kernel() -> None:
    text = section("stir")
    assert "\nStirs &lt;size> spoons. `stir/<dtype>/<size>[@backend=…,limit=…]`, version 3, in [tests/report/" in text
    assert "\n**Stands for.** Stirring of tea | coffee, 2 \\* 3 times at \\$1.\n" in text
    assert "\n| `dtype` | axis | `fp32 \\| bf16` |  | the sort of spoon |\n" in text
    assert "\n| `backend` | option | `torch \\| numpy` | `torch` | who stirs, `a\\|b` |\n" in text
    assert "\n**Work.** 2·size (Spoon, \\_Stirring\\_, 1999, x_1).\n" in text
    assert "\n**Roofs.** On cpu: `roof/compute/<dtype>`, `roof/memory/copy`; on cuda: `roof/compute/<dtype>`.\n" in text
    assert "\n**Tried first.** `stir/fp32/n8` before `stir/fp32/n16`.\n" in text
    spec_id = registry.resolve("stir/fp32/n16").spec.spec_id
    assert f"\n| `stir/fp32/n16` | 32 FLOP, 16 B, 3 spoon | 1.00 GiB | `{spec_id}` |\n" in text


def test_every_row_of_a_table_has_the_columns_of_its_head() -> None:
    text = workloads.markdown(registry.families())
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_a_kernel_that_says_and_lists_nothing_has_a_section() -> None:
    text = section("bare")
    assert "**" not in text
    assert "| `size` | axis | `n<number>` |  |  |" in text


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> str:
    """The document of the real catalogue."""
    monkeypatch.undo()
    return workloads.markdown(registry.families())


def test_the_committed_document_is_what_the_kernels_say(ours: str) -> None:
    committed = (ROOT / "docs" / "workloads.md").read_text()
    assert committed == ours, "make it anew: python3 -m bench list --markdown > docs/workloads.md"


def test_it_has_a_section_for_each_kernel_and_a_line_for_each_workload(ours: str) -> None:
    assert re.findall(r"^## (.*)$", ours, flags=re.MULTILINE) == list(registry.kernels())
    assert re.findall(r"^\| `([^`]+)` \|.*\| `[0-9a-f]{16}` \|$", ours, flags=re.MULTILINE) == registry.catalogue()


def test_its_links_lead_somewhere(ours: str) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", ours)
    anchors = {workloads.anchor(heading) for heading in re.findall(r"^##? (.*)$", ours, flags=re.MULTILINE)}
    inside = [target.removeprefix("#") for target in targets if target.startswith("#")]
    assert len(set(inside)) == len(inside) == len(registry.kernels())
    assert set(inside) <= anchors
    for target in targets:
        assert target.startswith("#") or (ROOT / "docs" / target).is_file(), target


@pytest.mark.parametrize(
    ("heading", "anchor"), [("roof/memory", "roofmemory"), ("How it is read", "how-it-is-read"), ("a-b_c", "a-b_c")]
)
def test_an_anchor_is_what_github_makes_of_a_heading(heading: str, anchor: str) -> None:
    assert workloads.anchor(heading) == anchor

"""``bench.report.table``: 80 columns, the same figures on a terminal and in a pipe, and others' words as they are."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections.abc import Sequence

import pytest
from rich.console import Console

from bench import fitness
from bench.report import table
from bench.stats import Interval
from bench.summary import Spread, Summary
from bench.types import DeviceInfo
from tests.results import CPU, make_plan

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
OK = Summary(
    workload="matmul/bf16/8192",
    device="cuda:0",
    status="ok",
    reason=None,
    value=7.98e14,
    unit="FLOP/s",
    better="higher",
    interval=Interval(7.95e14, 8.01e14, 5),
    replicates=5,
    fraction_of_roof=0.912,
    roof="roof/compute/bf16",
    validity=(),
    findings=(),
    metrics={},
)
LONG = "decode/a-model-of-some-length-3.1-8b-instruct/b32/ctx131072@backend=torch,dtype=fp8-e4m3,steps=128"
NOTHING = dataclasses.replace(OK, value=None, unit=None, interval=None, fraction_of_roof=None, roof=None, replicates=0)
UNSUPPORTED = dataclasses.replace(
    NOTHING, workload="matmul/fp8-e4m3/8192", status="unsupported", reason="torch._scaled_mm needs sm_89"
)
FAILED = dataclasses.replace(
    NOTHING,
    workload="matmul/fp32/1024",
    status="failed",
    # Rich would take brackets for markup, and fail on a closing tag; torch's own errors have some.
    reason="RuntimeError: [enforce fail at alloc_cpu.cpp:127] [/usr/lib/x.so] :warning: [bold]loud",
)
UNFIT = dataclasses.replace(OK, validity=("no-steady-state", "roof-too-low", "unfit:foreign-load", "unfit:steal"))
WIDEST = dataclasses.replace(
    OK,
    workload=LONG,
    device="cuda:15",
    value=1.2345e12,
    unit="token/s",
    interval=Interval(1.1e5, 9.99e17, 3),
    fraction_of_roof=12.34,
    validity=("a-flag-of-another-version-of-vnbench", "no-steady-state"),
)


def rendered(summaries: Sequence[Summary], *, out: Console | None = None, spreads: Sequence[Spread] = ()) -> str:
    """What a pipe receives, unless another console is given."""
    out = out or table.console()
    out.file = io.StringIO()
    table.show_results(out, make_plan(), summaries, spreads)
    return out.file.getvalue()


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int, **variables: str) -> Console:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return table.console()


@pytest.fixture(autouse=True)
def no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own terminal has no part in this."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def widths(text: str) -> list[int]:
    return [len(line) for line in ESCAPES.sub("", text).splitlines()]


# ---------------------------------------------------------------- figures


def test_a_line_says_what_was_measured() -> None:
    (line,) = [line for line in rendered([OK]).splitlines() if line.startswith("matmul")]
    assert line.split() == ["matmul/bf16/8192", "cuda:0", "798.0", "TFLOP/s", "795–801", "91%", "ok"]


def test_the_interval_is_under_the_prefix_of_the_value() -> None:
    edge = dataclasses.replace(OK, value=1.001e15, interval=Interval(9.98e14, 1.004e15, 5))
    assert "1.001 PFLOP/s" in rendered([edge])
    assert "0.998–1.00" in rendered([edge])


def test_without_interval_and_roof_there_are_dashes() -> None:
    bare = dataclasses.replace(OK, interval=None, fraction_of_roof=None)
    (line,) = [line for line in rendered([bare]).splitlines() if line.startswith("matmul")]
    assert line.split() == ["matmul/bf16/8192", "cuda:0", "798.0", "TFLOP/s", "–", "–", "ok"]


def test_the_head_says_which_run_it_was() -> None:
    text = rendered([OK])
    assert "run 5f0c2a91be  suite smoke  node node7" in text
    assert "2026-11-22T05:15:00Z  3 replicates in fresh processes  cpu (some CPU)" in text


def test_the_spread_names_the_slowest() -> None:
    text = rendered([OK], spreads=[Spread("matmul/bf16/8192", "cuda:2", 0.2)])
    assert "matmul/bf16/8192: slowest cuda:2, 20.0% behind the fastest" in text


# ---------------------------------------------------------------- searches

FOUND = dataclasses.replace(
    OK,
    workload="roof/compute/bf16",
    metrics={"search_tried": 21.0, "search_s": 2.43, "search_budget_s": 3.0, "search_rate": 8e14},
    candidates=("roof/compute/bf16@shape=8192",),
)


def test_a_search_states_its_budget_its_time_and_how_many_it_tried() -> None:
    text = rendered([OK, FOUND])
    assert "roof/compute/bf16: best of 21 candidates, 2.4 s of 3 s searched: shape=8192\n" in text
    assert text.count("searched") == 1


def test_searches_of_several_devices_are_one_line() -> None:
    other = dataclasses.replace(
        FOUND,
        device="cuda:1",
        candidates=("roof/compute/bf16@shape=4096",),
        metrics={"search_tried": 19.0, "search_s": 2.9},
    )
    text = " ".join(rendered([FOUND, other, dataclasses.replace(FOUND, device="cuda:2")]).split())
    assert "best of 19 to 21 candidates, 2.9 s of 3 s searched: shape=8192 and shape=4096" in text


def test_a_search_of_before_the_budget_was_kept_is_shown_without() -> None:
    before = dataclasses.replace(FOUND, metrics={"search_tried": 21.0, "search_s": 2.43})
    assert "best of 21 candidates, 2.4 s searched: shape=8192\n" in rendered([before])


# ---------------------------------------------------------------- what is not ok


def test_what_is_not_ok_is_a_line_and_its_reason() -> None:
    text = rendered([OK, UNSUPPORTED])
    (line,) = [line for line in text.splitlines() if line.startswith("matmul/fp8-e4m3/8192 ")][:1]
    assert line.split() == ["matmul/fp8-e4m3/8192", "cuda:0", "–", "–", "–", "unsupported"]
    assert "matmul/fp8-e4m3/8192 on cuda:0: unsupported: torch._scaled_mm needs sm_89" in text


@pytest.mark.parametrize("piped", [True, False])
def test_a_reason_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, piped: bool) -> None:
    out = None if piped else terminal(monkeypatch, 80)
    text = " ".join(ESCAPES.sub("", rendered([FAILED], out=out)).split())
    assert str(FAILED.reason) in text


def test_a_flag_is_a_word_in_the_table_and_explained_once_below() -> None:
    text = " ".join(rendered([UNFIT, UNFIT, OK]).split())
    assert text.count("unfit +3") == 2
    for name in UNFIT.validity:
        flag = fitness.RULES[name]
        assert text.count(f"{name} (2 of 3): {flag.meaning}; {flag.remedy}") == 1


def test_a_flag_of_another_version_is_not_a_failure() -> None:
    assert "a-new-one (1 of 1): a flag of another version" in rendered(
        [dataclasses.replace(OK, validity=("a-new-one",))]
    )


def test_a_simulated_run_says_so_at_its_head() -> None:
    simulated = rendered([OK, dataclasses.replace(OK, validity=("simulated",))])
    banner = "SIMULATED: these figures come from a script and measure nothing"
    assert banner in simulated
    assert simulated.index(banner) < simulated.index("workload ")
    assert "SIMULATED" not in rendered([OK])


# ---------------------------------------------------------------- 80 columns

EVERYTHING = [OK, UNSUPPORTED, FAILED, UNFIT, WIDEST, dataclasses.replace(OK, workload=LONG)]


def test_no_line_in_a_pipe_is_longer_than_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("40", "80", "200"):  # a pipe has no width, whatever the shell exports
        monkeypatch.setenv("COLUMNS", columns)
        assert max(widths(rendered(EVERYTHING, spreads=[Spread(LONG, "cuda:2", 0.2)]))) <= 80


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_on_a_terminal_is_longer_than_80_columns_or_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    text = rendered(EVERYTHING, out=terminal(monkeypatch, columns), spreads=[Spread(LONG, "cuda:2", 0.2)])
    assert max(widths(text)) <= min(80, columns)


@pytest.mark.parametrize(
    ("value", "unit", "flag"),
    list(itertools.product([9.999e5, 9.9996e14, 1.0], ["FLOP/s", "token/s", "syllable/s"], fitness.RULES)),
)
def test_figures_and_words_are_whole_and_leave_room_for_a_name(value: float, unit: str, flag: str) -> None:
    interval = Interval(0.5 * value, 1.5 * value, 3)
    one = dataclasses.replace(OK, device="cuda:15", value=value, unit=unit, interval=interval, validity=(flag,) * 12)
    text = rendered([one])
    assert "…" not in text
    lines = text.splitlines()
    row = next(line for line in lines if "cuda:15" in line)
    assert fitness.RULES[flag].word + " +11" in row
    assert unit in row
    assert max(widths(text)) <= 80


def test_a_long_name_is_folded_and_loses_nothing() -> None:
    lines = rendered([dataclasses.replace(OK, workload=LONG)]).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("decode/"))
    assert "".join(line.split(" ")[0] for line in lines[start:]).startswith(LONG)
    assert "cuda:0" in lines[start]


# ---------------------------------------------------------------- colour


def test_a_pipe_gets_no_escapes() -> None:
    assert "\x1b" not in rendered(EVERYTHING)


def test_a_terminal_gets_colour_and_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = rendered(EVERYTHING)
    coloured = rendered(EVERYTHING, out=terminal(monkeypatch, 80))
    assert "\x1b[" in coloured
    assert ESCAPES.sub("", coloured) == plain


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = rendered(EVERYTHING, out=terminal(monkeypatch, 80, NO_COLOR="1"))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", text)


# ---------------------------------------------------------------- a plan


def test_a_plan_lists_what_takes_several_devices_under_the_first() -> None:
    gpus = [DeviceInfo("cuda", index, "GPU") for index in range(2)]
    out = table.console()
    out.file = io.StringIO()
    table.show_plan(out, make_plan("matmul/fp32/64", "collective/all-reduce/w2/kib1", devices=tuple(gpus)))
    first, second = out.file.getvalue().split("cuda:1")
    assert ("collective" in first, "collective" in second) == (True, False)
    assert "matmul" in first and "matmul" in second


def test_a_plan_lists_its_workloads_by_device() -> None:
    gpu = DeviceInfo("cuda", 0, None, reason="--device all")
    out = table.console()
    out.file = io.StringIO()
    table.show_plan(out, make_plan("matmul/fp32/64", "roof/compute/fp32", devices=(gpu, CPU)))
    text = out.file.getvalue()
    assert "suite smoke: 3 replicates" in text
    assert "cuda:0  unknown model  (--device all)\n  matmul/fp32/64\n  roof/compute/fp32\ncpu  some CPU" in text

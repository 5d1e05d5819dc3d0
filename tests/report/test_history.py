"""A history as a table, a chart, JSON and a picture."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.changes import Change
from bench.errors import OutputNotWritable, UsageError
from bench.gate.history import History, Line, Point
from bench.report import history as report
from bench.report import history_picture
from bench.stats import Interval


def point(day: int, value: float | None, **changes: object) -> Point:
    interval = None if value is None else Interval(value * 0.99, value * 1.01, 5)
    blank = Point(
        run_id=f"{day:010d}",
        node="node7",
        started_at=f"2026-11-{day:02d}T05:15:00+00:00",
        source_commit=f"{day:02d}" * 20,
        vnbench_version="0.1",
        label=None,
        value=value,
        interval=interval,
        replicates=5 if value else 0,
        statuses=("ok",) if value else ("failed",),
        flags=(),
    )
    return dataclasses.replace(blank, **changes)  # type: ignore[arg-type]


def line(points: list[Point], **changes: object) -> Line:
    hardware = {"device_name": "NVIDIA H100", "cpu_model": "some CPU"}
    blank = Line("cuda:0", hardware, "spec", "policy", 1, "FLOP/s", "higher", tuple(points), ())
    return dataclasses.replace(blank, **changes)  # type: ignore[arg-type]


FIRST = line(
    [
        *(point(day, 7.9e14 + day * 1e11) for day in range(1, 6)),
        point(6, None),
        point(7, 7.1e14, changed={"driver": ("570.1", "580.2")}),
        *(point(day, 7.1e14 + day * 1e11) for day in range(8, 12)),
        point(12, 7.1e14, flags=("unfit:steal",), source_commit=None),
    ],
    changes=(Change(5, 7.9e14, 7.1e14, 0.002),),
)
SECOND = line([point(day, 5e14 + day * 1e12) for day in range(13, 16)], spec_id="other", kernel_version=2)
OTHER = line([point(3, 2e14)], device="cpu", hardware={"device_name": "some CPU"})
WHOLE = History("matmul/bf16/4096", (OTHER, FIRST, SECOND))


def shown(history: History = WHOLE, width: int = 80) -> str:
    out = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    report.show(out, history)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_the_table_names_runs_commits_figures_and_what_changed() -> None:
    text = shown()
    rows = {row.split()[0]: row for row in text.splitlines() if re.match(r" *\d+ ", row)}
    assert "0000000001" in text and "2026-11-01" in text and "010101010" in text
    assert "790.1 TFLOP/s" in text and "782–798" in text
    assert "failed" in rows["6"] and "–" in rows["6"]
    assert "▲ -10.1%" in rows["7"] and "(worse)" in text and "driver 570.1" in text
    assert "unfit" in rows["12"]
    assert max(map(len, text.splitlines())) <= 80


def test_a_change_is_called_a_hint_and_its_method_is_named() -> None:
    text = " ".join(shown().split())
    assert "▲ change at run 0000000007, commit 070707070: 790.0 TFLOP/s → 710.0 TFLOP/s, -10.1% (worse)" in text
    assert "a hint, not a verdict: circular binary segmentation (Olshen et al. 2004)" in text
    assert "about one steady line in a hundred" in text


def test_a_change_for_the_better_is_told_by_the_direction() -> None:
    lower = dataclasses.replace(FIRST, better="lower")
    assert "(better)" in report.hints([lower])[0]


def test_a_change_has_no_word_where_it_is_not_known_which_way_is_good() -> None:
    unknown = dataclasses.replace(FIRST, better=None)
    assert report.hints([unknown])[0].endswith(", -10.1%")


def test_a_version_bump_is_a_visible_break() -> None:
    text = shown()
    assert any("┄┄┄" in row and "version 1 → 2" in row for row in text.splitlines())
    (mark,) = [row for row in text.splitlines() if row.lstrip().startswith("version")]
    assert "┆" in mark
    assert report.break_words(FIRST, dataclasses.replace(FIRST, spec_id="x")) == "other work"
    assert report.break_words(FIRST, dataclasses.replace(FIRST, policy_id="x")) == "other policy"


def test_machines_have_a_table_each() -> None:
    text = shown()
    assert "cuda:0  NVIDIA H100  node node7" in text and "cpu  some CPU  node node7" in text
    assert text.count("run         date") == 2


def test_the_chart_marks_the_change_below_its_run() -> None:
    text = shown(History("w", (FIRST,)))
    rows = text.splitlines()
    (mark,) = [row for row in rows if row.lstrip().startswith("change ")]
    (axis,) = [row for row in rows if "└" in row]
    ticks = [index for index, sign in enumerate(axis) if sign == "┬"]  # at runs 1, 2, 4, 6, 8, 10 and 12
    assert ticks[3] < mark.index("▲") < ticks[4]
    assert any(0x2800 < ord(sign) < 0x2900 for sign in text)


def test_a_single_run_and_equal_values_have_a_table_and_no_crash() -> None:
    assert "└" not in shown(History("w", (line([point(1, 2.0)]),)))
    assert "└" in shown(History("w", (line([point(1, 2.0), point(2, 2.0)]),)))
    assert "failed" in shown(History("w", (line([point(1, None)]),)))


def test_a_long_history_shows_the_newest_runs_and_says_what_is_left_out() -> None:
    points = [dataclasses.replace(point(1, 1.0 + index / 1000), run_id=f"{index:010d}") for index in range(500)]
    text = shown(History("w", (line(points),)))
    assert "440 older" in text and "0000000499" in text and "0000000439" not in text
    assert len(text.splitlines()) < 120


def test_simulated_runs_are_marked_loudly(tmp_path: Path) -> None:
    simulated = History("w", (line([point(1, 1.0, flags=("simulated",)), point(2, 1.0)]),))
    assert "SIMULATED" in shown(simulated)
    history_picture.save_picture(tmp_path / "a.svg", simulated)
    assert "SIMULATED" in (tmp_path / "a.svg").read_text()


def test_the_json_has_every_point_and_names_the_run_of_a_change() -> None:
    data = json.loads(report.to_json(WHOLE))
    assert data["workload"] == "matmul/bf16/4096"
    assert [len(one["points"]) for one in data["lines"]] == [1, 12, 3]
    (change,) = data["lines"][1]["changes"]
    assert (change["run_id"], change["p"]) == ("0000000007", 0.002)


# ---------------------------------------------------------------- the picture


def texts(svg: str) -> list[str]:
    return [re.sub("<[^>]*>", "", one).strip() for one in re.findall(r"<text.*?</text>", svg, flags=re.DOTALL)]


def test_the_picture_says_what_is_to_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    history_picture.save_picture(path, WHOLE)
    found = texts(path.read_text())
    for text in (
        "history of matmul/bf16/4096",
        "cuda:0  NVIDIA H100  node node7",
        "hint: -10.1% (worse)",
        "version 1 → 2",
        "0101010",
        "2026-11-12",  # a run without a commit has its date
        "TFLOP/s",
    ):
        assert text in found, text


def test_the_same_history_has_the_same_bytes(tmp_path: Path) -> None:
    assert history_picture.render(WHOLE, "svg") == history_picture.render(WHOLE, "svg")
    assert history_picture.render(WHOLE, "png") == history_picture.render(WHOLE, "png")


def test_a_png_is_one(tmp_path: Path) -> None:
    history_picture.save_picture(tmp_path / "a.PNG", WHOLE)
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


def test_many_machines_are_drawn_up_to_a_number_and_the_rest_is_said() -> None:
    lines = tuple(line([point(1, 1.0)], hardware={"device_name": f"GPU {index}"}) for index in range(11))
    svg = history_picture.render(History("w", lines), "svg").decode()
    assert "3 more machines are left out" in svg
    assert "GPU 7" in svg and "GPU 8" not in svg


@pytest.mark.parametrize(
    ("name", "history", "kind", "words"),
    [
        ("a.gif", WHOLE, UsageError, "a picture is a PNG or an SVG file"),
        ("a.svg", History("w", (line([point(1, None)]),)), UsageError, "no run of it was ok"),
        ("missing/a.svg", WHOLE, OutputNotWritable, "cannot write"),
    ],
)
def test_what_cannot_be_drawn_or_written_is_one_line(
    tmp_path: Path, name: str, history: History, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        history_picture.save_picture(tmp_path / name, history)

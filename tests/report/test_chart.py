"""``bench.report.chart``: lines in braille dots, under a scale and above a time axis."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from bench.report import chart
from bench.report.chart import Layout, Line, Mark

LAYOUT = Layout(left=7, width=40, span_s=8.0)
SCALE = (0.0, 50.0, 100.0, 150.0)


def text_of(rows: list[Text]) -> list[str]:
    return [row.plain for row in rows]


def canvas(rows: list[Text]) -> list[str]:
    """What is between the scale and the labels."""
    return [row[LAYOUT.left : LAYOUT.left + LAYOUT.width].ljust(LAYOUT.width) for row in text_of(rows)]


def inked(rows: list[Text]) -> set[tuple[int, int]]:
    """Row and column of each cell with a dot in it."""
    return {
        (row, column)
        for row, line in enumerate(canvas(rows))
        for column, sign in enumerate(line)
        if "\u2800" < sign <= "\u28ff"
    }


def test_a_line_goes_through_its_points() -> None:
    rows = chart.panel([Line("a", [[(0.0, 150.0), (8.0, 0.0)]])], LAYOUT, 7, SCALE)
    cells = inked(rows)
    assert {(0, 0), (3, 19), (3, 20), (6, 39)} <= cells
    assert {column for _, column in cells} == set(range(40)), "it is drawn through"
    assert (6, 0) not in cells
    assert (0, 39) not in cells


def test_between_the_pieces_of_a_line_nothing_is_drawn() -> None:
    line = Line("a", [[(0.0, 75.0), (2.0, 75.0)], [(6.0, 75.0), (8.0, 75.0)]])
    columns = {column for _, column in inked(chart.panel([line], LAYOUT, 7, SCALE))}
    assert columns == {*range(10 + 1), *range(29, 40)}


def test_a_lone_point_is_a_dot() -> None:
    assert inked(chart.panel([Line("a", [[(4.0, 75.0)]])], LAYOUT, 7, SCALE)) == {(3, 20)}


def test_a_short_dip_is_seen() -> None:
    points = [(index / 1000, 10.0 if index == 4000 else 140.0) for index in range(8001)]
    assert (6, 20) in inked(chart.panel([Line("a", [points])], LAYOUT, 7, SCALE))


def test_the_scale_is_evenly_spaced_at_the_left() -> None:
    rows = text_of(chart.panel([Line("a", [[(0.0, 75.0)]])], LAYOUT, 7, SCALE))
    assert [row[: LAYOUT.left] for row in rows] == [
        "  150 ┤",
        "      │",
        "  100 ┤",
        "      │",
        "   50 ┤",
        "      │",
        "    0 ┤",
    ]


def labels(*ends: float) -> dict[int, str]:
    lines = [Line(f"line{index}", [[(0.0, 75.0), (8.0, end)]]) for index, end in enumerate(ends)]
    rows = text_of(chart.panel(lines, LAYOUT, 7, SCALE))
    return {row: line.split()[-1] for row, line in enumerate(rows) if "line" in line}


def test_a_label_is_beside_the_end_of_its_line() -> None:
    assert labels(0.0, 150.0, 75.0) == {0: "line1", 3: "line2", 6: "line0"}


def test_labels_of_lines_that_end_together_are_below_one_another_from_the_highest() -> None:
    assert labels(76.0, 77.0, 75.0) == {3: "line1", 4: "line0", 5: "line2"}
    assert labels(0.0, 1.0, 2.0) == {4: "line2", 5: "line1", 6: "line0"}, "there is no row below the last"


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_are_round_evenly_spaced_and_hold_all_values(low: float, extent: float) -> None:
    high = low + extent
    found = chart.ticks(low, high)
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert len(found) == 4
    assert steps == pytest.approx([steps[0]] * 3)
    slack = 1e-6 * (found[-1] - found[0])
    assert found[0] - slack <= low
    assert high <= found[-1] + slack
    assert found[-1] - found[0] <= 8 * (high - low), "the values are not lost in it"
    mantissa = steps[0] / 10 ** int(f"{steps[0]:e}".split("e")[1])
    assert min(abs(mantissa - factor) for factor in (1, 2, 2.5, 3, 4, 5, 10)) < 1e-3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(900, 1980, [800, 1200, 1600, 2000]), (46, 85, [40, 60, 80, 100]), (0.2, 0.5, [0.2, 0.3, 0.4, 0.5])],
)
def test_ticks_are_those_that_people_would_choose(low: float, high: float, expected: list[float]) -> None:
    assert chart.ticks(low, high) == expected


def test_the_time_axis_has_a_tick_at_round_seconds() -> None:
    line, names = text_of(chart.axis(LAYOUT))
    assert line == "      └" + "".join("┬" if column in (0, 10, 20, 29, 39) else "─" for column in range(40))
    assert names == "       0 s       2 s       4 s      6 s"


def test_a_long_time_is_in_minutes_or_hours() -> None:
    assert text_of(chart.axis(Layout(7, 40, 1800.0)))[1].split() == ["0:00", "10:00", "20:00"]
    assert text_of(chart.axis(Layout(7, 40, 11 * 3600.0)))[1].split() == ["0:00", "4:00:00", "8:00:00"]


def test_a_mark_lies_below_its_time() -> None:
    row = chart.marks("cuda:0", [Mark(2.0, 4.0, "█")], LAYOUT).plain
    assert row == "cuda:0 " + " " * 10 + "█" * 11


def test_the_shortest_mark_is_seen() -> None:
    assert chart.marks("a", [Mark(4.0, 4.0001, "█")], LAYOUT).plain.count("█") == 1


def test_of_two_marks_the_later_one_is_seen() -> None:
    row = chart.marks("a", [Mark(0.0, 8.0, "░"), Mark(2.0, 4.0, "█")], LAYOUT).plain
    assert row[7:] == "░" * 10 + "█" * 11 + "░" * 19


def test_a_name_is_written_into_its_mark_where_it_fits() -> None:
    found = [Mark(0.0, 4.0, "▔", name="matmul"), Mark(5.0, 6.0, "▔", name="decode")]
    assert chart.marks("timed", found, LAYOUT).plain == " timed ▔▔▔▔▔▔▔ matmul ▔▔▔▔▔▔   ▔▔▔▔▔▔"

"""``bench.report.console``: nothing in a result file can command the terminal that shows it."""

from __future__ import annotations

import pytest
from rich.table import Table

from bench.report.console import PlainConsole, harmless

HOSTILE = "bad\x1b[31m\x1b[2K\x1b[1A\x00\x07\x9b\u202egpj.exe"


def test_what_would_do_something_becomes_a_mark() -> None:
    assert harmless(HOSTILE) == "bad�[31m�[2K�[1A����gpj.exe"
    assert harmless("Hà Nội 節点\n\tthe next line") == "Hà Nội 節点\n\tthe next line"


@pytest.fixture(params=["a terminal", "a pipe"])
def out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PlainConsole:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if request.param == "a terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
    return PlainConsole()


def test_text_tables_and_titles_are_shown_harmless_and_keep_our_own_style(out: PlainConsole) -> None:
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    with out.capture() as captured:
        out.print("ours", style="bold")
        out.print(HOSTILE)
        out.print(table)
    shown = captured.get()
    assert shown.startswith("\x1b[1mours\x1b[0m" if out.is_terminal else "ours\n")
    assert not any(each in shown for each in ("\x1b[31m", "\x1b[2K", "\x00", "\x9b", "\u202e"))
    assert shown.count("bad�") == 4

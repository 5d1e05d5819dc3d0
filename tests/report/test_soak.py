"""A soak's table: every device, in one unit, and what must not be missed below it."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from bench.report import soak
from bench.sustained import Sustained
from bench.types import DeviceInfo, Soak
from tests.results import make_plan

PLAN = make_plan(
    devices=tuple(DeviceInfo("cuda", index, "GPU") for index in range(2)), soak=Soak("soak/x", 60, 60.0, 5.0)
)
SOUND = Sustained("cuda:0", 3600.0, 1, "FLOP/s", 8e14, 7e14, 6.9e14, 41, 1.0, 0.0, 3.0, 71.0, 2, 0)
LATE = Sustained("cuda:1", 1800.0, 3, "FLOP/s", 8e14, 5.6e14, 5e14, 7, 0.8, 12.5, 0.0, 88.0, 0, 1, wrong=2, failed=1)
NOTHING = Sustained("cuda:1", 0.0, 0)


def shown(*found: Sustained) -> str:
    out = Console(file=io.StringIO(), width=80, highlight=False)
    soak.show(out, PLAN, found)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_every_device_has_its_line_in_one_unit() -> None:
    text = shown(SOUND, LATE)
    assert "30:00 of 1:00:00  soak/x" in text
    assert "rates in TFLOP/s" in text
    lines = [line.split() for line in text.splitlines() if line.startswith("cuda:") and "%" in line]
    assert lines[0] == ["cuda:0", "800.0", "700.0", "87.5%", "690.0", "(41)", "100.0%", "0", "71", "2/0", "0", "0"]
    assert lines[1] == ["cuda:1", "800.0", "560.0", "70.0%", "500.0", "(7)", "80.0%", "12.5", "88", "0/1", "2", "1"]


def test_who_lags_behind_was_wrong_or_crashed_is_named() -> None:
    assert soak.remarks([SOUND, LATE]) == [
        "cuda:1: 3 processes: it crashed, or was resumed",
        "cuda:1: wrong answers after 2 stretches",
        "slowest device: cuda:1, 20.0% behind the median of its node",
    ]
    assert soak.remarks([NOTHING]) == []


def test_what_is_not_known_is_a_dash_and_a_null() -> None:
    assert "cuda:1" in shown(NOTHING)
    found = json.loads(soak.to_json(PLAN, Path("x.parquet"), [NOTHING], None))
    assert (found["devices"][0]["steady"], found["devices"][0]["kept"], found["verdict"]) == (None, None, None)
    assert found["soak"]["stretches"] == 60
    assert json.loads(soak.to_json(PLAN, Path("x"), [LATE], b'{"verdict":"FAIL"}'))["verdict"] == {"verdict": "FAIL"}

"""``bench.fitness``: each rule fires where it should, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import fitness
from tests.checkout import ROOT


@pytest.mark.parametrize(
    ("steal", "foreign", "flags"),
    [
        (0.0, 0.0, []),
        (0.01, 0.05, []),
        (0.0101, 0.0, ["unfit:steal"]),
        (0.0, 0.0501, ["unfit:foreign-load"]),
        (0.5, 0.5, ["unfit:steal", "unfit:foreign-load"]),
        (None, None, []),
        (None, 0.5, ["unfit:foreign-load"]),
        (0.5, None, ["unfit:steal"]),
    ],
)
def test_the_host(steal: float | None, foreign: float | None, flags: list[str]) -> None:
    assert fitness.host_flags(steal, foreign, cpu_s=100.0) == flags


def test_one_or_two_ticks_are_no_evidence() -> None:
    assert fitness.host_flags(0.0, 2 / 20, cpu_s=0.20) == []
    assert fitness.host_flags(0.0, 3 / 20, cpu_s=0.20) == ["unfit:foreign-load"]
    assert fitness.host_flags(2 / 94, 0.0, cpu_s=0.94) == []
    assert fitness.host_flags(3 / 94, 0.0, cpu_s=0.94) == ["unfit:steal"]


@pytest.mark.parametrize(
    ("before_ns", "after_ns", "fires"),
    [
        (1000, 1000, False),
        (1000, 1049, False),
        (1049, 1000, False),
        (1000, 1051, True),
        (1051, 1000, True),
        (None, 1000, False),
        (1000, None, False),
        (0, 1000, False),
    ],
)
def test_the_calibration(before_ns: int | None, after_ns: int | None, fires: bool) -> None:
    assert fitness.calibration_flags(before_ns, after_ns) == (["unfit:calibration-shift"] if fires else [])


@pytest.mark.parametrize(("fraction", "fires"), [(None, False), (0.3, False), (1.02, False), (1.021, True)])
def test_the_roof(fraction: float | None, fires: bool) -> None:
    assert fitness.roof_flags(fraction) == (["roof-too-low"] if fires else [])


def test_only_a_machine_is_unfit() -> None:
    unfit = {name for name in fitness.FLAGS if fitness.is_unfit(name)}
    assert unfit == {"unfit:calibration-shift", "unfit:steal", "unfit:foreign-load"}


@pytest.mark.parametrize("flag", fitness.FLAGS.values(), ids=lambda flag: flag.name)
def test_a_flag_says_what_it_means_and_what_to_do(flag: fitness.Flag) -> None:
    assert fitness.FLAGS[flag.name] is flag
    assert flag.word
    assert flag.meaning
    assert flag.remedy


def test_every_flag_that_is_raised_is_explained() -> None:
    raised = set()
    for path in sorted(Path(ROOT, "bench").rglob("*.py")):
        raised |= set(re.findall(r'"(unfit:[a-z-]+)"|flags\.append\("([a-z-]+)"\)', path.read_text()))
    names = {name for pair in raised for name in pair if name} | {"simulated", "roof-too-low", "mixed-environment"}
    assert names == set(fitness.FLAGS)

"""The picture of a run's telemetry as a file: what it shows, the same bytes each time, and what cannot be drawn."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import OutputNotWritable, UsageError
from bench.report import picture
from bench.report.panels import Span, ranges, thinned, view
from bench.report.telemetry import save_picture
from bench.telemetry.reading import Reading
from tests.checkout import ROOT
from tests.report.readings import CAP, at_ns, cpu, gpu, plan_of

PNG = b"\x89PNG\r\n\x1a\n"


EVERYTHING = [*(one for index in range(8) for one in gpu(index, hot=(3, 5) if index == 5 else (0, 0))), *cpu()]
SPANS = [Span("matmul/bf16/4096", at_ns(1), at_ns(4)), Span("roof/memory/copy", at_ns(6), at_ns(6.1))]


def svg(tmp_path: Path, readings: Sequence[Reading] = EVERYTHING, plan: Any = None) -> str:
    path = tmp_path / "picture.svg"
    save_picture(path, plan or plan_of(8), readings, SPANS)
    return path.read_text()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight GPUs, one of which is throttled, and a CPU."""
    return svg(tmp_path_factory.mktemp("image"))


def texts(image: str) -> list[str]:
    return [re.sub("<[^>]*>", "", one) for one in re.findall(r"<text.*?</text>", image, flags=re.DOTALL)]


def test_an_svg_says_what_is_to_be_seen(image: str) -> None:
    found = texts(image)
    for text in (
        "run 5f0c2a91be  suite smoke  node node7  2026-11-22T05:15:00Z",
        "8 × NVIDIA H100 80GB HBM3 (cuda)",
        "SM clock",
        "power",
        "temperature",
        "CPU busy",
        "matmul/bf16/4096",
        "throttled by hw_thermal_slowdown: cuda:5 2.0 s",
        "cuda:7",
        "seconds since the first reading",
    ):
        assert text in found
    assert "roof/memory/copy" not in found, "its window is too short for its name"


def shaded(image: str) -> list[tuple[float, float]]:
    """From which to which second each stretch is shaded, by where it lies in its axes."""
    use = rf'url\(#(\w+)\)">\s*<use xlink:href="#(\w+)"[^>]*fill: {picture._HELD_BACK["throttled"]}; fill-opacity: 0.2'
    found = []
    for clip, symbol in re.findall(use, image, flags=re.IGNORECASE):
        path = re.search(rf'<path id="{symbol}" d="([^"]*)"', image)
        axes = re.search(rf'<clipPath id="{clip}">\s*<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', image)
        assert path
        assert axes
        left, width = map(float, axes.groups())
        seconds = [(float(x) - left) / width * 8.0 for x in re.findall(r"[ML] (-?[\d.]+)", path[1])]
        found.append((min(seconds), max(seconds)))
    return found


def test_throttled_stretches_are_shaded_where_they_were(tmp_path: Path, image: str) -> None:
    found = shaded(image)
    assert len(found) == 3, "in each panel of the GPUs"
    for stretch in found:
        assert stretch == pytest.approx((2.95, 4.95), abs=0.01)
    assert shaded(svg(tmp_path, gpu(), plan_of())) == []


def test_a_picture_has_the_same_bytes_each_time_and_in_each_process(tmp_path: Path, image: str) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.report.test_picture import *\n"
        "save_picture(Path(sys.argv[1]), plan_of(8), EVERYTHING, SPANS)"
    )
    # No folder for settings or fonts can be made here, and no display is there.
    variables = {"PATH": os.environ["PATH"], "HOME": "/proc/none", "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    other = tmp_path / "other.svg"
    done = subprocess.run(
        [sys.executable, "-c", code, other], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert other.read_text() == image == svg(tmp_path)


def test_a_png_is_one(tmp_path: Path) -> None:
    path = tmp_path / "picture.PNG"
    save_picture(path, plan_of(), [*gpu(hot=(3, 5)), *cpu()], [])
    content = path.read_bytes()
    assert content.startswith(PNG)
    assert content.endswith(b"IEND\xaeB`\x82")
    assert int.from_bytes(content[16:20], "big") == 1440
    assert [one.name for one in tmp_path.iterdir()] == ["picture.PNG"]


@pytest.mark.parametrize(
    "readings",
    [gpu()[:1], cpu(), gpu(throttle_reasons=None), [*gpu(hot=(0, 9)), *cpu(throttle_reasons=("cpu_thermal",))]],
    ids=["one reading", "only busy fractions", "throttling unknown", "all of it"],
)
def test_whatever_is_known_can_be_drawn(tmp_path: Path, readings: list[Reading]) -> None:
    assert "<svg" in svg(tmp_path, readings)


def test_a_simulated_device_is_said_to_be_one(tmp_path: Path) -> None:
    words = "SIMULATED: these figures come from a script and measure nothing"
    assert words in texts(svg(tmp_path, gpu(kind="fake"), plan_of(kind="fake")))
    assert words not in texts(svg(tmp_path, gpu()))


def test_others_words_are_no_formulas(tmp_path: Path) -> None:
    plan = dataclasses.replace(plan_of(), node="no$de_7$<&>")
    assert any("node no$de_7$&lt;&amp;&gt;" in text for text in texts(svg(tmp_path, gpu(), plan=plan)))


def test_a_users_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib as mpl

    usual = svg(tmp_path, gpu())
    with mpl.rc_context({"lines.linewidth": 9.0, "axes.facecolor": "black", "font.size": 30.0}):
        assert svg(tmp_path, gpu()) == usual


def test_a_long_run_is_thinned_and_keeps_its_extremes(tmp_path: Path) -> None:
    base = [dataclasses.replace(one, at_ns=at_ns(index / 10)) for index, one in enumerate(gpu() * 300)]
    base[12345] = dataclasses.replace(base[12345], power_w=55.0)
    image = svg(tmp_path, base)
    assert len(image) < 500_000
    pieces = view(base, []).panels[1].lines["cuda:0"]
    (piece,) = pieces
    kept = thinned(piece, 2.43)
    assert len(kept) <= 2002
    assert min(value for _, value in kept) == 55.0
    assert kept == sorted(kept)


def test_short_stretches_far_too_many_to_be_seen_are_drawn_as_one() -> None:
    readings = [
        dataclasses.replace(one, at_ns=at_ns(index / 10), throttle_reasons=(CAP,) if index % 2 else ())
        for index, one in enumerate(gpu() * 300)
    ]
    seen = view(readings, [])
    assert len(seen.held_back["cuda:0"]) > 10_000
    (one,) = ranges(seen, "cuda:0", "power-capped", 1000)
    assert one == pytest.approx((0.05, 2429.9), abs=0.11)
    assert ranges(seen, "cuda:0", "throttled", 1000) == []


# ---------------------------------------------------------------- what cannot be drawn


@pytest.mark.parametrize("name", ["picture.jpg", "picture", "picture.svg.gz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"a picture is a PNG or an SVG file\. End its name in \.png or \.svg"):
        save_picture(tmp_path / name, plan_of(), gpu(), [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        ([], "no readings were taken"),
        (
            [Reading(at_ns=0, device="cuda", device_index=0, error="GPU is lost")],
            "cuda:0 did not answer .* GPU is lost",
        ),
    ],
)
def test_where_there_is_nothing_to_draw_that_is_said(tmp_path: Path, readings: list[Reading], why: str) -> None:
    with pytest.raises(UsageError, match=f"run 5f0c2a91be has nothing to draw: {why}"):
        save_picture(tmp_path / "picture.svg", plan_of(), readings, [])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "picture.svg"
    with pytest.raises(OutputNotWritable, match=f"cannot write {path}: No such file or directory"):
        save_picture(path, plan_of(), gpu(), [])


def test_a_name_in_a_script_that_the_font_lacks_is_drawn_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("svg", "png"):
            save_picture(tmp_path / f"picture.{kind}", dataclasses.replace(plan_of(), node="節点ộ"), gpu(), [])
    assert "節点ộ" in (tmp_path / "picture.svg").read_text()


def test_a_picture_that_was_there_stays_whole_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "picture.svg"
    path.write_text("the old one")
    path.with_name("picture.svg.tmp").mkdir()  # where the new one would be written first
    with pytest.raises(OutputNotWritable):
        save_picture(path, plan_of(), gpu(), [])
    assert path.read_text() == "the old one"


def test_without_matplotlib_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"needs matplotlib, which is not installed\. pip install matplotlib"):
        save_picture(tmp_path / "picture.svg", plan_of(), gpu(), [])
    assert list(tmp_path.iterdir()) == []

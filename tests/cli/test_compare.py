"""``vnbench compare`` and ``vnbench pack``: what the user types, sees and gets back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.compare import compare
from bench.cli.pack import pack
from bench.errors import VnbenchError
from tests.fleet import A, B, write

SLOW, FAST = [10.0, 10.1, 9.9], [12.0, 12.2, 11.9]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write(tmp_path / "results", {A: SLOW, B: SLOW}, node="n1", label="red")
    write(tmp_path / "results", {A: FAST, B: SLOW}, node="n2", label="blue")
    return tmp_path / "results"


def ask(out: Path, *arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(compare, [*map(str, arguments), "--out", str(out)])


def test_the_table_fits_80_columns_and_says_which_is_better(out: Path) -> None:
    result = ask(out, "red", "blue")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    at = lines.index(A)
    assert lines[at + 1].split()[0] == "red"
    assert lines[at + 1].split()[-1] == "reference"
    assert lines[at + 2].split()[0] == "blue"
    assert lines[at + 2].split()[-1] == "better"
    assert lines[lines.index(B) + 2].split()[-1] == "undecided"


def test_csv_has_a_line_for_each_workload_and_side(out: Path) -> None:
    result = ask(out, "red", "blue", "--format", "csv", "--reference", "blue")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["workload"], row["side"], row["verdict"]) for row in rows] == [
        (B, "red", "undecided"),
        (B, "blue", "reference"),
        (A, "red", "worse"),
        (A, "blue", "reference"),
    ]
    assert float(rows[2]["ratio"]) == pytest.approx(0.8307, abs=1e-3)
    assert rows[3]["ratio"] == ""


@pytest.mark.parametrize("option", [("--json",), ("--format", "json")])
def test_json_is_all_of_it(out: Path, option: tuple[str, ...]) -> None:
    found = json.loads(ask(out, "red", "blue", *option).stdout)
    assert [side["name"] for side in found["sides"]] == ["red", "blue"]
    assert len(found["cells"]) == 4
    assert found["suite_ratios"][0]["workloads"] == 2
    assert found["exit_code"] == 0


def test_a_label_cannot_command_the_terminal(out: Path) -> None:
    write(
        out,
        {A: FAST},
        label="\x1b[2Kgreen",
        rows=[{"replicate": 9, "status": "failed", "reason": "\x1b[1Aok", "value": None}],
    )
    for shape in ("table", "markdown"):
        assert "\x1b" not in ask(out, "red", "\x1b[2Kgreen", "--format", shape).stdout


def test_markdown_is_a_table(out: Path) -> None:
    lines = ask(out, "red", "blue", "--format", "markdown").stdout.splitlines()
    assert "| workload | device | side | value | 95 % CI | ratio | 95 % CI | verdict |" in lines
    assert any(line.startswith(f"| {A} | cpu | blue |") and line.endswith("| better |") for line in lines)


def test_unlike_work_ends_with_6_and_its_name_and_opens_with_0(out: Path) -> None:
    write(out, {A: FAST, B: SLOW}, node="n3", label="green", policy_id="other")
    refused, opened = ask(out, "red", "green"), ask(out, "red", "green", "--open")
    assert (refused.exit_code, opened.exit_code) == (6, 0)
    assert "INCOMPARABLE" in refused.stdout
    assert f"{A}: policy_id of green is other, of the reference" in " ".join(refused.stdout.split())
    assert "better !" in opened.stdout


def test_a_failure_ends_with_3(out: Path) -> None:
    write(out, {B: SLOW}, label="green", rows=[{"workload": A, "status": "wrong", "reason": "tile 7"}])
    result = ask(out, "red", "green")
    assert result.exit_code == 3
    assert "tile 7" in result.stdout


def test_a_simulated_figure_is_said_to_be_one(out: Path) -> None:
    write(out, {A: FAST}, label="green", validity=["simulated"])
    for shape in ("table", "markdown"):
        assert "SIMULATED" in ask(out, "red", "green", "--format", shape).stdout
        assert "SIMULATED" not in ask(out, "red", "blue", "--format", shape).stdout


@pytest.mark.parametrize(
    ("spoil", "words"), [("truncated", "not a readable Parquet file"), ("empty", "no result in the folder")]
)
def test_what_cannot_be_read_is_one_line_and_usage(out: Path, spoil: str, words: str) -> None:
    target = out / "damaged"
    target.mkdir()
    if spoil == "truncated":
        (path,) = (out / "runs" / "n1").iterdir()
        (target / "x.parquet").write_bytes(path.read_bytes()[:-9])
    result = ask(out, "red", target)
    assert isinstance(result.exception, VnbenchError)
    assert result.exception.exit_code == 2
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_many_sides_are_told_by_their_suites(out: Path) -> None:
    for i in range(30):
        write(out, {A: [10.0 + i, 10.1 + i, 9.9 + i]}, node=f"node{i:02d}")
    result = ask(out, out, "--by", "node")
    assert "32 sides: --format csv has a line for each" in " ".join(result.stdout.split())
    assert "node29" in result.stdout
    assert "…" in result.stdout


def test_pack_says_what_it_wrote_and_compare_reads_it(out: Path, tmp_path: Path) -> None:
    packed = CliRunner().invoke(pack, [str(out / "runs"), "--to", str(tmp_path / "packed"), "--out", str(out)])
    assert packed.exit_code == 0
    (path,) = (tmp_path / "packed").iterdir()
    assert packed.stdout.splitlines() == [str(path)]
    assert "2 runs, 12 measurements: 2 files" in packed.stderr
    shown = ask(out, tmp_path / "packed", "--by", "label", "--reference", "red")
    assert shown.stdout == ask(out, out / "runs", "--by", "label", "--reference", "red").stdout


def test_what_it_costs_is_in_every_shape_that_has_room(out: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(
        "[defaults]\nlifetime_years = 4\nutilisation = 0.5\npower_price_vnd_per_kwh = 2500\npue = 1.4\npower_w = 300\n"
        '[[machine]]\nmatch = "red"\nprice_vnd = 1e9\n[[machine]]\nmatch = "blue"\nprice_vnd = 2e9\n'
    )
    assert "VND" in ask(out, "red", "blue", "--prices", prices).stdout
    assert "VND" in ask(out, "red", "blue", "--prices", prices, "--format", "markdown").stdout
    found = json.loads(ask(out, "red", "blue", "--prices", prices, "--json").stdout)["economics"]
    assert {(one["workload"], one["side"]) for one in found["worths"]} == {
        (w, s) for w in (A, B) for s in ("red", "blue")
    }
    assert "--format table" in ask(out, "red", "blue", "--prices", prices, "--format", "csv").stderr


def test_a_page_and_prices_are_asked_for_by_option(out: Path, tmp_path: Path) -> None:
    result = ask(out, "red", "blue", "--html", tmp_path / "page.html")
    assert result.exit_code == 0
    assert "</html>" in (tmp_path / "page.html").read_text()
    assert "page.html" in result.stderr
    missing = ask(out, "red", "blue", "--prices", tmp_path / "none.toml")
    assert isinstance(missing.exception, VnbenchError)
    assert missing.exception.exit_code == 2


@pytest.mark.parametrize(("text", "code", "verdict"), [("2%", 0, "better"), ("0.5", 0, "undecided"), ("nan", 2, "")])
def test_a_tolerance_is_a_share_and_nothing_else(out: Path, text: str, code: int, verdict: str) -> None:
    result = ask(out, "red", "blue", "--tolerance", text, "--format", "csv")
    assert result.exit_code == code
    assert [row["verdict"] for row in csv.DictReader(io.StringIO(result.stdout)) if row["workload"] == A][1:] == (
        [verdict] if verdict else []
    )
    if code:
        assert "is no tolerance" in result.stderr


@pytest.mark.parametrize("shape", ["table", "markdown", "csv", "json"])
def test_a_side_beside_itself_is_said_in_every_shape(out: Path, shape: str) -> None:
    result = ask(out, "red", "red", "--format", shape)
    assert "SHARED" in result.output
    assert "from hour to hour" in " ".join(result.output.split())
    assert "SHARED" in (result.stderr if shape == "csv" else result.stdout)

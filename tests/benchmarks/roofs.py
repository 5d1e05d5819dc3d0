"""Does any workload come out above its measured roof? Many runs of what comes nearest to one, and the worst of each.

    python -m tests.benchmarks.roofs --runs 20 --out /tmp/roofs

What is in the folder already counts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench.errors import REGRESSED
from tests.checkout import ROOT

SUITE = Path(__file__).with_suffix(".toml")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="in all, with those that are there")
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="the results folder")
    arguments = parser.parse_args()
    below = arguments.out.resolve() / "runs"
    while (there := len(list(below.rglob("*-roofs-*.parquet")))) < arguments.runs:
        print(f"run {there + 1} of {arguments.runs}", file=sys.stderr)
        command = [sys.executable, "-m", "bench", "run", str(SUITE), "--out", str(arguments.out.resolve())]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = pd.concat(pd.read_parquet(path) for path in sorted(below.rglob("*-roofs-*.parquet")))
    return show(rows[rows["fraction_of_roof"].notna()])


def show(rows: pd.DataFrame) -> int:
    """Print the fractions by workload; the exit code of REGRESSED where one is flagged `roof-too-low`."""
    table = Table("workload", "device", "runs", "median", "worst", box=None)
    for (workload, device), fractions in rows.groupby(["workload", "device"])["fraction_of_roof"]:
        table.add_row(workload, device, str(len(fractions)), f"{fractions.median():.1%}", f"{fractions.max():.1%}")
    Console().print(table)
    above = rows["validity"].map(lambda flags: "roof-too-low" in flags)
    return REGRESSED if above.any() else 0


if __name__ == "__main__":
    sys.exit(main())

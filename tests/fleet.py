"""Result files of several nodes for tests that compare them: which values each node's replicates had, and no more."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import files, schema, store
from bench.comparison import compare as comparing
from bench.comparison import selection
from bench.comparison.model import Cell, Comparison
from bench.schema import Row
from tests.results import make_plan, make_row

A, B = "matmul/fp32/64", "matmul/fp32/128"

_ids: Iterator[str] = (f"{number:010x}" for number in itertools.count(0xA0000))


def write(
    out: Path,
    values: Mapping[str, Sequence[float]],
    *,
    node: str = "node1",
    label: str | None = None,
    rows: Sequence[Row] = (),
    **changes: Any,
) -> Path:
    """The file of a run: values by workload, one per replicate; changes are of all rows, ``rows`` come on top."""
    plan = make_plan(*{**dict.fromkeys(values), A: 0}, run_id=next(_ids), node=node, label=label)
    made = [
        make_row(plan, workload, replicate=i, **{"value": value, **changes})
        for workload, each in values.items()
        for i, value in enumerate(each)
    ]
    made += [make_row(plan, row.pop("workload", A), **row) for row in map(dict, rows)]
    path = store.result_path(out, plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_table(schema.to_table(made, plan), path, path.with_suffix(".tmp"))
    return path


def compared(*what: Path | str, out: Path = Path("nowhere"), by: Any = None, **options: Any) -> Comparison:
    """What ``vnbench compare`` finds."""
    gathered = selection.gather(out, [str(one) for one in what], by)
    return comparing.compare_selected(gathered, **options)


def cell(comparison: Comparison, workload: str = A, side: int = 1) -> Cell:
    name = comparison.sides[side].name
    (found,) = (one for one in comparison.cells if (one.workload, one.side) == (workload, name))
    return found

"""Golden values: outputs that are known bit by bit, by all that determines them; collected and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import outputs, store
from bench.errors import UsageError
from bench.schema import Row

FORMAT = 1
FILE = Path(__file__).parent / "criteria" / "golden.json"  # the values that come with vnbench

Golden = Mapping[str, str]  # `bench.outputs.conditions` -> SHA-256


@dataclass(frozen=True)
class Agreement:
    """What golden values say of a result: rows by how they stand to them."""

    agrees: Sequence[Row]
    differs: Sequence[Row]
    unknown: Sequence[Row]


def collect(paths: Iterable[Path]) -> Golden:
    """The outputs of real devices in these results.

    Raises:
        UnreadableResult, UsageError: a file is no result; or two outputs on equal terms differ, so one is wrong.
    """
    golden: dict[str, str] = {}
    source: dict[str, Path] = {}
    for path in paths:
        for row in _known(store.read(path)[1]):
            conditions, sha256 = outputs.conditions(row), row["output_sha256"]
            if golden.setdefault(conditions, sha256) != sha256 or row["output_difference"] is not None:
                places = " and ".join(dict.fromkeys(map(str, (source.get(conditions, path), path))))
                raise UsageError(
                    f"{conditions}: there are different outputs in {places}",
                    "One is wrong: vnbench judge names it where it can be known; leave that result out",
                )
            source.setdefault(conditions, path)
    if not golden:
        raise UsageError("no output of a real device is in these results", "Name a run of matmul, decode or prefill")
    return golden


def check(rows: Sequence[Row], golden: Golden) -> Agreement:
    """How a result's outputs stand to golden values."""
    found = [(row, golden.get(outputs.conditions(row))) for row in _known(rows)]
    return Agreement(
        [row for row, sha256 in found if sha256 == row["output_sha256"]],
        [row for row, sha256 in found if sha256 not in (None, row["output_sha256"])],
        [row for row, sha256 in found if sha256 is None],
    )


def to_json(golden: Golden) -> bytes:
    """As a file: equal values, equal bytes."""
    return (
        json.dumps({"format": FORMAT, "outputs": golden}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    ).encode()


def to_toml(golden: Golden) -> str:
    """As the end of an ``[[answers]]`` table of a criteria file."""
    lines = (f"{json.dumps(name, ensure_ascii=False)} = {json.dumps(golden[name])}" for name in sorted(golden))
    return "\n".join(["[answers.golden]", *lines, ""])


def load(path: Path) -> Golden:
    """Golden values of a file.

    Raises:
        UsageError: it is none, or of another format.
    """
    try:
        found = json.loads(path.read_bytes())
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}; this vnbench reads {FORMAT}")
        golden: Golden = found["outputs"]
        if not all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in golden.values()):
            raise ValueError("a value is no SHA-256")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "Name a file that vnbench golden collect wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path}: no golden values ({type(error).__name__}: {error})", "Write them with vnbench golden collect"
        ) from None
    return golden


def _known(rows: Iterable[Row]) -> Iterator[Row]:
    """Those with an output that a real device computed and float64 found right."""
    for row in rows:
        if row["status"] == "ok" and row["output_sha256"] is not None and row["device"] in ("cpu", "cuda"):
            yield row

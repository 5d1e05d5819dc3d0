"""Outputs that are not, bit by bit, what they must be: which rows of a result have one, and in which words to say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bench import outputs
from bench.schema import Row


def odd(rows: Sequence[Row], golden: Mapping[str, str]) -> list[tuple[Row, str]]:
    """The rows whose outputs differ from those of others on equal terms, or from a golden value, with the words.

    Of several outputs the one that most rows have is taken as right. Where no output has more than half of the rows,
    all of them are odd, since it cannot be known which is wrong. A golden value decides over any number of rows.
    """
    alike: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "ok" and row["output_sha256"] is not None:
            alike.setdefault(outputs.conditions(row), []).append(row)
    found = []
    for conditions, group in alike.items():
        if conditions in golden:
            found += _not_golden(group, golden[conditions])
        else:
            found += _not_alike(group)
    return found


def equal_to_golden(rows: Sequence[Row], golden: Mapping[str, str]) -> int:
    """How many rows have an output that is a golden one."""
    known = (row for row in rows if row["output_sha256"] is not None) if golden else ()
    return sum(golden.get(outputs.conditions(row)) == row["output_sha256"] for row in known)


def _not_golden(group: Sequence[Row], expected: str) -> list[tuple[Row, str]]:
    return [
        (row, f"its output is not the golden one: {_how(row, expected)}")
        for row in group
        if row["output_sha256"] != expected
    ]


def _not_alike(group: Sequence[Row]) -> list[tuple[Row, str]]:
    counts = Counter(row["output_sha256"] for row in group)
    right, votes = min(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(counts) == 1:
        differing = [row for row in group if row["output_difference"] is not None]
        return [(row, f"its outputs differ: {row['output_difference']}") for row in differing]
    if 2 * votes <= len(group):
        words = f"{len(counts)} different outputs of {len(group)} measurements, and which is right cannot be known"
        other = {sha256: next(each for each in sorted(counts) if each != sha256) for sha256 in counts}
        return [(row, f"{words}: {_how(row, other[row['output_sha256']])}") for row in group]
    words = f"its output is not that of {votes} of {len(group)} measurements on equal terms"
    return [(row, f"{words}: {_how(row, right)}") for row in group if row["output_sha256"] != right]


def _how(row: Row, expected: str) -> str:
    """Element, bits and values where the run kept what they were compared with; else both hashes."""
    hashes = f"sha256 {row['output_sha256'][:16]}… where it is {expected[:16]}…"
    return f"{outputs.place(row)}: {hashes}" if row["output_difference"] is None else str(row["output_difference"])

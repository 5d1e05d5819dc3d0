"""Outputs that are not, bit by bit, what they must be: which rows of a result have one, and the words for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bench import outputs
from bench.message import Message, say
from bench.schema import Row


def odd(rows: Sequence[Row], golden: Mapping[str, str]) -> list[tuple[Row, Message]]:
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
        found += _not_golden(group, golden.get(conditions)) or _not_alike(group)
    return found


def equal_to_golden(rows: Sequence[Row], golden: Mapping[str, str]) -> int:
    """How many rows have an output that is a golden one."""
    known = (row for row in rows if row["output_sha256"] is not None) if golden else ()
    return sum(golden.get(outputs.conditions(row)) == row["output_sha256"] for row in known)


def _not_golden(group: Sequence[Row], expected: str | None) -> list[tuple[Row, Message]]:
    if expected is None:
        return []
    return [
        (row, say("its output is not the golden one: {how}", how=_how(row, expected)))
        for row in group
        if row["output_sha256"] != expected
    ]


def _not_alike(group: Sequence[Row]) -> list[tuple[Row, Message]]:
    counts = Counter(row["output_sha256"] for row in group)
    right, votes = min(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(counts) == 1:
        differing = [row for row in group if row["output_difference"] is not None]
        return [(row, say("its outputs differ: {how}", how=row["output_difference"])) for row in differing]
    if 2 * votes <= len(group):
        other = {sha256: next(each for each in sorted(counts) if each != sha256) for sha256 in counts}
        return [(row, _undecided(len(counts), len(group), _how(row, other[row["output_sha256"]]))) for row in group]
    minority = [row for row in group if row["output_sha256"] != right]
    return [(row, _outvoted(votes, len(group), _how(row, right))) for row in minority]


def _undecided(outputs: int, n: int, how: str) -> Message:
    return say(
        "{outputs} different outputs of {n} measurements, and which is right cannot be known: {how}",
        outputs=outputs,
        n=n,
        how=how,
    )


def _outvoted(votes: int, n: int, how: str) -> Message:
    return say("its output is not that of {votes} of {n} measurements on equal terms: {how}", votes=votes, n=n, how=how)


def _how(row: Row, expected: str) -> str:
    """Element, bits and values where the run kept what they were compared with; else both hashes."""
    hashes = f"sha256 {row['output_sha256'][:16]}… where it is {expected[:16]}…"
    return f"{outputs.place(row)}: {hashes}" if row["output_difference"] is None else str(row["output_difference"])

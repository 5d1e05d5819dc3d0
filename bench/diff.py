"""What differs between the environments of two results, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench import environment
from bench.schema import Row

Values = dict[str, set[str]]  # by device, as JSON


@dataclass(frozen=True)
class Difference:
    """One key that is not the same on both sides; several values where the rows of one side differ."""

    kind: str  # hardware, software, settings or details
    key: str
    a: str
    b: str


def differences(a: Sequence[Row], b: Sequence[Row]) -> list[Difference]:
    """The keys in which two results differ, the checked ones first."""
    a, b = ([row for row in rows if row["env_id"] is not None] for rows in (a, b))
    found = []
    for kind, keys in environment.KEYS.items():
        for key in keys:
            values = _values(a, key), _values(b, key)
            if not _alike(key, *values):
                found.append(Difference(kind, key, *map(_shown, values)))
    details = _details(a), _details(b)
    for key in sorted(details[0].keys() & details[1].keys()):
        sides = details[0][key], details[1][key]
        if not _alike(key, *sides):
            found.append(Difference("details", key, *map(_shown, sides)))
    return found


def _values(rows: Iterable[Row], key: str) -> Values:
    found: Values = {}
    for row in rows:
        found.setdefault(f"{row['device']}:{row['device_index']}", set()).add(json.dumps(row.get(key)))
    return found


def _details(rows: Iterable[Row]) -> dict[str, Values]:
    """The values of each detail, named by its path: ``host.smt``. What only one side recorded is left out."""
    found: dict[str, Values] = {}
    for device, text in {(f"{row['device']}:{row['device_index']}", row["environment"]) for row in rows}:
        for path, value in environment.details(text):
            found.setdefault(path, {}).setdefault(device, set()).add(json.dumps(value))
    return found


def _alike(key: str, a: Values, b: Values) -> bool:
    """Device by device where both have the same ones, else all together."""
    if key == "memory_bytes":  # what the kernel leaves of it changes a little with every boot
        return environment.same_memory([json.loads(one) for one in (*_all(a), *_all(b))])
    return a == b if a.keys() == b.keys() else _all(a) == _all(b)


def _all(values: Values) -> list[str]:
    return sorted(set().union(*values.values()))


def _shown(values: Values) -> str:
    """The values, with the devices that have them where those differ."""
    distinct = _all(values)
    if len(distinct) == 1 or len(values) == 1:
        return " | ".join(distinct)
    return ", ".join(f"{device} {' | '.join(sorted(its))}" for device, its in sorted(values.items()))

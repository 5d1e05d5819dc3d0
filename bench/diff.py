"""What differs between the environments of two results, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import environment
from bench.schema import Row


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
            values = _values(row.get(key) for row in a), _values(row.get(key) for row in b)
            if not _alike(key, *values):
                found.append(Difference(kind, key, *map(_shown, values)))
    details = _details(a), _details(b)
    for key in sorted(details[0].keys() | details[1].keys()):
        sides = details[0].get(key, ["null"]), details[1].get(key, ["null"])
        if sides[0] != sides[1]:
            found.append(Difference("details", key, *map(_shown, sides)))
    return found


def _values(values: Iterable[Any]) -> list[str]:
    """The distinct values, as JSON."""
    return sorted({json.dumps(value) for value in values})


def _alike(key: str, a: Sequence[str], b: Sequence[str]) -> bool:
    if key == "memory_bytes":  # what the kernel leaves of it changes a little with every boot
        return environment.same_memory([json.loads(one) for one in (*a, *b)])
    return a == b


def _details(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The distinct values of each detail, named by its path: ``host.numa.nodes``."""
    found: dict[str, set[str]] = {}
    for text in {row["environment"] for row in rows if row["environment"]}:
        for path, value in _flat(json.loads(text)):
            found.setdefault(path, set()).add(json.dumps(value))
    return {path: sorted(values) for path, values in found.items()}


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _flat(each, f"{path}.{name}" if path else name)
    else:
        yield path, value


def _shown(values: Sequence[str]) -> str:
    return " | ".join(values)

"""How the environments of several sides differ: every distinct environment is looked at once, never row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bench import environment
from bench.comparison.model import EnvironmentDifference
from bench.comparison.observations import coded

if TYPE_CHECKING:
    from bench.estimates import Array

_KEYS = tuple((kind, key) for kind, keys in environment.KEYS.items() for key in keys)
# A row of each machine and run: what stays the same there from row to row changes with one of CHANGING.
CHANGING = ("run_id", "node", "label", "suite", "device", "env_id", "environment", "memory_bytes")
COLUMNS = tuple(dict.fromkeys((*CHANGING, *(key for _, key in _KEYS))))

# Of more environments than these, only the checked keys are compared: nodes differ in their serial numbers.
MOST_DETAILED = 1000

Values = list[set[str]]  # by side, as JSON


def differences(
    machines: pa.Table, side: Array, sides: int
) -> tuple[tuple[EnvironmentDifference, ...], tuple[str, ...]]:
    """The keys that differ, the checked ones first, and what is to be said of the rest.

    A key differs if the sides' sets of values do; a side whose environment is unknown takes no part.
    """
    is_known = machines["env_id"].is_valid().to_numpy()
    machines, side = machines.filter(pa.array(is_known)), side[is_known]
    found = []
    for kind, key in _KEYS:
        values = _values(machines[key], side, sides)
        if not _alike(key, [each for each in values if each]):
            found.append(_difference(kind, key, values))
    environments = coded(machines, "environment")
    pairs = np.unique(side * len(environments.texts) + environments.codes).tolist()
    if len(np.unique(environments.codes)) > MOST_DETAILED:
        return tuple(found), (f"details of more than {MOST_DETAILED} environments are not compared, checked keys are",)
    details = _details(environments.texts, [divmod(pair, len(environments.texts)) for pair in pairs], sides)
    known = [number for number in range(sides) if any(values[number] for values in details.values())]
    for key, values in sorted(details.items()):
        # What a side did not record is no difference: versions of vnbench look at more and more.
        if all(values[number] for number in known) and not _alike(key, [values[number] for number in known]):
            found.append(_difference("details", key, values))
    return tuple(found), ()


def _values(column: pa.ChunkedArray, side: Array, sides: int) -> Values:
    """The distinct values of each side, each written as JSON once."""
    found: Values = [set() for _ in range(sides)]
    if pa.types.is_list(column.type):
        for number, value in zip(side.tolist(), column.to_pylist(), strict=True):
            found[number].add(json.dumps(value))
        return found
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = coded(pa.table({"": encoded}), "")
    shown = [json.dumps(value) for value in texts.texts]
    for pair in np.unique(side * len(shown) + texts.codes).tolist():
        found[pair // len(shown)].add(shown[pair % len(shown)])
    return found


def _details(texts: Sequence[str | None], pairs: Iterable[tuple[int, int]], sides: int) -> dict[str, Values]:
    """The values of each detail, named by its path: ``host.smt``."""
    flat: dict[int, list[tuple[str, str]]] = {}
    found: dict[str, Values] = {}
    for side, code in pairs:
        if code not in flat:
            flat[code] = [(path, json.dumps(value)) for path, value in environment.details(texts[code])]
        for path, value in flat[code]:
            found.setdefault(path, [set() for _ in range(sides)])[side].add(value)
    return found


def _alike(key: str, values: Sequence[set[str]]) -> bool:
    if key == "memory_bytes":  # what the kernel leaves of it changes a little with every boot
        sizes = [json.loads(one) for one in set().union(*values)]
        return len(values) < 2 or environment.same_memory(sizes)
    return all(each == values[0] for each in values)


def _difference(kind: str, key: str, values: Values) -> EnvironmentDifference:
    return EnvironmentDifference(kind, key, tuple(tuple(sorted(each)) for each in values))

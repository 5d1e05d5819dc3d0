"""Criteria in plain words: a sentence for each, with its limit and who says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding

from bench import units
from bench.acceptance.model import unit_of
from bench.criteria.facts import FACTS, STATES
from bench.criteria.model import (
    Answers,
    Criteria,
    Criterion,
    Inventory,
    Performance,
    Soak,
    State,
    Uniformity,
    kind_of,
)

_DEVICES = {"cuda": "NVIDIA GPU", "cpu": "CPU"}
_LIMITS = {"at_least": "at least", "at_most": "at most", "equal": "", "one_of": "one of", "none_of": "none of"}


def show_list(out: Console, found: Mapping[str, Criteria]) -> None:
    """A line per ready file, and where they lie."""
    width = max(map(len, found), default=0)
    for name, one in found.items():
        out.print(f"{name:<{width}}  {one.title}: {len(one.criteria)} criteria")
    for folder in {one.path.parent for one in found.values()}:
        out.print(f"files to copy and change: {folder}", style="dim", soft_wrap=True)


def show_checked(out: Console, one: Criteria) -> None:
    """That a file is sound, and what it holds."""
    out.print(f"{one.path}: sound, {len(one.criteria)} criteria: {one.title}", soft_wrap=True)
    out.print(f"sha256 {one.sha256}", style="dim")


def show_explained(out: Console, one: Criteria) -> None:
    """Each criterion as a sentence, its source below it."""
    out.print(one.title, style="bold")
    out.print(f"A figure is judged after {_listed(one.looks)} replicates, at {one.confidence * 100:g} % confidence.")
    for criterion in one.criteria:
        out.print(f"\n{criterion.id}: {sentence(criterion, one.device)}")
        note = f"; {criterion.note}" if criterion.note else ""
        out.print(Padding(f"Source: {criterion.source}{note}", (0, 0, 0, 2)), style="dim")


def to_json(one: Criteria) -> str:
    """A file's contents for scripts, limits in base units, with the sentences."""
    return json.dumps(_described(one))


def list_json(found: Mapping[str, Criteria]) -> str:
    """The ready files for scripts."""
    return json.dumps([{"name": name, **_described(one)} for name, one in found.items()])


def _described(one: Criteria) -> dict[str, Any]:
    return {
        "path": str(one.path),
        "title": one.title,
        "device": one.device,
        "sha256": one.sha256,
        "confidence": one.confidence,
        "looks": one.looks,
        "workloads": one.workloads,
        "criteria": [
            {
                "id": each.id,
                "kind": kind_of(each),
                "limit": each.limit.stated,
                "unit": unit_of(each),
                "sentence": sentence(each, one.device),
                "source": each.source,
                "note": each.note,
            }
            for each in one.criteria
        ],
    }


def sentence(one: Criterion, device: str) -> str:
    """What a criterion demands."""
    each = _DEVICES[device]
    if isinstance(one, Inventory):
        fact = FACTS[one.what]
        whose = "the node" if fact.is_of_node else f"each {each}"
        return f"On {whose}, {fact.words} must be {limit(one)}."
    if isinstance(one, Performance):
        figure = f"{one.metric} of {one.workload}" if one.metric else one.workload
        return f"On each {each}, {figure} must be {limit(one)}."
    if isinstance(one, Uniformity):
        return f"In {one.workload}, no {each} may be slower than {_percent(one.limit.at_least)} of its node's median."
    if isinstance(one, State):
        return f"On each {each}, over all measurements: {STATES[one.column].words} must be {limit(one)}."
    if isinstance(one, Soak):
        return f"Before all else, {one.workload} loads each {each} for {limit(one)}, and no answer may be wrong."
    assert isinstance(one, Answers)
    asked = f"; {_listed(one.workloads)} must have been asked" if one.workloads else ""
    return f"No answer may be wrong{asked}."


def limit(one: Criterion) -> str:
    """``at least 755.0 TFLOP/s``, ``at most 0``, ``on``"""
    words = [f"{_LIMITS[name]} {value_words(one, value)}".strip() for name, value in one.limit.stated.items()]
    found = " and ".join(words)
    if isinstance(one, Performance) and one.of is not None:
        return f"{found} of the {one.of}"
    return found


def value_words(one: Criterion, value: Any) -> str:
    """An observed value or a limit's, under the unit that people would say; a dash where it is not known."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ", ".join(map(str, value)) or "none"
    if isinstance(one, Uniformity) or (isinstance(one, Performance) and one.of is not None):
        return _percent(value)
    unit = unit_of(one)
    if isinstance(one, Performance) or unit == "B":
        return units.show(value, "" if unit == "1" else unit).strip()
    return f"{value:g}" if unit == "1" else f"{value:g} {unit}"


def _percent(value: Any) -> str:
    return f"{float(value):.1%}".replace(".0%", "%")


def _listed(values: Sequence[Any]) -> str:
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last

"""Criteria in plain words: a sentence for each, with its limit and who says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding

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
from bench.message import Message, joined, say
from bench.report.language import PLAIN, Language

_DEVICES = {"cuda": say("NVIDIA GPU"), "cpu": say("CPU")}
_LIMITS = {
    "at_least": say("at least {value}", value=""),
    "at_most": say("at most {value}", value=""),
    "equal": say("{value}", value=""),
    "one_of": say("one of {value}", value=""),
    "none_of": say("none of {value}", value=""),
}
_ROOFS = {"measured roof": say("measured roof"), "datasheet": say("datasheet")}


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
    out.print(f"A figure is judged after {listed(one.looks)} replicates, at {one.confidence * 100:g} % confidence.")
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


def sentence(one: Criterion, device: str, language: Language = PLAIN) -> str:
    """What a criterion demands."""
    return language.text(_sentence(one, _DEVICES[device], language))


def _sentence(one: Criterion, each: Message, language: Language) -> Message:
    if isinstance(one, Inventory):
        fact = say(FACTS[one.what].words)
        on_node = say("On the node, {fact} must be {limit}.", fact=fact, limit=limit(one, language))
        on_each = say("On each {device}, {fact} must be {limit}.", device=each, fact=fact, limit=limit(one, language))
        return on_node if FACTS[one.what].is_of_node else on_each
    if isinstance(one, Performance):
        of = say("{metric} of {workload}", metric=one.metric, workload=one.workload)
        figure = of if one.metric else one.workload
        return say("On each {device}, {fact} must be {limit}.", device=each, fact=figure, limit=limit(one, language))
    if isinstance(one, Uniformity):
        return say(
            "In {workload}, no {device} may be slower than {limit} of its node's median.",
            workload=one.workload,
            device=each,
            limit=_percent(one.limit.at_least, language),
        )
    if isinstance(one, State):
        return say(
            "On each {device}, over all measurements: {fact} must be {limit}.",
            device=each,
            fact=say(STATES[one.column].words),
            limit=limit(one, language),
        )
    if isinstance(one, Soak):
        return say(
            "Before all else, {workload} loads each {device} for {limit}, and no answer may be wrong.",
            workload=one.workload,
            device=each,
            limit=limit(one, language),
        )
    assert isinstance(one, Answers)
    none_wrong = say("No answer may be wrong, and outputs on equal terms must have equal bits.")
    asked = say("{workloads} must have been asked.", workloads=listed(one.workloads, language))
    known = say("{n} outputs are known and must be those, bit by bit.", n=len(one.golden))
    return joined(" ", (none_wrong, asked if one.workloads else "", known if one.golden else ""))


def limit(one: Criterion, language: Language = PLAIN) -> str:
    """``at least 755.0 TFLOP/s``, ``at most 0``, ``on``"""
    words = [
        language.say(_LIMITS[name].template, value=value_words(one, value, language))
        for name, value in one.limit.stated.items()
    ]
    found = words[0] if len(words) == 1 else language.say("{first} and {last}", first=words[0], last=words[-1])
    if isinstance(one, Performance) and one.of is not None:
        return language.say("{limit} of the {roof}", limit=found, roof=_ROOFS[one.of])
    return found


def value_words(one: Criterion, value: Any, language: Language = PLAIN) -> str:
    """An observed value or a limit's, under the unit that people would say; a dash where it is not known."""
    if value is None or isinstance(value, bool):
        return "–" if value is None else language.say("yes") if value else language.say("no")
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ", ".join(map(str, value)) or language.say("none")
    if is_fraction(one):
        return _percent(value, language)
    unit = unit_of(one)
    if isinstance(one, Performance) or unit == "B":
        return language.figure(value, unit)
    return language.number(f"{value:g}") + ("" if unit == "1" else f" {unit}")


def is_fraction(one: Criterion) -> bool:
    """Whether its figures are shown in percent."""
    return isinstance(one, Uniformity) or (isinstance(one, Performance) and one.of is not None)


def _percent(value: Any, language: Language) -> str:
    return f"{language.number(f'{100 * float(value):.1f}'.removesuffix('.0'))}%"


def listed(values: Sequence[Any], language: Language = PLAIN) -> str:
    """``5, 8 and 12``"""
    *most, last = map(str, values or ("",))
    return language.say("{first} and {last}", first=", ".join(most), last=last) if most else last

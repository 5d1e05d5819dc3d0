"""What is signed: an in-toto Statement (version 1) on the files of a bundle, as canonical JSON.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. Its subjects are all files of the bundle but the
manifest itself. The predicate is of one of two types: the seal of a run, or a countersignature of a bundle.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from bench.errors import BadSeal, UnreadableResult
from bench.spec import canonical_json

_STATEMENT = "https://in-toto.io/Statement/v1"
_OURS = "https://github.com/vnbench/vnbench/seal/"

MAX_TEXT = 200  # characters of one field; so that what is shown stays readable


@dataclass(frozen=True)
class RunSeal:
    """Who seals a run says this of it. Times are ISO 8601 in UTC, by the clock of the machine that wrote them."""

    sealed_at: str
    sealed_with: str  # the version of vnbench that sealed
    measured_with: str  # and the one that measured
    source_commit: str | None
    run_id: str
    node: str
    suite: str
    started_at: str  # the run
    verdict: str | None
    criteria_sha256: str | None
    nonce: str | None  # what the asker wanted to see in it


@dataclass(frozen=True)
class Countersignature:
    """Who countersigns a bundle has verified it and says when."""

    sealed_at: str
    sealed_with: str


Predicate: TypeAlias = RunSeal | Countersignature

# A field that is added, taken away or given another meaning raises the version.
_TYPES: dict[str, type[RunSeal] | type[Countersignature]] = {
    _OURS + "run/v1": RunSeal,
    _OURS + "countersignature/v1": Countersignature,
}


@dataclass(frozen=True)
class Subject:
    """One file of a bundle."""

    name: str
    sha256: str
    size: int  # bytes


@dataclass(frozen=True)
class Statement:
    subjects: tuple[Subject, ...]
    predicate: Predicate


def state(files: Mapping[str, bytes], predicate: Predicate) -> bytes:
    """The canonical JSON of the statement on these files.

    Raises:
        ValueError: a text of the predicate is none that `decode` would take.
    """
    for field in dataclasses.fields(predicate):
        _check_text(field, getattr(predicate, field.name))
    kind = next(uri for uri, its_type in _TYPES.items() if isinstance(predicate, its_type))
    subjects = [_subject(name, content) for name, content in sorted(files.items())]
    return _encoded(kind, subjects, dataclasses.asdict(predicate))


def decode(payload: bytes) -> Statement:
    """The statement in bytes whose signature was found good.

    Raises:
        UnreadableResult: it is of a type that this version does not know.
        BadSeal: it is none that vnbench makes.
    """
    try:
        found: Any = json.loads(payload)
        kind, subjects, predicate = found["predicateType"], found["subject"], found["predicate"]
        if kind not in _TYPES:
            raise UnreadableResult(f"a statement of another kind or version was signed: {kind!a}", "Upgrade vnbench")
        read = Statement(
            tuple(Subject(one["name"], one["digest"]["sha256"], one["annotations"]["bytes"]) for one in subjects),
            _TYPES[kind](**predicate),
        )
        for field in dataclasses.fields(read.predicate):
            _check_text(field, getattr(read.predicate, field.name))
        _check_names([subject.name for subject in read.subjects])
        again = [_entry(subject) for subject in read.subjects]
        if _encoded(kind, again, dataclasses.asdict(read.predicate)) == payload:
            return read
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise BadSeal("what was signed is no statement as vnbench makes it")


def time_of(text: str) -> dt.datetime:
    """A moment of a predicate.

    Raises:
        ValueError: it is none in UTC.
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.utcoffset() != dt.timedelta(0) or moment.year < 2000:
        raise ValueError(f"{text!r} is no time in UTC")
    return moment


def _check_text(field: dataclasses.Field[Any], value: object) -> None:
    """Texts of a predicate are shown on terminals: one short line each, of characters that can be seen."""
    if value is None and "None" in str(field.type):
        return
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(f"{field.name} is no short line of text")
    if field.name.endswith("_at"):
        time_of(value)
    if field.name.endswith("_sha256") and not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{field.name} is no SHA-256")


def _check_names(names: list[Any]) -> None:
    if not all(isinstance(name, str) and name.isprintable() for name in names) or names != sorted(set(names)):
        raise ValueError("the files have no names, or are not in the order of them")


def _subject(name: str, content: bytes) -> dict[str, Any]:
    return _entry(Subject(name, hashlib.sha256(content).hexdigest(), len(content)))


def _entry(subject: Subject) -> dict[str, Any]:
    """A ResourceDescriptor: https://github.com/in-toto/attestation/blob/main/spec/v1/resource_descriptor.md"""
    return {"name": subject.name, "digest": {"sha256": subject.sha256}, "annotations": {"bytes": subject.size}}


def _encoded(kind: str, subjects: list[dict[str, Any]], predicate: dict[str, Any]) -> bytes:
    found = {"_type": _STATEMENT, "predicateType": kind, "subject": subjects, "predicate": predicate}
    return canonical_json(found).encode()

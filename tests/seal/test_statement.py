"""``bench.seal.statement``: an in-toto Statement v1, which is read back only as it is written."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from bench.errors import BadSeal, UnreadableResult
from bench.seal.statement import Countersignature, Predicate, decode, state
from bench.spec import canonical_json
from tests.seal.bundles import FILES, RUN, sha256

COUNTERSIGNATURE = Countersignature("2026-11-22T07:00:00+00:00", "0.1")


@pytest.mark.parametrize("predicate", [RUN, COUNTERSIGNATURE])
def test_what_was_stated_is_read_back(predicate: Predicate) -> None:
    read = decode(state(FILES, predicate))
    assert read.predicate == predicate
    assert {one.name: (one.sha256, one.size) for one in read.subjects} == {
        name: (sha256(content), len(content)) for name, content in FILES.items()
    }


def test_it_is_an_in_toto_statement() -> None:
    found = json.loads(state({"a": b"x"}, RUN))
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://github.com/vnbench/vnbench/seal/run/v1"
    assert found["subject"] == [{"name": "a", "digest": {"sha256": sha256(b"x")}, "annotations": {"bytes": 1}}]
    assert found["predicate"] == dataclasses.asdict(RUN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("node", ""),
        ("node", "a\nb"),
        ("node", "\x1b[2J"),
        ("node", "\u202egnp"),  # text that runs the other way
        ("node", "x" * 201),
        ("node", None),
        ("node", 7),
        ("sealed_at", "yesterday"),
        ("sealed_at", "2026-11-22T06:00:00"),
        ("sealed_at", "2026-11-22T06:00:00+07:00"),
        ("started_at", "0001-01-01T00:00:00+00:00"),
        ("criteria_sha256", "abc"),
    ],
)
def test_a_text_that_is_none_is_neither_stated_nor_read(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"short line|SHA-256|UTC|isoformat"):
        state(FILES, dataclasses.replace(RUN, **{field: value}))
    found = json.loads(state(FILES, RUN))
    found["predicate"][field] = value
    with pytest.raises(BadSeal, match="no statement"):
        decode(canonical_json(found).encode())


def changed(**changes: Any) -> bytes:
    return canonical_json(json.loads(state({"a": b"x"}, RUN)) | changes).encode()


SUBJECT = json.loads(state({"a": b"x"}, RUN))["subject"][0]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        state(FILES, RUN) + b" ",
        json.dumps(json.loads(state(FILES, RUN))).encode(),  # the same, in another form
        state(FILES, RUN).replace(b'"nonce":', b'"nonce":"other","nonce":'),
        changed(_type="https://in-toto.io/Statement/v0.1"),
        changed(predicate={}),
        changed(predicate=None),
        changed(predicate={**dataclasses.asdict(RUN), "more": 1}),
        changed(subject={}),
        changed(subject=[SUBJECT, SUBJECT]),
        changed(subject=[{**SUBJECT, "name": ["a"]}]),
        changed(subject=[{**SUBJECT, "name": "\x1b[2J"}]),
        changed(subject=[{**SUBJECT, "more": 1}]),
        changed(predicateType=["x"]),
    ],
)
def test_what_is_not_as_it_is_stated_is_refused(payload: bytes) -> None:
    with pytest.raises(BadSeal, match="no statement"):
        decode(payload)


@pytest.mark.parametrize("kind", ["https://github.com/vnbench/vnbench/seal/run/v2", "https://slsa.dev/provenance/v1"])
def test_a_statement_of_another_version_or_kind_is_unreadable(kind: str) -> None:
    with pytest.raises(UnreadableResult, match=r"another kind or version.*Upgrade vnbench"):
        decode(changed(predicateType=kind))

"""Bundles for tests: of a run that was never made, sealed by keys that are made anew each time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bench.seal import archive, envelope, statement
from bench.seal.bundle import seal
from bench.seal.keys import PrivateKey, PublicKey
from bench.seal.statement import RunSeal
from bench.seal.trust import Signer
from bench.seal.verify import Demands, Verified, verify
from bench.spec import canonical_json

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
NONCE = "8c1e0f7a66d2b93d"


def key_of(name: str) -> PrivateKey:
    """The same in every process: tests that have a key among their parameters are named by it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return PrivateKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))


OPERATOR, INSPECTOR, MALLORY = map(key_of, ("operator", "inspector", "mallory"))
TRUSTED: dict[PublicKey, Signer] = {
    OPERATOR.public: Signer(OPERATOR.public, "hanoi-1", "operator"),
    INSPECTOR.public: Signer(INSPECTOR.public, "inspector"),
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def verdict_on(result: bytes, criteria: bytes, **changes: Any) -> bytes:
    """As ``vnbench judge --json`` writes it, in what a seal looks at."""
    found = {
        "verdict": "PASS",
        "simulated": False,
        "criteria_sha256": sha256(criteria),
        "result_sha256": sha256(result),
        "run_id": "5f0c2a91be",
    }
    return json.dumps(found | changes).encode()


_RESULT, _CRITERIA = b"PAR1 result PAR1", b"[criteria]\n"
FILES: Mapping[str, bytes] = {
    "result.parquet": _RESULT,
    "telemetry.parquet": b"PAR1 telemetry PAR1",
    "criteria.toml": _CRITERIA,
    "verdict.json": verdict_on(_RESULT, _CRITERIA),
    "environment.json": b"{}",
    "log.txt": b"",
}
RUN = RunSeal(
    sealed_at="2026-11-22T06:00:00+00:00",
    sealed_with="0.1",
    measured_with="0.1",
    source_commit=None,
    run_id="5f0c2a91be",
    node="node7",
    suite="accept",
    started_at="2026-11-22T05:15:00.000000+00:00",
    verdict="PASS",
    criteria_sha256=sha256(_CRITERIA),
    nonce=NONCE,
)


def sealed(files: Mapping[str, bytes] = FILES, key: PrivateKey = OPERATOR, **changes: Any) -> bytes:
    """A bundle of these files, whose predicate is changed so."""
    return seal(files, dataclasses.replace(RUN, **changes), key)


def parts(bundle: bytes) -> tuple[bytes, dict[str, bytes]]:
    """A bundle's manifest and files."""
    found = {name: bytes(content) for name, content in archive.unpack(memoryview(bundle)).items()}
    return found.pop(archive.MANIFEST), found


def with_files(bundle: bytes, files: Mapping[str, bytes]) -> bytes:
    """The manifest of one bundle over other files."""
    return archive.pack(parts(bundle)[0], files)


def signed_statement(files: Mapping[str, bytes], key: PrivateKey = OPERATOR, **changes: Any) -> bytes:
    """A bundle whose statement is changed before it is signed, into something that `seal` would not make."""
    payload = json.loads(statement.state(files, RUN)) | changes
    return archive.pack(envelope.sign(canonical_json(payload).encode(), key), files)


def verified(bundle: bytes, **demands: Any) -> Verified:
    return verify(bundle, TRUSTED, Demands(**demands), now=NOW)

"""``bench.seal.envelope``: DSSE as others know it, in one form, and opened by a trusted key alone."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BadSeal
from bench.seal import envelope
from bench.seal.envelope import PAYLOAD_TYPE, encoding, opened, sign
from bench.spec import canonical_json
from tests.seal.bundles import INSPECTOR, MALLORY, OPERATOR, TRUSTED

PAYLOAD = b'{"_type":"x"}'
GOOD = sign(PAYLOAD, OPERATOR)


def test_the_encoding_is_that_of_the_protocols_own_example() -> None:
    """DSSE protocol, section "Test Vectors"; a length is in bytes, not in characters."""
    assert encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert encoding("ä", b"") == b"DSSEv1 2 \xc3\xa4 0 "


def test_a_trusted_key_opens_what_it_signed() -> None:
    assert opened(GOOD, TRUSTED) == (PAYLOAD, OPERATOR.public)
    assert opened(sign(PAYLOAD, INSPECTOR), TRUSTED) == (PAYLOAD, INSPECTOR.public)


def test_openssl_finds_the_signature_good(tmp_path: Path) -> None:
    found = json.loads(GOOD)
    payload = base64.b64decode(found["payload"])
    (tmp_path / "pae").write_bytes(encoding(found["payloadType"], payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(found["signatures"][0]["sig"]))
    (tmp_path / "pub").write_bytes(OPERATOR.public.pem)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "pub", "-rawin", "-in", "pae", "-sigfile", "sig"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "pae").write_bytes(payload)
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def changed(**changes: Any) -> bytes:
    return canonical_json(json.loads(GOOD) | changes).encode()


def signature(key_id: str, sig: bytes) -> dict[str, str]:
    return {"keyid": key_id, "sig": base64.b64encode(sig).decode()}


MINE = OPERATOR.public.id


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (sign(PAYLOAD, MALLORY), "unknown key"),
        # Somebody else's signature under a trusted key's id.
        (changed(signatures=[signature(MINE, MALLORY.sign(encoding(PAYLOAD_TYPE, PAYLOAD)))]), "does not match"),
        (changed(payload=base64.b64encode(b"{}").decode()), "does not match"),
        (changed(payloadType="text/plain"), "does not match"),
        # A trusted key's signature of something else: of the payload as it is, and of another type.
        (changed(signatures=[signature(MINE, OPERATOR.sign(PAYLOAD))]), "does not match"),
        (sign(PAYLOAD, OPERATOR, "text/plain"), "signed something else"),
        (changed(signatures=[signature(MINE, b"")]), "does not match"),
        (changed(signatures=[]), "no DSSE envelope"),
        (changed(signatures=json.loads(GOOD)["signatures"] * 2), "no DSSE envelope"),
        (changed(extra=1), "no DSSE envelope"),
        (changed(payloadType=None), "no DSSE envelope"),
        (changed(payloadType="\ud800"), "no DSSE envelope"),
        (GOOD + b"\n", "no DSSE envelope"),
        (b" " + GOOD, "no DSSE envelope"),
        (GOOD.replace(b'"payload":', b'"payload":"","payload":'), "no DSSE envelope"),
        (GOOD.replace(b"=", b"", 1), "no DSSE envelope"),
        (b"", "no DSSE envelope"),
        (b"\xff", "no DSSE envelope"),
        (b"[]", "no DSSE envelope"),
        (b"[" * 100_000, "no DSSE envelope"),
        (bytes(envelope.MAX_BYTES + 1), "more than any"),
    ],
)
def test_nothing_else_opens(data: bytes, words: str) -> None:
    with pytest.raises(BadSeal, match=words):
        opened(data, TRUSTED)


def test_no_key_opens_nothing() -> None:
    with pytest.raises(BadSeal, match="unknown key"):
        opened(GOOD, {})


def test_a_forged_key_id_cannot_write_to_the_terminal() -> None:
    data = changed(signatures=[signature("\x1b[2J" + "x" * 10_000, b"")])
    with pytest.raises(BadSeal) as caught:
        opened(data, TRUSTED)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300

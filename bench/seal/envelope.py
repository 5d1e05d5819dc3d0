"""The signature: a DSSE envelope (Dead Simple Signing Envelope, version 1) around bytes, as JSON in one form only.

https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md: what is signed is the pre-authentication encoding
of the payload's type and the payload. The payload is given out only once its signature was found good, by a key that
the caller trusts; the key's id in an envelope only says which of those to try.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from bench.errors import BadSeal
from bench.seal.keys import PrivateKey, PublicKey
from bench.spec import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"

MAX_BYTES = 2**20  # of an envelope; that of a run has some 3000

T = TypeVar("T")


def sign(payload: bytes, key: PrivateKey, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The envelope of a payload, signed."""
    return _encoded(payload, payload_type, key.public.id, key.sign(encoding(payload_type, payload)))


def encoding(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding (PAE) of section "Signature Definition"; lengths are in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def opened(envelope: bytes, trusted: Mapping[PublicKey, T]) -> tuple[bytes, PublicKey]:
    """The payload of an envelope, and which of the trusted keys signed it.

    Raises:
        BadSeal: no trusted key signed these bytes as an in-toto statement, or the envelope is not to the byte as `sign`
            makes it.
    """
    payload, payload_type, key_id, signature = _decoded(envelope)
    key = next((key for key in trusted if key.id == key_id), None)
    if key is None:
        raise BadSeal(
            f"signed with an unknown key, {ascii(key_id[:64])[1:-1]}",
            "Pin the public key of whom you trust, with --key or --trust; never take it from who sent the bundle",
        )
    if not key.has_signed(signature, encoding(payload_type, payload)):
        raise BadSeal(f"the signature of key {key_id[:16]}… does not match: the manifest or the signature was changed")
    if payload_type != PAYLOAD_TYPE:
        raise BadSeal(f"key {key_id[:16]}… signed something else: a payload of type {payload_type[:64]!a}")
    return payload, key


def _encoded(payload: bytes, payload_type: str, key_id: str, signature: bytes) -> bytes:
    signatures = [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}]
    found = {"payload": base64.b64encode(payload).decode(), "payloadType": payload_type, "signatures": signatures}
    return canonical_json(found).encode()


def _decoded(envelope: bytes) -> tuple[bytes, str, str, bytes]:
    """What an envelope holds; of JSON that decodes to the same there are many, of which one is taken."""
    if len(envelope) > MAX_BYTES:
        raise BadSeal(f"the manifest has {len(envelope)} bytes, more than any that vnbench writes")
    try:
        found: Any = json.loads(envelope)
        (signature,) = found["signatures"]
        parts = (
            base64.b64decode(found["payload"], validate=True),
            str(found["payloadType"]),
            str(signature["keyid"]),
            base64.b64decode(signature["sig"], validate=True),
        )
        parts[1].encode()  # half of a surrogate pair is no text
        if _encoded(*parts) == envelope:
            return parts
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise BadSeal("the manifest was changed: it is no DSSE envelope as vnbench writes it")

"""Countersigning: a bundle that holds another one whole, once that was verified."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import bench
from bench.errors import UsageError
from bench.seal.bundle import as_text, seal
from bench.seal.keys import PrivateKey, PublicKey
from bench.seal.statement import Countersignature
from bench.seal.trust import Signer
from bench.seal.verify import INNER, MAX_LINKS, Verified, verify


def countersign(
    bundle: bytes, key: PrivateKey, trusted: Mapping[PublicKey, Signer], now: dt.datetime
) -> tuple[bytes, Verified]:
    """The bundle that holds another one, and what that one says.

    Raises:
        UnreadableResult, BadSeal: the other is not good: see `bench.seal.verify.verify`.
        UsageError: it has as many seals as one can have.
    """
    verified = verify(bundle, trusted, now=now)
    if len(verified.links) == MAX_LINKS:
        raise UsageError(f"this bundle has {MAX_LINKS} seals, as many as one can have")
    return seal({INNER: bundle}, Countersignature(as_text(now), bench.__version__), key), verified

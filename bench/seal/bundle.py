"""Making a bundle: files and what is said of them, signed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UsageError
from bench.files import write_new, writing
from bench.seal import archive, envelope, statement
from bench.seal.keys import PrivateKey
from bench.seal.statement import Predicate


def seal(files: Mapping[str, bytes], predicate: Predicate, key: PrivateKey) -> bytes:
    """The bundle of these files: equal bytes for equal files, predicate and key.

    Raises:
        UsageError: a name or a text is none that a bundle may have, or it is too large.
    """
    try:
        return archive.pack(envelope.sign(statement.state(files, predicate), key), files)
    except ValueError as error:
        raise UsageError(f"this cannot be sealed: {error}") from None


def as_text(moment: dt.datetime) -> str:
    """As predicates have it: UTC, whole seconds."""
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")


def write(target: Path, bundle: bytes) -> None:
    """Write a bundle; one that is there is never replaced, and a failure leaves nothing.

    Raises:
        UsageError: the file is there.
        OutputNotWritable: it cannot be written.
    """
    with writing(target, "Free space or choose another place with --out"):
        try:
            write_new(target, bundle)
        except FileExistsError:
            raise UsageError(
                f"{target} is there already, and no bundle is ever replaced", "Choose another name with --out"
            ) from None

"""Whom one trusts: public keys by name, pinned one by one or from a TOML file.

[operator-hanoi]                     # the name that is shown
key = "MCowBQYDK2VwAyEA…"            # the line within NAME.pub, as vnbench keygen prints it
role = "operator"                    # shown beside the name, and what verify --require may ask for; need not be there
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.seal.keys import PublicKey, load_public

_FORMAT = "The format is described in docs/seal.md"
_MAX_LENGTH = 80  # characters of a name and a role


@dataclass(frozen=True)
class Signer:
    """A key that is trusted, and under which name."""

    key: PublicKey
    name: str
    role: str | None = None

    @property
    def words(self) -> str:
        return f"{self.name} ({self.role})" if self.role else self.name

    def is_called(self, text: str) -> bool:
        return text in (self.name, self.role, self.key.id)


def gather(pinned: Sequence[Path], file: Path | None) -> dict[PublicKey, Signer]:
    """The signers of pinned keys and of a trust file; a pinned key that is in the file has its name from there.

    Raises:
        UsageError: there is none, or a file is wrong.
    """
    found: dict[PublicKey, Signer] = {}
    for path in pinned:
        key = load_public(path)
        found[key] = Signer(key, path.stem if path.stem.isprintable() else repr(path.stem))
    if file is not None:
        found |= {signer.key: signer for signer in load(file)}
    if not found:
        raise UsageError("no key to verify with", "Pin one with --key NAME.pub, or name a file of them with --trust")
    return found


def load(path: Path) -> tuple[Signer, ...]:
    """The signers in a TOML file.

    Raises:
        UsageError: the file cannot be read, or an entry in it is wrong; the text says which.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "Name a readable TOML file") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}", _FORMAT) from None
    signers: dict[PublicKey, Signer] = {}
    for name, entry in data.items():
        signer = _signer(path, name, entry)
        if signer.key in signers:
            raise UsageError(f"{path}: {signers[signer.key].name!r} and {name!r} are the same key", _FORMAT)
        signers[signer.key] = signer
    if not signers:
        raise UsageError(f"{path}: there is no key in it", _FORMAT)
    return tuple(signers.values())


def _signer(path: Path, name: str, entry: Any) -> Signer:
    place = f"{path}: {name[:_MAX_LENGTH]!r}"
    if not _is_label(name):
        raise UsageError(f"{place} is no name of one line and at most {_MAX_LENGTH} characters", _FORMAT)
    if not isinstance(entry, Mapping):
        raise UsageError(f"{place} is no table: write [NAME] and below it key = …", _FORMAT)
    unknown = set(entry) - {"key", "role"}
    if unknown:
        raise UsageError(f"{place} has an unknown key, {min(unknown)!r}; known are 'key' and 'role'", _FORMAT)
    role = entry.get("role")
    if role is not None and not (isinstance(role, str) and _is_label(role)):
        raise UsageError(f"{place}: 'role' is no text of one line and at most {_MAX_LENGTH} characters", _FORMAT)
    try:
        return Signer(PublicKey.from_text(str(entry.get("key"))), name, role)
    except ValueError:
        raise UsageError(
            f"{place}: 'key' is no Ed25519 public key", "Copy the line within NAME.pub, as vnbench keygen prints it"
        ) from None


def _is_label(text: str) -> bool:
    return 0 < len(text) <= _MAX_LENGTH and text.isprintable()

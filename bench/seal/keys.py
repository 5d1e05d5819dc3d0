"""Key pairs: Ed25519 (RFC 8032), in files of the usual form, PEM.

The private key is PKCS #8 and the public one SubjectPublicKeyInfo (RFC 8410), so openssl reads both. A key's id is the
SHA-256 of the public key's DER form. A private key is in its file and in memory, and in no text that is shown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError
from bench.files import write_new, writing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAX_BYTES = 10_000  # of a key's file; an Ed25519 key's has about 120
_DER_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, section 4: what comes before the 32 bytes


@dataclass(frozen=True)
class PublicKey:
    """The 32 bytes that everybody may know."""

    raw: bytes

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(_DER_PREFIX + self.raw).hexdigest()

    @property
    def text(self) -> str:
        """As a trust file has it: the line within the PEM file."""
        return base64.b64encode(_DER_PREFIX + self.raw).decode()

    @property
    def pem(self) -> bytes:
        return f"-----BEGIN PUBLIC KEY-----\n{self.text}\n-----END PUBLIC KEY-----\n".encode()

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        """The key that was written as `text` gives it.

        Raises:
            ValueError: it is none.
        """
        try:
            der = base64.b64decode(text, validate=True)
        except binascii.Error:
            der = b""
        key = cls(der[len(_DER_PREFIX) :])
        if len(key.raw) != 32 or key.text != text:
            raise ValueError("no Ed25519 public key")
        return key

    def has_signed(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature is this key's, of this message."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):  # the latter: bytes that are no point of the curve
            return False
        return True


class PrivateKey:
    """What signs. Its text says whose it is, never what it is."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.id[:16]}…)"

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def generate(stem: Path) -> PublicKey:
    """Make a key pair: ``<stem>.key``, for its owner's eyes from its first moment, and ``<stem>.pub``.

    Raises:
        UsageError: one of the files is there already.
        OutputNotWritable: they cannot be written; neither is left.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private_path, public_path = files_of(stem)
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise UsageError(f"{path} is there already, and no key is ever replaced", "Choose another name")
    key = Ed25519PrivateKey.generate()
    public = PublicKey(key.public_key().public_bytes_raw())
    with writing(private_path, "Choose another place"):
        write_new(private_path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    try:
        with writing(public_path, "Choose another place"):
            write_new(public_path, public.pem)
    except BaseException:
        private_path.unlink()
        raise
    return public


def files_of(stem: Path) -> tuple[Path, Path]:
    """The files of a key pair: the private key's and the public one's.

    Raises:
        UsageError: the path has no name.
    """
    if not stem.name:
        raise UsageError(f"{str(stem)!r} is no name of a key", "Such as: vnbench keygen operator")
    return stem.with_name(stem.name + ".key"), stem.with_name(stem.name + ".pub")


def load_private(path: Path) -> PrivateKey:
    """The private key in a file.

    Raises:
        UsageError: it cannot be read, others may read it, or it is no Ed25519 private key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content, mode = _read(path)
    if b"BEGIN PUBLIC KEY" in content:
        raise UsageError(f"{path} is a public key: it cannot sign", "Name the private one, NAME.key")
    if mode & 0o077:
        raise UsageError(f"{path}: others than its owner may read or change this key", f"chmod 600 {path}")
    key: object = None
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise UsageError(f"{path}: this key has a password", "Name a key that vnbench keygen made") from None
    except (ValueError, UnsupportedAlgorithm):
        pass  # the library's own words are not shown: they could quote the file
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: no Ed25519 private key", "Make one: vnbench keygen NAME")
    return PrivateKey(key)


def load_public(path: Path) -> PublicKey:
    """The public key in a PEM file.

    Raises:
        UsageError: it cannot be read, or is no Ed25519 public key.
    """
    content, _ = _read(path)
    if b"PRIVATE KEY" in content:
        raise UsageError(f"{path} is a private key: a seal is verified with the public one", "Name NAME.pub")
    lines = content.decode("ascii", "replace").split()
    try:
        key = PublicKey.from_text("".join(lines[3:4]))
        if key.pem.decode().split() == lines:
            return key
    except ValueError:
        pass
    raise UsageError(f"{path}: no Ed25519 public key in PEM form", "Name the file NAME.pub of vnbench keygen")


def _read(path: Path) -> tuple[bytes, int]:
    """A small file's bytes and mode, both of the file that was opened."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "Name the file of a key") from None

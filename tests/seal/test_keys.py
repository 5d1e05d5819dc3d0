"""``bench.seal.keys``: pairs in files that only their owner reads, that openssl reads too, and that no text shows."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import OutputNotWritable, UsageError
from bench.seal import keys
from bench.seal.keys import PublicKey
from tests.seal.bundles import OPERATOR


@pytest.fixture
def open_umask() -> Iterator[None]:
    """As where every new file may be read by all."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_only_the_owner_reads_the_private_key_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    monkeypatch.setattr(os, "fsync", lambda fd: modes.append(stat.S_IMODE(os.fstat(fd).st_mode)))
    keys.generate(tmp_path / "operator")
    assert modes == [0o600, 0o644]
    assert [mode_of(tmp_path / name) for name in ("operator.key", "operator.pub")] == [0o600, 0o644]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("taken", ["operator.key", "operator.pub"])
def test_no_key_is_ever_replaced(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UsageError, match=f"{taken} is there already"):
        keys.generate(tmp_path / "operator")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "mine")]


def test_no_key_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "operator.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is there already"):
        keys.generate(tmp_path / "operator")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("failing", [1, 2])
def test_a_full_disk_leaves_neither_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    calls: list[int] = []

    def full(fd: int) -> None:
        calls.append(fd)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputNotWritable, match="No space left"):
        keys.generate(tmp_path / "operator")
    assert list(tmp_path.iterdir()) == []


def test_a_pair_signs_and_verifies(tmp_path: Path) -> None:
    public = keys.generate(tmp_path / "operator")
    private = keys.load_private(tmp_path / "operator.key")
    assert private.public == public == keys.load_public(tmp_path / "operator.pub")
    signature = private.sign(b"message")
    assert public.has_signed(signature, b"message")
    assert not public.has_signed(signature, b"another")
    assert not public.has_signed(signature[:-1], b"message")
    assert not OPERATOR.public.has_signed(signature, b"message")


def test_a_signature_cannot_be_written_in_a_second_way() -> None:
    """RFC 8032, section 5.1.7: S is below the group's order, or adding that would make another good signature."""
    order = 2**252 + 27742317777372353535851937790883648493
    signature = OPERATOR.sign(b"message")
    second = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not OPERATOR.public.has_signed(second, b"message")


def test_openssl_reads_both_keys_and_the_id_is_that_of_its_der_form(tmp_path: Path) -> None:
    public = keys.generate(tmp_path / "operator")

    def openssl(*arguments: str) -> bytes:
        return subprocess.run(["openssl", *arguments], cwd=tmp_path, capture_output=True, check=True).stdout

    assert openssl("pkey", "-in", "operator.key", "-pubout") == public.pem == (tmp_path / "operator.pub").read_bytes()
    der = openssl("pkey", "-pubin", "-in", "operator.pub", "-outform", "DER")
    assert public.id == hashlib.sha256(der).hexdigest()
    assert public.text == base64.b64encode(der).decode()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys.generate(tmp_path / "operator")
    (tmp_path / "operator.key").chmod(mode)
    with pytest.raises(UsageError, match="others than its owner"):
        keys.load_private(tmp_path / "operator.key")


def private_file(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def test_what_is_no_private_key_is_refused_without_quoting_it(tmp_path: Path) -> None:
    secret = b"MC4CAQAwBQYDK2VwBCIEIHRoaXMgbXVzdCBuZXZlciBiZSBzaG93biB0byBhbnlvbmUh"
    texts = [b"", secret, b"-----BEGIN PRIVATE KEY-----\n" + secret[:40] + b"\n-----END PRIVATE KEY-----\n", b"\xff\0"]
    for text in texts:
        with pytest.raises(UsageError, match="no Ed25519 private key") as caught:
            keys.load_private(private_file(tmp_path / "x.key", text))
        assert secret.decode()[:20] not in str(caught.value)
    with pytest.raises(UsageError, match="is a public key"):
        keys.load_private(private_file(tmp_path / "x.key", OPERATOR.public.pem))
    with pytest.raises(UsageError, match="No such file"):
        keys.load_private(tmp_path / "none.key")


def test_a_key_of_another_kind_or_with_a_password_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(UsageError, match="no Ed25519 private key"):
        keys.load_private(private_file(tmp_path / "x.key", other))
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    with pytest.raises(UsageError, match="has a password"):
        keys.load_private(private_file(tmp_path / "x.key", locked))


def test_what_is_no_public_key_is_refused(tmp_path: Path) -> None:
    pem = OPERATOR.public.pem
    for text in (b"", b"\xff", pem[:-30], pem.replace(b"MCow", b"MCox"), pem + pem, pem.replace(b"PUBLIC", b"OTHER")):
        (tmp_path / "x.pub").write_bytes(text)
        with pytest.raises(UsageError, match="no Ed25519 public key"):
            keys.load_public(tmp_path / "x.pub")
    (tmp_path / "crlf.pub").write_bytes(pem.replace(b"\n", b"\r\n"))
    assert keys.load_public(tmp_path / "crlf.pub") == OPERATOR.public
    keys.generate(tmp_path / "mine")
    with pytest.raises(UsageError, match="is a private key"):
        keys.load_public(tmp_path / "mine.key")


@pytest.mark.parametrize("text", ["", "x", "AAAA", OPERATOR.public.text + "=", " " + OPERATOR.public.text])
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no Ed25519 public key"):
        PublicKey.from_text(text)


def test_a_private_key_shows_whose_it_is_and_nothing_else() -> None:
    assert repr(OPERATOR) == str(OPERATOR) == f"PrivateKey({OPERATOR.public.id[:16]}…)"

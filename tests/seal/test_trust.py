"""``bench.seal.trust``: who is trusted, by pinned keys and by a file that is checked key by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.seal.trust import Signer, gather, load
from tests.seal.bundles import INSPECTOR, OPERATOR

KEY, OTHER = OPERATOR.public.text, INSPECTOR.public.text


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trust.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_names_keys_and_their_roles(tmp_path: Path) -> None:
    text = f'[hanoi-1]\nkey = "{KEY}"\nrole = "operator"\n["Kiểm định"]\nkey = "{OTHER}"\n'
    assert load(written(tmp_path, text)) == (
        Signer(OPERATOR.public, "hanoi-1", "operator"),
        Signer(INSPECTOR.public, "Kiểm định", None),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key in it"),
        ("[a", "trust.toml: Expected"),
        ("a = " + "[" * 100_000, "trust.toml"),
        ("a = 1", "'a' is no table"),
        ("[a]", "'a': 'key' is no Ed25519 public key"),
        ("[a]\nkey = 1", "'key' is no Ed25519 public key"),
        ('[a]\nkey = "AAAA"', "'key' is no Ed25519 public key"),
        (f'[a]\nkey = "{KEY}"\nrol = "x"', "unknown key, 'rol'"),
        (f'[a]\nkey = "{KEY}"\nrole = 1', "'role' is no text"),
        (f'[a]\nkey = "{KEY}"\nrole = ""', "'role' is no text"),
        (f'["\\u001B[2J"]\nkey = "{KEY}"', "is no name"),
        (f'[""]\nkey = "{KEY}"', "is no name"),
        (f'[a]\nkey = "{KEY}"\n[b]\nkey = "{KEY}"', "'a' and 'b' are the same key"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, text))
    assert words in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(UsageError, match=r"latin\.toml"):
        load(tmp_path / "latin.toml")


def test_pinned_keys_and_a_file_go_together_and_the_file_names_them(tmp_path: Path) -> None:
    for name, key in (("op", OPERATOR), ("in", INSPECTOR)):
        (tmp_path / f"{name}.pub").write_bytes(key.public.pem)
    pinned = [tmp_path / "op.pub", tmp_path / "in.pub"]
    file = written(tmp_path, f'[hanoi-1]\nkey = "{KEY}"\n')
    assert [one.name for one in gather(pinned, None).values()] == ["op", "in"]
    assert [one.name for one in gather(pinned, file).values()] == ["hanoi-1", "in"]


def test_nobody_is_trusted_unless_somebody_is_named() -> None:
    with pytest.raises(UsageError, match="no key to verify with"):
        gather([], None)

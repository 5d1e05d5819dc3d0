"""``bench.seal.archive``: one form for the same files, any tar opens it, and nothing else passes for it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BadSeal, UnreadableResult
from bench.seal import archive
from bench.seal.archive import MANIFEST, pack, unpack

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True).filter(lambda name: name != MANIFEST)
FILES = {"a.txt": b"first", "b.txt": b"second"}


@settings(deadline=None)
@given(st.binary(max_size=2000), st.dictionaries(NAMES, st.binary(max_size=2000), max_size=5))
def test_what_was_packed_comes_out_and_so_says_another_reader(manifest: bytes, files: dict[str, bytes]) -> None:
    data = pack(manifest, files)
    found = {name: bytes(content) for name, content in unpack(memoryview(data)).items()}
    assert found == {MANIFEST: manifest, **files}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        read = {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar}
    assert read == found
    assert list(read) == [MANIFEST, *sorted(files)]


def test_the_order_in_which_files_are_given_does_not_matter() -> None:
    assert pack(b"{}", FILES) == pack(b"{}", dict(reversed(FILES.items())))


def test_gnu_tar_opens_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(pack(b"{}", FILES))
    done = subprocess.run(["tar", "xvf", "b.tar"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == ([MANIFEST, *FILES], "")
    assert (tmp_path / "b.txt").read_bytes() == b"second"


@pytest.mark.parametrize("name", ["", "../up", "/etc/passwd", "a/b", ".hidden", "a b", "ä", "a" * 101, "a\0", MANIFEST])
def test_a_name_that_is_no_plain_one_is_not_packed(name: str) -> None:
    with pytest.raises(ValueError, match="not the names"):
        pack(b"{}", {name: b""})


def test_too_many_files_and_too_many_bytes_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not the names"):
        pack(b"{}", {f"f{i}": b"" for i in range(archive.MAX_FILES + 1)})
    monkeypatch.setattr(archive, "MAX_BYTES", 4096)
    with pytest.raises(ValueError, match="bytes are more than"):
        pack(b"{}", {"a": bytes(4096)})


def tar_of(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """What a tar program makes of a manifest and these members."""
    manifest = tarfile.TarInfo(MANIFEST)
    manifest.size = 2
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w", format=format) as tar:
        tar.addfile(manifest, io.BytesIO(b"{}"))
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, b"x" if info.type == tarfile.REGTYPE else b""


def packed_prefix() -> bytes:
    return pack(b"{}", {})[:-1024]


def spliced(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A manifest as it is packed, and members behind it as tar writes them."""
    return packed_prefix() + tar_of(*members)[1024:]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (spliced(member("../up")), "'../up' is no name"),
        (spliced(member("/etc/passwd")), "'/etc/passwd' is no name"),
        (spliced(member("a/b")), "'a/b' is no name"),
        (spliced(member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "header of link was changed"),
        (spliced(member("link", type=tarfile.LNKTYPE, linkname=MANIFEST)), "header of link was changed"),
        (spliced(member("folder", type=tarfile.DIRTYPE)), "is no name|header of folder was changed"),
        (spliced(member("pipe", type=tarfile.FIFOTYPE)), "header of pipe was changed"),
        (spliced(member("late", mtime=1)), "header of late was changed"),
        (spliced(member("owned", uname="root")), "header of owned was changed"),
        (spliced(member("setuid", mode=0o4755)), "header of setuid was changed"),
        (pack(b"{}", FILES)[:-1], "cut short, or changed, at its end"),
        (pack(b"{}", FILES)[:-512], "cut short, or changed, at its end"),
        (pack(b"{}", FILES)[:-1024], "cut short, between two files"),
        (pack(b"{}", FILES)[:2000], "cut short, within"),
        (pack(b"{}", FILES)[:1200], "cut short, between two files"),
        (pack(b"{}", FILES) + b"\0", "bytes behind the end of the bundle"),
        (pack(b"{}", FILES) + pack(b"{}", FILES), "bytes behind the end of the bundle"),
        (packed_prefix() + pack(b"{}", {}), f"{MANIFEST} is in the bundle twice"),
        (
            packed_prefix() + pack(b"", {"a": b"1"})[512:-1024] + pack(b"", {"a": b"2"})[512:],
            "a is in the bundle twice",
        ),
        (packed_prefix() + pack(b"", {"b": b"1"})[512:-1024] + pack(b"", {"a": b"2"})[512:], "a is not in its place"),
    ],
)
def test_what_was_not_packed_so_is_refused_and_said(data: bytes, words: str) -> None:
    with pytest.raises(BadSeal, match=words):
        unpack(memoryview(data))


def test_bytes_in_the_padding_are_refused() -> None:
    data = bytearray(pack(b"{}", {}))
    data[512 + 2] = 1
    with pytest.raises(BadSeal, match=f"bytes behind the end of {MANIFEST}"):
        unpack(memoryview(bytes(data)))


def test_more_files_than_are_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(b"{}", {"a": b"", "b": b"", "c": b""})
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(BadSeal, match="more than 2 files"):
        unpack(memoryview(data))


@pytest.mark.parametrize("data", [b"", b"PAR1", bytes(1024), tar_of(member("a"))[1024:], b"PK\x03\x04" + bytes(100)])
def test_what_does_not_begin_as_a_bundle_is_called_none(data: bytes) -> None:
    with pytest.raises(UnreadableResult, match="no bundle"):
        unpack(memoryview(data))

"""The container of a bundle: named bytes in one file, in one form only.

A plain tar archive in POSIX's ustar format (IEEE Std 1003.1, pax, "ustar Interchange Format"), so that any tar opens
it; the manifest first, then the files by name, every other field of a header fixed. What is not to the byte as
`pack` writes it is refused. So no byte of a bundle is outside of what is checked, and there is nothing in it that
two readers could read differently: no links, no folders, no names twice, no bytes behind the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bench.errors import BadSeal, UnreadableResult

MANIFEST = "manifest.dsse.json"

MAX_BYTES = 2 * 2**30  # of a bundle: it is read as a whole
MAX_FILES = 100

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)  # one component, and it fits a header
_OCTAL = re.compile(rb"[0-7]{11}\0")


def pack(manifest: bytes, files: Mapping[str, bytes]) -> bytes:
    """The archive of a manifest and the files it is of.

    Raises:
        ValueError: a name is none that a bundle may have, or there are too many files or bytes.
    """
    wrong = [name for name in files if not _NAME.fullmatch(name) or name == MANIFEST]
    if wrong or len(files) > MAX_FILES:
        raise ValueError(f"not the names of a bundle's files: {wrong or len(files)}")
    parts = []
    for name, content in [(MANIFEST, manifest), *sorted(files.items())]:
        parts += [_header(name, len(content)), content, bytes(-len(content) % _BLOCK)]
    packed = b"".join([*parts, _END])
    if len(packed) > MAX_BYTES:
        raise ValueError(f"{len(packed)} bytes are more than the {MAX_BYTES} of a bundle")
    return packed


def unpack(data: memoryview) -> dict[str, memoryview]:
    """The manifest and the files of an archive, by name; nothing is copied, and nothing in them is read.

    Raises:
        UnreadableResult: this does not begin as a bundle does.
        BadSeal: it is not to the byte as `pack` writes it.
    """
    if bytes(data[:100]) != MANIFEST.encode().ljust(100, b"\0"):
        raise UnreadableResult("this is no bundle that vnbench sealed")
    found: dict[str, memoryview] = {}
    offset = 0
    while bytes(data[offset : offset + _BLOCK]) != bytes(_BLOCK):
        name, size = _read_header(data, offset)
        _expect_in_order(name, list(found))
        begin = offset + _BLOCK
        offset = begin + size + -size % _BLOCK
        if offset > len(data):
            raise BadSeal(f"the bundle is cut short, within {name}")
        if any(data[begin + size : offset]):
            raise BadSeal(f"there are bytes behind the end of {name}")
        found[name] = data[begin : begin + size]
    if bytes(data[offset : offset + len(_END)]) != _END:
        raise BadSeal("the bundle is cut short, or changed, at its end")
    if len(data) != offset + len(_END):
        raise BadSeal("there are bytes behind the end of the bundle")
    return found


def _expect_in_order(name: str, before: list[str]) -> None:
    if name in before:
        raise BadSeal(f"{name} is in the bundle twice")
    if before[1:] and name < before[-1]:
        raise BadSeal(f"{name} is not in its place among the files of the bundle")
    if len(before) > MAX_FILES:
        raise BadSeal(f"there are more than {MAX_FILES} files in the bundle")


def _read_header(data: memoryview, offset: int) -> tuple[str, int]:
    header = bytes(data[offset : offset + _BLOCK])
    if len(header) < _BLOCK:
        raise BadSeal("the bundle is cut short, between two files")
    name, size = header[:100].rstrip(b"\0").decode("ascii", "replace"), header[124:136]
    if not _NAME.fullmatch(name):
        raise BadSeal(f"{name!a} is no name that a file of a bundle has")
    if not _OCTAL.fullmatch(size) or header != _header(name, int(size[:11], 8)):
        raise BadSeal(f"the header of {name} was changed, or it is no plain file")
    return name, int(size[:11], 8)


def _header(name: str, size: int) -> bytes:
    """A header block: a plain file of mode 0644, of nobody, at the beginning of 1970."""
    fields = (
        name.encode("ascii").ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,  # mode, owner, group
        b"%011o\0" % size + b"%011o\0" % 0,  # size, time of the last change
        b" " * 8,  # the checksum is taken with blanks in its own place
        b"0" + bytes(100),  # a plain file, a link to nothing
        b"ustar\x0000" + bytes(64),  # owner and group have no name
        b"0000000\0" * 2 + bytes(167),  # no device, no folder; padding
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]

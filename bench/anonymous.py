"""Names that cannot be traced: what ``--anonymous`` puts in the place of host name, serials and UUIDs."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import platform
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

# systemd's machine-id(5): confidential, the same for ever, and meant to be the key of a hash like this one.
_KEY_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id")
_LENGTH = 12

# A GPU's or a MIG slice's UUID, as NVIDIA writes it, or its beginning, which CUDA_VISIBLE_DEVICES may hold.
_UUID = r"\b(?:GPU|MIG)-[0-9a-fA-F]{4,}(?:-[0-9a-fA-F]+)*\b"
# Keys under which the environment names a single part, and what is no name of one: a board without a serial says "0".
_SERIAL_KEYS = re.compile(r"(^|_)serial(_|$)")
_NO_SERIAL = re.compile(r"0*|.{1,3}|id-[0-9a-f]{12}")
# Keys whose text others wrote, so that the host's name may stand in it. Elsewhere a short one would match by chance.
_FOREIGN_TEXT = ("reason", "device_error")


def pseudonym(name: str, kind: str = "id") -> str:
    """The same word for the same name on this machine, from which the name cannot be guessed elsewhere.

    HMAC-SHA256 (RFC 2104) under this machine's id; a plain hash of a host name would be found by trying names.
    """
    return f"{kind}-{hmac.new(_machine_id(), name.encode(), hashlib.sha256).hexdigest()[:_LENGTH]}"


def scrubbed(value: Any, names: Collection[str] = ()) -> Any:
    """A JSON-like value in which UUIDs, serials and the given names are pseudonyms, wherever they stand in a text."""
    secrets = {*names, *serials(value)}
    parts = [*(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(filter(None, secrets))), _UUID]
    return _replaced(value, re.compile("|".join(parts)), re.compile(rf"\b{re.escape(platform.node())}\b"))


def _replaced(value: Any, names: re.Pattern[str], host: re.Pattern[str], key: str = "") -> Any:
    if isinstance(value, str):
        if key in _FOREIGN_TEXT and platform.node():
            value = host.sub(lambda found: pseudonym(found[0], "node"), value)
        return names.sub(lambda found: pseudonym(found[0]), value)
    if isinstance(value, Mapping):
        return {name: _replaced(each, names, host, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(each, names, host, key) for each in value)
    return value


def serials(value: Any, key: str = "") -> set[str]:
    """The serials in a JSON-like value, found by the keys that they stand under."""
    if isinstance(value, Mapping):
        return {serial for name, each in value.items() for serial in serials(each, name)}
    if isinstance(value, list | tuple):
        return {serial for each in value for serial in serials(each, key)}
    is_serial = _SERIAL_KEYS.search(key) and isinstance(value, str | int) and not _NO_SERIAL.fullmatch(str(value))
    return {str(value)} if is_serial else set()


def _machine_id() -> bytes:
    for path in _KEY_FILES:
        with contextlib.suppress(OSError):
            if content := Path(path).read_bytes().strip():
                return content
    return b""  # no Linux without a boot id is known; names are then hashed without a key

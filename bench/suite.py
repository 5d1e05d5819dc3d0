"""Suites: TOML files that name workloads, a policy and how often to repeat.

description = "what it is for"
replicates = 5                       # fresh processes per workload
timeout_s = 60                       # of one workload in one process
workloads = ["matmul/fp32/1024"]     # on every device; names or globs

[cpu]                                # and on this kind of device
workloads = ["matmul/bf16/*"]

[policy]                             # warm-up and sampling rules, see docs/method.md
max_s = 0.5
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import BadSuite, UsageError
from bench.stopping import WARMUP_RULES
from bench.types import DeviceKind, Policy

FOLDER = Path(__file__).with_name("suites")
DEFAULT = "quick"

_FORMAT = "The format is described in docs/suites.md"
_KINDS: tuple[DeviceKind, ...] = ("cpu", "cuda")


@dataclass(frozen=True)
class Suite:
    """A named list of workloads with a policy."""

    name: str
    description: str = ""
    workloads: tuple[str, ...] = ()
    by_kind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    policy: Policy = Policy()
    replicates: int = 5
    timeout_s: float = 120.0

    def on(self, kind: DeviceKind) -> tuple[str, ...]:
        """The workloads for such a device, each once. A fake device plays a CPU."""
        key = "cpu" if kind == "fake" else kind
        return tuple(dict.fromkeys((*self.workloads, *self.by_kind.get(key, ()))))


def names() -> list[str]:
    """The suites that come with vnbench."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def choose(texts: Sequence[str]) -> Suite:
    """The suite behind the arguments of ``vnbench run``: a suite, workloads, globs, or a suite and more workloads.

    Raises:
        UsageError: two suites at once.
        BadSuite, UnknownWorkload: see ``load`` and ``registry.match``.
    """
    suites = [text for text in texts if text in names() or text.endswith(".toml")]
    if len(suites) > 1:
        raise UsageError(f"two suites at once: {' and '.join(suites)}", "Run one after the other")
    workloads = [name for text in texts if text not in suites for name in registry.match(text, names())]
    if not texts:
        suites = [DEFAULT]
    base = load(suites[0]) if suites else Suite("custom", "workloads named on the command line")
    return dataclasses.replace(base, workloads=tuple(dict.fromkeys((*base.workloads, *workloads))))


def load(text: str) -> Suite:
    """A suite by its name or the path of its file.

    Raises:
        BadSuite: the file cannot be read, or a key in it is wrong; the text says which and where.
    """
    path = Path(text) if text.endswith(".toml") else FOLDER / f"{text}.toml"
    try:
        source = path.read_text(encoding="utf-8-sig")
        data = tomllib.loads(source)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSuite(f"{path}: {getattr(error, 'strerror', None) or error}", "Name a readable TOML file") from None
    except RecursionError:
        raise BadSuite(f"{path}: nested too deep", _FORMAT) from None
    except ValueError as error:  # TOML's own, or an integer beyond what Python takes in
        raise BadSuite(f"{path}: {error}", _FORMAT) from None
    return _Reader(path, source).suite(data)


class _Reader:
    """Checks every key of a suite file, and knows the line a key stands on."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.lines = source.splitlines()

    def suite(self, data: Mapping[str, Any]) -> Suite:
        known = {"description": str, "replicates": int, "timeout_s": (int, float), "workloads": list, "policy": dict}
        self.check_types(data, known | dict.fromkeys(_KINDS, dict))
        values = {key: data[key] for key in ("description", "replicates", "timeout_s") if key in data}
        for key in ("replicates", "timeout_s"):
            self.check_number((key,), values.get(key, 1))
        by_kind: dict[str, tuple[str, ...]] = {}
        for kind in _KINDS:
            self.check_types(data.get(kind, {}), {"workloads": list}, kind)
            by_kind[kind] = self.workloads(data.get(kind, {}), kind)
        suite = Suite(
            self.path.stem, workloads=self.workloads(data), by_kind=by_kind, policy=self.policy(data), **values
        )
        if not (suite.workloads or any(by_kind.values())):
            raise self.bad(("workloads",), "names no workload")
        return suite

    def workloads(self, data: Mapping[str, Any], *section: str) -> tuple[str, ...]:
        chosen: list[str] = []
        for text in data.get("workloads", []):
            if not isinstance(text, str):
                raise self.bad((*section, "workloads"), f"{text!r} is not a workload's name")
            try:
                chosen += registry.match(text)
            except UsageError as error:
                raise self.bad((*section, "workloads", text), str(error)) from None
        return tuple(dict.fromkeys(chosen))

    def policy(self, data: Mapping[str, Any]) -> Policy:
        values = data.get("policy", {})
        defaults = dataclasses.asdict(Policy())
        numbers = (int, float)
        known = {key: numbers if isinstance(value, float) else type(value) for key, value in defaults.items()}
        self.check_types(values, known, "policy")
        for key, value in values.items():
            if key == "warmup_rule":
                if value not in WARMUP_RULES:
                    raise self.bad(("policy", key), f"{value!r} is no rule; there are: {', '.join(WARMUP_RULES)}")
            else:
                self.check_number(("policy", key), value)
        # 1 and 1.0 are the same rule and must hash alike.
        return Policy(**{key: type(defaults[key])(value) for key, value in values.items()})

    def check_types(self, data: Mapping[str, Any], known: Mapping[str, Any], *section: str) -> None:
        for key, value in data.items():
            if key not in known:
                raise self.bad((*section, key), f"is not a key here; there are: {', '.join(known)}")
            if not isinstance(value, known[key]) or isinstance(value, bool):
                raise self.bad((*section, key), f"has a value of the wrong kind: {value!r}")

    def check_number(self, keys: Sequence[str], value: float) -> None:
        if not 0 < value < math.inf:
            raise self.bad(keys, "must be above zero and finite")

    def bad(self, keys: Sequence[str], what: str) -> BadSuite:
        """The error of the last of ``keys``, which stands in the sections or keys before it."""
        line = 1
        for key in keys:
            # The parser gives no lines, so they are looked for: `key =`, `[key]`, `key.`, or the text itself in quotes.
            word = re.compile(rf"""(^|[\[{{,.])\s*["']?{re.escape(key)}["']?\s*[\].=]|["']{re.escape(key)}["']""")
            numbers = range(line, len(self.lines) + 1)
            line = next((number for number in numbers if word.search(self.lines[number - 1])), line)
        return BadSuite(f"{self.path}, line {line}: {keys[-1]!r} {what}")

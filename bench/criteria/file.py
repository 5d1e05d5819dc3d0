"""A criteria file: found by name or path, and read with every key and value checked.

The format, and an example, are in docs/acceptance.md. Limits become base units here.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import registry
from bench.criteria.facts import FACTS, METRICS, STATES
from bench.criteria.model import (
    FORMAT,
    KINDS,
    Answers,
    Criteria,
    Criterion,
    Inventory,
    Limit,
    Performance,
    Soak,
    State,
    Uniformity,
)
from bench.criteria.values import SEE, Values, is_number, is_sha256, shown
from bench.errors import UsageError
from bench.sequential import Design
from bench.types import LONGEST_SOAK_HOURS, DeviceKind

FOLDER = Path(__file__).parent

_COMMON = ("id", "source", "note")
# The keys of each table beside the common ones and its limits.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "inventory": ("what", "unit"),
    "performance": ("workload", "metric", "unit", "of"),
    "uniformity": ("workload",),
    "state": ("column", "unit"),
    "answers": ("workloads", "golden"),
    "soak": ("hours", "workload", "cool_down_minutes"),
}
_LIMITS_OF: Mapping[str, tuple[str, ...]] = {
    "inventory": ("at_least", "at_most", "equal", "one_of"),
    "performance": ("at_least", "at_most"),
    "uniformity": ("at_least",),
    "state": ("at_least", "at_most", "equal", "none_of"),
    "answers": (),
    "soak": (),
}
_OF = ("measured roof", "datasheet")


def names() -> list[str]:
    """The criteria that come with vnbench."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def path_of(text: str) -> Path:
    """Where criteria lie: those of that name, or else the file itself."""
    return FOLDER / f"{text}.toml" if text in names() else Path(text)


def load(text: str) -> Criteria:
    """Criteria by their name, ``h100-sxm``, or the path of their file.

    Raises:
        UsageError: there is no such file, or a key in it is wrong; the text says which and where.
    """
    path = path_of(text)
    try:
        content = path.read_bytes()
        return _Reader(path).criteria(tomllib.loads(content.decode("utf-8-sig")), hashlib.sha256(content).hexdigest())
    except OSError as error:
        there_are = f"Name a readable TOML file, or one of: {', '.join(names())}"
        raise UsageError(f"{path}: {error.strerror or error}", there_are) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {error}", "Name a TOML file in UTF-8") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deep", SEE) from None
    except (ValueError, OverflowError) as error:  # TOML's own, or an integer beyond what Python takes in
        raise UsageError(f"{path}: {error}", SEE) from None


class _Reader(Values):
    """Checks every key of a criteria file."""

    def criteria(self, data: Mapping[str, Any], sha256: str) -> Criteria:
        self.check_keys(data, ("format", "title", "device", "confidence", "looks", *KINDS), "")
        if data.get("format") != FORMAT or isinstance(data.get("format"), bool):
            stated = shown(data["format"]) if "format" in data else "missing"
            self.bad("", "format", f"is {stated}; this vnbench reads format {FORMAT}")
        title = self.text(data, "title", "")
        device = data.get("device")
        if device not in ("cuda", "cpu"):
            self.bad("", "device", f"is {shown(device)}; it is the kind that is judged: cuda or cpu")
        self.device: DeviceKind = device
        confidence, looks = self.design(data)
        found = [
            self.criterion(kind, entry, index) for kind in KINDS for index, entry in enumerate(self.tables(data, kind))
        ]
        if not found:
            self.bad("", ", ".join(KINDS), "are all missing: nothing is demanded")
        if sum(isinstance(one, Soak) for one in found) > 1:
            self.bad("", "soak", "is there twice; a node is soaked once")
        seen: set[str] = set()
        for one in found:
            if one.id in seen:
                self.bad("", "id", f"{one.id!r} is there twice")
            seen.add(one.id)
        return Criteria(self.path, title, device, tuple(found), sha256, confidence, looks)

    def design(self, data: Mapping[str, Any]) -> tuple[float, tuple[int, ...]]:
        confidence, looks = data.get("confidence", Criteria.confidence), data.get("looks", [5, 8, 12])
        if not is_number(confidence) or not 0.5 <= confidence <= 0.9999:
            self.bad("", "confidence", f"is {shown(confidence)}; it must be from 0.5 to 0.9999")
        if not isinstance(looks, list) or not all(type(look) is int for look in looks) or max(looks, default=0) > 200:
            self.bad("", "looks", f"is {shown(looks)}; it lists numbers of replicates up to 200, such as [5, 8, 12]")
        try:
            Design(tuple(looks), 1 - confidence)
        except ValueError as error:
            self.bad("", "looks", f"is {shown(looks)}: {error}".replace("sessions", "replicates"))
        return float(confidence), tuple(looks)

    def tables(self, data: Mapping[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
        entries = data.get(kind, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.bad("", kind, f"is a list of tables: write [[{kind}]]")
        return entries

    def criterion(self, kind: str, entry: Mapping[str, Any], index: int) -> Criterion:
        place = f"[[{kind}]] number {index + 1}"
        name = self.text(entry, "id", place)
        if re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,39}", name) is None:
            self.bad(place, "id", f"is {shown(name)}; it is up to 40 of a-z, 0-9, '.' and '-'")
        place = f"[[{kind}]] {name}"
        self.check_keys(entry, (*_COMMON, *_KEYS[kind], *_LIMITS_OF[kind]), place)
        common = {"id": name, "source": self.text(entry, "source", place)}
        if "note" in entry:
            common["note"] = self.text(entry, "note", place)
        make = {
            "inventory": self.inventory,
            "performance": self.performance,
            "uniformity": self.uniformity,
            "state": self.state,
            "answers": self.answers,
            "soak": self.soak,
        }
        found: Criterion = make[kind](entry, place, common)
        return found

    def inventory(self, entry: Mapping[str, Any], place: str, common: Mapping[str, Any]) -> Inventory:
        what = self.one_of(entry, "what", FACTS, place)
        fact = FACTS[what]
        limit = self.limit(entry, place, fact.kind, self.factor(entry, place, fact.unit))
        return Inventory(**common, limit=limit, what=what)

    def state(self, entry: Mapping[str, Any], place: str, common: Mapping[str, Any]) -> State:
        column = self.one_of(entry, "column", STATES, place)
        figure = STATES[column]
        limit = self.limit(entry, place, figure.kind, self.factor(entry, place, figure.unit), (figure.limit,))
        if limit.equal is True:
            self.bad(place, "equal", "is true; a state can only be demanded to be false")
        return State(**common, limit=limit, column=column)

    def answers(self, entry: Mapping[str, Any], place: str, common: Mapping[str, Any]) -> Answers:
        named = entry.get("workloads", [])
        if not isinstance(named, list):
            self.bad(place, "workloads", f"is {shown(named)}; it is a list of workloads")
        workloads = [self.workload({"workloads": text}, place, "workloads") for text in named]
        golden = entry.get("golden", {})
        if not isinstance(golden, dict) or not all(is_sha256(value) for value in golden.values()):
            self.bad(place, "golden", "is a table of SHA-256 in hex: what vnbench golden collect --toml prints")
        return Answers(
            **common,
            limit=Limit(at_most=0),
            workloads=tuple(dict.fromkeys(workloads)),
            golden=tuple(sorted(golden.items())),
        )

    def performance(self, entry: Mapping[str, Any], place: str, common: Mapping[str, Any]) -> Performance:
        workload = self.workload(entry, place)
        metric = None if "metric" not in entry else self.one_of(entry, "metric", METRICS, place)
        of = None if "of" not in entry else self.one_of(entry, "of", _OF, place)
        if of is not None and (metric is not None or "unit" in entry):
            self.bad(place, "of", "makes the limit a fraction of a roof, which has neither 'unit' nor 'metric'")
        if of is None and "unit" not in entry:
            self.bad(place, "unit", "is missing: the limit's, such as TFLOP/s; or say what it is a fraction 'of'")
        factor, unit = self.unit(entry, place) if of is None else (1.0, "1")
        resolved = registry.resolve(workload)
        if of == "measured roof" and not resolved.kernel.roofs(resolved.params, self.device):
            self.bad(place, "of", f"{workload} is held against no measured roof; say 'datasheet', or give a 'unit'")
        work = resolved.kernel.work(resolved.params)
        its_unit = METRICS[metric].unit if metric else None
        its_unit = its_unit or (work.unit if work is not None else unit)
        if of is None and its_unit != unit:
            figure = f"{metric or 'the figure'} of {workload}"
            self.bad(place, "unit", f"is {shown(entry['unit'])}; {figure} is in {its_unit}")
        # A headline is a rate, and so is its fraction of a roof: more is better, and too much is no fault.
        sensible = METRICS[metric].limits if metric else ("at_least",)
        limit = self.limit(entry, place, "number", factor, sensible)
        self.positive_and_alone(limit, place)
        return Performance(**common, limit=limit, workload=workload, metric=metric, unit=unit, of=of)  # type: ignore[arg-type]

    def uniformity(self, entry: Mapping[str, Any], place: str, common: Mapping[str, Any]) -> Uniformity:
        workload = self.workload(entry, place)
        if registry.devices_of(workload) > 1:
            self.bad(place, "workload", f"{workload} takes several devices together: none of them can be the slowest")
        limit = self.limit(entry, place, "number", 1.0, ("at_least",))
        self.positive_and_alone(limit, place)
        if float(limit.at_least or 0) >= 1:
            self.bad(place, "at_least", "must be below 1: about half of all devices are below their median")
        return Uniformity(**common, limit=limit, workload=workload)

    def soak(self, entry: Mapping[str, Any], place: str, common: Mapping[str, Any]) -> Soak:
        workload = self.workload(entry, place)
        if registry.devices_of(workload) > 1:
            self.bad(place, "workload", f"{workload} takes several devices together; a soak loads each by itself")
        hours = self.between(entry, place, "hours", 1e-6, LONGEST_SOAK_HOURS)
        pause = self.between({"cool_down_minutes": Soak.cool_down_minutes, **entry}, place, "cool_down_minutes", 0, 60)
        return Soak(**common, limit=Limit(at_least=hours), workload=workload, cool_down_minutes=pause)

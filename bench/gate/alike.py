"""Whether two sides of a gate are alike: the same work under the same rules, on the same machine in the same state."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from bench import environment
from bench.errors import UsageError
from bench.gate.side import Cell, Machine, Side

CALIBRATION_TOLERANCE = 0.05  # as of `unfit:calibration-shift` within one pass

# What is asked of a cell, in words, and what to do where it differs.
_WORK = {
    "spec_id": ("it is other work", "set a new baseline"),
    "policy_id": ("it is sampled by other rules", "measure under the baseline's policy, or set a new baseline"),
    "unit": ("it counts something else", "set a new baseline"),
    "better": ("it counts the other way", "set a new baseline"),
    "threads": ("it may use other CPUs", "measure with as many, or set a new baseline"),
    "world_size": ("other devices were loaded with it", "measure with the same --device, or set a new baseline"),
}
_REMEDIES = {
    "hardware": "it is another machine: set a baseline of its own",
    "software": "if that is what is to be tested: --vary {key}; else set a new baseline",
    "settings": "if that is what is to be tested: --vary {key}; else set it back or set a new baseline",
}
_SHORT = 60  # characters of a value in a reason


def check_vary(keys: Iterable[str]) -> frozenset[str]:
    """The keys that the user varies.

    Raises:
        UsageError: one is none of the software and settings keys.
    """
    known = (*environment.KEYS["software"], *environment.KEYS["settings"])
    chosen = frozenset(keys)
    for key in sorted(chosen.difference(known)):
        what = "is of the hardware, which has to be equal" if key in environment.KEYS["hardware"] else "is no key"
        raise UsageError(f"--vary {key}: {key!r} {what}", f"There are: {', '.join(known)}")
    return chosen


def work(baseline: Cell, current: Cell) -> list[str]:
    """In what the work of two cells differs, a reason each; an empty list where they are alike."""
    reasons = []
    for key, (meaning, remedy) in _WORK.items():
        sides = baseline.alike[key], current.alike[key]
        if key == "better" and None in (*sides[0], *sides[1]):
            reasons.append("which way is good is not known, so no ratio is worse than another")
        elif len({*sides[0], *sides[1]}) > 1:
            reasons.append(f"{_differ(key, *sides)}: {meaning}; {remedy}")
    return reasons


def machines(baseline: Machine | None, current: Machine | None, vary: Collection[str]) -> list[str]:
    """In what two machines differ beyond the keys that are varied, a reason each; unknown is not equal to known."""
    if baseline is None or current is None:
        where = "baseline" if baseline is None else "current results"
        return [f"the {where} did not record the environment: set a new baseline, or measure again"]
    reasons = []
    for kind, keys in environment.KEYS.items():
        for key in keys:
            sides = baseline.keys[key], current.keys[key]
            if key not in vary and not _same(key, {*sides[0], *sides[1]}):
                reasons.append(f"{_differ(key, *sides)}: {_REMEDIES[kind].format(key=key)}")
    return reasons + _calibration(baseline.calibration_ns, current.calibration_ns)


def notes(baseline: Side, current: Side) -> tuple[str, ...]:
    """What does not forbid to compare two sides, and yet may be in the ratio."""
    found = []
    if baseline.nodes.isdisjoint(current.nodes):
        found.append(
            f"the baseline is of {_nodes(baseline)}, the current results are of {_nodes(current)}: what two machines "
            "differ in is in the ratio"
        )
    for device in sorted(baseline.machines.keys() & current.machines.keys()):
        uuids = baseline.machines[device].uuids, current.machines[device].uuids
        if uuids[0] and uuids[1] and uuids[0].isdisjoint(uuids[1]):
            found.append(f"{device} is another GPU than the baseline's: what two of a kind differ in is in the ratio")
        if baseline.machines[device].calibration_ns is None and current.machines[device].calibration_ns is None:
            found.append(f"{device}: no calibration on either side: what a change of the machine's state does is in it")
    return tuple(found)


def _nodes(side: Side) -> str:
    return f"node {min(side.nodes)}" if len(side.nodes) == 1 else f"{len(side.nodes)} other nodes"


def _same(key: str, values: Collection[Any]) -> bool:
    return environment.same_memory(list(values)) if key == "memory_bytes" else len(values) == 1


def _calibration(baseline_ns: float | None, current_ns: float | None) -> list[str]:
    if baseline_ns is None and current_ns is None:
        return []  # a note: see `notes`
    if baseline_ns is None or current_ns is None:
        where = "baseline" if baseline_ns is None else "current results"
        return [
            f"the {where} did not record the calibration workload, so whether the machine is in the same state is not "
            "known: set a new baseline, or measure again"
        ]
    shift = max(baseline_ns, current_ns) / min(baseline_ns, current_ns) - 1
    if shift <= CALIBRATION_TOLERANCE:
        return []
    return [
        f"the calibration workload took {baseline_ns / 1e6:.2f} ms in the baseline, {current_ns / 1e6:.2f} ms now "
        f"({shift:.0%}, limit {CALIBRATION_TOLERANCE:.0%}): the machine is in another state; let it settle and measure "
        "again, or set a new baseline"
    ]


def _differ(key: str, baseline: Collection[Any], current: Collection[Any]) -> str:
    return f"{key} differs: {_shown(baseline)} in the baseline, {_shown(current)} now"


def _shown(values: Collection[Any]) -> str:
    text = " | ".join("–" if value is None else str(value) or "none" for value in values)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"

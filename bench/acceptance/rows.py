"""What can be made of a workload's rows before any figure is looked at: wrong answers, failures, what is unfit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from bench import fitness
from bench.acceptance.model import Finding, Outcome
from bench.message import Message, joined, say
from bench.schema import Row

# Flags that speak against the device under test itself: its figures decide nothing while they are there, and no
# replicate is chosen around them. Other unfit flags are disturbances from outside: those replicates are set aside.
_OF_THE_DEVICE = frozenset(
    {
        "unfit:no-answer",
        "unfit:xid",
        "unfit:ecc-uncorrected",
        "unfit:row-remap-failed",
        "unfit:row-remap-pending",
        "unfit:throttled",
        "unfit:too-hot",
        "unfit:nvlink-down",
        "unfit:pcie-width",
        "unfit:power-limit",
        "unfit:clocks-locked",
        "mixed-environment",
        "unwatched",
    }
)


def device_of(row: Row) -> str:
    """``cuda:0``, ``cpu``: as `bench.types.DeviceInfo.label` has it."""
    return "cpu" if row["device"] == "cpu" else f"{row['device']}:{row['device_index']}"


def is_wrong(row: Row) -> bool:
    """Whether its answer was wrong, by its status or by the figures of its check."""
    if row["status"] == "wrong":
        return True
    error, tolerance = row["check_error"], row["check_tolerance"]
    return row["status"] == "ok" and error is not None and tolerance is not None and not error <= tolerance


def failure(row: Row) -> Message | None:
    """What failed, in words; None where nothing did. Outcomes that this version does not know are failures."""
    if row["status"] not in ("ok", "unsupported", "wrong"):
        return joined(": ", (row["status"], row["reason"]))
    value = row["value"]
    if row["status"] == "ok" and not (value is not None and math.isfinite(value) and value > 0):
        return say("its value is no positive number: {value}", value=value)
    return None


def obstacle(device: str, rows: Sequence[Row]) -> Finding | None:
    """Why a workload's rows on a device bear no figure; None where they do. Rows are in the order of replicates."""

    def found(outcome: Outcome, words: Message) -> Finding:
        return Finding(device, outcome, words, n=len(rows))

    if not rows:
        return found("INCONCLUSIVE", say("not measured"))
    for row in rows:
        if is_wrong(row):
            words = say(
                "wrong answer in replicate {replicate}: {why}", replicate=row["replicate"], why=_check_words(row)
            )
            return found("FAIL", words)
    for row in rows:
        if (failed := failure(row)) is not None:
            return found("ERROR", say("replicate {replicate}: {why}", replicate=row["replicate"], why=failed))
    unsupported = [row for row in rows if row["status"] == "unsupported"]
    if unsupported:
        return found("INCONCLUSIVE", say("not measured: unsupported: {why}", why=unsupported[0]["reason"]))
    if flags := counted(flag for row in rows for flag in own_flags(row)):
        words = say("the device was not fit to be measured: {flags} of {n} replicates", flags=flags, n=len(rows))
        return Finding(device, "INCONCLUSIVE", words, n=len(rows), is_unfit=True)
    return None


def own_flags(row: Row) -> list[str]:
    """The flags that forbid any figure of its device; those of later versions among them."""
    return [
        flag
        for flag in row["validity"] or ()
        if flag in _OF_THE_DEVICE or (fitness.is_unfit(flag) and flag not in fitness.RULES)
    ]


def disturbances(row: Row) -> list[str]:
    """The flags of what came from outside while it was measured; a script's figures are disturbed by nothing."""
    if "simulated" in (row["validity"] or ()):
        return []
    return [flag for flag in row["validity"] or () if fitness.is_unfit(flag) and flag not in own_flags(row)]


def set_aside_words(rows: Sequence[Row]) -> Message:
    """``2 of 7 replicates set aside (unfit:steal in 2)``; empty where none was."""
    aside = [row for row in rows if disturbances(row)]
    if not aside:
        return joined("", ())
    flags = counted(flag for row in aside for flag in disturbances(row))
    return say("{aside} of {n} replicates set aside ({flags})", aside=len(aside), n=len(rows), flags=flags)


def counted(flags: Iterable[str]) -> Message:
    """``unfit:steal in 2, unfit:throttled in 1``"""
    found = sorted(Counter(flags).items())
    return joined(", ", (say("{flag} in {count}", flag=flag, count=count) for flag, count in found))


def _check_words(row: Row) -> str:
    if row["status"] == "wrong" and row["reason"]:
        return str(row["reason"])
    if row["check_error"] is None or row["check_tolerance"] is None:
        return say("its check failed")
    return say(
        "error {error:.6g}, where {tolerance:.6g} is tolerated",
        error=row["check_error"],
        tolerance=row["check_tolerance"],
    )

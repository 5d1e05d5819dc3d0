"""What speaks against a figure: the flags of the column ``validity``, each with its rule, its words and its remedy.

A flag that begins with ``unfit:`` says that the machine was not fit to measure; ``--strict`` then exits with 4.
"""

from __future__ import annotations

from dataclasses import dataclass

CALIBRATION_SHIFT = 0.05
STEAL = 0.01
FOREIGN_CPU = 0.05
# The kernel counts in ticks of 10 ms: what is not above two of them is no evidence, whatever its share.
LEAST_CPU_S = 0.025
# Roof and workload are measured one after the other; a hair above is noise, more is a roof found too low.
ABOVE_ROOF = 1.02


@dataclass(frozen=True)
class Flag:
    """What a flag means to a reader, and what to do about it."""

    name: str
    word: str  # in a table
    meaning: str
    remedy: str


FLAGS = {
    flag.name: flag
    for flag in (
        Flag(
            "unfit:calibration-shift",
            "unfit",
            f"the calibration workload changed by more than {CALIBRATION_SHIFT:.0%} over the pass",
            "let the machine settle, stop what else runs on it, and run again",
        ),
        Flag(
            "unfit:steal",
            "unfit",
            f"the hypervisor gave more than {STEAL:.0%} of the CPU time to others",
            "measure on a dedicated host, or ask for one without CPU overcommitment",
        ),
        Flag(
            "unfit:foreign-load",
            "unfit",
            f"other processes used more than {FOREIGN_CPU:.0%} of the CPU time",
            "stop them, or measure when they are idle",
        ),
        Flag(
            "no-steady-state",
            "unsteady",
            "the warm-up ended at its limit, not at a steady state",
            "read the samples as they are",
        ),
        Flag(
            "roof-too-low", "low roof", "the workload ran above its measured roof", "trust the value, not the fraction"
        ),
        Flag(
            "mixed-environment",
            "mixed",
            "the run was resumed under another driver, library or device",
            "start a new run",
        ),
        Flag("cut-short", "cut short", "the budget ended sampling early", "give a larger --budget"),
        Flag("simulated", "simulated", "the device is a script: the figure measures nothing", "measure a real device"),
    )
}


def is_unfit(flag: str) -> bool:
    return flag.startswith("unfit:")


def host_flags(steal_fraction: float | None, foreign_cpu_fraction: float | None, cpu_s: float) -> list[str]:
    """Flags of the host's state while a workload was timed.

    Args:
        cpu_s: all CPUs' time together.
    """
    least = LEAST_CPU_S / cpu_s if cpu_s > 0 else 1.0
    flags = []
    if steal_fraction is not None and steal_fraction > max(STEAL, least):
        flags.append("unfit:steal")
    if foreign_cpu_fraction is not None and foreign_cpu_fraction > max(FOREIGN_CPU, least):
        flags.append("unfit:foreign-load")
    return flags


def calibration_flags(before_ns: int | None, after_ns: int | None) -> list[str]:
    """A flag where the calibration workload took another time after the pass than before."""
    if not before_ns or not after_ns:
        return []
    shift = max(before_ns, after_ns) / min(before_ns, after_ns) - 1
    return ["unfit:calibration-shift"] if shift > CALIBRATION_SHIFT else []


def roof_flags(fraction: float | None) -> list[str]:
    return ["roof-too-low"] if fraction is not None and fraction > ABOVE_ROOF else []

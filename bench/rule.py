"""One rule of fitness: the figure it takes from a row's columns, its limit, and its words.

The functions below make the figures: each gives one from a state, or None where the state does not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

State = Mapping[str, Any]  # the columns of a row, or some of them
Value = Callable[[State], float | None]
Words = Callable[[State, float], str]

# The kernel counts in ticks of 10 ms: what is not above two of them is no evidence, whatever its share.
LEAST_CPU_S = 0.025
# In a window this long, ten readings a second leave no doubt about how long a device was held back, but for a gap.
LONG_WINDOW_S = 0.5


@dataclass(frozen=True)
class Rule:
    """A flag: what it means to a reader, when it fires, and what to do about it.

    ``value`` gives the figure that is held against ``limit``, None where the state does not tell; the flag fires
    above the limit. ``show`` is the figure in words. Without a ``value``, whoever measured sets the flag.
    """

    flag: str
    word: str  # in a table
    meaning: str
    remedy: str
    limit: float = 0.0
    value: Value = lambda state: None
    show: Words = lambda state, value: f"{value:g}"
    show_limit: str = ""


def column(name: str) -> Value:
    def value(state: State) -> float | None:
        found = state.get(name)
        return None if found is None else float(found)

    return value


def count(name: str) -> Value:
    def value(state: State) -> float | None:
        found = state.get(name)
        return None if found is None else float(len(found))

    return value


def listed(name: str) -> Words:
    return lambda state, value: ", ".join(map(str, state[name]))


def percent(state: State, value: float) -> str:
    return f"{value:.1%}"


def cpu_share(name: str) -> Value:
    """A share of the CPU time, zero where it is too little to be seen in ticks."""

    def value(state: State) -> float | None:
        share, cpu_s = state.get(name), state.get("host_cpu_s")
        if share is None or cpu_s is None:
            return None
        return float(share) if share * cpu_s > LEAST_CPU_S else 0.0

    return value


def calibration_shift(state: State) -> float | None:
    before_ns, after_ns = state.get("calibration_before_ns"), state.get("calibration_after_ns")
    if not before_ns or not after_ns:
        return None
    return float(max(before_ns, after_ns) / min(before_ns, after_ns)) - 1.0


def held_back(seconds: str, reasons: tuple[str, ...]) -> Value:
    """The share of the window that was spent held back; all of it where only the reason is known."""

    def value(state: State) -> float | None:
        held_s, named = state.get(seconds), state.get("throttle_reasons")
        if held_s is None:
            return None if named is None else float(any(name in reasons for name in named))
        window_s = (state["timed_until"] - state["timed_from"]).total_seconds()
        return held_s / window_s if window_s > 0 else None

    return value


def held_back_words(seconds: str, reasons: tuple[str, ...]) -> Words:
    def show(state: State, value: float) -> str:
        named = [name for name in state.get("throttle_reasons") or () if name in reasons]
        spent = f"{value:.0%} of the time" if state.get(seconds) is not None else "at some moment"
        return ": ".join([spent, *([", ".join(named)] if named else [])])

    return show


def below(name: str, target: str | None = None) -> Value:
    """How far a column lies below another, or below zero."""

    def value(state: State) -> float | None:
        found, aim = state.get(name), 0.0 if target is None else state.get(target)
        return None if found is None or aim is None else float(aim - found)

    return value


def unexplained_clock(state: State) -> float | None:
    """By what share the clock lies below its maximum while nothing holds it: NVML has no getter for a locked clock."""
    clock, most = state.get("sm_clock_mhz_mean"), state.get("sm_clock_max_mhz")
    if clock is None or not most or state.get("throttle_reasons") is None:
        return None
    return 0.0 if state["throttle_reasons"] else 1.0 - float(clock / most)


def unknown_state(state: State) -> list[str]:
    """What every NVIDIA driver tells and this state lacks, of a GPU that was timed."""
    if state.get("device") != "cuda" or state.get("timed_from") is None or state.get("device_error") is not None:
        return []
    names = {"sm_clock_mhz_mean": "clock", "temperature_c_max": "temperature", "throttle_reasons": "throttling"}
    unknown = [word for name, word in names.items() if state.get(name) is None]
    is_long = (state["timed_until"] - state["timed_from"]).total_seconds() >= LONG_WINDOW_S
    if not unknown and is_long and state.get("throttle_s") is None:
        unknown.append("reading over a part of its time")
    return unknown


def unknown_words(state: State, value: float) -> str:
    obstacle = state.get("telemetry_obstacle")
    return f"no {', '.join(unknown_state(state))}" + (f": {obstacle}" if obstacle else "")

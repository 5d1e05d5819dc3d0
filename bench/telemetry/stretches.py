"""``Stretch``: from when until when a device was held back. A picture marks them."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.telemetry.reading import POWER_CAP_REASON, THROTTLE_REASONS, Reading
from bench.telemetry.window import LONGEST_GAP

Kind = Literal["throttled", "power-capped"]


@dataclass(frozen=True)
class Stretch:
    """A time in which a device was held back, and what its driver named for it, in ns of the readings' clock."""

    from_ns: int
    until_ns: int
    reasons: tuple[str, ...]  # none where only the driver's counter saw it
    kind: Kind


def stretches(readings: Sequence[Reading]) -> list[Stretch]:
    """When one device was held back, in the order of time; power caps apart from throttling.

    A reading that names a reason speaks for the time up to halfway to its neighbours, as in the trapezoidal rule by
    which ``window`` counts throttled seconds. Where the driver's counter grew between two readings that name none, a
    stretch as long as that growth ends with the later one. Nothing is said across a gap.

    Args:
        readings: of that device, in the order of time.
    """
    found = [
        *_of_kind(readings, "throttled", THROTTLE_REASONS, lambda one: one.throttled_s_total),
        *_of_kind(readings, "power-capped", (POWER_CAP_REASON,), lambda one: one.power_capped_s_total),
    ]
    return sorted(found, key=lambda one: (one.from_ns, one.kind))


def gap_ns(readings: Sequence[Reading]) -> float:
    """The longest time between two readings of one device that still belong together.

    The period is the median of the times between them, so that a series tells it by itself.
    """
    steps = [b.at_ns - a.at_ns for a, b in itertools.pairwise(readings)]
    return LONGEST_GAP * statistics.median(steps) if steps else 0.0


def _of_kind(
    readings: Sequence[Reading], kind: Kind, names: Sequence[str], counter: Callable[[Reading], float | None]
) -> list[Stretch]:
    longest_ns = gap_ns(readings)
    pieces = [
        *(Stretch(*piece, kind) for piece in _named(readings, names, longest_ns)),
        *(Stretch(*piece, kind) for piece in _counted(readings, names, counter, longest_ns)),
    ]
    merged: list[Stretch] = []
    for piece in sorted(pieces, key=lambda one: one.from_ns):
        last = merged[-1] if merged else None
        if last is None or piece.from_ns > last.until_ns:
            merged.append(piece)
        else:
            reasons = tuple(sorted({*last.reasons, *piece.reasons}))
            merged[-1] = Stretch(last.from_ns, piece.until_ns, reasons, kind)
    return merged


Piece = tuple[int, int, tuple[str, ...]]


def _named(readings: Sequence[Reading], names: Sequence[str], longest_ns: float) -> Iterator[Piece]:
    """What the readings name, each with its share of the time."""
    known = [one for one in readings if one.throttle_reasons is not None]
    neighbours: list[Reading | None] = [None, *known, None]
    for index, now in enumerate(known):
        before, after = neighbours[index], neighbours[index + 2]
        if reasons := _among(now, names):
            yield _halfway(now, before, longest_ns), _halfway(now, after, longest_ns), reasons


def _halfway(one: Reading, other: Reading | None, longest_ns: float) -> int:
    if other is None or abs(other.at_ns - one.at_ns) > longest_ns:
        return one.at_ns
    return (one.at_ns + other.at_ns) // 2


def _counted(
    readings: Sequence[Reading],
    names: Sequence[str],
    counter: Callable[[Reading], float | None],
    longest_ns: float,
) -> Iterator[Piece]:
    """What only the driver's counter saw, between readings that name nothing."""
    for a, b in itertools.pairwise(readings):
        a_s, b_s = counter(a), counter(b)
        if a_s is None or b_s is None or b_s <= a_s or b.at_ns - a.at_ns > longest_ns:
            continue
        if not _among(a, names) and not _among(b, names):
            yield max(a.at_ns, b.at_ns - round((b_s - a_s) * 1e9)), b.at_ns, ()


def _among(reading: Reading, names: Sequence[str]) -> tuple[str, ...]:
    found = reading.throttle_reasons
    return tuple(sorted(name for name in found if name in names)) if found else ()

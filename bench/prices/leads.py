"""Who does most work for the money while one assumption varies: straight lines, solved exactly, never on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A contender: its cost of an hour, ``fixed + varied * y``, and the work it does in one."""

    name: str
    fixed: float
    varied: float
    work: float


@dataclass(frozen=True)
class Stretch:
    """From ``low`` to ``high`` one contender leads; surely, where its whole interval against each rival says so."""

    low: float
    high: float
    leader: str
    is_sure: bool


# The least ratio of the first one's work to the second's that their measurements allow; None where it is unknown.
LeastRatio = Callable[[str, str], float | None]


def stretches(lines: Sequence[Line], low: float, high: float, least_ratio: LeastRatio) -> list[Stretch]:
    """Who leads from the least to the greatest ``y``; no two neighbours are alike.

    A leads B where  r (f_B + v_B y) > f_A + v_A y,  with fixed costs f, varied costs v and r the ratio of A's work to
    B's. That is linear in y, so the lead changes hands at  y = (f_A - r f_B) / (r v_B - v_A),  and is sure up to,
    or from, the same with r the least ratio that the measurements allow.
    """
    found: list[Stretch] = []
    y = low
    leader = min(lines, key=lambda line: (_per_work(line, y), line.varied / line.work))
    while True:
        until, successor = _overtaken(leader, lines, y, high)
        found += [one for one in _by_certainty(leader, lines, (y, until), least_ratio) if one.low < one.high]
        if successor is None:
            return found
        y, leader = until, successor


def _per_work(line: Line, y: float) -> float:
    return (line.fixed + line.varied * y) / line.work


def _overtaken(leader: Line, lines: Sequence[Line], y: float, high: float) -> tuple[float, Line | None]:
    """Where and by whom the leader is next overtaken. Each successor's cost rises less, so there are not many."""
    until, successor = high, None
    for rival in lines:
        fixed, varied = _margin(leader, rival, leader.work / rival.work)
        # What rounding leaves of the crossing that we stand on is no crossing ahead.
        if varied < 0 and rival.varied / rival.work < leader.varied / leader.work:
            at = max(y, -fixed / varied)
            if at < until:
                until, successor = at, rival
    return until, successor


def _by_certainty(
    leader: Line, lines: Sequence[Line], between: tuple[float, float], least_ratio: LeastRatio
) -> list[Stretch]:
    """A leader's stretch, cut where its lead becomes sure and where it ceases to be."""
    low, high = between
    sure_from, sure_until = low, high
    for rival in lines:
        if rival is leader:
            continue
        ratio = least_ratio(leader.name, rival.name)
        fixed, varied = (0.0, 0.0) if ratio is None else _margin(leader, rival, ratio)
        if varied > 0:
            sure_from = max(sure_from, -fixed / varied)
        elif varied < 0:
            sure_until = min(sure_until, -fixed / varied)
        elif fixed <= 0:
            sure_until = -math.inf
    if sure_from >= sure_until:
        return [Stretch(low, high, leader.name, False)]
    return [
        Stretch(low, sure_from, leader.name, False),
        Stretch(sure_from, sure_until, leader.name, True),
        Stretch(sure_until, high, leader.name, False),
    ]


def _margin(leader: Line, rival: Line, ratio: float) -> tuple[float, float]:
    """By how much the leader leads, as ``fixed + varied * y``: positive where it does, for that ratio of work."""
    return ratio * rival.fixed - leader.fixed, ratio * rival.varied - leader.varied

"""Change points: where a short series of medians over commits moved to another level."""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

SHORTEST = 3  # values at one level: one or two alone are outliers
_PERMUTATIONS = 499
_CLIP_SIGMA = 2.5


@dataclass(frozen=True)
class Change:
    """A series moved to another level; ``before`` and ``after`` are the medians between the neighbouring changes."""

    index: int  # of the first value at the new level
    before: float
    after: float
    p: float


def change_points(values: Sequence[float], alpha: float = 0.01) -> list[Change] | None:
    """Where a series of positive values, oldest first, changes its level; each segment's false-alarm rate is ``alpha``.

    Circular binary segmentation (A. B. Olshen, E. S. Venkatraman, R. Lucito and M. Wigler, Biostatistics 5(4), 2004):
    the stretch whose mean logarithm differs most from the rest's is a change if at most ``alpha`` of 499 permutations
    of the series have one that differs as much; its parts are searched in turn, and last every change is
    tested between its neighbours alone. Values further than 2.5 robust standard deviations from the segment's
    median are pulled in before. A level lasts at least three values. The permutations are fixed, so the same
    series gives the same answer. Assumes values that could change places where there is no change.

    At alpha 0.01, constant series of 10 or 30 values with normal or log-normal noise, or with 5 % outliers, had a
    change in about 1 % of trials or fewer. Autocorrelated noise (a machine drifting in and out of slow states) breaks
    the assumption: with a lag-1 correlation of 0.3, some 8 % had one at 30 values. A 5 % step under 2 % normal noise
    was found, to within two values, in 79 % of series with 10 values on either side, 98 % with 20, 64 % with 35 and
    5; eight slow values amid 32 in 92 %. The slow test in ``tests/test_changes.py`` shows these figures again.

    Returns:
        Changes by index; none in fewer than six values. None where a value is not a positive finite number. ValueError
        is raised where alpha is below what 499 permutations can show (0.002), or not below 1.
    """
    import numpy as np

    if not 1 / (_PERMUTATIONS + 1) <= alpha < 1:
        raise ValueError(f"alpha lies between {1 / (_PERMUTATIONS + 1)} and 1, unlike {alpha}")
    if not all(math.isfinite(value) and value > 0 for value in values):
        return None
    logs = np.array([math.log(value) for value in values])
    found = _search(logs, 0, alpha)
    if not found:
        return []
    found = _confirmed(logs, _placed(logs, found), alpha)
    edges = [0, *found, len(values)]
    medians = [statistics.median(values[start:end]) for start, end in itertools.pairwise(edges)]
    levels = itertools.pairwise(medians)
    return [Change(cut, *around, p) for (cut, p), around in zip(found.items(), levels, strict=True)]


def _search(logs: Floats, start: int, alpha: float) -> dict[int, float]:
    """Index → p-value of the changes in a segment and in its parts; ``start`` is the segment's place in the series."""
    n = len(logs)
    if n < 2 * SHORTEST:
        return {}
    starts, ends = _stretches(n)
    p, stretch = _test(logs, starts, ends)
    if p > alpha:
        return {}
    cuts = sorted({int(starts[stretch]), int(ends[stretch])} - {0, n})
    found = {start + cut: p for cut in cuts}
    for low, high in itertools.pairwise([0, *cuts, n]):
        found |= _search(logs[low:high], start + low, alpha)
    return found


def _placed(logs: Floats, found: dict[int, float]) -> dict[int, float]:
    """The changes, each put where it leaves the least absolute deviations from the medians on its two sides.

    The search finds that there are levels; where they meet, pulling outliers in has blurred it.
    """
    import numpy as np

    def deviations(values: Floats) -> float:
        return float(np.abs(values - np.median(values)).sum())

    cuts, placed = sorted(found), [0]
    for cut, high in zip(cuts, [*cuts[1:], len(logs)], strict=True):
        low = placed[-1]
        candidates = range(low + SHORTEST, high - SHORTEST + 1)
        placed.append(min(candidates, key=lambda c: deviations(logs[low:c]) + deviations(logs[c:high]), default=cut))
    return {place: found[cut] for place, cut in zip(placed[1:], cuts, strict=True)}


def _confirmed(logs: Floats, found: dict[int, float], alpha: float) -> dict[int, float]:
    """The changes that also stand between their two neighbours; the weakest falls first, for it joins its segments."""
    import numpy as np

    cuts = sorted(found)
    while cuts:
        edges = [0, *cuts, len(logs)]
        p_values = [
            _test(logs[low:high], np.array([0]), np.array([cut - low]))[0]
            for low, cut, high in zip(edges, cuts, edges[2:], strict=False)
        ]
        weakest = max(range(len(cuts)), key=p_values.__getitem__)
        if p_values[weakest] <= alpha:
            break
        cuts = cuts[:weakest] + cuts[weakest + 1 :]
    return {cut: found[cut] for cut in cuts}


def _test(logs: Floats, starts: Indices, ends: Indices) -> tuple[float, int]:
    """The p-value of the stretch that differs most from the rest, among those given, and which it is."""
    import numpy as np

    pulled_in = _clipped(logs)
    contrasts = _contrasts(pulled_in[None, :], starts, ends)[0]
    stretch = int(np.argmax(contrasts))
    if contrasts[stretch] <= 0:
        return 1.0, stretch
    as_large = 0
    for some in np.array_split(_permutations(len(logs)), 10):  # all at once would take much memory
        largest = _contrasts(pulled_in[some], starts, ends).max(axis=1)
        as_large += int(np.count_nonzero(largest >= contrasts[stretch] * (1 - 1e-9)))
    return (1 + as_large) / (1 + _PERMUTATIONS), stretch


def _contrasts(series: Floats, starts: Indices, ends: Indices) -> Floats:
    """The sum of squares between each stretch and the rest, for each row; each row has the same total."""
    import numpy as np

    n, length = series.shape[1], ends - starts
    sums = np.zeros((len(series), n + 1))
    np.cumsum(series, axis=1, out=sums[:, 1:])
    return np.asarray((sums[:, ends] - sums[:, starts]) ** 2 * (n / (length * (n - length))))


def _clipped(logs: Floats) -> Floats:
    """Deviations from the median, outliers pulled in; the order plays no part, so that permutations stay as likely.

    The robust standard deviation is 1.4826 times the median absolute deviation (F. R. Hampel, Journal of the American
    Statistical Association 69, 1974). Where more than half of the values are equal it is 0, and nothing is pulled in.
    """
    import numpy as np

    deviations = logs - np.median(logs)
    bound = _CLIP_SIGMA * 1.4826 * float(np.median(np.abs(deviations)))
    clipped = np.clip(deviations, -bound, bound) if bound > 0 else deviations
    return np.asarray(clipped - clipped.mean())


@functools.lru_cache(maxsize=64)
def _stretches(n: int) -> tuple[Indices, Indices]:
    """The starts and ends of every stretch that leaves no level shorter than `SHORTEST`."""
    import numpy as np

    starts, ends = np.triu_indices(n + 1, SHORTEST)
    whole = (ends - starts <= n - SHORTEST) & ((starts == 0) | (starts >= SHORTEST))
    whole &= (ends == n) | (n - ends >= SHORTEST)
    return starts[whole], ends[whole]


@functools.lru_cache(maxsize=64)
def _permutations(n: int) -> Indices:
    """The permutations of ``n`` values: the order of raw Philox words, which NumPy does not change between versions."""
    import numpy as np

    words = np.random.Philox(key=n).random_raw(_PERMUTATIONS * n)
    return np.asarray(np.argsort(words.reshape(_PERMUTATIONS, n), axis=1, kind="stable"))

"""How far acceptances of one machine agree on a figure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence


def repeatability(values: Sequence[float]) -> float:
    """The mean similarity of all pairs of results, where that of two positive figures is the smaller over the larger.

    After Y. Xiong et al., "SuperBench: Improving Cloud AI Infrastructure Reliability with Proactive Validation", USENIX
    ATC 2024, who hold the distributions of two results against each other and call 1 less their distance the
    similarity. An acceptance's result is one figure, whose distribution is a step; between two steps lies the
    difference of the figures, here as a share of the larger.

    Raises:
        ValueError: there are no two values.
    """
    pairs = list(itertools.combinations(values, 2))
    if not pairs:
        raise ValueError("repeatability needs two values")
    return statistics.fmean(min(pair) / max(pair) for pair in pairs)

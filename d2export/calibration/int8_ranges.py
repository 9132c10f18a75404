"""The magnitude that becomes 127, from a histogram of those that were seen.

A range that holds the largest value spends codes on outliers; a smaller one saturates them.

- `max`: nothing saturates.
- `percentile`: so large a share of the values does not saturate.
- `entropy`: the distribution after rounding is closest to that before, by Kullback-Leibler
  divergence (Migacz, "8-bit inference with TensorRT", GTC 2017);
- `best`: of these three, for each activation the one whose products err least.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from d2export.calibration.int8_histogram import Histogram

Rule = Literal["max", "percentile", "entropy"]
Method = Literal["best", "max", "percentile", "entropy"]
RULES: tuple[Rule, ...] = get_args(Rule)
METHODS: tuple[Method, ...] = get_args(Method)
PERCENTILE = 99.99
LEVELS = 128  # magnitudes that INT8 tells apart, with 0
NOTHING = 1e-4  # of a count

Counts = npt.NDArray[np.int64]


def range_of(histogram: Histogram, rule: Rule, percentile: float = PERCENTILE) -> float:
    """The magnitude that becomes 127; 0 if there were only zeros.

    Args:
        percentile: share in percent, above 0 to 100, for rule `percentile`.
    """
    if histogram.width == 0:
        return 0.0
    if rule == "max":
        return histogram.largest
    if rule == "percentile":
        found = _percentile_bin(histogram, percentile) * histogram.width
    else:
        found = _entropy_bin(histogram.counts) * histogram.width
    return min(found, histogram.largest)


def _percentile_bin(histogram: Histogram, percentile: float) -> int:
    """The first bin edge below which that share of the values lies, zeros included."""
    total = histogram.zeros + int(histogram.counts.sum())
    wanted = math.ceil(total * percentile / 100) - histogram.zeros
    return int(np.searchsorted(np.cumsum(histogram.counts), max(wanted, 1))) + 1


def _entropy_bin(counts: Counts) -> int:
    """The bin edge with the smallest divergence; the lower of equal ones."""
    used = int(np.flatnonzero(counts)[-1]) + 1
    if used <= LEVELS:
        return used
    edges = range(LEVELS, used + 1, LEVELS // 4)
    return edges[int(np.argmin([divergence(counts, edge) for edge in edges]))]


def divergence(counts: Counts, edge: int) -> float:
    """Kullback-Leibler divergence of values that saturate at a bin edge from their rounded ones.

    Before, `p`: the bins below `edge`, the last one with all that saturates. After, `q`: `LEVELS`
    groups of bins, whose counts are spread evenly over the bins in them that are not empty. Where
    all of a group saturated into it, that is `NOTHING`, so that the divergence stays finite.
    """
    inside = counts[:edge].astype(np.float64)
    before = inside.copy()
    before[-1] += counts[edge:].sum()
    groups = np.arange(edge) * LEVELS // edge
    filled = before > 0
    total = np.bincount(groups, weights=inside, minlength=LEVELS)
    share = np.bincount(groups, weights=filled, minlength=LEVELS)
    p, q = before[filled], np.maximum((total / np.maximum(share, 1))[groups][filled], NOTHING)
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())

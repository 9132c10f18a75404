"""How often which magnitude was seen, in one pass, in memory that does not grow.

Bins are as wide as a power of two. When a larger value comes, neighbours are added up two and two
until it fits, which loses nothing: the result is that of a histogram made at once, in any order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 4096  # of which at least half are in use


class Histogram:
    """Magnitudes of values, in bins from 0 up.

    Attributes:
        counts: `[BINS]` int64; bin i holds magnitudes from `i * width` to below `(i + 1) * width`.
        width: of a bin; 0 while nothing but zeros was seen.
        zeros: how many zeros were seen; they are in no bin, since every scale has them exactly.
        largest: the largest magnitude.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.width = 0.0
        self.zeros = 0
        self.largest = 0.0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count finite values of any shape."""
        magnitudes = np.abs(values, dtype=np.float32).ravel()
        nonzero = magnitudes[magnitudes > 0]
        self.zeros += magnitudes.size - nonzero.size
        if not nonzero.size:
            return
        largest = float(nonzero.max())
        self.largest = max(self.largest, largest)
        self._reach(largest)
        bins = np.floor(nonzero.astype(np.float64) / self.width).astype(np.int64)
        self.counts += np.bincount(bins, minlength=BINS)

    def _reach(self, largest: float) -> None:
        """Widen the bins until `largest` falls into one."""
        _, exponent = math.frexp(largest)  # largest < 2 ** exponent
        wanted = math.ldexp(1.0, exponent) / BINS
        if self.width == 0:
            self.width = wanted
        while self.width < wanted:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(BINS // 2, np.int64)])
            self.width *= 2

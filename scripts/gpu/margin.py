"""A theta that no rounding can miss."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from d2export.pruning.selection import diagonal_of, similarity, unit

MARGIN = 1e-4  # no similarity of a case that is compared lies so close to theta


def theta_between(
    images: Iterable[tuple[Tensor, Tensor]], alpha: float, generator: torch.Generator
) -> float:
    """The widest gap between similarities near a random quantile; 2 if they are all close.

    Args:
        images: features `[N, C]` and centres `[N, 2]` of each.
    """
    values = torch.cat(
        [
            similarity(rows, rows, grid, grid, diagonal_of(grid), alpha).flatten()
            for rows, grid in ((unit(features), grid) for features, grid in images)
        ]
    )
    values = values.sort().values
    start = int(torch.rand((), generator=generator) * len(values))
    window = values[start : start + 20000]
    gaps = window.diff()
    if not len(gaps) or float(gaps.max()) < 2 * MARGIN:
        return 2.0
    widest = int(gaps.argmax())
    return float((window[widest] + window[widest + 1]) / 2)

"""Backgrounds: smooth noise in muted colours, the same for every scene that asks for one."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

SIDE = 448
TEXTURES = 48
OCTAVES = (4, 8, 16, 32, 64)  # cells along a side


@cache
def texture(index: int) -> npt.NDArray[np.uint8]:
    """`[448, 448, 3]`: background `index` of `TEXTURES`; it repeats without a seam."""
    random = np.random.default_rng([SIDE, index])
    rough = random.uniform(0.4, 1.0)  # how much a finer octave weighs against the one before
    noise = np.zeros((SIDE, SIDE))
    for level, cells in enumerate(OCTAVES):
        noise += rough**level * _octave(random.standard_normal((cells, cells)))
    noise = (noise - noise.mean()) / noise.std()
    middle = random.uniform(90, 165) + random.uniform(-18, 18, 3)
    spread = random.uniform(8, 20) * (1 + random.uniform(-0.3, 0.3, 3))
    coloured = (middle + noise[:, :, None] * spread).clip(0, 255)
    return np.asarray(coloured.round(), np.uint8)


def _octave(cells: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A grid of values, interpolated to the whole side."""
    count = len(cells)
    at = np.arange(SIDE) * count / SIDE
    low = at.astype(int)
    share = at - low
    share = share * share * (3 - 2 * share)
    high = (low + 1) % count
    rows = cells[low] * (1 - share)[:, None] + cells[high] * share[:, None]
    mixed: npt.NDArray[np.float64] = rows[:, low] * (1 - share) + rows[:, high] * share
    return mixed

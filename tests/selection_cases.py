"""Generated inputs of the op, made so that no rounding can change the answer.

Importance and prior are such that `r` is the same number in every order of summation, and no
similarity lies within `MARGIN` of theta: float32 errs by less than a hundredth of that. Flavour
`exact` has similarities equal to theta, from values that float32 adds without rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2export.models.tiling import token_grid
from d2export.pruning import reference
from d2export.pruning.parameters import PruneParameters

MARGIN = 1e-5
Array = NDArray[Any]
Generator = np.random.Generator


@dataclass(frozen=True)
class Case:
    """Features `[B, N, C]`, importance `[B, N]` or `[B, H, N]`, prior `[N]`, grid `[N, 2]`."""

    features: Array
    importance: Array
    prior: Array
    grid: Array


def expected(case: Case, parameters: PruneParameters) -> Array:
    """`[B, M]`: what the one-token-after-the-other reference keeps of each image."""
    rows = [
        reference.select(features.astype(np.float32), importance, case.prior, case.grid, parameters)
        for features, importance in zip(case.features, case.importance, strict=True)
    ]
    return np.stack(rows)


def similarities(features: Array, grid: Array, alpha: float) -> Array:
    """`[N, N]` float64, all pairs of one image at once."""
    with np.errstate(all="ignore"):
        wide = features.astype(np.float32)
        norm = np.sqrt((wide * wide).sum(axis=1, keepdims=True, dtype=np.float32))
        unit = (wide * np.where(norm > 0, np.float32(1) / norm, np.float32(0))).astype(np.float64)
        places = grid.astype(np.float64)
        distance = np.linalg.norm(places[:, None] - places[None, :], axis=2)
        diagonal = np.linalg.norm(np.ptp(places, axis=0))
        spatial = 1 - distance / (diagonal if diagonal > 0 else 1)
        weight = float(np.float32(alpha))
        return weight * (unit @ unit.T) + (1 - weight) * spatial


def pairs(case: Case, alpha: float) -> Array:
    """Similarities of all pairs of different tokens of all images, without those that are NaN."""
    upper = np.triu_indices(len(case.grid), 1)
    values = [similarities(image, case.grid, alpha)[upper] for image in case.features]
    joined = np.concatenate(values)
    return joined[~np.isnan(joined)]


def has_margin(case: Case, parameters: PruneParameters) -> bool:
    """Whether rounding cannot turn an edge into none, or none into one."""
    if not len(case.grid):
        return True
    gaps = np.abs(pairs(case, parameters.alpha) - float(np.float32(parameters.theta)))
    return bool((gaps > MARGIN).all())


# --- Flavours: one degenerate or dense kind of input each ---------------------------------------


def _flat(case: Case, rng: Generator) -> Case:
    return replace(case, importance=np.ones_like(case.importance))


def _importance(*values: float) -> Callable[[Case, Generator], Case]:
    """About half of the scores become one of `values`."""

    def change(case: Case, rng: Generator) -> Case:
        chosen = rng.choice(np.array(values, np.float32), case.importance.shape)
        keep = rng.random(case.importance.shape) < 0.5
        return replace(case, importance=np.where(keep, case.importance, chosen))

    return change


def _denormal(case: Case, rng: Generator) -> Case:
    steps = rng.integers(0, 6, case.importance.shape).astype(np.float32)
    return replace(case, importance=steps * np.float32(2.0**-149))


def _features(*values: float) -> Callable[[Case, Generator], Case]:
    """About a fifth of the tokens get one of `values` in one channel."""

    def change(case: Case, rng: Generator) -> Case:
        features = case.features.copy()
        for image in features:
            for token in np.flatnonzero(rng.random(len(image)) < 0.2):
                image[token, rng.integers(image.shape[1])] = rng.choice(values)
        return replace(case, features=features)

    return change


def _rows_times(*factors: float) -> Callable[[Case, Generator], Case]:
    def change(case: Case, rng: Generator) -> Case:
        size = (*case.features.shape[:2], 1)
        scale = rng.choice(np.array(factors, np.float32), size)
        return replace(case, features=case.features * scale)

    return change


def _one_channel(case: Case, rng: Generator) -> Case:
    return replace(case, features=case.features[:, :, :1])


def _zero_prior(case: Case, rng: Generator) -> Case:
    return replace(case, prior=rng.choice(np.array([0, 0, 1], np.float32), case.prior.shape))


def _grid(make: Callable[[Generator], Array]) -> Callable[[Case, Generator], Case]:
    def change(case: Case, rng: Generator) -> Case:
        return random_case(rng, heads=case.importance.ndim == 3, grid=make(rng))

    return change


def _one_point(case: Case, rng: Generator) -> Case:
    return replace(case, grid=np.full_like(case.grid, 3.5))


def _exact(case: Case, rng: Generator) -> Case:
    """Cosines are multiples of 1/8, nearness of 1/8: theta may equal a similarity."""
    batch, tokens, _ = case.features.shape
    channels = int(rng.choice([1, 4, 16]))  # norms that are powers of two
    signs = rng.choice(np.array([-1, 1], np.float32), (batch, tokens, channels))
    lengths = rng.choice(np.array([0, 0.5, 1, 4], np.float32), (batch, tokens, 1))
    grid = np.zeros_like(case.grid)
    grid[:, 0] = rng.integers(0, 9, tokens)
    grid[:1, 0], grid[-1:, 0] = 0, 8
    return replace(case, features=signs * lengths, grid=grid)


def _same(case: Case, rng: Generator) -> Case:
    return case


FLAVOURS: dict[str, Callable[[Case, Generator], Case]] = {
    "plain": _same,
    "equal scores": _flat,
    "NaN scores": _importance(np.nan),
    "infinite scores": _importance(np.inf, -np.inf, np.nan),
    "signed zero scores": _importance(0.0, -0.0),
    "denormal scores": _denormal,
    "prior with zeros": _zero_prior,
    "zero vectors": _rows_times(0, 1, 1),
    "huge and tiny vectors": _rows_times(2.0**66, 2.0**-100, 1),
    "NaN features": _features(np.nan),
    "infinite features": _features(np.inf, -np.inf, np.nan),
    "one channel": _one_channel,
    "one point": _one_point,
    "one tile": _grid(lambda rng: token_grid(1, 1, int(rng.integers(2, 6)))),
    "thirteen tiles": _grid(lambda rng: token_grid(4, 3, 2)),
    "exact": _exact,
}
BEYOND_FLOAT16 = ("huge and tiny vectors",)


def random_case(rng: Generator, heads: bool, grid: Array | None = None) -> Case:
    """Small whole features, scores with and without ties, a prior of few values."""
    if grid is None:
        grid = rng.integers(0, 7, (int(rng.integers(2, 32)), 2)).astype(np.float32)
    tokens, batch = len(grid), int(rng.integers(1, 4))
    channels = int(rng.choice([2, 3, 8]))
    features = rng.integers(-2, 3, (batch, tokens, channels)).astype(np.float32)
    if rng.random() < 0.3:  # few different tokens
        features = features[:, rng.integers(0, min(tokens, 4), tokens)]
    shape = (batch, int(rng.integers(1, 6)), tokens) if heads else (batch, tokens)
    # Multiples of 2^-12 below 1: their sum over heads is exact in any order.
    steps = rng.integers(0, rng.choice([3, 4096]), shape)
    importance = (steps / 4096).astype(np.float32)
    prior = rng.choice(np.array([1, 1, 0.5, 3], np.float32), tokens)
    return Case(features, importance, prior, grid)


def random_parameters(rng: Generator, case: Case, flavour: str) -> PruneParameters:
    """Parameters whose theta cuts the similarities of `case` at a density between 0 and 1."""
    tokens = len(case.grid)
    count = 2**40 if rng.random() < 0.1 else int(rng.integers(1, tokens + 1))
    by_share = rng.random() < 0.25
    alpha = float(rng.choice([0, 0.25, 0.5, 0.7, 1]))
    if flavour == "exact":
        alpha = float(rng.choice([0, 0.25, 0.5, 1]))
        theta = float(rng.integers(-16, 17) / 16)
    else:
        values = np.sort(pairs(case, alpha))
        cut = float(rng.choice([0, 1, *rng.random(4)]))
        below = int(cut * len(values))
        padded = np.concatenate([[-5], values, [5]])
        theta = float((padded[below] + padded[below + 1]) / 2)
    return PruneParameters(
        keep=0 if by_share else count,
        keep_permille=int(rng.integers(1, 1001)) if by_share else 0,
        pivot_ratio=float(rng.choice([0, 0.3, 0.7, 1])),
        alpha=alpha,
        theta=theta,
        eps=float(rng.choice([0, 1e-7, 0.5])),
        pivots_block=bool(rng.random() < 0.4),
    )


def sweep(
    seed: int, flavour: str, groups: int, cases: int
) -> Iterator[tuple[PruneParameters, list[Case]]]:
    """Groups of cases that share their parameters, and whether there are heads."""
    rng = np.random.default_rng([seed, *flavour.encode()])

    def usable(case: Case, parameters: PruneParameters) -> bool:
        return flavour == "exact" or has_margin(case, parameters)

    for _ in range(groups):
        heads = bool(rng.random() < 0.5)
        group: list[Case] = []
        while len(group) < cases:
            case = FLAVOURS[flavour](random_case(rng, heads), rng)
            if not group:
                parameters = random_parameters(rng, case, flavour)
            if usable(case, parameters):
                group.append(case)
        yield parameters, group

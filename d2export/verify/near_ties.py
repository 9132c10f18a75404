"""Why a half-precision graph kept other tokens: decisions that were nearly even.

Selection compares scores with scores and similarities with a threshold. A graph that computes its
features in float16 moves both a little, and a comparison flips where both sides were almost equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from d2export.pruning.parameters import PruneParameters
from d2export.pruning.selection import (
    Scored,
    debias,
    diagonal_of,
    rank,
    select,
    similarity,
    unit,
)


@dataclass(frozen=True)
class NearTies:
    """The widest margins that flipped.

    Attributes:
        tokens: tokens that only one of the two kept.
        replayed: whether PyTorch's selection on the graph's own scores and features gives the
            graph's indices, so that nothing but rounding is to blame.
        score_gap: largest relative difference of two scores whose order flipped; infinite where
            one of them is not finite.
        similarity_gap: largest distance from theta of a similarity that changed sides.
        limit: what both gaps may be.
    """

    tokens: int
    replayed: bool
    score_gap: float
    similarity_gap: float
    limit: float

    @property
    def explained(self) -> bool:
        """Whether every difference is a near-tie."""
        return self.replayed and max(self.score_gap, self.similarity_gap) <= self.limit


def examine(
    exact: Scored, graph: Scored, graph_indices: Tensor, parameters: PruneParameters, limit: float
) -> NearTies:
    """Compare the decisions behind two selections from the same picture.

    Args:
        exact: float32 PyTorch.
        graph: the same values as the graph computed them.
        graph_indices: `[M]` tokens the graph kept.
    """
    ours = set(graph_indices.tolist())
    theirs = set(select(*exact, parameters)[0].tolist())
    replay = set(select(*graph, parameters)[0].tolist())
    changed = torch.tensor(sorted(ours ^ theirs), dtype=torch.int64)
    involved = torch.tensor(sorted(ours | theirs), dtype=torch.int64)
    return NearTies(
        len(changed),
        replay == ours,
        _score_gap(exact, graph, changed, parameters),
        _similarity_gap(exact, graph, changed, involved, parameters),
        limit,
    )


def _score_gap(exact: Scored, graph: Scored, changed: Tensor, parameters: PruneParameters) -> float:
    scores = debias(exact.importance, exact.prior, parameters.eps)[0]
    before, after = (_places(scored, parameters) for scored in (exact, graph))
    flipped = (before[changed][:, None] < before) != (after[changed][:, None] < after)
    left, right = scores[changed][:, None], scores[None, :]
    gaps = ((left - right).abs() / torch.maximum(left.abs(), right.abs()))[flipped]
    gaps = gaps.masked_fill((left == right).expand_as(flipped)[flipped], 0)  # also 0 and 0
    return float(gaps.nan_to_num(torch.inf).max()) if len(gaps) else 0.0


def _places(scored: Scored, parameters: PruneParameters) -> Tensor:
    """`[N]`: each token's place in the ranking, which has rules for ties and NaN."""
    order = rank(scored.importance, scored.prior, parameters.eps)[0]
    return order.argsort()


def _similarity_gap(
    exact: Scored, graph: Scored, changed: Tensor, involved: Tensor, parameters: PruneParameters
) -> float:
    before = _similarities(exact, changed, involved, parameters)
    after = _similarities(graph, changed, involved, parameters)
    flipped = (before > parameters.theta) != (after > parameters.theta)
    gaps = (before - parameters.theta).abs()[flipped]
    return float(gaps.max()) if len(gaps) else 0.0


def _similarities(
    scored: Scored, left: Tensor, right: Tensor, parameters: PruneParameters
) -> Tensor:
    features, grid = scored.features[0], scored.grid
    return similarity(
        unit(features[left]),
        unit(features[right]),
        grid[left],
        grid[right],
        diagonal_of(grid),
        parameters.alpha,
    )

"""Why a half-precision graph kept other tokens: decisions that were nearly even.

Selection compares scores with scores and similarities with a threshold. A graph that computes its
features in float16 moves both a little, and a comparison flips where both sides were almost equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import Plan
from d2export.pruning.rules import RULES
from d2export.pruning.rules.correlation import correlated_positions
from d2export.pruning.selection import (
    Scored,
    debias,
    diagonal_of,
    rank,
    similarity,
    unit,
)


@dataclass(frozen=True)
class NearTies:
    """The widest margins that flipped.

    A rule without a threshold chains its decisions, so that no margin can be named: there the
    gaps say how far rounding moved what it decides on.

    Attributes:
        tokens: tokens that only one of the two kept.
        replayed: whether PyTorch's selection on the graph's own scores and features gives the
            graph's indices, so that nothing but rounding is to blame.
        score_gap: largest relative difference of two scores whose order flipped; infinite where
            one of them is not finite. Without a threshold: how far a score moved, relative to
            the largest.
        similarity_gap: largest distance from theta of a similarity that changed sides. Without a
            threshold: how far a cosine of a token in question moved.
        limit: what both gaps may be.
        threshold: whether the rule compares similarities with one.
    """

    tokens: int
    replayed: bool
    score_gap: float
    similarity_gap: float
    limit: float
    threshold: bool = True

    @property
    def explained(self) -> bool:
        """Whether every difference is a near-tie."""
        return self.replayed and max(self.score_gap, self.similarity_gap) <= self.limit


def examine(
    exact: Scored, graph: Scored, graph_indices: Tensor, plan: Plan, limit: float
) -> NearTies:
    """Compare the decisions behind two selections from the same picture.

    Args:
        exact: float32 PyTorch.
        graph: the same values as the graph computed them.
        graph_indices: `[M]` tokens the graph kept.
    """
    ours = set(graph_indices.tolist())
    theirs, replay = (set(chosen(scored, plan).tolist()) for scored in (exact, graph))
    changed = torch.tensor(sorted(ours ^ theirs), dtype=torch.int64)
    involved = torch.tensor(sorted(ours | theirs), dtype=torch.int64)
    parameters = plan.parameters
    if not isinstance(parameters, PruneParameters) or plan.by_tile:
        return NearTies(
            len(changed),
            replay == ours,
            _largest_move(exact.importance, graph.importance),
            _cosine_move(exact, graph, changed),
            limit,
            threshold=False,
        )
    return NearTies(
        len(changed),
        replay == ours,
        _score_gap(exact, graph, changed, parameters),
        _similarity_gap(exact, graph, changed, involved, parameters),
        limit,
    )


def examine_correlation(
    exact: Tensor,
    graph: Tensor,
    visual_positions: Tensor,
    text_positions: Tensor,
    graph_positions: Tensor,
    length: int,
    plan: Plan,
    limit: float,
) -> NearTies:
    """The same for what is dropped by correlation, see `rules.correlation`.

    Args:
        exact: `[D + 1, V]` attention in float32 PyTorch.
        graph: the same as the graph computed it.
        graph_positions: `[S]` what survived in the graph.
        length: of the prompt.
    """
    theirs, replay = (
        set(
            correlated_positions(
                length, attention, visual_positions, text_positions, plan.parameters
            ).tolist()
        )
        for attention in (exact, graph)
    )
    ours = set(graph_positions.tolist())
    moved = _largest_move(exact, graph)
    return NearTies(len(ours ^ theirs), replay == ours, moved, 0.0, limit, threshold=False)


def chosen(scored: Scored, plan: Plan) -> Tensor:
    """What the plan's rule keeps of all tokens, counted through the tiles."""
    rule = RULES[plan.selector.rule]
    inputs = [getattr(scored, name) for name in rule.inputs]
    indices = rule.select(scored.features, *inputs, plan.parameters)
    images, tokens = scored.features.shape[:2]
    return (indices + torch.arange(images).unsqueeze(1) * tokens).flatten()


def _largest_move(exact: Tensor, graph: Tensor) -> float:
    largest = exact.abs().max()
    moved = (exact - graph).abs().max() / torch.where(largest > 0, largest, 1)
    return float(moved.nan_to_num(torch.inf))


def _cosine_move(exact: Scored, graph: Scored, changed: Tensor) -> float:
    """Of the changed tokens with all tokens of their image."""
    largest = 0.0
    tokens = exact.features.shape[1]
    for image, (before, after) in enumerate(zip(exact.features, graph.features, strict=True)):
        rows = changed[(changed // tokens) == image] % tokens
        cosines = [unit(side[rows]) @ unit(side).T for side in (before, after)]
        if len(rows):
            largest = max(largest, float((cosines[0] - cosines[1]).abs().max()))
    return largest


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

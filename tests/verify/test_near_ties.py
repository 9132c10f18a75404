"""A difference is a near-tie only if what flipped was nearly even."""

import pytest
import torch

from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from d2export.pruning.selection import Scored, select
from d2export.verify.near_ties import examine

TOP2 = PruneParameters(keep=2, pivot_ratio=1)
LIMIT = 1e-2


def scored(importance, features=None):
    tokens = len(importance)
    return Scored(
        torch.eye(tokens)[None] if features is None else torch.tensor(features)[None],
        torch.tensor(importance)[None],
        torch.ones(tokens),
        torch.arange(tokens * 2, dtype=torch.float32).view(tokens, 2) * 100,
    )


def explain(exact, graph, parameters, indices=None):
    answered = select(*graph, parameters)[0] if indices is None else torch.tensor(indices)
    return examine(exact, graph, answered, d2_plan(parameters, "uniform"), LIMIT)


def test_two_scores_that_were_almost_equal():
    ties = explain(scored([3.0, 2.001, 2.0, 1.0]), scored([3.0, 2.0, 2.001, 1.0]), TOP2)
    assert (ties.tokens, ties.replayed) == (2, True)
    assert ties.score_gap == pytest.approx(0.001 / 2.001, rel=1e-3)
    assert ties.explained


def test_two_scores_that_were_far_apart():
    ties = explain(scored([3.0, 2.5, 2.0, 1.0]), scored([3.0, 2.0, 2.5, 1.0]), TOP2)
    assert ties.score_gap == pytest.approx(0.2)
    assert not ties.explained


@pytest.mark.parametrize(
    ("exact", "graph"),
    [
        ([3.0, 1.0, 2.0], [3.0, 2.0, 2.0]),  # a tie in the graph, broken by index
        ([3.0, 2.0, 1.0], [3.0, float("nan"), 1.0]),
        ([5.0, 4.0, 3.0, 2.0, 1.0, 9.0], [0.0] * 6),
        ([1.0, 2.0, 3.0, 4.0], [float("inf")] * 4),
    ],
)
def test_scores_that_collapsed_are_no_near_ties(exact, graph):
    assert not explain(scored(exact), scored(graph), TOP2).explained


def test_scores_that_are_equal_in_pytorch_are_a_near_tie():
    ties = explain(scored([3.0, 2.0, 2.0]), scored([3.0, 2.0, 2.001]), TOP2)
    assert (ties.tokens, ties.score_gap, ties.explained) == (2, 0, True)


def test_a_similarity_that_was_almost_theta():
    """Token 1 is a neighbour of token 0 in the graph, and just was none in PyTorch."""
    parameters = PruneParameters(keep=2, pivot_ratio=0, alpha=1, theta=0.8)
    importance = [3.0, 2.0, 1.0]

    def features(cosine):
        return [[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5], [0.0, 1.0]]

    ties = explain(
        scored(importance, features(0.799)), scored(importance, features(0.801)), parameters
    )
    assert (ties.tokens, ties.score_gap) == (2, 0)
    assert ties.similarity_gap == pytest.approx(0.001, rel=1e-2)
    assert ties.explained
    far = explain(scored(importance, features(0.7)), scored(importance, features(0.81)), parameters)
    assert far.similarity_gap == pytest.approx(0.1, rel=1e-2)
    assert not far.explained


def test_indices_that_do_not_follow_from_the_graphs_own_scores():
    exact = scored([3.0, 2.001, 2.0, 1.0])
    ties = explain(exact, scored([3.0, 2.0, 2.001, 1.0]), TOP2, indices=[0, 3])
    assert not ties.replayed
    assert not ties.explained

"""The definition of the selection, on cases small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from d2export.pruning.parameters import PruneParameters
from d2export.pruning.reference import by_descending, debiased_importance, select, similarity

INF, NAN = float("inf"), float("nan")


def keep(
    count: int,
    importance: Sequence[Any],
    features: Sequence[Sequence[float]] | None = None,
    *,
    x: Sequence[float] | None = None,
    prior: Sequence[float] | None = None,
    **parameters: Any,
) -> list[int]:
    """Tokens kept of those; by default all different, at one point, and only cosines matter."""
    scores = np.array(importance, np.float32)
    tokens = scores.shape[-1]
    grid = np.zeros((tokens, 2), np.float32)
    grid[:, 0] = 0 if x is None else x
    settings = {"pivot_ratio": 0.0, "alpha": 1.0, "eps": 0.0} | parameters
    kept = select(
        np.array(np.eye(tokens) if features is None else features, np.float32),
        scores,
        np.array([1] * tokens if prior is None else prior, np.float32),
        grid,
        PruneParameters(keep=count, **settings),
    )
    assert kept.dtype == np.int32
    return kept.tolist()


# Directions: A and B are orthogonal, AB lies between them at cosine 0.707.
A, B, AB, ZERO = [1, 0], [0, 1], [1, 1], [0, 0]


# --- Importance ---------------------------------------------------------------------------------


def test_importance_is_the_mean_over_heads() -> None:
    # Means: 3, 2, 4. The largest single value, token 1's 4, does not matter.
    assert keep(1, [[3, 4, 4], [3, 0, 4]]) == [2]
    assert keep(2, [[3, 4, 4], [3, 0, 4]]) == [0, 2]


def test_importance_is_divided_by_the_prior() -> None:
    # r = 4/4, 3/1, 6/3, 1/1 = 1, 3, 2, 1
    assert keep(2, [4, 3, 6, 1], prior=[4, 1, 3, 1]) == [1, 2]


def test_eps_is_added_to_the_prior_first() -> None:
    # r = 2/(1+1), 1/(0+1) = 1, 1: without eps token 1 would be infinite.
    r = debiased_importance(np.float32([2, 1]), np.float32([1, 0]), 1.0)
    assert r.tolist() == [1, 1]
    assert r.dtype == np.float32


def test_a_prior_of_zero_without_eps_gives_what_a_division_gives() -> None:
    # r = 1/0, 0/0, -1/0, 5/1 = Inf, NaN, -Inf, 5
    assert keep(1, [1, 0, -1, 5], prior=[0, 0, 0, 1]) == [0]
    assert keep(2, [1, 0, -1, 5], prior=[0, 0, 0, 1]) == [0, 3]
    assert keep(3, [1, 0, -1, 5], prior=[0, 0, 0, 1]) == [0, 2, 3]


def test_equal_scores_go_by_lower_index() -> None:
    assert keep(2, [1, 2, 2, 2]) == [1, 2]
    assert keep(2, [0.0, -0.0, 0.0]) == [0, 1]  # both zeros are the same number


def test_nan_is_last_and_infinities_are_numbers() -> None:
    order = by_descending(np.float32([NAN, -INF, 0, INF, NAN, 7]))
    assert order == [3, 5, 2, 1, 0, 4]


def test_one_nan_head_makes_the_token_last() -> None:
    # Means: NaN, NaN (Inf - Inf), -3, -Inf
    assert keep(1, [[NAN, INF, -3, -INF], [9, -INF, -3, 0]]) == [2]
    assert keep(2, [[NAN, INF, -3, -INF], [9, -INF, -3, 0]]) == [2, 3]
    assert keep(3, [[NAN, INF, -3, -INF], [9, -INF, -3, 0]]) == [0, 2, 3]


def test_the_smallest_numbers_are_told_apart() -> None:
    smallest = 2.0**-149
    assert keep(1, [0, smallest, 2 * smallest]) == [2]


# --- The independent set ------------------------------------------------------------------------


def test_the_walk_skips_neighbours_of_what_it_kept() -> None:
    # By importance 0, 1, 2, 3. Token 1 looks like 0, token 3 like 2.
    assert keep(2, [4, 3, 2, 1], [A, A, B, B]) == [0, 2]


def test_the_walk_goes_by_importance_not_by_index() -> None:
    # By importance 3, 2, 1, 0.
    assert keep(2, [1, 2, 3, 4], [A, A, B, B]) == [1, 3]


def test_a_token_that_was_skipped_blocks_nothing() -> None:
    # A chain A - AB - B of cosines 0.707, A and B at 0. AB falls to A, so B is free.
    assert keep(2, [3, 2, 1], [A, AB, B], theta=0.5) == [0, 2]


def test_the_most_important_wins_even_if_it_costs_two() -> None:
    # AB comes first and rules out both ends of the chain; token 3 is opposite to A.
    assert keep(2, [2, 3, 1, 0], [A, AB, B, [-1, 0]], theta=0.5) == [1, 3]


def test_an_exhausted_set_is_filled_by_importance() -> None:
    # Independent: 0 and 3. The rest in order of importance: 1, 2, 4.
    assert keep(3, [5, 4, 3, 2, 1], [A, A, A, B, B]) == [0, 1, 3]
    assert keep(4, [5, 4, 3, 2, 1], [A, A, A, B, B]) == [0, 1, 2, 3]


def test_a_theta_below_all_similarities_leaves_the_most_important() -> None:
    # Everything is a neighbour of everything: token 2 joins, the rest is filled.
    assert keep(3, [1, 3, 4, 2], theta=-5) == [1, 2, 3]


def test_a_theta_above_all_similarities_leaves_the_most_important() -> None:
    assert keep(3, [1, 3, 4, 2], [A, A, A, A], theta=100) == [1, 2, 3]


# --- Pivots -------------------------------------------------------------------------------------


def test_pivots_are_the_best_however_alike() -> None:
    # floor(0.7 * 3) = 2 pivots: 0 and 1, though alike. Then 2 joins.
    assert keep(3, [5, 4, 3, 2, 1], [A, A, B, B, B], pivot_ratio=0.7) == [0, 1, 2]
    # Without pivots 1 is ruled out by 0, 3 and 4 by 2, and 1 comes back as the best of the rest.
    assert keep(2, [5, 4, 3, 2, 1], [A, A, B, B, B], pivot_ratio=0.0) == [0, 2]


def test_the_number_of_pivots_is_rounded_down() -> None:
    # 0.6 * 3 = 1.8, one pivot; 1 joins, 2 looks like 1, 3 joins.
    assert keep(3, [4, 3, 2, 1], [A, A, A, B], pivot_ratio=0.6) == [0, 1, 3]
    # 0.7 * 3 = 2.1, two pivots, and 2 joins as the first of the residual.
    assert keep(3, [4, 3, 2, 1], [A, A, A, B], pivot_ratio=0.7) == [0, 1, 2]


def test_pivots_rule_out_nobody_by_default() -> None:
    # Pivot 0. Residual 1 looks like it and joins all the same.
    assert keep(2, [4, 3, 2], [A, A, B], pivot_ratio=0.5) == [0, 1]


def test_pivots_block_their_neighbours_if_asked_to() -> None:
    # Pivot 0 rules out 1.
    assert keep(2, [4, 3, 2], [A, A, B], pivot_ratio=0.5, pivots_block=True) == [0, 2]


def test_blocked_tokens_still_fill() -> None:
    # floor(0.5 * 3) = 1 pivot, 0, which rules out 1 and 2. 3 joins, 1 fills.
    kept = keep(3, [5, 4, 3, 2, 1], [A, A, A, B, B], pivot_ratio=0.5, pivots_block=True)
    assert kept == [0, 1, 3]


def test_a_pivot_ratio_of_one_is_importance_alone() -> None:
    assert keep(2, [4, 3, 2], [A, A, B], pivot_ratio=1.0, pivots_block=True) == [0, 1]


# --- Edges --------------------------------------------------------------------------------------


def test_an_edge_needs_more_than_theta() -> None:
    # Cosine of (1, 1, 1, 1) and (1, 1, 1, -1): exactly 0.5.
    features = [[1, 1, 1, 1], [1, 1, 1, -1], [1, -1, -1, 1]]
    assert keep(2, [3, 2, 1], features, theta=0.5) == [0, 1]
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    assert keep(2, [3, 2, 1], features, theta=below) == [0, 2]


def test_nearness_needs_more_than_theta() -> None:
    # Diagonal 8; nearness of 0 and 2 is 1 - 2/8 = 0.75.
    assert keep(2, [3, 2, 1], x=[0, 2, 8], alpha=0.0, theta=0.75) == [0, 1]
    assert keep(2, [3, 2, 1], x=[0, 2, 8], alpha=0.0, theta=0.74) == [0, 2]


def test_alpha_1_is_cosine_alone() -> None:
    # 0 and 1 are alike and far apart; 0 and 2 unlike and at one place.
    assert keep(2, [3, 2, 1], [A, A, B], x=[0, 8, 0], alpha=1.0) == [0, 2]


def test_alpha_0_is_nearness_alone() -> None:
    assert keep(2, [3, 2, 1], [A, B, A], x=[0, 0, 8], alpha=0.0) == [0, 2]


def test_alpha_weighs_the_two() -> None:
    features, grid = np.float32([A, A, B]), np.float32([[0, 0], [4, 0], [8, 0]])
    # Cosine 1, nearness 1 - 4/8: 0.75 * 1 + 0.25 * 0.5.
    assert similarity(features, grid, 0, 1, 0.75) == 0.875
    # Cosine 0, nearness 0.
    assert similarity(features, grid, 0, 2, 0.75) == 0
    # Cosine 0, nearness 1/2.
    assert similarity(features, grid, 1, 2, 0.75) == 0.125


def test_distance_is_euclidean_and_the_diagonal_that_of_the_bounding_box() -> None:
    # Box 6 by 8, diagonal 10, though no two tokens are that far apart: 0 to 1 is 5.
    grid = np.float32([[0, 4], [3, 8], [6, 4], [3, 0]])
    features = np.eye(4, dtype=np.float32)
    assert similarity(features, grid, 0, 1, 0.0) == np.float32(0.5)
    assert similarity(features, grid, 0, 2, 0.0) == np.float32(1) - np.float32(6) / np.float32(10)


def test_tokens_at_one_point_are_as_near_as_can_be() -> None:
    # The diagonal is 0 and taken as 1: nearness 1, not 0/0.
    features, grid = np.eye(2, dtype=np.float32), np.full((2, 2), 3, np.float32)
    assert similarity(features, grid, 0, 1, 0.0) == 1
    assert keep(2, [3, 2, 1], alpha=0.0, theta=0.99) == [0, 1]  # all neighbours: filled
    assert keep(2, [3, 2, 1], alpha=0.0, theta=1.0) == [0, 1]  # none


def test_the_length_of_a_vector_does_not_matter() -> None:
    assert keep(2, [3, 2, 1], [A, [100, 0], [0, 0.01]]) == [0, 2]


def test_opposite_vectors_are_no_neighbours() -> None:
    assert keep(2, [3, 2, 1], [A, [-1, 0], A]) == [0, 1]


def test_a_zero_vector_has_cosine_0_with_everything_itself_included() -> None:
    features = np.float32([ZERO, ZERO, A])
    grid = np.zeros((3, 2), np.float32)
    assert similarity(features, grid, 0, 1, 1.0) == 0
    assert similarity(features, grid, 0, 0, 1.0) == 0
    assert similarity(features, grid, 0, 2, 1.0) == 0
    # Two zero vectors are no neighbours, where two equal ones would be.
    assert keep(2, [3, 2, 1], [ZERO, ZERO, A]) == [0, 1]
    # 0 is a number like any other: above a theta of -0.5, as the cosine -1 of the third is not.
    assert keep(2, [3, 2, 1], [A, ZERO, [-1, 0]], theta=-0.5) == [0, 2]


def test_a_vector_too_short_to_square_is_a_zero_vector() -> None:
    assert keep(2, [3, 2, 1], [[1e-30, 0], [1e-30, 0], A]) == [0, 1]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_token_without_a_cosine_is_nobodys_neighbour(value: float, alpha: float) -> None:
    # With numbers everything would be a neighbour: 0 joins, and 1 would fill. Token 2 joins.
    kept = keep(2, [3, 2, 1], [A, A, [value, 1]], theta=-5, alpha=alpha)
    assert kept == [0, 2]


# --- How many -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 4, 2**40])
def test_keeping_all_keeps_the_order(count: int) -> None:
    assert keep(count, [1, NAN, 3], [A, A, A]) == [0, 1, 2]


def test_no_tokens_is_no_error() -> None:
    empty = np.zeros(0, np.float32)
    for parameters in (PruneParameters(keep=4), PruneParameters(keep_permille=1)):
        for importance in (empty, np.zeros((3, 0), np.float32)):
            kept = select(
                np.zeros((0, 5), np.float32),
                importance,
                empty,
                np.zeros((0, 2), np.float32),
                parameters,
            )
            assert kept.shape == (0,)
            assert kept.dtype == np.int32


def test_the_result_is_ascending_whatever_the_order_of_choice() -> None:
    # Chosen in the order 4, 2, 0.
    assert keep(3, [3, 0, 4, 1, 5]) == [0, 2, 4]


def test_a_share_is_a_share_of_the_image() -> None:
    features, ones = np.eye(8, dtype=np.float32), np.ones(8, np.float32)
    importance = np.arange(8, dtype=np.float32)
    grid = np.zeros((8, 2), np.float32)
    parameters = PruneParameters(keep_permille=250, alpha=1.0)
    assert select(features, importance, ones, grid, parameters).tolist() == [6, 7]

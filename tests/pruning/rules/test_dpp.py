"""Greedy determinantal point process: by hand, then from determinants."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.pruning.rule_parameters import DppParameters
from d2export.pruning.rules.dpp import SMALLEST_QUALITY, quality, reference
from tests.rule_cases import (
    INF,
    NAN,
    budgets,
    exact_products,
    features_of_any_kind,
    normal,
    one_hot,
    rows,
    scores_of_any_kind,
    seeds,
    shuffled,
)

LEAD = 1e-5  # of the best determinant over the next; quality, in float32, is as exact as 1e-6


def kept(features: Tensor, importance: Tensor, count: int) -> list[int]:
    indices: list[int] = reference(features, importance, DppParameters(keep=count)).tolist()
    return indices


# --- Quality, by hand ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("importance", "spread"),
    [
        ((2, 4, 3), (0, 1, 0.5)),
        ((-8, 0, -6), (0, 1, 0.25)),
        ((INF, 4, 2, -INF), (1, 1, 0, 0)),  # as the ends of what is finite, 4 and 2
        ((3e38, 0, -3e38), (1, 0.5, 0)),
        ((NAN, 1, 5), (0, 0, 1)),
    ],
    ids=str,
)
def test_quality_spreads_importance_over_0_to_1(
    importance: tuple[float, ...], spread: tuple[float, ...]
) -> None:
    expected = torch.tensor(spread) + SMALLEST_QUALITY
    assert quality(torch.tensor(importance)).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("importance", "expected"),
    [((3, 3), (1, 1)), ((INF, INF), (1, 1)), ((NAN, 3), (1e-6, 1)), ((NAN, NAN), (1e-6, 1e-6))],
    ids=str,
)
def test_equal_importance_is_quality_1(
    importance: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    found = quality(torch.tensor(importance, dtype=torch.float32))
    assert found.tolist() == torch.tensor(expected).tolist()


# --- Selection, by hand -------------------------------------------------------------------------

# Cosines       a    b    c    d     a, c, d at right angles, b at 60 degrees to each
#   a  + + + +  1   1/2   0    0
#   b  + + + -  1/2  1   1/2  1/2
#   c  + + - -  0   1/2   1    0
#   d  + - + -  0   1/2   0    1
ABCD = rows((1, 1, 1, 1), (1, 1, 1, -1), (1, 1, -1, -1), (1, -1, 1, -1))


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 2]), (3, [0, 2, 3])])
@pytest.mark.parametrize("value", [0.0, 7.0, INF, NAN], ids=str)
def test_equally_important_tokens_span_the_largest_volume(
    value: float, count: int, expected: list[int]
) -> None:
    # What is left of each outside the span of those kept (the gain, all q being equal):
    #   kept        a    b                        c    d
    #   nothing     1    1                        1    1    all tie: a
    #   a                1 - 1/4 = 3/4            1    1    c and d tie: c
    #   a, c             3/4 - 1/4 = 1/2               1    d
    assert kept(ABCD, torch.full((4,), value), count) == expected


@pytest.mark.parametrize(
    ("b", "order"), [(3.0, [0, 1, 4, 2]), (2.25, [0, 2, 4, 1])], ids=["relevance", "angle"]
)
def test_relevance_outweighs_a_right_angle_and_does_not(b: float, order: list[int]) -> None:
    # e is at a right angle to a, b, c. Importance 4, b, 2, 0, 1.7, so q = 1, b/4, 1/2, 0, 0.425.
    # The first is a. Gains, q² times what is left:
    #            b, q = 3/4           b, q = 9/16          c                   e
    #   a        9/16 · 3/4 = 0.42    81/256 · 3/4 = 0.24  1/4 · 1 = 0.25      0.18
    #   a, b                                               1/4 · 2/3 = 0.17    0.18
    #   a, c                          81/256 · 1/2 = 0.16                      0.18
    # What is left of c outside {a, b}: its part along b, 1/2 / sqrt(3/4), squared is 1/3.
    tokens = torch.cat([ABCD, rows((1, -1, 0, 0))])
    importance = torch.tensor([4, b, 2, 0, 1.7])
    for count in budgets(4):
        assert kept(tokens, importance, count) == sorted(order[:count])


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [1]), (2, [1, 3]), (3, [1, 3, 4]), (4, [1, 2, 3, 4])]
)
def test_where_nothing_is_left_the_most_important_fill_the_budget(
    count: int, expected: list[int]
) -> None:
    # Importance 1 to 5, so q = 0, 1, 1/4, 1/2, 3/4. Token 4 has no direction: gain none.
    #   kept      0 east   1 east   2 north   3 north
    #   nothing   0        1        1/16      1/4       1
    #   1         none              1/16      1/4       3
    #   1, 3      none              none                exhausted: 4, then 2 by importance
    tokens = rows((1, 0), (2, 0), (0, 1), (0, 3), (0, 0))
    assert kept(tokens, torch.tensor([1.0, 5, 2, 3, 4]), count) == expected


def test_the_fill_is_in_the_order_of_importance() -> None:
    # All alike: one by its quality, the others by importance; NaN comes last, ties by index.
    importance = torch.tensor([NAN, 2, INF, 2, -INF, 3])
    expected = [[2], [2, 5], [1, 2, 5], [1, 2, 3, 5], [1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    # q of 2 and 5 is 1: Inf is the largest finite value, 3. They tie: 2 is the lower index.
    assert [kept(one_hot("AAAAAA"), importance, count) for count in budgets(6)] == expected


@pytest.mark.parametrize("odd", [(0, 0), (NAN, 1), (INF, 1), (3e38, 3e38)], ids=str)
def test_a_vector_without_direction_is_kept_for_importance_only(odd: tuple[float, float]) -> None:
    tokens, importance = rows(odd, (1, 0), (0, 1), (1, 0)), torch.tensor([9.0, 1, 2, 0])
    # q = 1, 1/9, 2/9, 0: first 2, then 1; then 0 by importance.
    assert [kept(tokens, importance, count) for count in budgets(3)] == [[2], [1, 2], [0, 1, 2]]


def test_of_identical_tokens_that_are_equally_important_the_lowest_indices_stay() -> None:
    tokens, importance = rows(*[(3, 1, 2)] * 6), torch.full((6,), 0.3)
    assert all(kept(tokens, importance, n) == list(range(n)) for n in budgets(6))


@settings(max_examples=50, deadline=None)
@given(seed=seeds, channels=st.integers(1, 9))
def test_the_first_of_equally_important_tokens_is_the_first_of_all(
    seed: int, channels: int
) -> None:
    # The squares of a direction add up to 1 but for rounding: that chooses nothing.
    assert kept(normal(seed, 9, channels), torch.ones(9), 1) == [0]


def test_a_share_is_rounded_down_but_keeps_one() -> None:
    for permille, expected in ((1, [0]), (499, [0]), (500, [0, 2]), (750, [0, 2, 3])):
        found = reference(ABCD, torch.ones(4), DppParameters(keep_permille=permille))
        assert found.tolist() == expected


# --- By determinants ----------------------------------------------------------------------------


def by_determinant(features: Tensor, importance: Tensor, count: int) -> tuple[list[int], float]:
    """Ids in the order they are taken, and the least lead of a determinant over the next one.

    A determinant that has lost more than 90 % to the tokens before it counts as without lead.
    """
    products = torch.tensor(exact_products(features), dtype=torch.float64)
    length = products.diagonal().sqrt()
    cosine = products / length / length[:, None]
    wide = importance.double()
    q = (wide - wide.min()) / (wide.max() - wide.min()) + SMALLEST_QUALITY
    kernel = q[:, None] * cosine * q
    taken: list[int] = []
    lead, before = INF, 1.0
    for _ in range(count):
        volume = {
            token: float(torch.linalg.det(kernel[[*taken, token]][:, [*taken, token]]))
            for token in range(len(q))
            if token not in taken
        }
        first, *rest = sorted(volume, key=lambda token: -volume[token])
        if rest:
            lead = min(lead, 1 - volume[rest[0]] / volume[first])
        if volume[first] < 0.1 * before * float(q[first] ** 2):
            lead = 0.0
        taken.append(first)
        before = volume[first]
    return taken, lead


@settings(max_examples=150, deadline=None)
@given(seed=seeds, tokens=st.integers(2, 9), data=st.data())
def test_equals_the_largest_determinants(seed: int, tokens: int, data: st.DataObject) -> None:
    channels = data.draw(st.integers(tokens, 12))  # the tokens span a volume, at acute angles
    features, importance = normal(seed, tokens, channels) + 1, normal(seed ^ 1, tokens)
    count = data.draw(st.integers(1, tokens - 1))
    taken, lead = by_determinant(features, importance, count)
    assume(lead > LEAD)
    assert kept(features, importance, count) == sorted(taken)


@settings(max_examples=80, deadline=None)
@given(seed=seeds, tokens=st.integers(2, 9), data=st.data())
def test_directions_in_whole_numbers_change_little(
    seed: int, tokens: int, data: st.DataObject
) -> None:
    features, importance = normal(seed, tokens, 12), normal(seed ^ 1, tokens)
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    q = quality(importance).double()
    kernel = q[:, None] * (unit @ unit.T) * q
    taken: list[int] = []
    for _ in range(data.draw(st.integers(1, tokens - 1))):
        volume = torch.full((tokens,), -INF, dtype=torch.float64)
        for token in set(range(tokens)) - set(taken):
            ids = [*taken, token]
            volume[token] = torch.linalg.det(kernel[ids][:, ids])
        (best, second), (token, _) = volume.topk(2)
        assume(second < 0.98 * best)
        taken.append(int(token))
    assert kept(features, importance, len(taken)) == sorted(taken)


@settings(max_examples=80, deadline=None)
@given(seed=seeds, channels=st.integers(1, 4), data=st.data())
def test_where_all_dimensions_are_spanned_importance_decides(
    seed: int, channels: int, data: st.DataObject
) -> None:
    features, importance = normal(seed, 9, channels), normal(seed ^ 1, 9)
    taken, lead = by_determinant(features, importance, channels)
    assume(lead > LEAD)
    count = data.draw(st.integers(channels, 8))
    rest = [token for token in importance.argsort(descending=True).tolist() if token not in taken]
    assert kept(features, importance, count) == sorted(taken + rest[: count - channels])


@settings(max_examples=50, deadline=None)
@given(seed=seeds, channels=st.integers(1, 4), repeats=st.integers(2, 4))
def test_no_more_tokens_than_dimensions_are_kept_for_volume(
    seed: int, channels: int, repeats: int
) -> None:
    axes = "ABCD"[:channels]
    order = shuffled(seed, channels * repeats)
    tokens, importance = one_hot(axes * repeats)[order], normal(seed, len(order))
    # Right angles: volume is the product of q, so that of each axis the most important stays.
    best = [
        max((t for t in range(len(order)) if tokens[t].argmax() == a), key=lambda t: importance[t])
        for a in range(channels)
    ]
    assert kept(tokens, importance, channels) == sorted(best)
    rest = [t for t in importance.argsort(descending=True).tolist() if t not in best]
    assert kept(tokens, importance, channels + 1) == sorted([*best, rest[0]])


# --- Properties ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 9))
def test_more_tokens_are_those_of_a_smaller_budget_and_one_more(
    data: st.DataObject, tokens: int
) -> None:
    features = data.draw(features_of_any_kind(tokens))[0]
    importance = data.draw(scores_of_any_kind(tokens).filter(lambda scores: scores.dim() == 2))[0]
    growing = [set(kept(features, importance, count)) for count in budgets(tokens)]
    assert [len(ids) for ids in growing] == list(budgets(tokens))
    assert all(fewer < more for fewer, more in pairwise(growing))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, tokens=st.integers(2, 12), data=st.data())
def test_lengths_and_the_scale_of_importance_do_not_matter(
    seed: int, tokens: int, data: st.DataObject
) -> None:
    features, importance = normal(seed, tokens, 5), normal(seed ^ 1, tokens)
    exponents = data.draw(st.lists(st.integers(-9, 9), min_size=tokens, max_size=tokens))
    lengths = torch.tensor(exponents).exp2()[:, None]  # powers of two: no rounding
    scale = 2.0 ** data.draw(st.integers(-30, 30))
    for count in budgets(tokens):
        assert kept(features * lengths, importance * scale, count) == kept(
            features, importance, count
        )


@settings(max_examples=60, deadline=None)
@given(seed=seeds, tokens=st.integers(3, 12), data=st.data())
def test_permuted_tokens_are_kept_where_they_went(
    seed: int, tokens: int, data: st.DataObject
) -> None:
    features, importance = normal(seed, tokens, 12), normal(seed ^ 1, tokens)
    order = shuffled(seed, tokens)
    count = data.draw(st.integers(1, tokens - 1))
    assume(by_determinant(features, importance, count)[1] > LEAD)
    moved = order[kept(features[order], importance[order], count)]
    assert sorted(moved.tolist()) == kept(features, importance, count)

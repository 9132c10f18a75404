"""Max-min diversity: worked out by hand, then from all distances."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.pruning.rule_parameters import MaxMinParameters
from d2export.pruning.rules.max_min import reference
from tests.rule_cases import (
    INF,
    NAN,
    budgets,
    exact_products,
    features_of_any_kind,
    normal,
    rows,
    seeds,
    shuffled,
)

MARGIN = 2e-3  # of a distance; directions in whole numbers move one by less than half of that


def kept(features: Tensor, count: int) -> list[int]:
    indices: list[int] = reference(features, MaxMinParameters(keep=count)).tolist()
    return indices


# --- By hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "expected"), [(1, [2]), (2, [0, 2]), (3, [0, 2, 3])])
def test_the_first_token_is_the_one_farthest_from_its_nearest(
    count: int, expected: list[int]
) -> None:
    # Cosines     0   1   2   3   nearest other
    #   0 east    1   1   0  -1   1
    #   1 east    1   1   0  -1   1
    #   2 north   0   0   1   0   0   the first: ties with 3, the lower index
    #   3 west   -1  -1   0   1   0
    # All are at a right angle to 2: next is 0. Of 1 the nearest of {0, 2} is then 1, of 3 it is 0.
    tokens = rows((1, 0), (1, 0), (0, 1), (-1, 0))
    assert kept(tokens, count) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [4]), (2, [0, 4]), (3, [0, 2, 4]), (4, [0, 2, 3, 4])]
)
@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1), (1, 8, 0.5, 2, 64)], ids=["equal", "other"])
def test_each_next_token_is_the_one_farthest_from_its_nearest_kept(
    lengths: tuple[float, ...], count: int, expected: list[int]
) -> None:
    # Cosines in 25ths; then the nearest other, and the nearest of those kept so far.
    #             0    1    2    3    4   other   {4}   {4, 0}   {4, 0, 2}
    #   0  5 0   25   20   15    0  -20      20   -20
    #   1  4 3   20   25   24   15   -7      24    -7       20          24
    #   2  3 4   15   24   25   20    0      24     0       15
    #   3  0 5    0   15   20   25   15      20    15       15          20
    #   4 -4 3  -20   -7    0   15   25      15
    # The least of a column is next; in {4, 0} 2 and 3 tie.
    tokens = rows((5, 0), (4, 3), (3, 4), (0, 5), (-4, 3))
    assert kept(tokens * torch.tensor(lengths)[:, None], count) == expected


ODD = [(0, 0), (NAN, 1), (INF, 1), (-INF, -1), (3e38, 3e38), (1e-45, 0)]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (2, [0, 1]), (3, [0, 1, 3])])
def test_a_vector_without_direction_is_at_a_right_angle_to_all(
    odd: tuple[float, float], count: int, expected: list[int]
) -> None:
    # Cosines          0    1    2   3   other   {1}   {1, 0}
    #   0 east         1   -1   .7   0      .7    -1
    #   1 west        -1    1  -.7   0       0                 the first: ties with 3
    #   2 north-east  .7  -.7    1   0      .7   -.7       .7
    #   3 none         0    0    0   0       0     0        0
    # The length of (3e38, 3e38) is infinite in float32, and so is 1 over 1e-45.
    assert kept(rows((1, 0), (-1, 0), (1, 1), odd), count) == expected


@pytest.mark.parametrize("token", [(0, 0), (3, 4), (NAN, 0)], ids=str)
def test_of_identical_tokens_the_lowest_indices_stay(token: tuple[float, float]) -> None:
    # Every cosine is the same number, so that each step takes the lowest index that is left.
    for count in budgets(6):
        assert kept(rows(*[token] * 6), count) == list(range(count))


def test_a_share_is_rounded_down_but_keeps_one() -> None:
    tokens = rows((1, 0), (1, 0), (0, 1), (-1, 0))  # as in the first case
    for permille, expected in ((1, [2]), (250, [2]), (749, [0, 2]), (750, [0, 2, 3])):
        assert reference(tokens, MaxMinParameters(keep_permille=permille)).tolist() == expected


# --- Token by token -----------------------------------------------------------------------------


def by_distance(features: Tensor, count: int) -> tuple[list[int], bool]:
    """Ids in the order they are taken, and whether each was farther than all others left."""
    products = exact_products(features)
    everything = range(len(products))
    taken: list[int] = []
    alone = True
    while len(taken) < count:
        others = taken or everything
        nearest = {
            token: max((products[token][other] for other in others if other != token), default=0)
            for token in everything
            if token not in taken
        }
        first, *rest = sorted(nearest, key=lambda token: nearest[token])  # stable: the lower index
        alone &= not rest or nearest[first] < nearest[rest[0]]
        taken.append(first)
    return taken, alone


@settings(max_examples=150, deadline=None)
@given(seed=seeds, tokens=st.integers(1, 12), channels=st.integers(1, 8), data=st.data())
def test_equals_the_distances_in_whole_numbers(
    seed: int, tokens: int, channels: int, data: st.DataObject
) -> None:
    features = normal(seed, tokens, channels)
    count = data.draw(st.integers(1, tokens))
    assert kept(features, count) == sorted(by_distance(features, count)[0])


@settings(max_examples=150, deadline=None)
@given(seed=seeds, tokens=st.integers(2, 9), channels=st.integers(2, 8), data=st.data())
def test_equals_the_distances_in_float64_where_none_is_close(
    seed: int, tokens: int, channels: int, data: st.DataObject
) -> None:
    features = normal(seed, tokens, channels)
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    distance = 1 - unit @ unit.T + 9 * torch.eye(tokens)  # none to itself
    taken: list[int] = []
    for _ in range(data.draw(st.integers(1, tokens - 1))):
        nearest = distance[:, taken or slice(None)].amin(dim=1)
        nearest[taken] = -INF
        (best, second), (token, _) = nearest.topk(2)
        assume(best - second > MARGIN)
        taken.append(int(token))
    assert kept(features, len(taken)) == sorted(taken)


# --- Properties ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 9))
def test_more_tokens_are_those_of_a_smaller_budget_and_one_more(
    data: st.DataObject, tokens: int
) -> None:
    features = data.draw(features_of_any_kind(tokens))[0]
    growing = [set(kept(features, count)) for count in budgets(tokens)]
    assert [len(ids) for ids in growing] == list(budgets(tokens))
    assert all(fewer < more for fewer, more in pairwise(growing))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 9))
def test_lengths_do_not_matter(data: st.DataObject, tokens: int) -> None:
    values = st.sampled_from((0.0, 1.0, -1.0, 2.0, 3.0))
    triples = st.tuples(values, values, values)
    features = rows(*data.draw(st.lists(triples, min_size=tokens, max_size=tokens)))
    exponents = data.draw(st.lists(st.integers(-9, 9), min_size=tokens, max_size=tokens))
    lengths = torch.tensor(exponents).exp2()[:, None]  # powers of two: no rounding, ties stay
    for count in budgets(tokens):
        assert kept(features * lengths, count) == kept(features, count)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, tokens=st.integers(3, 30), data=st.data())
def test_permuted_tokens_are_kept_where_they_went(
    seed: int, tokens: int, data: st.DataObject
) -> None:
    features, order = normal(seed, tokens, 6), shuffled(seed, tokens)
    count = data.draw(st.integers(1, tokens))
    assume(by_distance(features, count)[1])
    assert sorted(order[kept(features[order], count)].tolist()) == kept(features, count)

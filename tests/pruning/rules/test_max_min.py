"""Max-min diversity: worked out by hand, then against all distances in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.pruning.rule_parameters import MaxMinParameters
from d2export.pruning.rules.max_min import reference
from tests.rule_cases import INF, NAN, budgets, features_of_any_kind, normal, rows, seeds, shuffled

MARGIN = 1e-5  # of a distance; float32 errs by less than a tenth of that


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


ODD = [(0, 0), (NAN, 1), (INF, 1), (-INF, -1), (1e30, 0), (1e-30, 0)]


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
    # The squares of 1e30 and 1e-30 are infinite and 0 in float32.
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


# --- Against float64 ----------------------------------------------------------------------------


def by_distance(features: Tensor, count: int) -> tuple[list[int], float]:
    """Ids in the order they are taken, and the least lead of one over all others left."""
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    distance = [[float(1 - a @ b) for b in unit] for a in unit]
    everything = range(len(unit))
    taken: list[int] = []
    margin = INF
    while len(taken) < count:
        others = taken or everything
        nearest = {
            token: min(distance[token][other] for other in others if other != token)
            for token in everything
            if token not in taken
        }
        first, *rest = sorted(nearest, key=lambda token: -nearest[token])
        if rest:
            margin = min(margin, nearest[first] - nearest[rest[0]])
        taken.append(first)
    return taken, margin


@settings(max_examples=150, deadline=None)
@given(seed=seeds, tokens=st.integers(2, 9), channels=st.integers(2, 8), data=st.data())
def test_equals_the_definition_in_float64(
    seed: int, tokens: int, channels: int, data: st.DataObject
) -> None:
    features = normal(seed, tokens, channels)
    count = data.draw(st.integers(1, tokens))
    taken, margin = by_distance(features, count)
    # Of two tokens alone, the first is a tie: each is the other's nearest.
    assume(margin > MARGIN or (count == tokens))
    assert kept(features, count) == sorted(taken)


# --- Properties ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 9))
def test_more_tokens_are_those_of_a_smaller_budget_and_one_more(
    data: st.DataObject, tokens: int
) -> None:
    features = data.draw(features_of_any_kind(tokens))[0]
    growing = [set(kept(features, count)) for count in budgets(tokens)]
    assert [len(ids) for ids in growing] == list(budgets(tokens))
    assert all(fewer < more for fewer, more in zip(growing, growing[1:], strict=False))


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
    assume(by_distance(features, count)[1] > MARGIN)
    assert sorted(order[kept(features[order], count)].tolist()) == kept(features, count)

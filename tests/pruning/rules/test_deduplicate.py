"""Removal of near-duplicates: rounds worked out by hand, then token by token in plain Python."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.errors import UsageError
from d2export.pruning.rule_parameters import DeduplicateParameters
from d2export.pruning.rules.deduplicate import reference
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


def kept(features: Tensor, importance: Tensor, count: int, ratio: float = 0.5) -> list[int]:
    parameters = DeduplicateParameters(keep=count, important_ratio=ratio)
    indices: list[int] = reference(features, importance, parameters).tolist()
    return indices


def falling(tokens: int) -> Tensor:
    """Importance by which the ids are the ranks."""
    return torch.arange(tokens, 0, -1, dtype=torch.float32)


# --- By hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        # important | even places  odd places    largest cosine of even   removed   then
        # 0         | 1B 3C 5E 7A  2C 4D 6D      0 1 0 0                  3 1 5 7   2 4 6
        #           | 2 6          4             0 1                      6 2       4
        (2, [0, 4]),
        # 0 1       | 2C 4D 6D     3C 5E 7A      1 0 0                    2 4 6     3 5 7
        #           | 3 7          5             0 0                      3         7 5
        (4, [0, 1, 5, 7]),
        # 0 1       | the same                                            2 4 6     3 5 7
        (5, [0, 1, 3, 5, 7]),
        # 0 1 2     | 3C 5E 7A     4D 6D         0 0 0                    3 5       7 4 6
        (6, [0, 1, 2, 4, 6, 7]),
        # 0 1 2     | the same                                            3         5 7 4 6
        (7, [0, 1, 2, 4, 5, 6, 7]),
    ],
)
def test_those_at_even_places_most_like_one_at_an_odd_place_go(
    count: int, expected: list[int]
) -> None:
    # Tokens of the same letter are alike. The duplicate D D of the last case stays: both are odd.
    assert kept(one_hot("ABCCDEDA"), falling(8), count) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        # Ranking 5 2 0 3 1 4. Largest cosine of an even place with an odd one:
        #   5: 1/2 (2)   0: 1 (3)   1: 1/2 (2)
        (5, [1, 2, 3, 4, 5]),  # 0 goes
        (4, [1, 2, 3, 4]),  # and 5, which ties with 1 at an earlier place
        (3, [2, 3, 4]),  # and 1
        # Left are 2 3 4 in this order: even 2 and 4, odd 3, all at right angles. 2 goes first;
        # then of 4 3, even before odd, 4.
        (2, [3, 4]),
        (1, [3]),
    ],
)
def test_rounds_go_on_with_the_even_places_before_the_odd_ones(
    count: int, expected: list[int]
) -> None:
    tokens = rows(
        (2, 2, -2, -2),  # 0: as 3
        (1, -1, 1, 1),  # 1: 1/2 with 2, -1/2 with 3, 1/2 with 4
        (1, 1, 1, 1),  # 2
        (1, 1, -1, -1),  # 3
        (1, -1, -1, 1),  # 4
        (1, 1, 1, -1),  # 5: 1/2 with 2, 1/2 with 3, -1/2 with 4
    )
    assert kept(tokens, torch.tensor([3.0, 1, 5, 2, 0, 6]), count, ratio=0) == expected


def test_at_most_eight_go_in_a_round() -> None:
    # Pairs, each at an even place and the odd one behind it. All ten at even places are of cosine
    # 1, the first eight go: 0 2 ... 14. Left are 16 18 1 3 5 ... 19: even places 16 1 5 9 13 17,
    # odd 18 3 7 11 15 19. Cosines are 0 (17 is at an even place): 16 and 1 go, not 16 and 18.
    tokens = one_hot("AABBCCDDEEFFGGHHIIJJ")
    assert kept(tokens, falling(20), 10, ratio=0) == [3, 5, 7, 9, 11, 13, 15, 17, 18, 19]


@pytest.mark.parametrize(
    ("ratio", "important"), [(0.0, 0), (0.39, 1), (0.5, 2), (0.6, 3), (0.99, 4), (1.0, 5)]
)
def test_the_share_of_important_tokens_is_rounded_down(ratio: float, important: int) -> None:
    # 0.6 · 5 in float32 is 3. All tokens are alike: of the rest, even places go until enough are
    # left, and so the most important of the rest goes first.
    rest = list(range(important, 8))
    while len(rest) > 5 - important:
        surplus = len(rest) - (5 - important)
        rest = rest[::2][surplus:] + rest[1::2]
    expected = sorted([*range(important), *rest])
    assert kept(one_hot("AAAAAAAA"), falling(8), 5, ratio) == expected


def test_importance_ties_go_to_the_lower_index_and_nan_comes_last() -> None:
    importance = torch.tensor([NAN, 1, INF, 1, -INF, 2])
    order = [2, 5, 1, 3, 4, 0]
    tokens = one_hot("ABCDEF")
    assert all(kept(tokens, importance, n, ratio=1) == sorted(order[:n]) for n in budgets(6))


@pytest.mark.parametrize("odd", [(0, 0), (NAN, 1), (INF, 1), (3e38, 3e38)], ids=str)
def test_a_vector_without_direction_has_no_duplicate(odd: tuple[float, float]) -> None:
    # Even 0 (none) and 2, odd 1 and 3 (none): 0 has cosine 0 with both, 2 has 1 with 1: 2 goes.
    tokens = rows(odd, (1, 0), (3, 0), odd)
    assert kept(tokens, falling(4), 3, ratio=0) == [0, 1, 3]


def test_a_token_may_be_opposite_to_all() -> None:
    # Even 0: largest cosine with 1 and 3 is -1; even 2: 0 with both. 2 is more alike and goes.
    tokens = rows((-1, 0), (1, 0), (0, 1), (1, 0))
    assert kept(tokens, falling(4), 3, ratio=0) == [0, 1, 3]


@pytest.mark.parametrize("ratio", [-0.01, 1.01, NAN])
def test_a_ratio_outside_0_to_1_is_an_error(ratio: float) -> None:
    with pytest.raises(UsageError, match=f"important_ratio is {ratio}, expected a number from 0"):
        DeduplicateParameters(keep=1, important_ratio=ratio)


# --- Token by token -----------------------------------------------------------------------------


def by_rounds(features: Tensor, importance: Tensor, count: int, important: int) -> list[int]:
    products = exact_products(features)
    order = sorted(range(len(products)), key=lambda token: -float(importance[token]))
    chosen, rest = order[:important], order[important:] if important < count else []
    while len(rest) > count - important:
        even = [token for place, token in enumerate(rest) if place % 2 == 0]
        odd = [token for place, token in enumerate(rest) if place % 2 == 1]
        alike = {token: max(products[token][other] for other in odd) for token in even}
        surplus = min(8, len(rest) - (count - important))
        gone = sorted(even, key=lambda token: -alike[token])[:surplus]  # stable: the earlier place
        rest = [token for token in even if token not in gone] + odd
    return sorted(chosen + rest)


@settings(max_examples=80, deadline=None)
@given(seed=seeds, tokens=st.integers(1, 40), channels=st.integers(1, 6), data=st.data())
def test_equals_the_rounds_in_plain_python(
    seed: int, tokens: int, channels: int, data: st.DataObject
) -> None:
    features, importance = normal(seed, tokens, channels), normal(seed ^ 1, tokens)
    count = data.draw(st.integers(1, tokens))
    important = data.draw(st.integers(0, count))
    ratio = min(1.0, (important + 0.5) / count)
    expected = by_rounds(features, importance, count, important)
    assert kept(features, importance, count, ratio) == expected


# --- Properties ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 24), ratio=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_the_important_part_is_the_head_of_the_ranking(
    data: st.DataObject, tokens: int, ratio: float
) -> None:
    features = data.draw(features_of_any_kind(tokens))[0]
    importance = normal(data.draw(seeds), tokens)
    count = data.draw(st.integers(1, tokens))
    parameters = DeduplicateParameters(keep=count, important_ratio=ratio)
    found = reference(features, importance, parameters).tolist()
    head = importance.argsort(descending=True)[: int(torch.tensor(ratio) * count)].tolist()
    assert len(found) == count
    assert set(head) <= set(found)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, tokens=st.integers(1, 24), important=st.integers(0, 3))
def test_with_as_many_important_tokens_a_larger_budget_keeps_one_more(
    seed: int, tokens: int, important: int
) -> None:
    features, importance = normal(seed, tokens, 4), normal(seed ^ 1, tokens)
    growing = [
        set(kept(features, importance, count, min(1.0, (important + 0.5) / count)))
        for count in range(max(important, 1), tokens + 1)
    ]
    assert all(fewer < more for fewer, more in pairwise(growing))


@settings(max_examples=80, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 24))
def test_only_the_order_of_importance_matters_not_the_indices(
    data: st.DataObject, tokens: int
) -> None:
    # Letters: cosines are 0 or 1 exactly, and equal ones are told apart by rank.
    letters = data.draw(st.text("ABCDE", min_size=tokens, max_size=tokens))
    features, count = one_hot(letters), data.draw(st.integers(1, tokens))
    importance = data.draw(scores_of_any_kind(tokens).map(lambda scores: scores.flatten()[:tokens]))
    by_value = kept(features, importance, count)
    ranking = sorted(range(tokens), key=lambda t: _place(float(importance[t]), t))
    ranks = torch.empty(tokens)
    ranks[ranking] = falling(tokens)
    assert kept(features, ranks, count) == by_value
    order = shuffled(data.draw(seeds), tokens)
    moved = order[kept(features[order], ranks[order], count)]
    assert sorted(moved.tolist()) == by_value


def _place(score: float, token: int) -> tuple[bool, float, int]:
    missing = score != score
    return missing, 0.0 if missing else -score, token


@settings(max_examples=60, deadline=None)
@given(seed=seeds, tokens=st.integers(1, 24), data=st.data())
def test_lengths_do_not_matter(seed: int, tokens: int, data: st.DataObject) -> None:
    features, importance = normal(seed, tokens, 4), normal(seed ^ 1, tokens)
    exponents = data.draw(st.lists(st.integers(-9, 9), min_size=tokens, max_size=tokens))
    lengths = torch.tensor(exponents).exp2()[:, None]  # powers of two: no rounding
    for count in budgets(tokens):
        assert kept(features * lengths, importance, count) == kept(features, importance, count)

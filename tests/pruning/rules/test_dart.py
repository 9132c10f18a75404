"""Pivots and what is least like them: by hand, then token by token in plain Python."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.errors import UsageError
from d2export.pruning.rule_parameters import DartParameters
from d2export.pruning.rules.dart import reference
from tests.rule_cases import INF, NAN, budgets, features_of_any_kind, normal, rows, seeds, shuffled

MARGIN = 1e-5  # between two cosines or norms; float32 errs by less than a tenth of that


def kept(features: Tensor, count: int, pivots: int = 8) -> list[int]:
    indices: list[int] = reference(features, DartParameters(keep=count, pivots=pivots)).tolist()
    return indices


# --- By hand ------------------------------------------------------------------------------------

# L1 norm, and cosine with 0 and 2
#   0 ( 3, 0)   3     1    0
#   1 ( 1, 0)   1     1    0
#   2 ( 0, 2)   2     0    1
#   3 ( 0, 1)   1     0    1
#   4 (-1, 0)   1    -1    0
#   5 ( 1, 1)   2    .7   .7
SIX = rows((3, 0), (1, 0), (0, 2), (0, 1), (-1, 0), (1, 1))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [0]),  # no more pivots than tokens are kept
        (2, [0, 2]),  # the pivots: 2 ties with 5 in L1 (in L2 it would not), the lower index
        (3, [0, 2, 4]),  # one is left over: to the first pivot, 4 of cosine -1
        (4, [0, 1, 2, 4]),  # one each: 4 to pivot 0; to pivot 2, of 1 3 5, 1 of cosine 0
        (5, [0, 1, 2, 3, 4]),  # two to pivot 0: 4, 3; then to pivot 2, of 1 5, 1
    ],
)
def test_each_pivot_takes_its_share_of_what_is_least_like_it(
    count: int, expected: list[int]
) -> None:
    assert kept(SIX, count, pivots=2) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(2, [0, 4]), (3, [0, 2, 4]), (4, [0, 2, 3, 4]), (5, [0, 2, 3, 4, 5])]
)
def test_one_pivot_takes_all(count: int, expected: list[int]) -> None:
    # By cosine with 0: 4 (-1), 2 and 3 (0, the lower index first), 5 (.7), 1 (1).
    assert kept(SIX, count, pivots=1) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [1]), (2, [1, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3])]
)
def test_pivots_have_the_largest_sum_of_absolute_values(count: int, expected: list[int]) -> None:
    # L1 is 3, 4, 4, 1, 1, L2 is 3, 2.8, 3.2, 1, 1. Pivots 1, 2, 0 in this order: the fourth token
    # is 1's, whose cosine with 3 is -.7 and with 4 is 0.
    tokens = rows((3, 0), (2, 2), (3, -1), (-1, 0), (-0.5, 0.5))
    assert kept(tokens, count, pivots=3) == expected


def test_a_vector_without_direction_is_at_a_right_angle_to_all() -> None:
    # L1 3, 1, 0, 1; cosine with pivot 0: 1 (1), 2 (0), 3 (.7). The zero vector goes first.
    tokens = rows((3, 0), (1, 0), (0, 0), (0.5, 0.5))
    assert [kept(tokens, n, pivots=1) for n in budgets(3)] == [[0], [0, 2], [0, 2, 3]]


def test_an_infinite_norm_is_the_largest_and_nan_the_smallest() -> None:
    # L1 NaN, 1, Inf, 2, Inf: pivots 2 and 4 (by index), then 3, 1, and 0 at last.
    tokens = rows((NAN, 9), (1, 0), (INF, 0), (2, 0), (-INF, 1))
    assert [kept(tokens, n) for n in budgets(4)] == [[2], [2, 4], [2, 3, 4], [1, 2, 3, 4]]


@pytest.mark.parametrize("token", [(0, 0), (3, 4), (NAN, 0)], ids=str)
@pytest.mark.parametrize("pivots", [1, 2, 8])
def test_of_identical_tokens_the_lowest_indices_stay(
    token: tuple[float, float], pivots: int
) -> None:
    assert all(kept(rows(*[token] * 6), n, pivots) == list(range(n)) for n in budgets(6))


@pytest.mark.parametrize("pivots", [0, -1, 1025])
def test_a_number_of_pivots_out_of_range_is_an_error(pivots: int) -> None:
    with pytest.raises(UsageError, match=f"pivots is {pivots}, expected 1 to 1024"):
        DartParameters(keep=1, pivots=pivots)


# --- Token by token -----------------------------------------------------------------------------


def by_pivots(features: Tensor, count: int, pivots: int) -> tuple[list[int], float]:
    """Kept ids, and the least lead in norm or cosine of a token that was taken over one not."""
    wide = features.double()
    unit = torch.nn.functional.normalize(wide, dim=1)
    norms = wide.abs().sum(dim=1).tolist()
    order = sorted(range(len(norms)), key=lambda token: -norms[token])
    gaps = [norms[a] - norms[b] for a, b in pairwise(order)]
    heads = order[: min(pivots, count)]
    margin = min(gaps[: len(heads)], default=INF)
    shares = [0] * len(heads)
    for extra in range(count - len(heads)):  # dealt out like cards
        shares[extra % len(heads)] += 1
    taken = list(heads)
    for pivot, share in zip(heads, shares, strict=True):
        cosine = {t: float(unit[t] @ unit[pivot]) for t in order if t not in taken}
        by_cosine = sorted(cosine, key=lambda token: cosine[token])
        if 0 < share < len(by_cosine):
            margin = min(margin, cosine[by_cosine[share]] - cosine[by_cosine[share - 1]])
        taken += by_cosine[:share]
    return sorted(taken), margin


@settings(max_examples=150, deadline=None)
@given(seed=seeds, tokens=st.integers(1, 24), pivots=st.integers(1, 9), data=st.data())
def test_equals_the_cards_dealt_out(
    seed: int, tokens: int, pivots: int, data: st.DataObject
) -> None:
    features = normal(seed, tokens, 5)
    count = data.draw(st.integers(1, tokens))
    expected, margin = by_pivots(features, count, pivots)
    assume(margin > MARGIN)
    assert kept(features, count, pivots) == expected


# --- Properties ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 12), pivots=st.integers(1, 9))
def test_more_tokens_are_those_of_a_smaller_budget_and_one_more(
    data: st.DataObject, tokens: int, pivots: int
) -> None:
    # A pivot that takes one more leaves the next one less, which then takes its next best.
    features = data.draw(features_of_any_kind(tokens))[0]
    growing = [set(kept(features, count, pivots)) for count in budgets(tokens)]
    assert [len(ids) for ids in growing] == list(budgets(tokens))
    assert all(fewer < more for fewer, more in pairwise(growing))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, tokens=st.integers(1, 24), exponent=st.integers(-12, 12))
def test_the_scale_of_all_tokens_does_not_matter(seed: int, tokens: int, exponent: int) -> None:
    features = normal(seed, tokens, 5)
    for count in budgets(tokens):
        assert kept(features * 2.0**exponent, count) == kept(features, count)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, tokens=st.integers(2, 24), pivots=st.integers(1, 9), data=st.data())
def test_permuted_tokens_are_kept_where_they_went(
    seed: int, tokens: int, pivots: int, data: st.DataObject
) -> None:
    features, order = normal(seed, tokens, 5), shuffled(seed, tokens)
    count = data.draw(st.integers(1, tokens))
    assume(by_pivots(features, count, pivots)[1] > MARGIN)
    moved = order[kept(features[order], count, pivots)]
    assert sorted(moved.tolist()) == kept(features, count, pivots)

"""The bend of a sorted curve: drawn as numbers, then what holds for every curve."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.errors import UsageError
from d2export.pruning.rule_parameters import ELBOW_RULES, NO_LIMIT, ElbowParameters, ElbowRule
from d2export.pruning.rules.elbow import head, reference
from tests.rule_cases import INF, NAN, normal, scores_of_any_kind, seeds, shuffled

any_rule = st.sampled_from(ELBOW_RULES)
every_rule = pytest.mark.parametrize("rule", ELBOW_RULES)


def kept(
    importance: Tensor, rule: ElbowRule, min_keep: int = 1, max_keep: int = NO_LIMIT
) -> list[int]:
    parameters = ElbowParameters(min_keep, max_keep, ELBOW_RULES.index(rule))
    indices: list[int] = reference(importance, parameters).tolist()
    return indices


# --- Curves, by hand ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "chord", "gap", "curvature"),
    [
        # Below, for `chord` (N - 1)(c - first) + (first - last) i: how far a point lies above
        # (head) or below (tail) the line; for `gap` the steps down; for `curvature` how much
        # larger the step before a point is than the one behind it.
        ((10, 4, 2, 1, 0), 1, 1, 1),
        # chord 0 -14 -12 -6 0; steps 6 2 1 1; bends 4 1 0
        ((12, 11, 5, 4, 4), 2, 2, 2),
        # chord 0 4 -12 -8 0; steps 1 6 1 0; bends -5 5 1
        ((20, 12, 5, 2, 2, 1, 1, 0), 3, 1, 2),
        # chord 0 -36 -65 -66 -46 -33 -13 0; steps 8 7 3 0 1 0 1; bends 1 4 3 -1 1 -1
        ((10, 9, 8, 0), 3, 3, 4),
        # chord 0 7 14 0; steps 1 1 8; bends 0 -7: none above 0, all is head
        ((10, 9, 7, 4), 2, 3, 4),
        # chord 0 3 3 0: a tie; steps 1 2 3; bends -1 -1
        ((6, 6, 0, 0), 2, 2, 2),
        # chord 0 6 -6 0: a tie of above and below; steps 0 6 0; bends -6 6
        ((9, 6, 5, 2, 1), 1, 1, 1),
        # chord 0 -4 0 -4 0, steps 3 1 3 1, bends 2 -2 2: ties
        ((6, 4, 2, 0), 4, 1, 4),
        # chord 0 0 0 0: a straight line; steps 2 2 2: a tie; bends 0 0
        ((5, 5, 5), 3, 3, 3),
        ((5, 1, 0), 1, 1, 1),
        # chord 0 -3 0; steps 4 1; bend 3
        ((7, 1), 2, 2, 2),
        ((7,), 1, 1, 1),
        ((), 0, 0, 0),
    ],
    ids=str,
)
def test_where_curves_bend(curve: tuple[float, ...], chord: int, gap: int, curvature: int) -> None:
    values = torch.tensor(curve, dtype=torch.float32)
    assert [head(values, rule) for rule in ELBOW_RULES] == [chord, gap, curvature]


# --- Tokens, by hand ----------------------------------------------------------------------------


# The third curve above, shuffled: of 2 2 and of 1 1 the lower index is first.
SHUFFLED = torch.tensor([5.0, 2, 1, 20, 0, 1, 12, 2])
RANKING = [3, 6, 0, 1, 7, 2, 5, 4]


@pytest.mark.parametrize(("rule", "count"), [("chord", 3), ("gap", 1), ("curvature", 2)])
def test_the_head_of_the_curve_stays_in_the_order_of_the_tokens(
    rule: ElbowRule, count: int
) -> None:
    assert kept(SHUFFLED, rule) == sorted(RANKING[:count])


@pytest.mark.parametrize(
    ("min_keep", "max_keep", "count"),
    [
        (1, NO_LIMIT, 3),  # the bend
        (3, 3, 3),
        (1, 2, 2),
        (1, 1, 1),
        (4, NO_LIMIT, 4),
        (4, 5, 4),
        (8, 8, 8),
        (9, NO_LIMIT, 8),  # no more than there are
    ],
)
def test_bounds_move_the_cut_along_the_ranking(min_keep: int, max_keep: int, count: int) -> None:
    assert kept(SHUFFLED, "chord", min_keep, max_keep) == sorted(RANKING[:count])


@every_rule
def test_infinities_lie_at_the_ends_of_the_curve_and_of_the_order(rule: ElbowRule) -> None:
    # Sorted Inf 9 9 1 0 -Inf: on the curve 9 9 9 1 0 0. chord 5(c - 9) + 9 i: 0 9 18 -13 -9 0, at 2
    # above; steps 0 0 8 1 0; bends 0 -8 7 1. All cut behind the third.
    importance = torch.tensor([9.0, -INF, 1, 9, INF, 0])
    assert kept(importance, rule) == [0, 3, 4]
    assert [kept(importance, rule, n, n) for n in (1, 2, 3)] == [[4], [0, 4], [0, 3, 4]]


@every_rule
def test_nan_is_no_part_of_the_curve(rule: ElbowRule) -> None:
    # The curve 10 4 2 1 0: one stays. More than have a value only where min_keep asks for them.
    importance = torch.tensor([NAN, 4, 10, NAN, 1, 0, 2])
    assert kept(importance, rule) == [2]
    assert kept(importance, rule, min_keep=5) == [1, 2, 4, 5, 6]
    assert kept(importance, rule, min_keep=6) == [0, 1, 2, 4, 5, 6]
    assert kept(torch.full((4,), NAN), rule) == [0]
    assert kept(torch.full((4,), NAN), rule, min_keep=3) == [0, 1, 2]


@every_rule
def test_equal_importance_has_no_bend(rule: ElbowRule) -> None:
    for value in (0.0, 3.0, INF, -INF):
        assert kept(torch.full((5,), value), rule) == [0, 1, 2, 3, 4]
        assert kept(torch.full((5,), value), rule, max_keep=2) == [0, 1]


@every_rule
def test_the_span_of_huge_importance_does_not_overflow(rule: ElbowRule) -> None:
    # Beyond 1e30 counts as 1e30. Curve 1 1 0 -1 -1 in 1e30s. chord 4(c - 1) + 2 i: 0 2 0 -2 0: at
    # 1 above; steps 0 1 1 0: the first 1; bends -1 0 1: at 3, tail.
    importance = torch.tensor([3e38, 0, 2e38, -2e38, -3e38])
    expected = {"chord": [0, 2], "gap": [0, 2], "curvature": [0, 1, 2]}
    assert kept(importance, rule) == expected[rule]


@pytest.mark.parametrize(("low", "high"), [(0, 5), (-1, 5), (6, 5), (1, 2**31)])
def test_bounds_that_leave_nothing_are_an_error(low: int, high: int) -> None:
    message = f"min_keep is {low} and max_keep is {high}: expected 1 <= min_keep <= max_keep"
    with pytest.raises(UsageError, match=message):
        ElbowParameters(low, high)


@pytest.mark.parametrize("elbow", [-1, 3])
def test_a_rule_that_does_not_exist_is_an_error(elbow: int) -> None:
    with pytest.raises(UsageError, match=f"elbow is {elbow}, expected 0 to 2"):
        ElbowParameters(elbow=elbow)


# --- Properties ---------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(data=st.data(), tokens=st.integers(0, 12), rule=any_rule)
def test_a_head_of_the_ranking_within_the_bounds_stays(
    data: st.DataObject, tokens: int, rule: ElbowRule
) -> None:
    importance = data.draw(scores_of_any_kind(tokens)).flatten()[:tokens]
    low = data.draw(st.integers(1, 14))
    high = data.draw(st.integers(low, 14))
    found = kept(importance, rule, low, high)
    assert min(low, tokens) <= len(found) <= min(high, tokens)
    assert all(a < b for a, b in pairwise(found))
    assert kept(importance, rule, len(found) or 1, len(found) or 1) == found


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 12), rule=any_rule)
def test_the_bounds_are_monotone(data: st.DataObject, tokens: int, rule: ElbowRule) -> None:
    importance = data.draw(scores_of_any_kind(tokens)).flatten()[:tokens]
    lows = [set(kept(importance, rule, min_keep=bound)) for bound in range(1, tokens + 1)]
    highs = [set(kept(importance, rule, max_keep=bound)) for bound in range(1, tokens + 1)]
    assert all(fewer <= more for fewer, more in [*pairwise(lows), *pairwise(highs)])
    assert lows[0] == highs[-1]  # no bound


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(1, 30), rule=any_rule, exponent=st.integers(-20, 20))
def test_the_scale_of_importance_does_not_matter_and_whole_numbers_may_be_shifted(
    data: st.DataObject, tokens: int, rule: ElbowRule, exponent: int
) -> None:
    numbers = st.lists(st.integers(-50, 50), min_size=tokens, max_size=tokens)
    importance = torch.tensor(data.draw(numbers), dtype=torch.float32)
    expected = kept(importance, rule)
    assert kept(importance * 2.0**exponent, rule) == expected
    assert kept(importance + data.draw(st.integers(-1000, 1000)), rule) == expected


@settings(max_examples=100, deadline=None)
@given(seed=seeds, tokens=st.integers(1, 30), rule=any_rule)
def test_permuted_tokens_are_kept_where_they_went(seed: int, tokens: int, rule: ElbowRule) -> None:
    importance, order = normal(seed, tokens), shuffled(seed, tokens)
    moved = order[kept(importance[order], rule)]
    assert sorted(moved.tolist()) == kept(importance, rule)

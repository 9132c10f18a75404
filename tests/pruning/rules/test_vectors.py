"""Directions and orders that every rule starts from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from d2export.pruning.rules.vectors import (
    LARGEST,
    descending,
    directions,
    finite,
    whole_directions,
)
from d2export.pruning.selection import mean_over_heads
from tests.rule_cases import INF, NAN, normal, rows, scores_of_any_kind, seeds, shuffled

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


# --- Directions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_directions_have_length_1_in_float32(dtype: torch.dtype) -> None:
    # Lengths 2, 4, 8: their inverses are exact.
    tokens = torch.tensor([[1, 1, 1, -1], [0, 4, 0, 0], [4, -4, 4, 4]], dtype=dtype)
    found = directions(tokens)
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.5, 0.5, 0.5, -0.5], [0, 1, 0, 0], [0.5, -0.5, 0.5, 0.5]]


def test_a_square_beyond_float16_is_within_float32() -> None:
    tokens = torch.tensor([[300, 0], [0, -60000]], dtype=torch.float16)
    torch.testing.assert_close(directions(tokens), rows((1, 0), (0, -1)), rtol=0, atol=1e-6)


def test_what_has_no_direction_becomes_zero() -> None:
    none = rows((0, 0), (NAN, 1), (INF, 1), (-INF, INF), (INF, NAN), (1e30, 1), (1e-30, 0))
    assert directions(none).tolist() == [[0, 0]] * 7


@settings(max_examples=50, deadline=None)
@given(seed=seeds, exponent=st.integers(-12, 12))
def test_directions_do_not_depend_on_length(seed: int, exponent: int) -> None:
    tokens = normal(seed, 5, 7)
    found = directions(tokens)
    assert directions(tokens * 2.0**exponent).equal(found)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5), rtol=0, atol=1e-6)


# --- Directions in whole numbers ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_whole_directions_have_length_2048(dtype: torch.dtype) -> None:
    # 2048 · 3/5 = 1228.8 and 2048 · 4/5 = 1638.4; 2048 / sqrt(2) = 1448.2.
    tokens = torch.tensor([[0, -4], [3, 4], [-3, 4], [7, 7]], dtype=dtype)
    found = whole_directions(tokens)
    assert found.dtype == torch.float32
    assert found.tolist() == [[0, -2048], [1229, 1638], [-1229, 1638], [1448, 1448]]


def test_a_half_is_rounded_to_the_even_number() -> None:
    # 1 + 9 + 81 + 8100 + 4095² = 4096²: each number is halved, to 1/2, 3/2, 9/2, 45 and 4095/2.
    found = whole_directions(rows((1, 3, 9, 90, 4095), (-1, -3, -9, -90, -4095)))
    assert found.tolist() == [[0, 2, 4, 45, 2048], [0, -2, -4, -45, -2048]]


@pytest.mark.parametrize("length", [3e38, 1e30, 1.0, 1e-30, 1.2e-38])
def test_huge_and_tiny_vectors_have_whole_directions(length: float) -> None:
    assert whole_directions(rows((length, 0), (0, -length))).tolist() == [[2048, 0], [0, -2048]]


def test_what_has_no_whole_direction_becomes_zero() -> None:
    # Of the last two, the length is infinite, and 1 / length.
    none = rows((0, 0), (NAN, 1), (INF, 1), (-INF, INF), (INF, NAN), (3e38, 3e38), (1e-45, 0))
    assert whole_directions(none).tolist() == [[0, 0]] * 7


@settings(max_examples=50, deadline=None)
@given(seed=seeds, channels=st.integers(1, 500), exponent=st.integers(-30, 30))
def test_whole_directions_are_within_half_a_step_and_do_not_depend_on_length(
    seed: int, channels: int, exponent: int
) -> None:
    tokens = normal(seed, 5, channels)
    found = whole_directions(tokens)
    assert whole_directions(tokens * 2.0**exponent).equal(found)
    assert found.equal(found.round())
    unit = torch.nn.functional.normalize(tokens.double(), dim=1)
    assert (found - 2048 * unit).abs().max() < 0.5 + 1e-3


@settings(max_examples=50, deadline=None)
@given(seed=seeds, channels=st.integers(1, 3000))
def test_products_of_whole_directions_are_exact_in_any_order(seed: int, channels: int) -> None:
    tokens, order = normal(seed, 4, channels), shuffled(seed, channels)
    found = whole_directions(tokens)
    exact = (found.long() @ found.long().T).tolist()
    assert (found @ found.T).tolist() == exact
    assert (found[:, order] @ found[:, order].T).tolist() == exact


# --- Scores -------------------------------------------------------------------------------------


def test_the_mean_is_taken_over_heads() -> None:
    #                        head 0   head 1       image 0: (1 + 3) / 2 and (2 + 6) / 2
    per_head = torch.tensor([[[1.0, 2], [3, 6]], [[0, 0], [8, NAN]]])
    means = mean_over_heads(per_head)
    assert means[0].tolist() == [2, 4]
    assert means[1].tolist()[0] == 4
    assert means[1, 1].isnan()
    assert mean_over_heads(means) is means


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((1, 3, 2), [1, 2, 0]),
        ((1, 3, 1, 3), [1, 3, 0, 2]),  # ties: the lower index first
        ((0.0, -0.0, 0.0), [0, 1, 2]),  # both zeros are the same number
        ((NAN, -INF, 5, INF, NAN), [3, 2, 1, 0, 4]),  # NaN last, behind -Inf
        ((NAN, NAN), [0, 1]),
        ((), []),
    ],
    ids=str,
)
def test_descending(scores: tuple[float, ...], expected: list[int]) -> None:
    assert descending(torch.tensor(scores, dtype=torch.float32)).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(data=st.data(), tokens=st.integers(0, 12))
def test_descending_is_python_sorted(data: st.DataObject, tokens: int) -> None:
    scores = mean_over_heads(data.draw(scores_of_any_kind(tokens)))[0]

    def place(token: int) -> tuple[bool, float, int]:
        missing = bool(scores[token].isnan())
        return missing, 0.0 if missing else -float(scores[token]), token

    assert descending(scores).tolist() == sorted(range(tokens), key=place)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((1, 2), (1, 2)),
        ((1, INF, 2, -INF), (1, 2, 2, 1)),
        ((INF, -INF, 0), (0, 0, 0)),
        ((INF, -INF, INF), (1, -1, 1)),  # none is finite
        ((3e38, INF, -3e38, -INF), (LARGEST, LARGEST, -LARGEST, -LARGEST)),
        ((), ()),
    ],
    ids=str,
)
def test_infinities_become_the_ends_of_what_is_finite(
    scores: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    found = finite(torch.tensor(scores, dtype=torch.float32))
    assert found.tolist() == torch.tensor(expected, dtype=torch.float32).tolist()


def test_nan_stays_nan_and_is_no_end() -> None:
    found = finite(torch.tensor([NAN, INF, 5, -INF, 4]))
    assert found[0].isnan()
    assert found[1:].tolist() == [5, 5, 4, 4]
    assert finite(torch.tensor([NAN, NAN])).isnan().all()


def test_the_span_of_finite_scores_times_many_tokens_is_finite() -> None:
    high, low = finite(torch.tensor([3e38, -3e38]))
    assert ((high - low) * 1_000_000).isfinite()

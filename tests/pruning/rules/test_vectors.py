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
    mean_over_heads,
)
from tests.rule_cases import INF, NAN, normal, rows, scores_of_any_kind, seeds

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

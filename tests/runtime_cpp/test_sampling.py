"""Tokens drawn in C++ against d2export.runtime.sampling: the same seed, the same tokens."""

from __future__ import annotations

import numpy as np
import pytest

from d2export.runtime import sampling
from tests.runtime_cpp.internals import pick, uniform


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1, 2**32, 2**53 - 1, 2**64 - 1])
def test_the_generator_is_numpys(seed: int) -> None:
    expected = np.random.default_rng(seed).random(100)
    np.testing.assert_array_equal(uniform(seed, 100), expected)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.3, 0, 1.0), (1.0, 5, 1.0), (2.0, 0, 0.5), (0.7, 20, 0.9), (1e-6, 0, 1.0),
     (1.0, 1, 1.0), (1.0, 10_000, 1e-9)],
)  # fmt: skip
def test_draws_are_pythons(temperature: float, top_k: int, top_p: float) -> None:
    random = np.random.default_rng(3)
    for seed in range(5):
        logits = random.normal(0, 4, 1003).astype(np.float32)
        logits[random.integers(0, 1003, 300)] = logits[0]  # ties
        how = sampling.Sampling(temperature, top_k, top_p, seed)
        generator = np.random.default_rng(seed)
        expected = [sampling.pick(logits, how, generator) for _ in range(40)]
        assert pick(logits, temperature, top_k, top_p, seed, 40) == expected


def test_the_most_likely_token_is_the_first_of_equals() -> None:
    random = np.random.default_rng(0)
    for count in (1, 2, 15, 16, 17, 512, 1003):
        logits = random.integers(-3, 3, count).astype(np.float32)
        assert pick(logits) == [sampling.pick(logits, None, random)]
    below = np.full(40, -np.inf, np.float32)
    below[33] = -5
    assert pick(below) == [33]


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 16, 39])
def test_logits_beyond_all_numbers_are_refused(odd: float, place: int) -> None:
    logits = np.zeros(40, np.float32)
    logits[place] = odd
    assert pick(logits) is None
    assert pick(np.full(40, -np.inf, np.float32)) is None


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(-1.0, 0, 1.0), (np.inf, 0, 1.0), (1.0, -1, 1.0), (1.0, 0, 2.0)],
)
def test_settings_out_of_range_are_refused(temperature: float, top_k: int, top_p: float) -> None:
    assert pick(np.zeros(4, np.float32), temperature, top_k, top_p) is None

"""From logits to a token: the most likely one, and draws as often as their probabilities say."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import numpy.typing as npt
import pytest

from d2export.errors import BundleError, UsageError
from d2export.runtime.sampling import Sampling, pick

PROBABILITIES = np.array([0.05, 0.4, 0.15, 0.1, 0.3])
LOGITS = np.log(PROBABILITIES).astype(np.float32) + np.float32(3)
DRAWS = 4000


def drawn(
    sampling: Sampling, logits: npt.NDArray[np.float32] = LOGITS, count: int = DRAWS
) -> list[int]:
    generator = np.random.default_rng(sampling.seed)
    return [pick(logits, sampling, generator) for _ in range(count)]


def shares(tokens: list[int]) -> npt.NDArray[np.float64]:
    return np.bincount(tokens, minlength=len(LOGITS)) / len(tokens)


def fits(found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> bool:
    """Within four standard deviations of the share of `DRAWS` draws, and never where it cannot."""
    deviation = np.sqrt(expected * (1 - expected) / DRAWS)
    return bool((np.abs(found - expected) <= 4 * deviation).all())


def test_the_most_likely_token() -> None:
    generator = np.random.default_rng(0)
    assert pick(LOGITS, None, generator) == 1
    assert pick(np.array([1, 7, 7, 3], np.float32), None, generator) == 1
    assert pick(np.array([-inf, -5, -inf], np.float32), None, generator) == 1
    assert generator.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_draws_are_as_likely_as_the_model_says() -> None:
    assert fits(shares(drawn(Sampling())), PROBABILITIES)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
def test_temperature(temperature: float) -> None:
    expected = PROBABILITIES ** (1 / temperature)
    assert fits(shares(drawn(Sampling(temperature=temperature))), expected / expected.sum())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 5e-324])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    assert set(drawn(Sampling(temperature=temperature), count=50)) == {1}


def test_a_high_temperature_is_even() -> None:
    assert fits(shares(drawn(Sampling(temperature=1e9))), np.full(5, 0.2))


def test_top_k() -> None:
    expected = np.where(np.isin(range(5), [1, 4, 2]), PROBABILITIES, 0)
    assert fits(shares(drawn(Sampling(top_k=3))), expected / expected.sum())
    assert set(drawn(Sampling(top_k=1), count=50)) == {1}
    assert drawn(Sampling(top_k=99), count=50) == drawn(Sampling(), count=50)


def test_top_k_of_equal_tokens_takes_the_lowest() -> None:
    logits = np.where(np.arange(1000) % 7 == 3, np.float32(7), np.float32(1))
    assert set(drawn(Sampling(top_k=2), logits, 200)) == {3, 10}


@pytest.mark.parametrize(
    ("top_p", "left"),
    [
        (1e-9, [1]), (0.39, [1]), (0.41, [1, 4]), (0.69, [1, 4]), (0.71, [1, 4, 2]),
        (0.94, [1, 4, 2, 3]), (0.96, [1, 4, 2, 3, 0]), (1.0, [1, 4, 2, 3, 0]),
    ],
)  # fmt: skip
def test_top_p_takes_the_fewest_that_reach_it(top_p: float, left: list[int]) -> None:
    expected = np.where(np.isin(range(5), left), PROBABILITIES, 0)
    assert fits(shares(drawn(Sampling(top_p=top_p))), expected / expected.sum())


def test_a_token_that_reaches_top_p_exactly_is_the_last() -> None:
    logits = np.zeros(4, np.float32)  # a quarter each, without rounding
    assert set(drawn(Sampling(top_p=0.5), logits, 200)) == {0, 1}


def test_top_p_counts_after_temperature_and_top_k() -> None:
    """Of three tokens at temperature 1/2 the first has 0.16 of 0.2725: 0.59 alone, not 0.4."""
    assert set(drawn(Sampling(temperature=0.5, top_k=3, top_p=0.58), count=50)) == {1}
    assert set(drawn(Sampling(temperature=0.5, top_k=3, top_p=0.6), count=200)) == {1, 4}


def test_a_token_that_is_ruled_out_is_never_drawn() -> None:
    logits = np.array([0, -inf, 0, -inf], np.float32)
    assert set(drawn(Sampling(temperature=5.0), logits, 200)) == {0, 2}


def test_all_of_a_large_vocabulary() -> None:
    """The sum of many small probabilities is not quite 1."""
    logits = np.zeros(100_003, np.float32)
    assert max(drawn(Sampling(), logits, 40)) > 90_000


def test_the_same_seed_gives_the_same_tokens() -> None:
    tokens = drawn(Sampling(seed=5), count=100)
    assert drawn(Sampling(seed=5), count=100) == tokens
    assert drawn(Sampling(seed=6), count=100) != tokens


def test_half_precision_logits_draw_the_same() -> None:
    half = LOGITS.astype(np.float16)
    assert drawn(Sampling(), half, 100) == drawn(Sampling(), half.astype(np.float32), 100)


@pytest.mark.parametrize("bad", [nan, inf])
@pytest.mark.parametrize("sampling", [None, Sampling()], ids=["greedy", "drawn"])
def test_logits_that_are_no_numbers(bad: float, sampling: Sampling | None) -> None:
    logits = np.array([0, bad, 1], np.float32)
    with pytest.raises(BundleError, match="the decoder answers NaN or infinity, expected finite"):
        pick(logits, sampling, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"temperature": 0.0}, "--temperature is 0.0, expected above 0\n"),
        ({"temperature": -1.0}, "--temperature is -1.0, expected above 0\n"),
        ({"temperature": nan}, "--temperature is nan, expected"),
        ({"temperature": inf}, "--temperature is inf, expected"),
        ({"top_k": -1}, "--top-k is -1, expected at least 0\n"),
        ({"top_p": 0.0}, "--top-p is 0.0, expected above 0, at most 1\n"),
        ({"top_p": 1.01}, "--top-p is 1.01, expected above 0, at most 1\n"),
        ({"top_p": nan}, "--top-p is nan, expected above 0, at most 1\n"),
        ({"seed": -1}, "--seed is -1, expected at least 0\n"),
    ],
)
def test_settings_out_of_range(options: dict[str, float], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(**options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(problem)
    assert caught.value.hint == "Leave it out."

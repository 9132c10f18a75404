"""Ranges by max, percentile and entropy: cases worked out by hand, and what always holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d2export.calibration.int8_histogram import BINS, Histogram
from d2export.calibration.int8_ranges import LEVELS, NOTHING, RULES, divergence, range_of


def histogram(values) -> Histogram:
    made = Histogram()
    made.add(np.asarray(values, np.float32))
    return made


def test_max_is_the_largest_magnitude():
    assert range_of(histogram([0.5, -3.25, 2]), "max") == 3.25


@pytest.mark.parametrize(
    ("percentile", "expected"),
    # 1 to 1000 lie in bins of width 1024 / 4096 = 1/4: the edge above n is n + 1/4.
    [(100, 1000), (99.9, 999.25), (99, 990.25), (50, 500.25), (0.1, 1.25), (0.01, 1.25)],
)
def test_percentile_of_a_thousand_numbers(percentile, expected):
    assert range_of(histogram(np.arange(1, 1001)), "percentile", percentile) == expected


def test_zeros_count_for_the_percentile():
    mixed = histogram([0.0] * 90 + [1.0] * 9 + [4.0])
    assert range_of(mixed, "percentile", 99) == pytest.approx(1, abs=8 / BINS)
    assert range_of(mixed, "percentile", 99.5) == 4
    assert range_of(mixed, "percentile", 50) > 0


@given(
    arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(0.1, 100),
)
def test_no_more_than_promised_saturates(values, percentile):
    found = range_of(histogram(values), "percentile", percentile)
    assert (np.abs(values) > found).sum() <= len(values) * (1 - percentile / 100) + 1e-6


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)))
@settings(max_examples=30, deadline=None)
def test_no_range_exceeds_what_was_seen(values):
    made = histogram(values)
    for rule in RULES:
        found = range_of(made, rule)
        assert 0 <= found <= np.abs(values).max()
        assert (found > 0) == bool(values.any())


def test_ranges_grow_with_the_values():
    values = np.random.default_rng(0).standard_normal(20_000)
    for rule in RULES:  # powers of two: the very same bins
        assert range_of(histogram(8 * values), rule) == 8 * range_of(histogram(values), rule)


# --- Entropy --------------------------------------------------------------------------------------


def divergence_in_words(counts: list[int], edge: int) -> float:
    """The definition, one bin after the other."""
    inside, saturated = counts[:edge], sum(counts[edge:])
    before = [*inside[:-1], inside[-1] + saturated]
    after = [0.0] * edge
    for level in range(LEVELS):
        members = [i for i in range(edge) if i * LEVELS // edge == level]
        filled = [i for i in members if before[i] > 0]
        for i in filled:
            after[i] = max(sum(inside[j] for j in members) / len(filled), NOTHING)
    total, found = 0.0, sum(after)
    for p, q in zip(before, after, strict=True):
        if p > 0:
            total += p / sum(before) * math.log(p / sum(before) / (q / found))
    return total


@pytest.mark.parametrize("edge", [128, 129, 200, 256, 399, 400])
@pytest.mark.parametrize("share_filled", [0.02, 0.5, 1])
def test_divergence_is_its_definition(edge, share_filled):
    random = np.random.default_rng([edge, int(100 * share_filled)])
    counts = random.integers(1, 6, 400) * (random.random(400) < share_filled)
    counts[0] = 3
    found = divergence(counts, edge)
    assert found == pytest.approx(divergence_in_words(counts.tolist(), edge), abs=1e-12)


def test_nothing_is_lost_where_every_bin_has_a_level():
    counts = np.zeros(BINS, np.int64)
    counts[:LEVELS] = np.random.default_rng(0).integers(1, 9, LEVELS)
    assert divergence(counts, LEVELS) == pytest.approx(0, abs=1e-12)


def test_even_values_are_kept_and_lonely_outliers_are_not():
    even = np.linspace(0.001, 1, 50_000)
    assert range_of(histogram(even), "entropy") > 0.95
    normal = np.random.default_rng(0).standard_normal(50_000)
    with_outliers = np.append(normal, [60.0, -80.0])
    assert range_of(histogram(with_outliers), "max") == 80
    assert 3 < range_of(histogram(with_outliers), "entropy") < 20

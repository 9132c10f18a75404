"""A histogram made bit by bit is the one made at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d2export.calibration.int8_histogram import BINS, Histogram

VALUES = arrays(np.float32, st.integers(1, 40), elements=st.floats(-(2.0**40), 2.0**40, width=32))


def histogram(*parts: np.ndarray) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part)
    return made


@given(VALUES, st.data())
def test_order_and_batches_do_not_matter(values, data):
    cut = data.draw(st.integers(0, len(values)))
    other = np.array(data.draw(st.permutations(values.tolist())), np.float32)
    at_once, by_parts = histogram(values), histogram(other[:cut], other[cut:])
    assert at_once.width == by_parts.width
    assert at_once.counts.tolist() == by_parts.counts.tolist()
    assert (at_once.zeros, at_once.largest) == (by_parts.zeros, by_parts.largest)


@given(VALUES)
def test_every_value_is_in_its_bin(values):
    made = histogram(values)
    magnitudes = np.abs(values.astype(np.float64))
    assert made.zeros == (magnitudes == 0).sum()
    expected = np.zeros(BINS, np.int64)
    for magnitude in magnitudes[magnitudes > 0]:
        expected[int(magnitude / made.width)] += 1
    assert made.counts.tolist() == expected.tolist()


def test_bins_are_as_narrow_as_the_largest_value_lets_them():
    made = histogram(np.array([1.5], np.float32))
    assert made.width == 2 / BINS
    made.add(np.array([-5.0], np.float32))
    assert made.width == 8 / BINS
    filled = np.flatnonzero(made.counts)
    assert (filled * made.width).tolist() == [1.5, 5.0]


def test_zeros_alone_have_no_bins():
    made = histogram(np.zeros((3, 4), np.float32))
    assert (made.width, made.zeros, made.largest, made.counts.sum()) == (0, 12, 0, 0)

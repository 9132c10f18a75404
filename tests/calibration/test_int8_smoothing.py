"""SmoothQuant's factors: the formula, rounded to powers of two, which change no bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d2export.calibration.int8_smoothing import smoothing_exponents


@pytest.mark.parametrize(
    ("alpha", "expected"),
    # Largest activations 64, 4, 1; largest weights 1, 1/4, 1/16 of all readers.
    [(0.5, [3, 2, 2]), (1.0, [6, 2, 0]), (0.0, [0, 2, 4])],
)
def test_by_hand(alpha, expected):
    activation = np.array([64, 4, 1], np.float32)
    one = np.array([[1, -0.5], [0.25, 0], [0, 1 / 32]], np.float32)
    other = np.array([[0.5], [0.125], [-1 / 16]], np.float32)
    assert smoothing_exponents(activation, [one, other], alpha).tolist() == expected


def test_a_channel_of_zeros_needs_no_factor():
    activation = np.array([0, 8, 8], np.float32)
    weight = np.array([[1.0], [0.0], [2.0]], np.float32)
    assert smoothing_exponents(activation, [weight], 0.5).tolist() == [0, 0, 1]


@given(
    arrays(np.float32, (5, 8), elements=st.floats(-1e4, 1e4, width=32)),
    arrays(np.float32, (8, 3), elements=st.floats(-4, 4, width=32)),
    st.floats(0, 1),
)
def test_a_product_is_the_same_to_the_last_bit(activation, weight, alpha):
    exponents = smoothing_exponents(np.abs(activation).max(axis=0), [weight], alpha)
    smoothed = np.ldexp(activation, -exponents).astype(np.float64)
    scaled = np.ldexp(weight, exponents[:, None]).astype(np.float64)
    usual = np.abs(activation[activation != 0]) > 1e-20  # below, numbers have fewer bits
    if usual.all() and (np.abs(weight[weight != 0]) > 1e-20).all():
        terms = smoothed[:, :, None] * scaled[None]
        np.testing.assert_array_equal(
            terms, activation.astype(np.float64)[:, :, None] * weight.astype(np.float64)[None]
        )

"""SmoothQuant (Xiao et al., arXiv 2211.10438): from an activation's channels to the weights.

Some channels of a norm's output are far larger than the others, and one scale has to serve them
all. Dividing channel j by `s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)`, and multiplying what the
weights have for it, leaves the products as they are and both ranges even.

Here `s_j` is rounded to a power of two: then the division is exact, and with it the claim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

ALPHA = 0.5
LARGEST_EXPONENT = 24


def smoothing_exponents(
    activation: npt.NDArray[np.float32], weights: Sequence[npt.NDArray[np.float32]], alpha: float
) -> npt.NDArray[np.int32]:
    """`[channels]`: powers of two to divide the activation by.

    Args:
        activation: `[channels]`, the largest magnitude seen in each.
        weights: `[channels, out]` each, all that read it.
        alpha: 0 to 1, how much of the range the weights are to take.
    """
    largest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = alpha * np.log2(activation) - (1 - alpha) * np.log2(largest)
    # A channel of zeros on either side needs no factor.
    exact = np.where((activation > 0) & (largest > 0), exact, 0)
    return np.rint(exact).clip(-LARGEST_EXPONENT, LARGEST_EXPONENT).astype(np.int32)

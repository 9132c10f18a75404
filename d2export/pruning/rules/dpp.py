"""CDPruner: tokens that are relevant and, together, span the largest volume.

Source: Zhang et al., "Beyond Attention or Similarity: Maximizing Conditional Diversity for Token
Pruning in MLLMs", arXiv 2506.10967, and its code. Greedy inference of a determinantal point process
with kernel `diag(q) cosine diag(q)`, by Chen et al., arXiv 1709.05135.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.rule_parameters import DppParameters
from d2export.pruning.rules.vectors import descending, finite, whole_directions

# Of the least relevant token. The paper's code adds as much before it divides by the spread, so
# that the floor grows where the spread is small; here it does not depend on the scale [ours].
SMALLEST_QUALITY = 1e-6
EXHAUSTED = 1e-5  # a token lies in the span of the kept ones when so little of it is left


def quality(importance: Tensor) -> Tensor:
    """`[N]` `q`: importance from its least to its largest, spread over 1e-6 to 1 + 1e-6.

    An infinity counts as the largest or smallest finite value; NaN has quality 1e-6; equal
    values all have 1.
    """
    known = finite(importance)
    present = known[~known.isnan()]
    low, high = (present.min(), present.max()) if len(present) else (known.new_zeros(()),) * 2
    spread = (known - low) / (high - low) + SMALLEST_QUALITY
    return torch.where(
        known.isnan(), SMALLEST_QUALITY, torch.where(high > low, spread, torch.ones_like(spread))
    )


def reference(features: Tensor, importance: Tensor, parameters: DppParameters) -> Tensor:
    """Kept token ids of one image, ascending.

    Again and again the token that adds most volume: `q²` times what is left of its direction
    outside the span of the kept ones. Ties go to the lower index. Where nothing is left of any
    token, the most important remaining ones fill the budget.

    Cosines are those of directions in whole numbers, and everything behind them is float64
    [ours]: hundreds of steps build on each other, and float32 would let rounding choose.

    Args:
        features: `[N, C]`.
        importance: `[N]` float32.

    Returns:
        `[M]` int32.
    """
    tokens = len(features)
    wanted = parameters.kept(tokens)
    if wanted == tokens:
        return torch.arange(tokens, dtype=torch.int32)
    whole, q = whole_directions(features), quality(importance).double()
    square = (whole * whole).sum(dim=1).double()
    left = (square > 0).double()  # 0 for a zero vector
    basis = torch.zeros(wanted, tokens, dtype=torch.float64)  # rows of the Cholesky factor
    kept: list[int] = []
    for step in range(wanted):
        gain = (q * q * left).masked_fill(left <= EXHAUSTED, -torch.inf)
        token = int(gain.argmax())
        if gain[token] == -torch.inf:
            break
        kept.append(token)
        products = (whole @ whole[token]).double()
        cosine = products / (square * square[token]).sqrt().where(square > 0, 1)
        row = cosine - basis[:step].T @ basis[:step, token]
        basis[step] = row / left[token].sqrt()
        left = left - basis[step] * basis[step]
        left[kept] = 0
    rest = [token for token in descending(importance).tolist() if token not in set(kept)]
    return torch.tensor(sorted(kept + rest[: wanted - len(kept)]), dtype=torch.int32)

"""DivPrune: tokens that lie as far from each other as possible.

Source: Alvar et al., "DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models",
arXiv 2503.02175, and its code. A greedy answer to the max-min diversity problem.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.rule_parameters import MaxMinParameters
from d2export.pruning.rules.vectors import whole_directions


def reference(features: Tensor, parameters: MaxMinParameters) -> Tensor:
    """Kept token ids of one image, ascending.

    The distance of two tokens is 1 - cosine, of their directions in whole numbers [ours]. The
    first is the token farthest from its nearest neighbour; then, again and again, the one
    farthest from the nearest token kept. Ties go to the lower index.

    Args:
        features: `[N, C]`.

    Returns:
        `[M]` int32.
    """
    tokens = len(features)
    wanted = parameters.kept(tokens)
    if wanted == tokens:
        return torch.arange(tokens, dtype=torch.int32)
    whole = whole_directions(features)
    # Distances are compared as cosines: the nearest other token is the one of highest cosine.
    cosine = whole @ whole.T
    nearest = cosine.masked_fill(torch.eye(tokens, dtype=torch.bool), -torch.inf).amax(dim=1)
    kept: list[int] = []
    for _ in range(wanted):
        token = int(nearest.argmin())  # the first of equals
        previous = nearest if kept else torch.full_like(nearest, -torch.inf)
        kept.append(token)
        nearest = torch.maximum(previous, cosine[token])
        nearest[kept] = torch.inf
    return torch.tensor(sorted(kept), dtype=torch.int32)

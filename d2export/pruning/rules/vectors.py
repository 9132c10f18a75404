"""What the rules share: directions of tokens, and scores in an order that has an answer for all."""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.selection import unit

LARGEST = 1e30  # of a finite score: differences, times any number of tokens, are finite, too


def directions(features: Tensor) -> Tensor:
    """`[N, C]` float32 unit vectors.

    A zero vector becomes zero, and so does one that is not finite or whose squares float32 cannot
    add up: it has cosine 0 with everything, itself included.
    """
    return unit(features).nan_to_num(nan=0.0)


def mean_over_heads(importance: Tensor) -> Tensor:
    """`[B, N]` of `[B, N]` or `[B, H, N]`."""
    return importance if importance.dim() == 2 else importance.sum(dim=1) / importance.shape[1]


def descending(scores: Tensor) -> Tensor:
    """`[N]` int64 token ids, highest score first, ties by lower index, NaN last."""
    missing = scores.isnan()
    order = scores.masked_fill(missing, -torch.inf).sort(descending=True, stable=True).indices
    return order[missing[order].to(torch.uint8).sort(stable=True).indices]


def finite(scores: Tensor) -> Tensor:
    """`[N]`: infinities become the largest and smallest finite score, NaN stays.

    Where no score is finite, infinities become 1 and -1. Beyond 1e30 a score counts as 1e30.
    """
    known = scores[scores.isfinite()]
    high, low = (known.max(), known.min()) if len(known) else (1.0, -1.0)
    clamped = scores.where(scores != torch.inf, torch.as_tensor(high))
    return clamped.where(scores != -torch.inf, torch.as_tensor(low)).clamp(-LARGEST, LARGEST)

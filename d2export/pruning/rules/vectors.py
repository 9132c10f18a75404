"""What the rules share: directions of tokens, and scores in an order that has an answer for all."""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.selection import unit

WHOLE = 2048.0  # length of a direction in whole numbers: 11 bits, as many as float16 and TF32 have
LARGEST = 1e30  # of a finite score: differences, times any number of tokens, are finite, too


def directions(features: Tensor) -> Tensor:
    """`[N, C]` float32 unit vectors.

    A zero vector becomes zero, and so does one that is not finite or whose squares float32 cannot
    add up: it has cosine 0 with everything, itself included.
    """
    return unit(features).nan_to_num(nan=0.0)


def whole_directions(features: Tensor) -> Tensor:
    """`[N, C]` float32 directions in whole numbers: unit vectors times 2048, half to even.

    Their products are whole numbers below 2^24, which float32 adds exactly in any order, and so do
    integers and tensor cores (float16 and TF32 hold -2048 to 2048): every implementation finds the
    same cosines, to the bit. A rule that chains hundreds of comparisons needs that, for one flip
    by rounding would lead it elsewhere. The rounding moves a cosine by about 2e-4, as computing it
    in half precision does.

    The length is the square root of a float64 sum, rounded to float32; zero vectors, and those
    whose length or its inverse is no finite float32, become zero.
    """
    wide = features.float()
    length = (wide.double() * wide.double()).sum(dim=-1, keepdim=True).sqrt().float()
    inverse = 1 / length
    directed = (inverse > 0) & inverse.isfinite()
    unit = wide * torch.where(directed, inverse, torch.zeros_like(length))
    return torch.where(directed, (unit * WHOLE).round(), torch.zeros_like(unit))


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

"""`D2Prune` for torch: a custom op that runs in eager mode and survives tracing as one node."""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.parameters import PruneParameters
from d2export.pruning.selection import select


@torch.library.custom_op("d2export::prune", mutates_args=())
def _prune(
    features: Tensor,
    importance: Tensor,
    prior: Tensor,
    grid: Tensor,
    keep: int,
    keep_permille: int,
    pivot_ratio: float,
    alpha: float,
    theta: float,
    eps: float,
    pivots_block: int,
) -> tuple[Tensor, Tensor]:
    parameters = PruneParameters(
        keep, keep_permille, pivot_ratio, alpha, theta, eps, bool(pivots_block)
    )
    indices = select(features, importance, prior, grid, parameters)
    rows = indices.long().unsqueeze(-1).expand(-1, -1, features.shape[2])
    return features.gather(1, rows), indices


@_prune.register_fake
def _(
    features: Tensor,
    importance: Tensor,
    prior: Tensor,
    grid: Tensor,
    keep: int,
    keep_permille: int,
    pivot_ratio: float,
    alpha: float,
    theta: float,
    eps: float,
    pivots_block: int,
) -> tuple[Tensor, Tensor]:
    batch, tokens, width = features.shape
    wanted = keep or torch.sym_max(1, tokens * keep_permille // 1000)
    kept = torch.sym_min(wanted, tokens)
    return (
        features.new_empty(batch, kept, width),
        features.new_empty(batch, kept, dtype=torch.int32),
    )


def prune(
    features: Tensor, importance: Tensor, prior: Tensor, grid: Tensor, parameters: PruneParameters
) -> tuple[Tensor, Tensor]:
    """Keep the tokens that `parameters` ask for.

    Args:
        features: `[B, N, C]` float32, float16 or bfloat16.
        importance: `[B, N]` or `[B, H, N]` float32.
        prior: `[N]` float32.
        grid: `[N, 2]` float32.

    Returns:
        kept `[B, M, C]` of the features' dtype, and indices `[B, M]` int32, ascending.
    """
    result: tuple[Tensor, Tensor] = _prune(
        features, importance, prior, grid, **parameters.attributes()
    )
    return result


OVERLOAD = torch.ops.d2export.prune.default

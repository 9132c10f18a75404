"""The ops for torch: custom ops that run in eager mode and survive tracing as one node each."""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.parameters import PruneParameters
from d2export.pruning.selection import select
from d2export.pruning.sequence import surviving_positions


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


@torch.library.custom_op("d2export::prune_positions", mutates_args=())
def _prune_positions(
    hidden_states: Tensor,
    importance: Tensor,
    prior: Tensor,
    grid: Tensor,
    visual_positions: Tensor,
    image_lengths: Tensor,
    keep: int,
    keep_permille: int,
    pivot_ratio: float,
    alpha: float,
    theta: float,
    eps: float,
    pivots_block: int,
) -> Tensor:
    parameters = PruneParameters(
        keep, keep_permille, pivot_ratio, alpha, theta, eps, bool(pivots_block)
    )
    return surviving_positions(
        hidden_states, importance, prior, grid, visual_positions, image_lengths, parameters
    )


@_prune_positions.register_fake
def _(
    hidden_states: Tensor,
    importance: Tensor,
    prior: Tensor,
    grid: Tensor,
    visual_positions: Tensor,
    image_lengths: Tensor,
    keep: int,
    keep_permille: int,
    pivot_ratio: float,
    alpha: float,
    theta: float,
    eps: float,
    pivots_block: int,
) -> Tensor:
    tokens, images = visual_positions.shape[0], image_lengths.shape[0]
    wanted = images * keep if keep else torch.sym_max(images, tokens * keep_permille // 1000)
    kept = torch.sym_min(wanted, tokens)
    return hidden_states.new_empty(hidden_states.shape[1] - tokens + kept, dtype=torch.int32)


def prune_positions(
    hidden_states: Tensor,
    importance: Tensor,
    prior: Tensor,
    grid: Tensor,
    visual_positions: Tensor,
    image_lengths: Tensor,
    parameters: PruneParameters,
) -> Tensor:
    """Positions of a prompt that stay, as `sequence.surviving_positions`: `[S]` int32."""
    result: Tensor = _prune_positions(
        hidden_states,
        importance,
        prior,
        grid,
        visual_positions,
        image_lengths,
        **parameters.attributes(),
    )
    return result


OVERLOAD = torch.ops.d2export.prune.default
POSITIONS_OVERLOAD = torch.ops.d2export.prune_positions.default

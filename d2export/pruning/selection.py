"""The same selection for tensors: by the native core on the CPU where it was built, else in torch.

Neither has an `N x N` matrix. Scores never change during the greedy walk, so it is one pass down
the ranking in which a candidate is compared with the tokens kept so far. In torch the pass goes in
blocks: one matrix product of a block against the kept set and itself, then a walk over the block's
bits.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from d2export.pruning import native
from d2export.pruning.parameters import PruneParameters

Implementation = Literal["native", "torch"]

BLOCK = 256  # candidates per matrix product


class Scored(NamedTuple):
    """The inputs of the op, in its order: what a selection is made from.

    features `[B, N, C]`, importance `[B, N]` or `[B, H, N]`, prior `[N]`, grid `[N, 2]`.
    """

    features: Tensor
    importance: Tensor
    prior: Tensor
    grid: Tensor


def implementation(device: torch.device | str = "cpu") -> Implementation:
    """What `select` uses for tensors on `device`."""
    return "native" if torch.device(device).type == "cpu" and native.available() else "torch"


def select(
    features: Tensor,
    importance: Tensor,
    prior: Tensor,
    grid: Tensor,
    parameters: PruneParameters,
    using: Implementation | None = None,
) -> Tensor:
    """Kept token ids of each image, ascending.

    Args:
        features: `[B, N, C]` float32, float16 or bfloat16.
        importance: `[B, N]` or per head `[B, H, N]`, float32.
        prior: `[N]` float32.
        grid: `[N, 2]` float32, token centres on the image canvas.
        parameters: attributes of the op.
        using: the implementation; None is what `implementation` says.

    Returns:
        `[B, M]` int32 on the device of `features`, `M = min(keep, N)`. Deterministic.

    Raises:
        ValueError: a rank, length or dtype that does not fit; the argument is named.
        EnvironmentMismatch: `using="native"` where that was not built.
    """
    _validate(features, importance, prior, grid)
    if (using or implementation(features.device)) == "native":
        indices = native.select(
            features.detach(), importance.detach(), prior.detach(), grid.detach(), parameters
        )
        return torch.from_numpy(indices)
    return _select_in_torch(features, importance, prior, grid, parameters)


def _select_in_torch(
    features: Tensor, importance: Tensor, prior: Tensor, grid: Tensor, parameters: PruneParameters
) -> Tensor:
    batch, tokens, _ = features.shape
    wanted = parameters.kept(tokens)
    if wanted == tokens:
        everything = torch.arange(tokens, dtype=torch.int32, device=features.device)
        return everything.expand(batch, tokens).clone()
    ranking = rank(importance, prior, parameters.eps)
    rows = [_select_one(features[b], ranking[b], grid, parameters, wanted) for b in range(batch)]
    return torch.stack(rows)


def mean_over_heads(importance: Tensor) -> Tensor:
    """`[B, N]` of `[B, N]` or `[B, H, N]`."""
    return importance if importance.dim() == 2 else importance.sum(dim=1) / importance.shape[1]


def debias(importance: Tensor, prior: Tensor, eps: float) -> Tensor:
    """`[B, N]` scores `a / (prior + eps)`, `a` being the mean over heads if there are any."""
    return mean_over_heads(importance) / (
        prior + torch.tensor(eps, dtype=torch.float32, device=prior.device)
    )


def rank(importance: Tensor, prior: Tensor, eps: float) -> Tensor:
    """`[B, N]` int64 token ids, most important first, ties by lower index, NaN last."""
    r = debias(importance, prior, eps)
    missing = r.isnan()
    order = r.masked_fill(missing, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    return order.gather(
        1, missing.gather(1, order).to(torch.uint8).sort(dim=1, stable=True).indices
    )


def similarity(
    left: Tensor,
    right: Tensor,
    left_grid: Tensor,
    right_grid: Tensor,
    diagonal: Tensor,
    alpha: float,
) -> Tensor:
    """`alpha * cosine + (1 - alpha) * nearness`, `[L, R]`, of unit features and their centres."""
    weight = np.float32(alpha)
    offset = left_grid[:, None, :] - right_grid[None, :, :]
    spatial = 1 - (offset * offset).sum(dim=-1).sqrt() / diagonal
    return float(weight) * (left @ right.T) + float(np.float32(1) - weight) * spatial


def unit(features: Tensor) -> Tensor:
    """Rows scaled to length 1, in float32; a zero row stays zero."""
    wide = features.float()
    norm = (wide * wide).sum(dim=-1, keepdim=True).sqrt()
    return wide * torch.where(norm > 0, 1 / norm, torch.zeros_like(norm))


def diagonal_of(grid: Tensor) -> Tensor:
    """Diagonal of the bounding box of all centres, 1 if it is 0. A scalar tensor."""
    extent = grid.amax(dim=0) - grid.amin(dim=0)
    diagonal = (extent * extent).sum().sqrt()
    return torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal))


def _select_one(
    features: Tensor, ranking: Tensor, grid: Tensor, parameters: PruneParameters, wanted: int
) -> Tensor:
    count = parameters.pivots(wanted)
    pivots, residual = ranking[:count], ranking[count:]
    missing = wanted - count
    members = _independent_set(
        features,
        residual,
        pivots if parameters.pivots_block else pivots[:0],
        grid,
        parameters,
        missing,
    )
    if len(members) < missing:  # the independent set ran out: fill by importance
        free = torch.ones(len(residual), dtype=torch.bool)
        free[members] = False
        members += free.nonzero().flatten()[: missing - len(members)].tolist()
    joined = residual[torch.tensor(members, dtype=torch.int64, device=residual.device)]
    return torch.cat([pivots, joined]).sort().values.to(torch.int32)


def _independent_set(
    features: Tensor,
    residual: Tensor,
    blockers: Tensor,
    grid: Tensor,
    parameters: PruneParameters,
    wanted: int,
) -> list[int]:
    """Ranks within `residual` of the first `wanted` members of the greedy independent set."""
    diagonal = diagonal_of(grid)
    threshold = float(np.float32(parameters.theta))
    kept, kept_grid = unit(features[blockers]), grid[blockers]
    members: list[int] = []
    for start in range(0, len(residual), BLOCK):
        if len(members) == wanted:
            break
        tokens = residual[start : start + BLOCK]
        block, centres = unit(features[tokens]), grid[tokens]

        def edges(
            others: Tensor, other_grid: Tensor, block: Tensor = block, centres: Tensor = centres
        ) -> Tensor:
            return (
                similarity(block, others, centres, other_grid, diagonal, parameters.alpha)
                > threshold
            )

        blocked = edges(kept, kept_grid).any(dim=1).cpu().numpy()
        adjacency = edges(block, centres).cpu().numpy()
        joined: list[int] = []
        for candidate in range(len(tokens)):
            if blocked[candidate]:
                continue
            joined.append(candidate)
            if len(members) + len(joined) == wanted:
                break
            blocked |= adjacency[candidate]
        members += [start + candidate for candidate in joined]
        kept = torch.cat([kept, block[joined]])
        kept_grid = torch.cat([kept_grid, centres[joined]])
    return members


def check_features(features: Tensor) -> None:
    """Raise a ValueError unless `features` is `[B, N, C]` of a type that can be selected from."""
    if features.dim() != 3:
        raise ValueError(f"features has shape {list(features.shape)}, expected [B, N, C]")
    if features.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"features is {features.dtype}, expected float32, float16 or bfloat16")


def check_importance(importance: Tensor, features: Tensor) -> None:
    """Raise a ValueError unless it is float32 `[B, N]` or `[B, H, N]` for these features."""
    batch, tokens, _ = features.shape
    shape = list(importance.shape)
    if shape != [batch, tokens] and (len(shape) != 3 or [shape[0], shape[2]] != [batch, tokens]):
        raise ValueError(
            f"importance has shape {shape}, expected [{batch}, {tokens}] or [{batch}, H, {tokens}]"
        )
    if importance.dim() == 3 and importance.shape[1] == 0:
        raise ValueError("importance has 0 heads, expected at least 1")
    _check_float32("importance", importance)


def _validate(features: Tensor, importance: Tensor, prior: Tensor, grid: Tensor) -> None:
    check_features(features)
    check_importance(importance, features)
    tokens = features.shape[1]
    if list(prior.shape) != [tokens]:
        raise ValueError(f"prior has shape {list(prior.shape)}, expected [{tokens}]")
    if list(grid.shape) != [tokens, 2]:
        raise ValueError(f"grid has shape {list(grid.shape)}, expected [{tokens}, 2]")
    _check_float32("prior", prior)
    _check_float32("grid", grid)


def _check_float32(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name} is {tensor.dtype}, expected float32")

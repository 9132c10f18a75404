"""D2Pruner as the paper tells it: one token after the other, in plain numpy.

This is the definition the other implementations are tested against; nothing here is fast.
Source: arXiv 2512.19443, and `docs/algorithm.md` for what the paper leaves open.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2export.pruning.parameters import PruneParameters

Float32 = npt.NDArray[np.float32]


def debiased_importance(importance: Float32, prior: Float32, eps: float) -> Float32:
    """`r = a / (prior + eps)`, with `a` the mean over heads.

    Args:
        importance: `[N]`, or `[H, N]` per head.
        prior: `[N]`.
    """
    with np.errstate(all="ignore"):
        a = importance if importance.ndim == 1 else importance.mean(axis=0, dtype=np.float32)
        return np.asarray(a / (prior + np.float32(eps)), np.float32)


def by_descending(r: Float32) -> list[int]:
    """Token ids, most important first; equal scores by lower index; NaN last."""
    return sorted(range(len(r)), key=lambda i: (np.isnan(r[i]), 0.0 if np.isnan(r[i]) else -r[i]))


def similarity(features: Float32, grid: Float32, i: int, j: int, alpha: float) -> np.float32:
    """`alpha * cosine + (1 - alpha) * nearness` of tokens `i` and `j`."""
    with np.errstate(all="ignore"):
        extent = grid.max(axis=0) - grid.min(axis=0)
        diagonal = np.float32(np.sqrt((extent * extent).sum(dtype=np.float32)))
        offset = grid[i] - grid[j]
        distance = np.float32(np.sqrt((offset * offset).sum(dtype=np.float32)))
        spatial = np.float32(1) - distance / (diagonal if diagonal > 0 else np.float32(1))
        semantic = np.float32(np.dot(_unit(features[i]), _unit(features[j])))
        return np.float32(alpha) * semantic + np.float32(1 - np.float32(alpha)) * spatial


def select(
    features: Float32,
    importance: Float32,
    prior: Float32,
    grid: Float32,
    parameters: PruneParameters,
) -> npt.NDArray[np.int32]:
    """Kept token ids of one image, ascending.

    Args:
        features: `[N, C]` float32, the tokens themselves.
        importance: `[N]` or `[H, N]` float32.
        prior: `[N]` float32.
        grid: `[N, 2]` float32, token centres on the image canvas.

    Returns:
        `[M]` int32, `M = min(keep, N)`.
    """
    tokens = len(features)
    wanted = parameters.kept(tokens)
    if wanted == tokens:
        return np.arange(tokens, dtype=np.int32)

    def neighbours(i: int, j: int) -> bool:
        return bool(
            similarity(features, grid, i, j, parameters.alpha) > np.float32(parameters.theta)
        )

    ranked = by_descending(debiased_importance(importance, prior, parameters.eps))
    count = parameters.pivots(wanted)
    pivots, residual = ranked[:count], ranked[count:]

    independent: list[int] = []
    blockers = list(pivots) if parameters.pivots_block else []
    for candidate in residual:
        if len(pivots) + len(independent) == wanted:
            break
        if not any(neighbours(candidate, blocker) for blocker in blockers):
            independent.append(candidate)
            blockers.append(candidate)

    kept = pivots + independent
    rest = [token for token in residual if token not in set(independent)]
    kept += rest[: wanted - len(kept)]  # the independent set ran out: fill by importance
    return np.array(sorted(kept), dtype=np.int32)


def surviving_positions(
    hidden_states: Float32,
    importance: Float32,
    prior: Float32,
    grid: Float32,
    visual_positions: npt.NDArray[np.int64],
    image_lengths: npt.NDArray[np.int64],
    parameters: PruneParameters,
) -> npt.NDArray[np.int32]:
    """What stays of a prompt: all its text, and of each image what `select` keeps.

    An image with fewer tokens than `keep`, and a share that is no whole number, leave something
    of the budget over: it goes to the most important tokens still missing, of whichever image.
    Shares of at least one token can add up to more than the budget: the most important remain.

    Args:
        hidden_states: `[T, C]` float32, text and visual tokens.
        importance: `[T]` or `[H, T]` float32; only the visual columns matter.
        prior: `[V]` float32.
        grid: `[V, 2]` float32, each token's centre on the canvas of its own image.
        visual_positions: `[V]` ascending, image after image.
        image_lengths: `[I]`, how many of them each image has.

    Returns:
        `[T - V + n]` int32, ascending, `n` as `PruneParameters.kept_of` says.
    """
    tokens = len(visual_positions)
    features, scores = hidden_states[visual_positions], importance[..., visual_positions]
    kept: set[int] = set()
    start = 0
    for length in image_lengths.tolist():
        part = slice(start, start + length)
        chosen = select(features[part], scores[..., part], prior[part], grid[part], parameters)
        kept |= set((start + chosen).tolist())
        start += length
    ranked = by_descending(debiased_importance(scores, prior, parameters.eps))
    kept_first = sorted(ranked, key=lambda token: token not in kept)
    gone = kept_first[parameters.kept_of(len(image_lengths), tokens) :]
    positions = np.delete(np.arange(len(hidden_states)), visual_positions[gone])
    return positions.astype(np.int32)


def _unit(vector: Float32) -> Float32:
    norm = np.float32(np.sqrt((vector * vector).sum(dtype=np.float32)))
    return vector * (np.float32(1) / norm if norm > 0 else np.float32(0))

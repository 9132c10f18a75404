"""Importance of visual tokens: from what a vision graph can see, and from attention read ahead.

`cls`, the attention of the vision tower's CLS token, comes out of the tower itself
(`models/vision_tower.py`), `llm` out of the decoder (`export/pruned_decoder.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from d2export.pruning.selection import mean_over_heads, unit


def text_relevance(features: Tensor, prompt_embeds: Tensor) -> Tensor:
    """How much each token resembles the prompt: `(1 + mean cosine) / 2`.

    Args:
        features: `[B, N, hidden]` projected visual tokens.
        prompt_embeds: `[P, hidden]` prompt in the language model's input embeddings, `P >= 1`.

    Returns:
        `[B, N]` float32 from 0 to 1, but for rounding.
    """
    # The mean of cosines is the product with the mean of unit vectors. Spelled as a sum, because
    # ONNX writes ReduceMean differently before opset 18.
    direction = unit(prompt_embeds).sum(dim=0) / prompt_embeds.shape[0]
    return (1 + unit(features) @ direction) / 2


def uniform(features: Tensor) -> Tensor:
    """`[B, N]` float32 ones: nothing is more important, only the graph decides."""
    return torch.ones_like(features[..., 0], dtype=torch.float32)


def smoothed(rows: Sequence[Tensor], side: int, weight: float) -> Tensor:
    """Importance of `d2+`: each row's shares of the visual tokens, averaged, given to neighbours.

    A token gets `weight` times the importance of the tokens left and right of it in its tile, then
    of those above and below: of all eight around it. Beyond the edge of a tile there is nothing.

    Args:
        rows: each `[B, H, V]` float32, attention to the visual tokens, tile by tile, by rows.
        side: tokens along the side of a tile; V is a multiple of its square.
        weight: 0 to 1.

    Returns:
        `[B, V]` float32.

    Raises:
        ValueError: `side` is less than 1 where it is needed.
    """
    if weight > 0 and side < 1:
        raise ValueError(f"side is {side}, expected the tokens along the side of a tile")
    shares = [_shares(mean_over_heads(row)) for row in rows]
    total = shares[0] if len(shares) == 1 else (shares[0] + shares[1]) / 2
    if weight == 0:
        return total
    # By gathering: a view as tiles would need the number of tiles, which a graph does not know.
    # Places as float32, which holds them exactly: division of integers is a dozen nodes in ONNX.
    places = torch.arange(total.shape[1], device=total.device)
    lines = (places.float() / side).floor()
    columns = places.float() - side * lines
    rows_of_tile = lines - side * (lines / side).floor()
    for step, place in ((1, columns), (side, rows_of_tile)):
        before = _beside(total, place > 0, places - step)
        after = _beside(total, place < side - 1, places + step)
        total = total + weight * (before + after)
    return total


def _beside(total: Tensor, inside: Tensor, places: Tensor) -> Tensor:
    """Importance `[B, V]` of the tokens at `places`, 0 where they are not inside the tile."""
    return torch.where(inside, total.index_select(1, torch.where(inside, places, 0)), 0.0)


def _shares(a: Tensor) -> Tensor:
    """Rows that add up to 1; rows of zeros stay."""
    whole = a.sum(dim=1, keepdim=True)
    return torch.where(whole > 0, a / whole, 0.0)

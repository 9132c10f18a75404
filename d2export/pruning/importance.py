"""Importance of visual tokens from what a vision graph can see.

`cls`, the attention of the vision tower's CLS token, comes out of the tower itself
(`models/vision_tower.py`); the two others are here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.selection import unit


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

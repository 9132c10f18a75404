"""Sparsity Meets Similarity inside the language model: visual tokens and text by correlation.

Source: arXiv 2409.01162, which drops tokens of low correlation with the other modality and does
not publish how. Correlation is attention here, and the cut that of `elbow.py` [ours].
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from d2export.pruning.rule_parameters import NO_LIMIT, ElbowParameters
from d2export.pruning.rules import elbow


def correlated_positions(
    length: int,
    attention: Tensor,
    visual_positions: Tensor,
    text_positions: Tensor,
    parameters: ElbowParameters,
) -> Tensor:
    """Positions of a prompt that stay, ascending.

    A visual token correlates as much as the word that attends to it most, a word as much as the
    visual token that it attends to most. Both curves are cut at their elbow; at least one word
    stays, and everything that is neither a visual token nor in `text_positions`. Without visual
    tokens all stays.

    Args:
        length: of the prompt, T.
        attention: `[D + 1, V]` float32, mean over heads: of the words in `text_positions`, then of
            the prompt's last token, over the visual tokens.
        visual_positions: `[V]` int64, ascending.
        text_positions: `[D]` int64, ascending: words that may be dropped.
        parameters: the rule of the cut; `min_keep` and `max_keep` bound the visual tokens.

    Returns:
        `[S]` int32.

    Raises:
        ValueError: attention has another shape or dtype.
    """
    shape = [len(text_positions) + 1, len(visual_positions)]
    if list(attention.shape) != shape:
        raise ValueError(f"attention has shape {list(attention.shape)}, expected {shape}")
    if attention.dtype != torch.float32:
        raise ValueError(f"attention is {attention.dtype}, expected float32")
    stays = torch.ones(length, dtype=torch.bool)
    if len(visual_positions):
        words = replace(parameters, min_keep=1, max_keep=NO_LIMIT)
        for positions, scores, bounds in (
            (visual_positions, attention.amax(dim=0), parameters),
            (text_positions, attention[:-1].amax(dim=1), words),
        ):
            stays[positions] = False
            stays[positions[elbow.reference(scores, bounds).long()]] = True
    return stays.nonzero().flatten().to(torch.int32)

"""A prompt with its images as the decoder takes it: laid out by its budget, thinned if seen so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior
from d2export.runtime.decoder import Prompt
from d2export.runtime.tokenizer import Encoded

Indices = npt.NDArray[np.int32]
GAP = 1.0  # between two images side by side, in token units


def prompt_of(
    encoded: Encoded,
    grids: Sequence[npt.NDArray[np.float32]],
    embeds: Sequence[npt.NDArray[Any]],
    kept: Sequence[Indices] | None,
    prior: Prior,
    plan: Plan,
) -> Prompt:
    """A prompt's text and images as the decoder takes them.

    Args:
        encoded: the prompt with all its visual tokens.
        grids: of each image, `[N, 2]` token centres on its canvas.
        embeds: of each image, the visual tokens that its vision graph answered.
        kept: of each image, which of its tokens these are; None for all.
        prior: for pruning inside the language model.
        plan: whether each image, each tile, or all images together have a budget.
    """
    per_tile = len(prior.tile)
    lengths, centres = encoded.image_lengths, np.concatenate(grids)
    if plan.in_decoder and plan.budget == "tile":
        # Within a tile, places are the tile's own: those of the first, whichever it is.
        lengths = np.full(len(centres) // per_tile, per_tile, np.int64)
        centres = np.concatenate([np.tile(g[:per_tile], (len(g) // per_tile, 1)) for g in grids])
    elif plan.in_decoder and plan.budget == "prompt":
        lengths, centres = np.array([len(centres)], np.int64), _side_by_side(grids)
    whole = Prompt(
        encoded.input_ids,
        np.concatenate(embeds),
        encoded.visual_positions,
        lengths,
        centres,
        np.concatenate([prior.layout(len(grid) // per_tile) for grid in grids]),
        encoded.text_positions,
        np.arange(len(encoded.input_ids)),
        contiguous=plan.in_vision and plan.position_ids == "contiguous",
    )
    return whole if kept is None else _thinned(whole, kept, encoded.image_lengths)


def _side_by_side(grids: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """All images on one canvas, in a row."""
    placed, left = [], 0.0
    for grid in grids:
        placed.append(grid + np.array([left, 0], np.float32))
        left += float(grid[:, 0].max()) + GAP
    return np.concatenate(placed).astype(np.float32)


def _thinned(
    whole: Prompt, kept: Sequence[Indices], image_lengths: npt.NDArray[np.int64]
) -> Prompt:
    """`whole` without the visual tokens that its vision graph left out."""
    starts = np.cumsum(image_lengths) - image_lengths
    stays = np.concatenate(
        [start + indices for start, indices in zip(starts, kept, strict=True)]
    ).astype(np.int64)
    origin = np.setdiff1d(whole.origin, np.delete(whole.visual_positions, stays))
    return Prompt(
        whole.input_ids[origin],
        whole.image_embeds,
        np.searchsorted(origin, whole.visual_positions[stays]),
        np.array([len(indices) for indices in kept], np.int64),
        whole.token_grid[stays],
        whole.prior[stays],
        np.searchsorted(origin, whole.text_positions),
        origin,
        whole.contiguous,
    )

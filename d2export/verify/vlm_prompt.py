"""The prompt of a reference in scope `vlm`: real where there is a tokenizer, else random tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2export.models.presets import TextSpec
from d2export.models.tiling import Tiles
from d2export.runtime.tokenizer import BundleTokenizer, Encoded

PROMPT = "Describe this image in detail."
ANSWER_TOKENS = 8  # of a reference
RANDOM_TOKENS = 16  # before, between and behind images


def reference_prompt(
    tokenizer: BundleTokenizer | None,
    text: TextSpec,
    images: Sequence[Tiles],
    prompt: str | None = None,
) -> Encoded:
    """A prompt about `images`."""
    lengths = [len(tiles.grid) for tiles in images]
    if tokenizer is not None:
        return tokenizer.encode(PROMPT if prompt is None else prompt, lengths)
    random = np.random.default_rng(0)
    ids: list[int] = []
    positions: list[int] = []
    for length in [*lengths, 0]:
        ids += random.integers(0, text.vocab, RANDOM_TOKENS).tolist()
        positions += range(len(ids), len(ids) + length)
        ids += [0] * length
    return Encoded(
        np.array(ids, np.int64), np.array(positions, np.int64), np.array(lengths, np.int64)
    )

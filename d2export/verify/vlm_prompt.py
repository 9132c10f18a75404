"""The prompt of a reference in scope `vlm`: real where there is a tokenizer, else random tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2export.errors import UsageError
from d2export.models.presets import TextSpec
from d2export.runtime.tokenizer import BundleTokenizer, Encoded

PROMPT = "Describe this image in detail."
ANSWER_TOKENS = 8  # of a reference
RANDOM_TOKENS = 16  # before, between and behind images


def reference_prompt(
    tokenizer: BundleTokenizer | None,
    text: TextSpec,
    image_lengths: Sequence[int],
    prompt: str | None = None,
) -> Encoded:
    """A prompt about images with so many visual tokens.

    Raises:
        UsageError: it does not fit into the model's context, or see `BundleTokenizer.encode`.
    """
    if tokenizer is not None:
        encoded = tokenizer.encode(PROMPT if prompt is None else prompt, image_lengths)
    else:
        encoded = _random_prompt(text, image_lengths)
    length = len(encoded.input_ids) + ANSWER_TOKENS
    if length > text.max_positions:
        raise UsageError(
            f"a reference has {length} tokens, prompt, picture and answer, this model's context "
            f"{text.max_positions}",
            "Pass a shorter --prompt, or a picture of fewer tiles.",
        )
    return encoded


def _random_prompt(text: TextSpec, lengths: Sequence[int]) -> Encoded:
    """Random tokens around images."""
    random = np.random.default_rng(0)
    ids: list[int] = []
    positions: list[int] = []
    for length in [*lengths, 0]:
        ids += random.integers(0, text.vocab, RANDOM_TOKENS).tolist()
        positions += range(len(ids), len(ids) + length)
        ids += [0] * length
    length = len(ids)
    words = np.arange(length - RANDOM_TOKENS, length - 1)  # all behind the images but the last
    return Encoded(
        np.array(ids, np.int64), np.array(positions, np.int64), np.array(lengths, np.int64), words
    )

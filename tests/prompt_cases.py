"""Generated inputs of `D2PrunePositions`: prompts of text and images, with the margins of cases."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from d2export.pruning import reference
from d2export.pruning.parameters import PruneParameters
from tests.selection_cases import (
    FLAVOURS,
    MARGIN,
    Array,
    Case,
    has_margin,
    pairs,
    random_case,
    random_parameters,
)


@dataclass(frozen=True)
class Prompt:
    """The op's inputs, in its order."""

    hidden_states: Array
    importance: Array
    prior: Array
    grid: Array
    visual_positions: Array
    image_lengths: Array


def random_prompt(rng: np.random.Generator, flavour: str) -> tuple[Prompt, PruneParameters]:
    """One to three images in one prompt; text before, between and after them, or none."""
    heads = bool(rng.random() < 0.5)
    while True:
        first = FLAVOURS[flavour](random_case(rng, heads), rng)
        parameters = random_parameters(rng, first, flavour)
        images = [first]
        while len(images) < int(rng.integers(1, 4)):
            other = FLAVOURS[flavour](random_case(rng, heads), rng)
            if other.features.shape[2] == first.features.shape[2] and (
                not heads or other.importance.shape[1] == first.importance.shape[1]
            ):
                images.append(other)
        if flavour == "exact" or all(has_margin(one_of(image), parameters) for image in images):
            break
    width = first.features.shape[2]
    texts = [rng.integers(0, 4) for _ in range(len(images) + 1)]
    texts[-1] += 1  # a prompt never ends with an image
    hidden, scores, positions = [], [], []
    at = 0
    for count, image in zip(texts, [*images, None], strict=True):
        hidden.append(rng.standard_normal((count, width)).astype(np.float32))
        scores.append(np.full((*first.importance.shape[1:-1], count), np.nan, np.float32))
        at += count
        if image is not None:
            hidden.append(image.features[0])
            scores.append(image.importance[0])
            positions.append(at + np.arange(len(image.grid)))
            at += len(image.grid)
    prompt = Prompt(
        np.concatenate(hidden)[None],
        np.concatenate(scores, axis=-1)[None],
        np.concatenate([image.prior for image in images]),
        np.concatenate([image.grid for image in images]),
        np.concatenate(positions).astype(np.int64),
        np.array([len(image.grid) for image in images], np.int64),
    )
    return prompt, parameters


def one_of(case: Case) -> Case:
    return Case(case.features[:1], case.importance[:1], case.prior, case.grid)


def expected(prompt: Prompt, parameters: PruneParameters) -> list[int]:
    """What the one-token-after-the-other reference keeps."""
    hidden, importance, *rest = astuple(prompt)
    answer = reference.surviving_positions(hidden[0], importance[0], *rest, parameters)
    return [int(position) for position in answer]


def small_prompt(*lengths: int) -> Prompt:
    """Text, an image, text, an image, ..., text; earlier visual tokens are more important."""
    at, positions = 1, []
    for length in lengths:
        positions += range(at, at + length)
        at += length + 1
    tokens = len(positions)
    scores = np.zeros(at, np.float32)
    scores[positions] = np.linspace(1, 0.5, tokens)
    return Prompt(
        np.ones((1, at, 4), np.float32),
        scores[None],
        np.ones(tokens, np.float32),
        np.stack([np.arange(tokens), np.zeros(tokens)], axis=1).astype(np.float32),
        np.array(positions, np.int64),
        np.array(lengths, np.int64),
    )


def large_prompt(rng: np.random.Generator) -> tuple[Prompt, PruneParameters]:
    """One to four images of up to 300 tokens, some of them nearly alike, text between them."""
    heads, channels = int(rng.integers(1, 4)), int(rng.choice([3, 33, 64, 513]))
    lengths = rng.integers(1, 300, int(rng.integers(1, 5)))
    tokens, texts = int(lengths.sum()), rng.integers(0, 9, len(lengths) + 1)
    length = tokens + int(texts.sum())
    starts = np.cumsum(texts[:-1]) + np.cumsum([0, *lengths[:-1]])
    positions = np.concatenate(
        [start + np.arange(count) for start, count in zip(starts, lengths, strict=True)]
    )
    kinds = rng.integers(-2, 3, (int(rng.integers(2, 300)), channels)).astype(np.float32)
    hidden = kinds[rng.integers(0, len(kinds), length)]
    flipped = rng.random(hidden.shape) < rng.choice([0, 0.02, 0.3])
    hidden = np.where(flipped, -hidden, hidden)
    prompt = Prompt(
        hidden[None],
        (rng.integers(0, 4096, (1, heads, length)) / 4096).astype(np.float32),
        np.ones(tokens, np.float32),
        rng.integers(0, 14, (tokens, 2)).astype(np.float32),
        positions.astype(np.int64),
        lengths.astype(np.int64),
    )
    alpha = float(rng.choice([0.25, 0.5, 1.0]))
    values = np.unique(np.concatenate([[-2.0, 2.0], *(pairs(i, alpha) for i in images_of(prompt))]))
    wide = np.flatnonzero(np.diff(values) > 3 * MARGIN)
    gap = int(rng.choice(wide))
    by_share = bool(rng.random() < 0.5)
    parameters = PruneParameters(
        keep=0 if by_share else int(rng.integers(1, lengths.max() + 1)),
        keep_permille=int(rng.integers(1, 1000)) if by_share else 0,
        pivot_ratio=float(rng.choice([0.0, 0.3, 0.7])),
        alpha=alpha,
        theta=float(values[gap : gap + 2].mean()),
        pivots_block=bool(rng.random() < 0.3),
    )
    return prompt, parameters


def images_of(prompt: Prompt) -> list[Case]:
    """Each image as inputs of `D2Prune`."""
    ends = np.cumsum(prompt.image_lengths)
    spans = [slice(end - count, end) for end, count in zip(ends, prompt.image_lengths, strict=True)]
    return [
        Case(
            prompt.hidden_states[:, prompt.visual_positions[span]],
            prompt.importance[..., prompt.visual_positions[span]],
            prompt.prior[span],
            prompt.grid[span],
        )
        for span in spans
    ]

"""What the model learns from: scenes with several questions each, made when they are needed.

A batch depends on the seed and its number only, so that a run can stop and go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from d2export.evaluation.scenes.questions import Question, ask, bin_of, box_text
from d2export.evaluation.scenes.references import by_look
from d2export.evaluation.scenes.scene import Item, Scene, make_scene
from d2export.evaluation.scenes.shapes import COLOURS, LETTER_WIDTH, LETTERS, SHAPES
from d2export.evaluation.scenes.textures import SIDE

PATCH = 28
GRID = SIDE // PATCH
QUESTIONS = 6  # about each scene
ASKED = ("locate", "locate", "locate", "name", "count", "read")
NOUNS = (*SHAPES, "sign")
COVERED = 0.2  # of a patch, from which on it belongs to an object
LEGIBLE = 0.5  # of a patch, from which on a letter is asked for
IGNORED = -100  # where there is nothing to learn
PROMPT_END = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_END = "<|im_end|>"


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        side: of the pictures, a multiple of 28 up to 448; smaller ones lie anywhere on the canvas.
        objects: fewest and most in a scene.
        brief: share of the questions where that say as little as identifies an object.
    """

    side: int
    objects: tuple[int, int]
    brief: float


@dataclass(frozen=True)
class Batch:
    """B scenes of n patches, Q questions of up to L tokens each.

    Attributes:
        pixels: `[B, side, side, 3]` uint8.
        places: `[B, n]` int64, where each patch lies on the canvas of 16 by 16.
        tokens: `[B, Q, L]` int64, prompt and answer.
        targets: `[B, Q, L]` int64, the token after each one of the answer; `IGNORED` elsewhere.
        asked: `[B, Q]` int64, the prompt's last token.
        seen: `[B, Q, n]` float32, how much of each patch belongs to what a question is about.
        noun, colour, size, letter: `[B, n]` int64, of the object that covers a patch, else
            `IGNORED`.
        box: `[B, n, 4]` int64, its box, in bins of the canvas; `IGNORED` where there is none.
    """

    pixels: Tensor
    places: Tensor
    tokens: Tensor
    targets: Tensor
    asked: Tensor
    seen: Tensor
    noun: Tensor
    colour: Tensor
    size: Tensor
    letter: Tensor
    box: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def make_batch(tokenizer: Tokenizer, stage: Stage, seed: int, number: int, count: int) -> Batch:
    """Batch `number` of a run: `count` scenes."""
    rows = [
        _row(np.random.default_rng([SIDE, seed, number, index]), tokenizer, stage)
        for index in range(count)
    ]
    longest = max(len(ids) for row in rows for ids, _ in row["asked"])
    padding = tokenizer.token_to_id("<|endoftext|>")
    tokens = np.full((count, QUESTIONS, longest), padding)
    targets = np.full((count, QUESTIONS, longest), IGNORED)
    last = np.zeros((count, QUESTIONS), np.int64)
    for b, row in enumerate(rows):
        for q, (ids, prompt) in enumerate(row.pop("asked")):
            tokens[b, q, : len(ids)] = ids
            last[b, q] = prompt - 1
            targets[b, q, prompt - 1 : len(ids) - 1] = ids[prompt:]
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    arrays |= {"tokens": tokens, "targets": targets, "asked": last}
    return Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def _row(random: np.random.Generator, tokenizer: Tokenizer, stage: Stage) -> dict[str, Any]:
    scene, questions = _scene(random, stage)
    cells = stage.side // PATCH
    top, left = (int(place) for place in random.integers(0, GRID - cells + 1, 2))
    rows, columns = np.mgrid[top : top + cells, left : left + cells]
    corner = np.array([left, top, left, top]) * PATCH
    return {
        "pixels": scene.draw(),
        "places": (rows * GRID + columns).reshape(-1),
        "asked": [_tokens(tokenizer, question, corner) for question in questions],
        "seen": np.stack([_coverage(question.items, cells).max(axis=0) for question in questions]),
        **_labels(scene.items, cells, corner),
    }


def _scene(random: np.random.Generator, stage: Stage) -> tuple[Scene, list[Question]]:
    """A scene about which enough can be asked; few are passed over."""
    while True:
        objects = int(random.integers(stage.objects[0], stage.objects[1] + 1))
        signs = int(random.integers(0, 3 if stage.side == SIDE else 2))
        signs = min(signs, objects - 1)
        scene = make_scene(random, objects - signs, signs=signs, side=stage.side)
        questions = []
        for kind in (*ASKED, *["locate"] * QUESTIONS):
            found = ask(random, scene, kind)
            if found is not None and len(questions) < QUESTIONS:
                questions.append(_briefly(random, scene, found, stage))
        if len(questions) == QUESTIONS:
            return scene, questions


def _briefly(
    random: np.random.Generator, scene: Scene, question: Question, stage: Stage
) -> Question:
    """A question where something is, in as few words as identify it."""
    if question.kind != "locate" or random.random() >= stage.brief:
        return question
    short = next(by_look(scene.items, question.items[0]), None)
    if short is None:
        return question
    prompt = f"Where is <ref>{short.phrase}</ref>?"
    return Question("locate", prompt, question.answer, question.items, None)


def _tokens(
    tokenizer: Tokenizer, question: Question, corner: np.ndarray[Any, Any]
) -> tuple[list[int], int]:
    """Ids of prompt and answer, and how many of them are the prompt's."""
    answer = question.answer
    if question.kind == "locate":
        answer = box_text((np.array(question.items[0].box) + corner).tolist(), SIDE)
    prompt = tokenizer.encode(question.prompt + PROMPT_END).ids
    return prompt + tokenizer.encode(answer + ANSWER_END).ids, len(prompt)


def _coverage(items: Sequence[Item], cells: int) -> np.ndarray[Any, Any]:
    """`[items, n]` float32: how much of each patch lies in each item's box."""
    edges = np.arange(cells) * PATCH
    boxes = np.array([item.box for item in items], np.float32)
    shares = [
        (np.minimum(boxes[:, high, None], edges + PATCH) - np.maximum(boxes[:, low, None], edges))
        for low, high in ((1, 3), (0, 2))
    ]
    down, across = (share.clip(0) / PATCH for share in shares)
    covered = down[:, :, None] * across[:, None, :]
    return covered.reshape(len(items), -1).astype(np.float32)


def _labels(
    items: Sequence[Item], cells: int, corner: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    covered = _coverage(items, cells)
    owner = np.where(covered.max(axis=0) >= COVERED, covered.argmax(axis=0), -1)
    kinds = np.array(
        [
            (
                NOUNS.index(item.shape),
                list(COLOURS).index(item.colour),
                ("small", "large").index(item.size) if item.size else IGNORED,
            )
            for item in items
        ]
        + [(IGNORED, IGNORED, IGNORED)]
    )
    boxes = np.array([item.box for item in items]) + corner
    bins = [[bin_of(edge, SIDE) for edge in box] for box in boxes.tolist()]
    noun, colour, size = kinds[owner].T
    return {
        "noun": noun,
        "colour": colour,
        "size": size,
        "letter": _letters(items, cells),
        "box": np.array([*bins, [IGNORED] * 4])[owner],
    }


def _letters(items: Sequence[Item], cells: int) -> np.ndarray[Any, Any]:
    """`[n]` int64: the letter whose middle is nearest to a patch that a sign covers."""
    found = np.full((cells, cells), IGNORED)
    centres = (np.arange(cells) + 0.5) * PATCH
    for item in items:
        if not item.text:
            continue
        scale = item.width / ((LETTER_WIDTH + 1) * len(item.text) + 2)
        middles = item.left + scale * (1.5 + LETTER_WIDTH / 2 + np.arange(len(item.text)) * 6)
        inside = _coverage([item], cells).reshape(cells, cells) >= LEGIBLE
        nearest = np.abs(centres[:, None] - middles).argmin(axis=1)
        letters = np.array([list(LETTERS).index(letter) for letter in item.text])
        found = np.where(inside, letters[nearest][None, :], found)
    return found.reshape(-1)

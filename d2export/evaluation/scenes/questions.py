"""What is asked about a scene: where something is, what a sign says, how many, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from d2export.evaluation.scenes.references import (
    ATTRIBUTES,
    Reference,
    by_look,
    by_place,
    fits,
)
from d2export.evaluation.scenes.scene import Item, Scene
from d2export.evaluation.scenes.shapes import COLOURS, LETTERS, SHAPES

KINDS = ("locate", "read", "count", "name")
BINS = 64  # along a side, in answers that are boxes
BY_PLACE = 0.2  # of the questions that refer to an object
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
CHOICES = {"size": 2, "colour": len(COLOURS), "shape": len(SHAPES)}


@dataclass(frozen=True)
class Question:
    """A question, its answer as the model is to write it, and the objects it is about."""

    kind: str
    prompt: str
    answer: str
    items: tuple[Item, ...]
    chance: float | None
    relation: bool = False


def ask(random: np.random.Generator, scene: Scene, kind: str) -> Question | None:
    """A question of one of `KINDS` that has one answer; None if the scene has none."""
    return {"locate": _locate, "read": _read, "count": _count, "name": _name}[kind](random, scene)


def box_text(box: Sequence[float], side: int) -> str:
    """A box in pixels as InternVL writes one: thousandths of the side, here of `BINS` values."""
    return "<box>[[" + ", ".join(bin_text(bin_of(edge, side)) for edge in box) + "]]</box>"


def bin_of(edge: float, side: int) -> int:
    """Which of `BINS` equal parts of the side a coordinate in pixels lies in."""
    return min(int(edge * BINS / side), BINS - 1)


def bin_text(index: int) -> str:
    """The middle of a part, in thousandths of the side."""
    return str(round((index + 0.5) * 1000 / BINS))


def _locate(random: np.random.Generator, scene: Scene) -> Question | None:
    found = refer(random, scene.items)
    if found is None:
        return None
    answer = box_text(found.item.box, scene.side)
    chance = 1 / len(scene.items)
    prompt = f"Where is <ref>{found.phrase}</ref>?"
    return Question("locate", prompt, answer, (found.item,), chance, found.relation)


def _read(random: np.random.Generator, scene: Scene) -> Question | None:
    signs = [item for item in scene.items if item.text]
    if not signs:
        return None
    sign = signs[int(random.integers(len(signs)))]
    which = "sign" if len(signs) == 1 else f"{sign.colour} sign"
    chance = 1 / len(LETTERS) ** len(sign.text)
    return Question("read", f"What does the {which} say?", sign.text, (sign,), chance)


def _count(random: np.random.Generator, scene: Scene) -> Question | None:
    things = [item for item in scene.items if item.size]
    if not things:
        return None
    like = things[int(random.integers(len(things)))]
    said = tuple(name for name in ATTRIBUTES if random.random() < 0.5) or ("shape",)
    counted = tuple(item for item in things if fits(item, like, said))
    words = [getattr(like, name) for name in ATTRIBUTES[:2] if name in said]
    noun = PLURALS[like.shape] if "shape" in said else "objects"
    prompt = f"How many {' '.join([*words, noun])} are there?"
    return Question("count", prompt, str(len(counted)), counted, None)


def _name(random: np.random.Generator, scene: Scene) -> Question | None:
    found = refer(random, scene.items, whole=False)
    if found is None:
        return None
    chance = 1 / prod(count for name, count in CHOICES.items() if name not in found.said)
    prompt = f"What is <ref>{found.phrase}</ref>?"
    return Question("name", prompt, found.item.name, (found.item,), chance, found.relation)


def refer(
    random: np.random.Generator, items: Sequence[Item], *, whole: bool = True
) -> Reference | None:
    """Words for one of the objects, drawn at random; None if none was found.

    Args:
        whole: whether the words may say all of what it looks like.
    """
    things = [item for item in items if whole or item.size]
    place = random.random() < BY_PLACE
    for _ in range(8):
        if not things:
            break
        item = things[int(random.integers(len(things)))]
        if place:
            anchor = items[int(random.integers(len(items)))]
            found = by_place(random, items, item, anchor) if anchor is not item else None
            if found is not None and (whole or len(found.said) < len(ATTRIBUTES)):
                return found
        else:
            options = [
                look for look in by_look(items, item) if whole or len(look.said) < len(ATTRIBUTES)
            ]
            if options:
                return options[int(random.integers(len(options)))]
    return None

"""How an object of a scene is referred to: by what it looks like, or by where it is to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from d2export.evaluation.scenes.scene import Item

ATTRIBUTES = ("size", "colour", "shape")
RELATIONS: dict[str, Callable[[Item, Item], float]] = {  # how far, in pixels
    "left of": lambda item, other: other.centre[0] - item.centre[0],
    "right of": lambda item, other: item.centre[0] - other.centre[0],
    "above": lambda item, other: other.centre[1] - item.centre[1],
    "below": lambda item, other: item.centre[1] - other.centre[1],
}
CLEARLY = 24  # pixels by which an object has to be left of another to be called so


@dataclass(frozen=True)
class Reference:
    """Words that fit one object of a scene only.

    Attributes:
        item: that object.
        phrase: such as `the red ring left of the blue square`.
        said: which of `ATTRIBUTES` the words give away.
        relation: whether the words say where it is.
    """

    item: Item
    phrase: str
    said: tuple[str, ...]
    relation: bool = False


def by_look(items: Sequence[Item], item: Item) -> Iterator[Reference]:
    """Every choice of attributes that fits `item` alone, the shortest first."""
    for said in _choices(item):
        if _alike(items, item, said) == [item]:
            yield Reference(item, describe(item, said), said)


def by_place(
    random: np.random.Generator, items: Sequence[Item], item: Item, anchor: Item
) -> Reference | None:
    """`item`, of which there are several by its look, by where it is to `anchor`; None if not so.

    All objects that look alike have to be on the other side of the anchor.
    """
    anchors = list(by_look(items, anchor))
    fitting = [
        (said, relation)
        for said in _choices(item)
        if len(alike := [other for other in _alike(items, item, said) if other is not anchor]) > 1
        for relation, distance in RELATIONS.items()
        if distance(item, anchor) >= CLEARLY
        and all(distance(other, anchor) <= 0 for other in alike if other is not item)
    ]
    if not anchors or not fitting:
        return None
    said, relation = fitting[int(random.integers(len(fitting)))]
    other = anchors[int(random.integers(len(anchors)))]
    return Reference(item, f"{describe(item, said)} {relation} {other.phrase}", said, True)


def describe(item: Item, said: Sequence[str]) -> str:
    """`the small red object` for size and colour."""
    words = [getattr(item, name) for name in ATTRIBUTES[:2] if name in said]
    return " ".join(["the", *words, item.shape if "shape" in said else "object"])


def fits(item: Item, like: Item, said: Sequence[str]) -> bool:
    """Whether two objects have these attributes in common."""
    return all(getattr(item, name) == getattr(like, name) for name in said)


def _choices(item: Item) -> Iterator[tuple[str, ...]]:
    has = [name for name in ATTRIBUTES if getattr(item, name)]
    for count in range(1, len(has) + 1):
        yield from combinations(has, count)


def _alike(items: Sequence[Item], item: Item, said: Sequence[str]) -> list[Item]:
    return [other for other in items if fits(other, item, said)]

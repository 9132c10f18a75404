"""A scene: objects that do not overlap, on a texture. Drawn from a seed, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2export.evaluation.scenes.shapes import (
    COLOURS,
    LETTER_HEIGHT,
    LETTER_WIDTH,
    LETTERS,
    SHAPES,
    shape_mask,
    text_mask,
)
from d2export.evaluation.scenes.textures import SIDE, TEXTURES, texture

SIZES = {"small": (30, 50), "large": (78, 128)}  # sides in pixels, the second one excluded
SIGN_SCALES = (4, 7)
SIGN_LETTERS = (2, 4)
GAP = 5  # pixels between two objects
TRIES = 40  # before a place for one more object is given up


@dataclass(frozen=True)
class Item:
    """One object.

    Attributes:
        shape: one of `SHAPES`, or `sign`.
        colour: one of `COLOURS`.
        size: `small` or `large`; of a sign `""`.
        left, top, width, height: in pixels.
        text: what a sign says.
    """

    shape: str
    colour: str
    size: str
    left: int
    top: int
    width: int
    height: int
    text: str = ""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 in pixels."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def centre(self) -> tuple[float, float]:
        """In pixels."""
        return self.left + self.width / 2, self.top + self.height / 2

    @property
    def name(self) -> str:
        """All that can be said of it: `small red ring`, `blue sign`."""
        return " ".join(word for word in (self.size, self.colour, self.shape) if word)


@dataclass(frozen=True)
class Scene:
    """What is to be seen, `side` pixels wide and high; `background` is what texture, moved how."""

    items: tuple[Item, ...]
    background: tuple[int, int, int]
    side: int = SIDE
    seed: int = 0

    def draw(self) -> npt.NDArray[np.uint8]:
        """`[side, side, 3]` RGB."""
        random = np.random.default_rng([SIDE, self.seed])
        index, down, right = self.background
        canvas = np.roll(texture(index), (down, right), (0, 1))[: self.side, : self.side].copy()
        for item in self.items:
            colour = np.array(COLOURS[item.colour]) + random.integers(-10, 11, 3)
            sign = item.shape == "sign"
            mask = np.ones((item.height, item.width), np.float32)
            _paint(canvas, item, mask if sign else shape_mask(item.shape, item.width), colour)
            if sign:
                ink = 20 if COLOURS[item.colour][1] > 120 else 240
                _paint(canvas, item, text_mask(item.text, _scale(item)), np.array([ink] * 3))
        return canvas


def make_scene(
    random: np.random.Generator, objects: int, *, signs: int = 0, side: int = SIDE
) -> Scene:
    """A scene with up to `objects` objects, some of them alike, and up to `signs` signs.

    Args:
        random: where everything comes from.
        objects: fewer if no place is left.
        signs: each of another colour.
        side: in pixels, at most 448.
    """
    items: list[Item] = []
    colours = random.permutation(list(COLOURS))
    for colour in colours[:signs]:
        letters = random.choice(list(LETTERS), random.integers(*SIGN_LETTERS))
        scale = int(random.integers(*SIGN_SCALES))
        width = ((LETTER_WIDTH + 1) * len(letters) + 2) * scale
        height = (LETTER_HEIGHT + 3) * scale
        place = _place(random, items, width, height, side)
        if place is not None:
            text = "".join(letters)
            items.append(Item("sign", str(colour), "", *place, width, height, text))
    for _ in range(objects):
        shape, colour, size = _look(random, [item for item in items if item.size])
        width = int(random.integers(*SIZES[size]))
        place = _place(random, items, width, width, side)
        if place is not None:
            items.append(Item(shape, colour, size, *place, width, width))
    index, down, right = (int(random.integers(bound)) for bound in (TEXTURES, SIDE, SIDE))
    return Scene(tuple(items), (index, down, right), side, int(random.integers(1 << 31)))


def _look(random: np.random.Generator, others: Sequence[Item]) -> tuple[str, str, str]:
    """Shape, colour and size; more often than not, some of them are those of an object before."""
    shape = str(random.choice(SHAPES))
    colour = str(random.choice(list(COLOURS)))
    size = "small" if random.random() < 0.5 else "large"
    if others and random.random() < 0.7:
        other = others[int(random.integers(len(others)))]
        alike = int(random.integers(1, 7))  # which of the three, as bits; never all
        shape = other.shape if alike & 1 else shape
        colour = other.colour if alike & 2 else colour
        size = other.size if alike & 4 else size
    return shape, colour, size


def _place(
    random: np.random.Generator, items: Sequence[Item], width: int, height: int, side: int
) -> tuple[int, int] | None:
    """Left and top of a place that is free, or None."""
    if width > side or height > side:
        return None
    for _ in range(TRIES):
        left = int(random.integers(0, side - width + 1))
        top = int(random.integers(0, side - height + 1))
        if all(
            left + width + GAP <= x1
            or x2 + GAP <= left
            or top + height + GAP <= y1
            or y2 + GAP <= top
            for x1, y1, x2, y2 in (item.box for item in items)
        ):
            return left, top
    return None


def _scale(sign: Item) -> int:
    return sign.height // (LETTER_HEIGHT + 3)


def _paint(
    canvas: npt.NDArray[np.uint8],
    item: Item,
    mask: npt.NDArray[np.float32],
    colour: npt.NDArray[np.int64],
) -> None:
    x1, y1, x2, y2 = item.box
    below = canvas[y1:y2, x1:x2]
    mixed = below + mask[:, :, None] * (colour.clip(0, 255) - below.astype(np.float32))
    canvas[y1:y2, x1:x2] = mixed.round().astype(np.uint8)

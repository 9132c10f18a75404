"""What stands in a scene: six shapes and signs with letters, in eight colours."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.float32]  # [h, w], 0 to 1: how much of a pixel is covered

SHAPES = ("circle", "square", "triangle", "ring", "cross", "diamond")
COLOURS = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 85, 220),
    "yellow": (242, 214, 40),
    "purple": (142, 52, 186),
    "orange": (244, 132, 26),
    "white": (246, 246, 246),
    "black": (18, 18, 18),
}
LETTER_WIDTH, LETTER_HEIGHT = 5, 7

# Letters that differ by two cells at least, five by seven.
LETTERS = {
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "C": (".####", "#....", "#....", "#....", "#....", "#....", ".####"),
    "E": ("#####", "#....", "#....", "####.", "#....", "#....", "#####"),
    "H": ("#...#", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "J": ("..###", "...#.", "...#.", "...#.", "...#.", "#..#.", ".##.."),
    "K": ("#...#", "#..#.", "#.#..", "##...", "#.#..", "#..#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "M": ("#...#", "##.##", "#.#.#", "#.#.#", "#...#", "#...#", "#...#"),
    "N": ("#...#", "##..#", "#.#.#", "#.#.#", "#..##", "#...#", "#...#"),
    "O": (".###.", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
    "P": ("####.", "#...#", "#...#", "####.", "#....", "#....", "#...."),
    "S": (".####", "#....", "#....", ".###.", "....#", "....#", "####."),
    "T": ("#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."),
    "U": ("#...#", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
    "X": ("#...#", "#...#", ".#.#.", "..#..", ".#.#.", "#...#", "#...#"),
    "Z": ("#####", "....#", "...#.", "..#..", ".#...", "#....", "#####"),
}


@cache
def shape_mask(shape: str, side: int) -> Mask:
    """`[side, side]`: a shape that touches all four sides, its edge smoothed over one pixel."""
    half = side / 2
    x, y = np.meshgrid(*[np.arange(side) + 0.5 - half] * 2)
    across, far = np.abs(x), np.abs(y)
    radius = np.hypot(x, y)
    outside = {  # distance in pixels to the edge, negative inside
        "circle": radius - half,
        "square": np.maximum(across, far) - half,
        "triangle": np.maximum((2 * across - y - half) / 5**0.5, y - half),
        "ring": np.maximum(radius - half, 0.55 * half - radius),
        "cross": np.maximum(np.minimum(across, far) - half / 3, np.maximum(across, far) - half),
        "diamond": (across + far - half) / 2**0.5,
    }[shape]
    return np.asarray((0.5 - outside).clip(0, 1), np.float32)


@cache
def letter_mask(letter: str, scale: int) -> Mask:
    """`[7 * scale, 5 * scale]`."""
    rows = [[cell == "#" for cell in row] for row in LETTERS[letter]]
    return np.array(rows, np.float32).repeat(scale, 0).repeat(scale, 1)


@cache
def text_mask(text: str, scale: int) -> Mask:
    """The letters of a sign side by side, a cell apart and a cell and a half from its edge."""
    width = (LETTER_WIDTH + 1) * len(text) - 1 + 3
    mask = np.zeros(((LETTER_HEIGHT + 3) * scale, width * scale), np.float32)
    top = left = 3 * scale // 2
    for letter in text:
        drawn = letter_mask(letter, scale)
        mask[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
        left += (LETTER_WIDTH + 1) * scale
    return mask

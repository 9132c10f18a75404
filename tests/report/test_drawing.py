"""Every kept token is outlined where it saw the picture, and exactly the rest is dark."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from d2export.models.tiling import Tiles, token_boxes, token_grid
from d2export.report.data import Keep, Picture
from d2export.report.drawing import kept_tokens
from tests.report.sample_report import COLUMNS, ROWS, SIDE, TOKENS, picture

WIDTH, HEIGHT = COLUMNS * SIDE, ROWS * SIDE  # of the canvas, in tokens
Boxes = NDArray[np.int64]


def boxes_of(path: str) -> Boxes:
    """x0, y0, x1, y1 of each rectangle."""
    found = re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-(\d+)z", path)
    assert "".join("M{} {}h{}v{}h-{}z".format(*part) for part in found) == path
    numbers = np.array(found, np.int64).reshape(-1, 5)
    return np.column_stack([numbers[:, :2], numbers[:, :2] + numbers[:, 2:4]])


def drawn(kept: list[int]) -> tuple[Boxes, Boxes]:
    """Outlined and dark rectangles of a picture of 3 × 2 tiles and a thumbnail."""
    shown = picture("photo")
    one = Picture(**{**vars(shown), "kept": (np.array(kept, np.int32),)})
    markup = kept_tokens(one, 0, (Keep("k", len(kept), TOKENS, None),))
    paths = dict(re.findall(r'<path (?:id="[^"]*" )?class="(\w+)" d="([^"]*)"', markup))
    outlines = "".join(re.findall(r'class="cells" d="([^"]*)"', markup))
    return boxes_of(outlines), boxes_of(paths["unseen"])


def seen(boxes: Boxes) -> NDArray[np.int64]:
    """How many of the boxes cover each place of the canvas."""
    count = np.zeros((HEIGHT, WIDTH), np.int64)
    for x0, y0, x1, y1 in boxes:
        count[y0:y1, x0:x1] += 1
    return count


@pytest.mark.parametrize(
    "kept",
    [
        [0],
        [TOKENS - 1],
        [3, 4, 16, 40, 95, 96, 101],
        list(range(TOKENS)),
        np.random.default_rng(0).choice(TOKENS, 20, replace=False).tolist(),
    ],
    ids=["first", "last", "some", "all", "random"],
)
def test_outlines_are_what_the_tokens_saw(kept: list[int]) -> None:
    outlined, dark = drawn(kept)
    tiles = Tiles(
        np.empty((COLUMNS * ROWS + 1, 3, 1, 1), np.uint8),
        token_grid(COLUMNS, ROWS, SIDE),
        COLUMNS,
        ROWS,
        SIDE,
        (WIDTH, HEIGHT),
        (0, 0, WIDTH, HEIGHT),
    )
    expected = token_boxes(tiles)[sorted(kept)]
    order = np.lexsort(expected.T)
    np.testing.assert_array_equal(outlined[np.lexsort(outlined.T)], expected[order])
    np.testing.assert_array_equal(seen(dark), seen(outlined) == 0)


def test_nothing_kept_is_all_dark_and_equal_rows_are_one_rectangle() -> None:
    outlined, dark = drawn([])
    assert len(outlined) == 0
    assert dark.tolist() == [[0, 0, WIDTH, HEIGHT]]

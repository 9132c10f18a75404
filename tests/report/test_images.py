"""Pictures are put together as they were cut; heat maps have a pixel per token in its place."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from d2export.models.presets import preset
from d2export.models.tiling import tile
from d2export.report.colours import STOPS, Scale, colours_of, scale_of
from d2export.report.images import LONG_SIDE, heat_maps, jpeg, seen_picture
from d2export.report.selections import selections_of
from tests.report.sample_report import COLUMNS, ROWS, SIDE, TOKENS, picture


def smooth(width: int, height: int) -> Image.Image:
    """Each pixel tells where it lies: left to right in red, top to bottom in green."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize("model", ["internvl2.5-1b", "llava-1.5-7b"])
@pytest.mark.parametrize("size", [(900, 600), (300, 900), (448, 448), (80, 50)])
def test_a_picture_is_what_was_cut(model: str, size: tuple[int, int]) -> None:
    original = smooth(*size)
    tiles = tile(original, preset(model).vision)
    found = seen_picture(tiles.pixels, selections_of(tiles, {}))
    assert max(found.size) <= LONG_SIDE
    assert found.width / found.height == pytest.approx(size[0] / size[1], rel=0.01)
    same = np.asarray(original.resize(found.size), np.float32)
    # At its border a padded picture, scaled up, is blended with the padding.
    inside = np.abs(np.asarray(found, np.float32) - same)[10:-10, 10:-10]
    assert inside.max() < 5


def test_other_tiles_are_refused() -> None:
    tiles = tile(smooth(900, 600), preset("pocket").vision)
    with pytest.raises(ValueError, match="reshape"):
        seen_picture(tiles.pixels[:2], selections_of(tiles, {}))


def test_a_picture_that_takes_too_much_is_poorer() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8))
    best, small = jpeg(noise, 10**9), jpeg(noise, len(jpeg(noise, 10**9)) // 2)
    assert len(small) <= len(best) // 2
    assert len(jpeg(noise, 1)) > 1000  # the poorest, but a picture


def test_a_heat_map_has_each_token_in_its_place() -> None:
    values = np.arange(1, TOKENS + 1, dtype=np.float32)
    tiles, thumbnail = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))
        for uri in heat_maps(picture("photo"), values, Scale(1.0, float(TOKENS)))
        if uri is not None
    )
    assert tiles.shape == (ROWS * SIDE, COLUMNS * SIDE, 3)
    assert thumbnail.shape == (SIDE, SIDE, 3)
    # Tile 1 begins right of tile 0, and tile 3 below it; token 5 is the second of the second row.
    brightness = tiles.astype(int).sum(axis=-1)
    assert brightness[0, SIDE] > brightness[0, 0]
    places = Scale(1.0, float(TOKENS)).places(values)
    for token, (y, x) in {0: (0, 0), 5: (1, 1), 16: (0, 4), 48: (4, 0), 95: (7, 11)}.items():
        expected = colours_of(places[token : token + 1])[0].astype(int)
        assert np.abs(tiles[y, x] - expected).max() <= 8, token
    assert tuple(thumbnail[-1, -1]) == STOPS[-1]


def test_a_scale_leaves_outliers_aside_and_numbers_that_are_none() -> None:
    values = np.array([*np.geomspace(1, 100, 1000), 1e9, 0, -1, np.nan, np.inf], np.float32)
    scale = scale_of(values, None)
    assert 1 < scale.low < 1.2
    assert 80 < scale.high < 100
    places = scale.places(values)
    assert ((places >= 0) & (places <= 1)).all()
    assert places[-5:] == pytest.approx([1, 0, 0, 0, 1])
    assert (np.diff(places[:1000]) >= 0).all()


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [np.nan]])
def test_a_scale_of_nothing(values: list[float]) -> None:
    there = np.array(values, np.float32)
    assert (scale_of(there).places(there) == 0).all()


def test_colours_grow_brighter_all_the_way() -> None:
    """So that they can be told apart without seeing colour."""
    red, green, blue = colours_of(np.linspace(0, 1, 100)).astype(float).T
    assert (np.diff(0.2126 * red + 0.7152 * green + 0.0722 * blue) > 0).all()

"""The drawing shows what was kept, where it was, and counts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from d2export.errors import UsageError
from d2export.models.images import load_image
from d2export.models.presets import PRESETS
from d2export.models.tiling import tile, token_boxes
from d2export.runtime.picture import (
    BOX_COLOUR,
    SHADOW,
    STRIP_COLOUR,
    THUMBNAIL_COLOUR,
    TILE_COLOUR,
    UNSEEN_BRIGHTNESS,
    draw_kept,
)

INTERNVL = PRESETS["internvl2.5-8b"].vision
LLAVA = PRESETS["llava-1.5-7b"].vision
GREEN = (40, 160, 60)
GREEN_UNSEEN = (int(113 * UNSEEN_BRIGHTNESS),) * 3  # its luminance is 113


def plain(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GREEN)


def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn from now on."""
    texts: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def text(self, xy, text, *args, **kwargs):
        texts.append(text)
        return draw(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((600, 400), (900, 600)),  # scaled up
        ((40, 30), (900, 675)),
        ((1200, 800), (1200, 800)),  # left as it is
        ((4000, 3000), (1600, 1200)),  # scaled down
        ((20000, 100), (1600, 8)),
    ],
)
def test_the_picture_is_drawn_900_to_1600_pixels_long_above_a_strip(
    size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    image = plain(*size)
    canvas = draw_kept(image, tile(image, INTERNVL), np.arange(20))
    assert canvas.mode == "RGB"
    assert canvas.width == drawn[0]
    assert canvas.getpixel((0, drawn[1])) == STRIP_COLOUR
    assert canvas.getpixel((0, drawn[1] - 1)) != STRIP_COLOUR


def test_a_narrow_picture_is_centred_above_a_caption_of_several_lines() -> None:
    image = plain(50, 400)
    canvas = draw_kept(image, tile(image, INTERNVL), np.arange(20))
    left = (canvas.width - 112) // 2
    assert left > 20
    assert canvas.getpixel((left - 1, 500)) == STRIP_COLOUR
    assert canvas.getpixel((left + 1, 500)) == GREEN_UNSEEN
    assert canvas.height > 900 + 80


def test_what_no_kept_token_saw_is_grey_and_dim() -> None:
    image = plain(600, 400)
    tiles = tile(image, INTERNVL)
    kept = np.array([3 * 256 + 17, 6 * 256 + 5])  # of tile 3, and of the thumbnail
    canvas = np.asarray(draw_kept(image, tiles, kept))[:600]
    seen = np.zeros((600, 900), bool)
    for x0, y0, x1, y1 in np.rint(token_boxes(tiles)[kept] * 1.5).astype(int):
        seen[y0:y1, x0:x1] = True
    assert (canvas[~seen] == GREEN_UNSEEN).all()
    assert not (canvas[seen] == GREEN_UNSEEN).all(axis=-1).any()
    assert (canvas[seen] == GREEN).all(axis=-1).mean() > 0.7


def test_tiles_have_a_solid_outline_and_the_thumbnail_a_dashed_one() -> None:
    image = plain(600, 400)
    tiles = tile(image, INTERNVL)
    of_tile, of_thumbnail = 17, 6 * 256 + 5
    canvas = np.asarray(draw_kept(image, tiles, np.array([of_tile, of_thumbnail])))
    boxes = np.rint(token_boxes(tiles)[[of_tile, of_thumbnail]] * 1.5).astype(int)

    x0, y0, x1, y1 = boxes[0]  # 19 x 19 pixels
    assert (canvas[y0, x0:x1] == TILE_COLOUR).all()
    assert (canvas[y1 - 1, x0:x1] == TILE_COLOUR).all()
    assert (canvas[y0:y1, x0] == TILE_COLOUR).all()
    assert (canvas[y0:y1, x1 - 1] == TILE_COLOUR).all()

    x0, y0, x1, y1 = boxes[1]  # 57 x 38 pixels
    for line in (canvas[y0, x0:x1], canvas[y1 - 1, x0:x1], canvas[y0:y1, x0]):
        bright = (line == THUMBNAIL_COLOUR).all(axis=-1)
        dark = (line == SHADOW).all(axis=-1)
        assert (bright | dark).all()
        assert 0.4 < bright.mean() < 0.7


@pytest.mark.parametrize(
    ("name", "vision", "kept", "caption"),
    [
        ("astronaut.png", INTERNVL, range(64), ["64 of 256 tokens kept"]),
        (
            "coffee.png",
            INTERNVL,
            range(1478, 1542),  # the last 58 of the tiles, the first 6 of the thumbnail
            ["64 of 1792 tokens kept", "58 from tiles", "6 from the thumbnail"],
        ),
        (
            "coins.png",
            INTERNVL,
            range(0, 3328, 13),
            ["256 of 3328 tokens kept", "237 from tiles", "19 from the thumbnail"],
        ),
        ("coffee.png", LLAVA, range(90, 100), ["10 of 576 tokens kept", "6 in the padding"]),
        ("coffee.png", LLAVA, range(0), ["0 of 576 tokens kept"]),
    ],
)
def test_the_caption_counts_the_kept_tokens_of_a_photograph(
    monkeypatch: pytest.MonkeyPatch, name: str, vision, kept: range, caption: list[str]
) -> None:
    skimage = pytest.importorskip("skimage", reason="scikit-image, for its photographs")
    image = load_image(Path(skimage.__file__).parent / "data" / name)
    texts = captions(monkeypatch)
    draw_kept(image, tile(image, vision), np.array(kept, np.int32))
    assert texts == caption


def test_a_token_of_a_very_flat_picture_is_still_drawn_and_not_padding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = plain(20000, 100)  # drawn 8 pixels high, 16 tokens to those
    texts = captions(monkeypatch)
    canvas = np.asarray(draw_kept(image, tile(image, INTERNVL), np.array([0])))
    assert (canvas[0, 0] == TILE_COLOUR).all()
    assert texts == ["1 of 3328 tokens kept", "1 from tiles", "0 from the thumbnail"]


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        (np.array([0, 1792]), "kept reaches from 0 to 1792, expected indices in [0, 1792)"),
        (np.array([-1, 3]), "kept reaches from -1 to 3, expected indices in [0, 1792)"),
        (np.zeros((1, 4), int), "kept has shape [1, 4] and type int64, expected integers [M]"),
        (np.zeros(4), "kept has shape [4] and type float64, expected integers [M]"),
        (np.ones(4, bool), "kept has shape [4] and type bool, expected integers [M]"),
    ],
)
def test_kept_must_be_token_indices(kept: np.ndarray, problem: str) -> None:
    image = plain(600, 400)
    with pytest.raises(UsageError) as raised:
        draw_kept(image, tile(image, INTERNVL), kept)
    assert raised.value.problem == problem
    assert raised.value.hint


def test_the_picture_must_be_the_one_that_was_cut() -> None:
    with pytest.raises(UsageError, match=r"the image is 400x600 pixels, but .* from 600x400"):
        draw_kept(plain(400, 600), tile(plain(600, 400), INTERNVL), np.arange(3))


def test_a_box_of_the_answer_has_a_thick_line_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = captions(monkeypatch)
    image = plain(1000, 1000)
    tiles = tile(image, LLAVA)
    none = np.empty(0, np.int32)
    drawn = np.asarray(draw_kept(image, tiles, none, [(0.2, 0.3, 0.6, 0.5)]))
    line = (drawn == BOX_COLOUR).all(axis=2)
    rows, columns = np.flatnonzero(line.any(axis=1)), np.flatnonzero(line.any(axis=0))
    assert (rows.min(), columns.min(), columns.max()) == (300 - 5, 200 - 5, 600 + 4)
    assert line[400, 195:200].all()
    assert line[400].sum() == 10
    assert not line[301:499, 201:599].any()
    assert "answered" in texts
    assert not (np.asarray(draw_kept(image, tiles, none)) == BOX_COLOUR).all(axis=2).any()

"""Which visual tokens a model kept and which boxes it answered, drawn on the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from d2export.errors import UsageError
from d2export.models.tiling import Tiles, token_boxes
from d2export.runtime.boxes import Box

MIN_LONG_SIDE, MAX_LONG_SIDE = 900, 1600  # pixels of the drawn picture
TILE_COLOUR = (255, 190, 30)  # amber, solid
THUMBNAIL_COLOUR = (70, 225, 255)  # cyan, dashed
BOX_COLOUR = (255, 60, 170)  # magenta, thick
SHADOW = (16, 18, 22)  # beside every line, so that it shows on a bright picture too
STRIP_COLOUR, TEXT_COLOUR = (22, 24, 28), (236, 238, 240)
UNSEEN_BRIGHTNESS = 0.42
DASH = 6  # pixels
BOX_STROKE = 5  # pixels

_Colour = tuple[int, int, int]
_Part = tuple[_Colour | None, str]  # of the caption: the swatch before it, and its text


def draw_kept(
    image: Image.Image,
    tiles: Tiles,
    kept: NDArray[np.integer[Any]],
    boxes: Sequence[Box] = (),
) -> Image.Image:
    """The picture, with what no kept token saw grey and dim, and a caption that counts them.

    Kept tokens of tiles are outlined in amber; those of the thumbnail, each as large as
    `columns` × `rows` of the others, in dashed cyan. Boxes of the answer have thick magenta lines.

    Args:
        image: the picture `tiles` was cut from.
        tiles: how it was cut.
        kept: integer `[M]`, indices of the kept tokens, each in `[0, N)`.
        boxes: what the model answered, as shares of the picture's width and height.

    Returns:
        Mode RGB; the picture's long side has 900 to 1600 pixels, a caption strip lies below it.

    Raises:
        UsageError: `kept` is not a list of token indices, or `image` is not the one that was cut.
    """
    _check(image, tiles, kept)
    long = max(image.size)
    scale = min(max(long, MIN_LONG_SIDE), MAX_LONG_SIDE) / long
    width, height = (max(1, round(side * scale)) for side in image.size)
    seen = token_boxes(tiles)[kept]
    visible = (seen[:, :2] < seen[:, 2:]).all(axis=1)
    on_thumbnail = kept >= tiles.columns * tiles.rows * tiles.tokens_per_side**2
    to_drawing = np.tile([width, height], 2) / np.tile(image.size, 2)
    cells = np.rint(seen * to_drawing).astype(int)
    cells[:, 2:] = np.maximum(cells[:, 2:], cells[:, :2] + 1)  # however long the picture

    picture = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    picture = _dim(picture, cells[visible])
    _outline(picture, cells[visible & ~on_thumbnail])
    _outline_dashed(picture, cells[visible & on_thumbnail])
    _outline_answer(picture, boxes)
    parts: list[_Part] = [(None, f"{len(kept)} of {len(tiles.grid)} tokens kept")]
    if tiles.has_thumbnail:
        parts.append((TILE_COLOUR, f"{(~on_thumbnail).sum()} from tiles"))
        parts.append((THUMBNAIL_COLOUR, f"{on_thumbnail.sum()} from the thumbnail"))
    if not visible.all():
        parts.append((None, f"{(~visible).sum()} in the padding"))
    if boxes:
        parts.append((BOX_COLOUR, "answered"))
    return _add_caption(picture, parts)


def _check(image: Image.Image, tiles: Tiles, kept: NDArray[np.integer[Any]]) -> None:
    if image.size != tiles.image_size:
        raise UsageError(
            f"the image is {image.width}x{image.height} pixels, but the tiles were cut from"
            f" {tiles.image_size[0]}x{tiles.image_size[1]}",
            "Pass the picture that was given to tile().",
        )
    if kept.ndim != 1 or not np.issubdtype(kept.dtype, np.integer):
        raise UsageError(
            f"kept has shape {list(kept.shape)} and type {kept.dtype}, expected integers [M]",
            "Pass the kept_indices of one picture.",
        )
    count = len(tiles.grid)
    if len(kept) and not (kept.min() >= 0 and kept.max() < count):
        raise UsageError(
            f"kept reaches from {kept.min()} to {kept.max()}, expected indices in [0, {count})",
            "Pass the kept_indices that belong to these tiles.",
        )


def _dim(picture: Image.Image, boxes: NDArray[np.int_]) -> Image.Image:
    """The picture in colour inside the boxes, grey and dark outside."""
    lit = np.zeros((picture.height, picture.width), np.uint8)
    for x0, y0, x1, y1 in boxes:
        lit[y0:y1, x0:x1] = 255
    grey = picture.convert("L").point(lambda value: value * UNSEEN_BRIGHTNESS).convert("RGB")
    return Image.composite(picture, grey, Image.fromarray(lit))


def _outline(picture: Image.Image, boxes: NDArray[np.int_]) -> None:
    """Draws a solid line just inside each box; all shadows first, so that none hides a line."""
    pen = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in boxes.tolist():
        stroke = _stroke(x0, y0, x1, y1)
        if min(x1 - x0, y1 - y0) >= 12:  # in a smaller box nothing else would be seen
            inside = (x0 + stroke, y0 + stroke, x1 - 1 - stroke, y1 - 1 - stroke)
            pen.rectangle(inside, outline=SHADOW)
    for x0, y0, x1, y1 in boxes.tolist():
        stroke = _stroke(x0, y0, x1, y1)
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=TILE_COLOUR, width=stroke)


def _outline_dashed(picture: Image.Image, boxes: NDArray[np.int_]) -> None:
    """Draws a line just inside each box that is cyan and dark by turns."""
    pen = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in boxes.tolist():
        stroke = _stroke(x0, y0, x1, y1)
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=SHADOW, width=stroke)
        for x in range(x0, x1, 2 * DASH):
            end = min(x + DASH, x1) - 1
            pen.rectangle((x, y0, end, y0 + stroke - 1), THUMBNAIL_COLOUR)
            pen.rectangle((x, y1 - stroke, end, y1 - 1), THUMBNAIL_COLOUR)
        for y in range(y0, y1, 2 * DASH):
            end = min(y + DASH, y1) - 1
            pen.rectangle((x0, y, x0 + stroke - 1, end), THUMBNAIL_COLOUR)
            pen.rectangle((x1 - stroke, y, x1 - 1, end), THUMBNAIL_COLOUR)


def _outline_answer(picture: Image.Image, boxes: Sequence[Box]) -> None:
    """Draws a thick line around each box, dark on both sides."""
    pen = ImageDraw.Draw(picture)
    size = np.tile(picture.size, 2)
    for box in boxes:
        x0, y0, x1, y1 = np.rint(np.array(box) * size).astype(int).tolist()
        for out, colour in ((2, SHADOW), (0, BOX_COLOUR)):
            around = (x0 - BOX_STROKE - out, y0 - BOX_STROKE - out, x1 + BOX_STROKE + out - 1)
            pen.rectangle((*around, y1 + BOX_STROKE + out - 1), None, colour, BOX_STROKE + 2 * out)


def _stroke(x0: int, y0: int, x1: int, y1: int) -> int:
    """Width of the line around a box, in pixels."""
    return 2 if min(x1 - x0, y1 - y0) >= 32 else 1


def _add_caption(picture: Image.Image, parts: list[_Part]) -> Image.Image:
    """The picture above a strip with the parts side by side, or below each other if too narrow."""
    size = round(max(picture.size) / 46)
    font = ImageFont.load_default(size=size)
    line_height, half = round(1.5 * size), size // 3
    placed: list[tuple[int, int, _Part]] = []  # x, line, part
    x, line, widest = size, 0, 0
    for part in parts:
        swatch, text = part
        width = round(font.getlength(text)) + (size if swatch else 0)
        if placed and x + width + size > picture.width:
            x, line = size, line + 1
        placed.append((x, line, part))
        widest = max(widest, x + width + size)
        x += width + 2 * size
    strip = (line + 1) * line_height + size
    canvas = Image.new("RGB", (max(picture.width, widest), picture.height + strip), STRIP_COLOUR)
    canvas.paste(picture, ((canvas.width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(canvas)
    for x, line, (swatch, text) in placed:
        y = picture.height + size // 2 + round((line + 0.5) * line_height)
        if swatch:
            pen.rectangle((x, y - half, x + 2 * half, y + half), outline=swatch, width=2)
        pen.text((x + size if swatch else x, y), text, TEXT_COLOUR, font, anchor="lm")
    return canvas

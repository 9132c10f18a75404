"""Pictures of a report: as the model saw them, small enough for one file."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2export.report.colours import Scale, colours_of
from d2export.report.data import Picture
from d2export.report.selections import Selections

LONG_SIDE = 720  # pixels
QUALITIES = (85, 75, 65, 50, 35)
LEVELS = 48  # of a heat map, so that it compresses well


def seen_picture(pixels: npt.NDArray[np.uint8], cut: Selections) -> Image.Image:
    """The picture put together again from its tiles, long side at most `LONG_SIDE`.

    Args:
        pixels: `[T, 3, S, S]`, the thumbnail last.

    Raises:
        ValueError: these are not the tiles that were cut.
    """
    size = pixels.shape[-1]
    blocks = pixels[: cut.columns * cut.rows].reshape(cut.rows, cut.columns, 3, size, size)
    canvas = blocks.transpose(0, 3, 1, 4, 2).reshape(cut.rows * size, cut.columns * size, 3)
    picture = Image.fromarray(np.ascontiguousarray(canvas))
    x0, y0, x1, y1 = cut.extent
    to_pixels = np.array([picture.width / (x1 - x0), picture.height / (y1 - y0)] * 2)
    width, height = cut.image_size
    box = np.array([-x0, -y0, width - x0, height - y0]) * to_pixels
    left, top, right, bottom = np.clip(box, 0, [*picture.size] * 2).tolist()
    scale = min(LONG_SIDE, max(right - left, bottom - top)) / max(width, height)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return picture.resize(target, Image.Resampling.LANCZOS, (left, top, right, bottom))


def jpeg(picture: Image.Image, most: int) -> bytes:
    """As JPEG, of the best quality that takes at most `most` bytes, or the poorest."""
    content = b""
    for quality in QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        content = file.getvalue()
        if len(content) <= most:
            break
    return content


def heat_maps(
    picture: Picture, values: npt.NDArray[np.float32], scale: Scale
) -> tuple[str, str | None]:
    """A pixel per token, as data URIs: of the tiles, and of the thumbnail if there is one."""
    side, columns, rows = picture.side, picture.columns, picture.rows
    tiles = values[: picture.in_tiles].reshape(rows, columns, side, side)
    whole = tiles.transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
    thumbnail = values[picture.in_tiles :].reshape(-1, side)
    return _coloured(whole, scale), _coloured(thumbnail, scale) if len(thumbnail) else None


def data_uri(content: bytes, kind: str) -> str:
    """`data:image/KIND;base64,...`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _coloured(values: npt.NDArray[np.float32], scale: Scale) -> str:
    levels = np.round(scale.places(values) * (LEVELS - 1)).astype(np.uint8)
    image = Image.fromarray(levels)  # of grey; with a palette, of colours
    image.putpalette(colours_of(np.linspace(0, 1, LEVELS)).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return data_uri(file.getvalue(), "png")

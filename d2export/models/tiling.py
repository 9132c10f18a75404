"""A picture becomes square tiles, and every visual token knows which part of it it saw.

InternVL2.5: the picture is stretched over the grid of tiles whose aspect ratio is nearest, cut
row by row, and followed by a thumbnail of the whole if there is more than one tile.
LLaVA-1.5: the picture is centred on a square of the mean colour, and that is the one tile.
Pixels equal those of the published preprocessing code of either model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from d2export.errors import ImageError
from d2export.models.presets import ImageSpec, VisionSpec

_BAND_PIXELS = 1 << 22  # of a padded picture held at a time: 16 MiB


@dataclass(frozen=True)
class Tiles:
    """The tiles of one picture, in the order the vision tower takes them.

    The canvas is the plane the tiles lie on side by side, measured in tokens:
    `columns * tokens_per_side` wide, `rows * tokens_per_side` high.

    Attributes:
        pixels: uint8 `[T, 3, S, S]`, RGB, not normalised; row by row, the thumbnail last.
        grid: float32 `[N, 2]`, centre (x, y) of each token on the canvas, `N = T *
            tokens_per_side²`, tile by tile and row by row within a tile. A thumbnail's tokens
            lie `columns` × `rows` times as far apart.
        columns: tiles side by side, the thumbnail not counted.
        rows: tiles above each other, the thumbnail not counted.
        tokens_per_side: visual tokens along one side of a tile.
        image_size: (width, height) of the picture in pixels.
        extent: x0, y0, x1, y1 of the canvas in pixels of the picture; outside it where it was
            padded.
    """

    pixels: NDArray[np.uint8]
    grid: NDArray[np.float32]
    columns: int
    rows: int
    tokens_per_side: int
    image_size: tuple[int, int]
    extent: tuple[int, int, int, int]

    @property
    def has_thumbnail(self) -> bool:
        """Whether the last tile shows the whole picture once more."""
        return len(self.pixels) > self.columns * self.rows


def tile(image: Image.Image, vision: VisionSpec) -> Tiles:
    """The tiles of a picture in mode RGB, as the model's published preprocessing cuts them.

    Raises:
        ImageError: the picture is not in mode RGB.
    """
    if image.mode != "RGB":
        raise ImageError(
            f"the image has mode '{image.mode}', expected 'RGB'",
            "Read it with load_image(), or pass image.convert('RGB').",
        )
    spec = vision.image
    columns, rows = _grid_of(image.size, spec)
    extent = (0, 0, *image.size)
    if spec.pad_to_square:
        pixels, extent = _pad(image, spec)
    else:
        pixels = _cut(image, columns, rows, spec.size)
    side = vision.tokens_per_side
    grid = token_grid(columns, rows, side)
    return Tiles(pixels, grid, columns, rows, side, image.size, extent)


def token_count(image_size: tuple[int, int], vision: VisionSpec) -> int:
    """How many visual tokens `tile` cuts a picture of (width, height) into."""
    columns, rows = _grid_of(image_size, vision.image)
    return _tile_count(columns, rows) * vision.tokens_per_tile


def choose_grid(width: int, height: int, size: int, max_tiles: int) -> tuple[int, int]:
    """(columns, rows), at most `max_tiles` together, for a picture and tiles of `size` pixels.

    InternVL's rule: the grid whose aspect ratio is nearest; among equally near ones, from few
    tiles to many, a later one wins if the picture has more than half its pixels.

    The published code walks a Python set sorted by number of tiles only, so grids of equally many
    tiles come in no defined order. It cannot matter: of two grids with `p` tiles and `i < k`
    columns, `i` columns by `p / k` rows are fewer tiles and of an aspect ratio between the two,
    hence nearer to anything the two are equally near to. Any order gives the published answer.
    """
    grids = [(i, j) for i in range(1, max_tiles + 1) for j in range(1, max_tiles // i + 1)]
    grids.sort(key=lambda grid: grid[0] * grid[1])

    def distance(grid: tuple[int, int]) -> float:
        return abs(width / height - grid[0] / grid[1])

    nearest = min(map(distance, grids))
    first, *later = (grid for grid in grids if distance(grid) == nearest)
    large_enough = [(i, j) for i, j in later if width * height > 0.5 * size * size * i * j]
    return large_enough[-1] if large_enough else first


def token_grid(columns: int, rows: int, tokens_per_side: int) -> NDArray[np.float32]:
    """Token centres (x, y) on the canvas, float32 `[N, 2]`, laid out as in `Tiles.grid`."""
    centre = np.arange(tokens_per_side, dtype=np.float32) + np.float32(0.5)
    one_tile = np.stack(np.meshgrid(centre, centre), axis=-1).reshape(-1, 2)
    row, column = np.divmod(np.arange(columns * rows), columns)
    corners = (np.stack([column, row], axis=-1) * tokens_per_side).astype(np.float32)
    grid: NDArray[np.float32] = (corners[:, None] + one_tile).reshape(-1, 2)
    if columns * rows > 1:
        thumbnail = one_tile * np.array([columns, rows], np.float32)
        grid = np.concatenate([grid, thumbnail])
    return grid


def token_boxes(tiles: Tiles) -> NDArray[np.float32]:
    """What each token saw: float32 `[N, 4]`, x0, y0, x1, y1 in pixels of the picture.

    Clipped to the picture: a token that saw nothing but padding has a box of no area.
    """
    half = np.full((len(tiles.grid), 2), 0.5)
    if tiles.has_thumbnail:
        half[-(tiles.tokens_per_side**2) :] *= (tiles.columns, tiles.rows)
    x0, y0, x1, y1 = tiles.extent
    canvas = np.array([tiles.columns, tiles.rows]) * tiles.tokens_per_side
    scale = np.array([x1 - x0, y1 - y0]) / canvas
    corners = np.stack([tiles.grid - half, tiles.grid + half], axis=1) * scale + (x0, y0)
    boxes: NDArray[np.float64] = np.clip(corners, 0, tiles.image_size).reshape(-1, 4)
    return boxes.astype(np.float32)


def normalize(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.float32]:
    """`(pixels / 255 - mean) / std` per channel: uint8 `[T, 3, S, S]` to float32, same shape.

    Each step is rounded to float32 as in torchvision's `ToTensor` and `Normalize`; the result is
    equal bit for bit.
    """
    out = pixels.astype(np.float32)
    out /= np.float32(255)
    out -= np.array(spec.mean, np.float32)[:, None, None]
    out /= np.array(spec.std, np.float32)[:, None, None]
    return out


def _grid_of(image_size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    return (1, 1) if spec.pad_to_square else choose_grid(*image_size, spec.size, spec.max_tiles)


def _tile_count(columns: int, rows: int) -> int:
    """With the thumbnail, which several tiles have."""
    count = columns * rows
    return count + (count > 1)


def _cut(image: Image.Image, columns: int, rows: int, size: int) -> NDArray[np.uint8]:
    """Tiles of the picture stretched over the grid, and its thumbnail if they are several."""
    count = columns * rows
    pixels = np.empty((_tile_count(columns, rows), 3, size, size), np.uint8)
    canvas = np.asarray(image.resize((columns * size, rows * size), Image.Resampling.BICUBIC))
    blocks = canvas.reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3)
    pixels[:count].reshape(blocks.shape)[...] = blocks
    if count > 1:
        thumbnail = image.resize((size, size), Image.Resampling.BICUBIC)
        pixels[count] = np.asarray(thumbnail).transpose(2, 0, 1)
    return pixels


def _pad(
    image: Image.Image, spec: ImageSpec
) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """The one tile of the picture centred on a mean-coloured square, and the square's extent.

    Pillow resizes along x, rounds, then resizes along y; doing the same in bands of rows gives
    the same pixels without holding the square, which for a long picture is up to 200 times it.
    """
    width, height = image.size
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    red, green, blue = (int(mean * 255) for mean in spec.mean)
    colour = (red, green, blue)
    narrow = Image.new("RGB", (spec.size, side), colour)
    step = max(1, _BAND_PIXELS // side)
    for y in range(0, height, step):
        below = min(y + step, height)
        band = Image.new("RGB", (side, below - y), colour)
        band.paste(image.crop((0, y, width, below)), (left, 0))
        band = band.resize((spec.size, below - y), Image.Resampling.BICUBIC)
        narrow.paste(band, (0, top + y))
    square = narrow.resize((spec.size, spec.size), Image.Resampling.BICUBIC)
    pixels = np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1)[None])
    return pixels, (-left, -top, side - left, side - top)

"""Tiles equal the published preprocessing pixel for pixel, and tokens know where they looked."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2export.errors import ImageError
from d2export.models.images import load_image
from d2export.models.presets import PRESETS, VisionSpec
from d2export.models.tiling import (
    choose_grid,
    normalize,
    tile,
    token_boxes,
    token_count,
    token_grid,
)

INTERNVL = PRESETS["internvl2.5-8b"].vision
LLAVA = PRESETS["llava-1.5-7b"].vision
POCKET = PRESETS["pocket"].vision

# Photographs and the grid InternVL cuts each into: 1, 7 and 13 tiles with the thumbnail.
PHOTOS = {"astronaut.png": (1, 1), "coffee.png": (3, 2), "coins.png": (4, 3)}


def photo(name: str) -> Image.Image:
    skimage = pytest.importorskip("skimage", reason="scikit-image, for its photographs")
    return load_image(Path(skimage.__file__).parent / "data" / name)


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


# --- The grid ---------------------------------------------------------------------------------


def published_grid(
    width: int, height: int, size: int, grids: list[tuple[int, int]]
) -> tuple[int, int]:
    """The rule as InternVL describes it, one candidate after the other in the order given."""
    best, best_distance = (1, 1), float("inf")
    for columns, rows in grids:
        distance = abs(width / height - columns / rows)
        covers = width * height > 0.5 * size * size * columns * rows
        if distance < best_distance or (distance == best_distance and covers):
            best, best_distance = (columns, rows), distance
    return best


def candidates(max_tiles: int, order: int) -> list[tuple[int, int]]:
    """All grids by number of tiles; those of equally many in the order a seed gives."""
    both = range(1, max_tiles + 1)
    grids = [(i, j) for i, j in itertools.product(both, both) if i * j <= max_tiles]
    np.random.default_rng(order).shuffle(grids)
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def half_way_sizes(max_tiles: int) -> list[tuple[int, int]]:
    """Sizes of an aspect ratio exactly between two neighbouring ones, small and large."""
    grids = sorted(candidates(max_tiles, 0), key=lambda grid: grid[0] / grid[1])
    sizes = []
    for (i, j), (k, m) in itertools.pairwise(grids):
        width, height = i * m + k * j, 2 * j * m
        sizes += [(width * scale, height * scale) for scale in (1, 7, 40, 100, 400)]
    return sizes


SWEEP = [
    *itertools.product(range(2, 3000, 97), range(2, 3000, 89)),
    *((side, side) for side in range(2, 2000, 3)),  # every square grid ties with (1, 1)
    *((20000, 100), (100, 20000), (1792, 1344), (1344, 1792), (4032, 3024)),
]


@pytest.mark.parametrize("max_tiles", [1, 2, 6, 12, 24, 40])
def test_the_grid_is_the_published_one_in_whatever_order_the_set_was(max_tiles: int) -> None:
    orders = [candidates(max_tiles, order) for order in range(4)]
    for size in [*SWEEP[:: 1 + max_tiles // 7], *half_way_sizes(max_tiles)]:
        found = choose_grid(*size, 448, max_tiles)
        assert [found] * 4 == [published_grid(*size, 448, grids) for grids in orders], size


def test_grids_of_equally_many_tiles_always_have_another_ratio_between_them() -> None:
    for max_tiles in range(2, 80):
        by_ratio: dict[float, set[int]] = {}
        for i, j in candidates(max_tiles, 0):
            by_ratio.setdefault(i / j, set()).add(i * j)
        for (_, here), (_, there) in itertools.pairwise(sorted(by_ratio.items())):
            assert not here & there


def test_the_grid_equals_that_of_the_transformers_library() -> None:
    library = pytest.importorskip(
        "transformers.models.got_ocr2.image_processing_pil_got_ocr2",
        reason="transformers >= 5, for its image processors that need no torchvision",
    )
    for width, height in [*SWEEP, *half_way_sizes(12)]:
        theirs = library.get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)
        assert choose_grid(width, height, 448, 12) == theirs, (width, height)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((512, 512), (1, 1)),  # 2x2 would need more than half of 896² pixels
        ((633, 633), (1, 1)),
        ((634, 634), (2, 2)),  # 634² > 448² · 4 / 2
        ((951, 951), (3, 3)),
        ((600, 400), (3, 2)),
        ((384, 303), (4, 3)),
        ((100, 20000), (1, 12)),
        ((20000, 100), (12, 1)),
        ((2, 2), (1, 1)),
    ],
)
def test_the_grid_of(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert choose_grid(*size, 448, 12) == grid


@pytest.mark.parametrize("vision", [INTERNVL, LLAVA, POCKET], ids=["internvl", "llava", "pocket"])
@pytest.mark.parametrize("size", [(448, 448), (633, 634), (600, 400), (30, 90)])
def test_tokens_are_counted_without_cutting(vision: VisionSpec, size: tuple[int, int]) -> None:
    assert token_count(size, vision) == len(tile(Image.new("RGB", size), vision).grid)


# --- Pixels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOS)
def test_internvl_tiles_are_crops_of_the_stretched_photograph(name: str) -> None:
    image, (columns, rows) = photo(name), PHOTOS[name]
    stretched = image.resize((448 * columns, 448 * rows))
    expected = [
        stretched.crop((448 * c, 448 * r, 448 * c + 448, 448 * r + 448))
        for r in range(rows)
        for c in range(columns)
    ]
    expected += [image.resize((448, 448))] if len(expected) > 1 else []
    tiles = tile(image, INTERNVL)
    assert (tiles.columns, tiles.rows, tiles.image_size) == (columns, rows, image.size)
    assert tiles.has_thumbnail == (columns * rows > 1)
    assert tiles.pixels.dtype == np.uint8
    assert tiles.pixels.flags.c_contiguous
    assert len(tiles.pixels) == {"astronaut.png": 1, "coffee.png": 7, "coins.png": 13}[name]
    assert np.array_equal(tiles.pixels, [np.asarray(crop).transpose(2, 0, 1) for crop in expected])


@pytest.mark.parametrize("name", [*PHOTOS, "noise"])
def test_internvl_pixel_values_equal_those_of_the_transformers_library(name: str) -> None:
    library = pytest.importorskip(
        "transformers.models.got_ocr2.image_processing_pil_got_ocr2",
        reason="transformers >= 5, for its image processors that need no torchvision",
    )
    spec = INTERNVL.image
    processor = library.GotOcr2ImageProcessorPil(
        size={"height": 448, "width": 448},
        image_mean=spec.mean,
        image_std=spec.std,
        crop_to_patches=True,
        max_patches=spec.max_tiles,
    )
    image = noise(1301, 977) if name == "noise" else photo(name)
    theirs = processor(image, return_tensors="np")["pixel_values"]
    ours = normalize(tile(image, INTERNVL).pixels, spec)
    assert ours.dtype == theirs.dtype == np.float32
    assert np.array_equal(ours, theirs)


def on_a_square(image: Image.Image) -> Image.Image:
    """LLaVA's published padding, the square held in full."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), (122, 116, 104))  # int(255 * CLIP's mean)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


@pytest.mark.parametrize(
    "size", [(600, 400), (400, 600), (336, 336), (33, 34), (2, 3), (2000, 3001), (3000, 15)]
)
def test_llava_pads_to_a_square_of_the_mean_colour(size: tuple[int, int]) -> None:
    image = noise(*size)
    expected = np.asarray(on_a_square(image).resize((336, 336), Image.Resampling.BICUBIC))
    tiles = tile(image, LLAVA)
    assert (tiles.columns, tiles.rows, tiles.has_thumbnail) == (1, 1, False)
    assert np.array_equal(tiles.pixels, expected.transpose(2, 0, 1)[None])


def test_the_square_around_a_very_long_picture_is_never_held() -> None:
    pixels = tile(Image.new("RGB", (60_000, 300), (9, 9, 9)), LLAVA).pixels  # a square of 13 GiB
    assert (pixels == pixels[..., :1]).all()  # the same in every column
    assert pixels[0, :, 160, 0].tolist() == [122, 116, 104]  # padding, as published
    assert (pixels[0, :, 167:169, 0] < 80).all()  # 1.7 rows of picture


@pytest.mark.parametrize("name", PHOTOS)
def test_llava_pixel_values_equal_those_of_the_transformers_library(name: str) -> None:
    reason = "transformers >= 5, for its image processors that need no torchvision"
    clip = pytest.importorskip("transformers.models.clip.image_processing_pil_clip", reason=reason)
    llava = pytest.importorskip(
        "transformers.models.llava.image_processing_pil_llava", reason=reason
    )
    size = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    image = photo(name)
    ours = normalize(tile(image, LLAVA).pixels, LLAVA.image)
    padded_by_us = clip.CLIPImageProcessorPil(**size)(on_a_square(image), return_tensors="np")
    padded_by_them = llava.LlavaImageProcessorPil(**size, do_pad=True)(image, return_tensors="np")
    assert np.array_equal(ours, padded_by_us["pixel_values"])
    assert np.array_equal(ours, padded_by_them["pixel_values"])


# --- Normalisation ----------------------------------------------------------------------------

EVERY_VALUE = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (1, 3, 16, 16))


@pytest.mark.parametrize("vision", [INTERNVL, LLAVA], ids=["internvl", "llava"])
def test_normalize_equals_torchvisions_steps_bit_for_bit(vision: VisionSpec) -> None:
    torch = pytest.importorskip("torch")
    mean, std = (
        torch.as_tensor(numbers, dtype=torch.float32).view(3, 1, 1)
        for numbers in (vision.image.mean, vision.image.std)
    )
    steps = torch.tensor(EVERY_VALUE).to(torch.float32).div(255).sub(mean).div(std)
    ours = normalize(EVERY_VALUE, vision.image)
    assert ours.dtype == np.float32
    assert np.array_equal(ours.view(np.uint32), steps.numpy().view(np.uint32))


@pytest.mark.parametrize("vision", [INTERNVL, LLAVA], ids=["internvl", "llava"])
def test_the_other_ways_to_rescale_differ_in_the_last_bits_only(vision: VisionSpec) -> None:
    ours = normalize(EVERY_VALUE, vision.image)
    mean, std = (
        np.array(numbers, np.float32).reshape(3, 1, 1)
        for numbers in (vision.image.mean, vision.image.std)
    )
    # transformers with PIL: times 1/255 in float64, then rounded to float32: the same number.
    in_double = (EVERY_VALUE.astype(np.float64) * (1 / 255)).astype(np.float32)
    assert np.array_equal(ours, (in_double - mean) / std)
    # transformers with torchvision: rescale folded into the mean and standard deviation.
    folded = (EVERY_VALUE.astype(np.float32) - mean * np.float32(255)) / (std * np.float32(255))
    assert 0 < np.abs(ours - folded).max() < 5e-7
    # Times 1/255 in float32.
    in_single = EVERY_VALUE.astype(np.float32) * np.float32(1 / 255)
    assert 0 < np.abs(ours - (in_single - mean) / std).max() < 1e-6


# --- Tokens -----------------------------------------------------------------------------------


def test_a_single_tile_has_its_tokens_row_by_row() -> None:
    grid = token_grid(1, 1, 16)
    assert grid.shape == (256, 2)
    assert grid.dtype == np.float32
    assert grid[[0, 1, 16, 255]].tolist() == [[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [15.5, 15.5]]


def test_tiles_lie_side_by_side_and_the_thumbnail_over_all_of_them() -> None:
    grid = token_grid(columns=3, rows=2, tokens_per_side=16)
    assert grid.shape == (7 * 256, 2)
    by_tile = grid.reshape(7, 16, 16, 2)  # tile, y, x
    assert by_tile[2, 0, 0].tolist() == [32.5, 0.5]
    assert by_tile[3, 0, 0].tolist() == [0.5, 16.5]
    assert by_tile[5, 4, 9].tolist() == [32 + 9.5, 16 + 4.5]
    assert by_tile[6, 0, 0].tolist() == [1.5, 1.0]
    assert by_tile[6, 4, 9].tolist() == [9.5 * 3, 4.5 * 2]
    assert by_tile[6, 15, 15].tolist() == [46.5, 31.0]


@pytest.mark.parametrize(
    ("vision", "tokens"), [(INTERNVL, 7 * 256), (POCKET, 7 * 256), (LLAVA, 576)]
)
def test_every_token_of_the_vision_tower_has_a_place(vision: VisionSpec, tokens: int) -> None:
    tiles = tile(noise(600, 400), vision)
    assert tiles.grid.shape == (tokens, 2)
    assert len(tiles.pixels) * vision.tokens_per_tile == tokens


def test_token_boxes_of_tiles_and_thumbnail_in_picture_pixels() -> None:
    boxes = token_boxes(tile(noise(600, 400), INTERNVL))  # 3 x 2 tiles: 48 x 32 tokens
    assert boxes.shape == (1792, 4)
    assert boxes.dtype == np.float32
    assert boxes[0].tolist() == [0, 0, 12.5, 12.5]
    assert boxes[5 * 256 + 255].tolist() == [587.5, 387.5, 600, 400]
    assert boxes[6 * 256].tolist() == [0, 0, 37.5, 25]
    assert boxes[-1].tolist() == [562.5, 375, 600, 400]


@pytest.mark.parametrize(
    ("size", "extent"), [((600, 400), (0, -100, 600, 500)), ((401, 600), (-99, 0, 501, 600))]
)
def test_token_boxes_leave_out_the_padding(
    size: tuple[int, int], extent: tuple[int, int, int, int]
) -> None:
    tiles = tile(noise(*size), LLAVA)
    assert tiles.extent == extent
    boxes = token_boxes(tiles)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert area.sum() == size[0] * size[1]
    if size == (600, 400):  # 25 pixels a token, four rows of padding above and below
        assert boxes[3 * 24].tolist() == [0, 0, 25, 0]
        assert boxes[4 * 24 + 1].tolist() == [25, 0, 50, 25]
        assert (area > 0).sum() == 16 * 24


@pytest.mark.parametrize("vision", [INTERNVL, POCKET, LLAVA], ids=["internvl", "pocket", "llava"])
@pytest.mark.parametrize("size", [(600, 400), (303, 384), (500, 500), (97, 1200)])
def test_a_light_in_a_tokens_box_is_seen_by_that_token(
    vision: VisionSpec, size: tuple[int, int]
) -> None:
    boxes = token_boxes(tile(Image.new("RGB", size), vision))
    side = vision.tokens_per_side
    # A box of fewer pixels would be blurred over its neighbours.
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= 4).all(axis=1))
    for token in np.random.default_rng(2).choice(large, 10, replace=False):
        x0, y0, x1, y1 = np.rint(boxes[token]).astype(int)
        dark = np.zeros((size[1], size[0], 3), np.uint8)
        dark[y0:y1, x0:x1] = 255
        tiles = tile(Image.fromarray(dark), vision)
        edge = vision.image.size // side
        seen = tiles.pixels.mean(axis=1).reshape(-1, side, edge, side, edge).mean(axis=(2, 4))
        if vision is LLAVA:  # the padding is not dark
            seen = np.where(boxes[:, 3] > boxes[:, 1], seen.ravel(), 0)
            seen = np.where(boxes[:, 2] > boxes[:, 0], seen, 0)
        its_tile = slice(token // side**2 * side**2, (token // side**2 + 1) * side**2)
        assert seen.ravel()[its_tile].argmax() == token % side**2


def test_one_tile_at_most_stretches_the_picture_and_adds_no_thumbnail() -> None:
    one = replace(INTERNVL, image=replace(INTERNVL.image, max_tiles=1))
    image = noise(600, 400)
    tiles = tile(image, one)
    assert not tiles.has_thumbnail
    assert np.array_equal(tiles.pixels[0].transpose(1, 2, 0), np.asarray(image.resize((448, 448))))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_a_picture_that_is_not_rgb_is_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=rf"has mode '{mode}', expected 'RGB'\n  Read it with"):
        tile(Image.new(mode, (50, 40)), INTERNVL)

"""What `load_image` reads, what it makes of each kind of picture, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from d2export.errors import ImageError
from d2export.models.images import load_image

RNG = np.random.default_rng(0)
COLOURS = Image.fromarray(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8))


def pixels(path: Path) -> np.ndarray:
    image = load_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "png"),
        ("RGB", "jpg"),
        ("RGB", "webp"),
        ("RGB", "tif"),
        ("RGB", "bmp"),
        ("RGB", "ppm"),
        ("RGB", "gif"),
        ("P", "png"),
        ("L", "png"),
        ("L", "jpg"),
        ("1", "png"),
        ("CMYK", "jpg"),
        ("CMYK", "tif"),
    ],
)
def test_plain_pictures_equal_the_published_conversion(
    tmp_path: Path, mode: str, suffix: str
) -> None:
    path = tmp_path / f"picture.{suffix}"
    COLOURS.convert(mode).save(path)
    assert (pixels(path) == np.asarray(Image.open(path).convert("RGB"))).all()


def test_the_name_may_be_a_string_and_need_not_tell_the_format(tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"
    COLOURS.save(path, "PNG")
    assert (np.asarray(load_image(str(path))) == np.asarray(COLOURS)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_camera_held_sideways_is_turned_upright(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"camera.{suffix}"
    COLOURS.save(path, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    assert upright.size == ((60, 40) if orientation < 5 else (40, 60))
    assert (pixels(path) == np.asarray(upright)).all()


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[0] = (200, 100, 50, 255)  # opaque: unchanged
    rgba[1] = (0, 0, 0, 0)  # hidden black: what a viewer shows is the page
    rgba[1, 2] = (0, 0, 0, 51)  # a fifth of black over white
    Image.fromarray(rgba).save(tmp_path / "logo.png")
    expected = [[[200, 100, 50]] * 3, [[255] * 3, [255] * 3, [204] * 3]]
    assert pixels(tmp_path / "logo.png").tolist() == expected


def test_a_transparent_palette_or_grey_colour_is_white(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "icon.gif", transparency=1)
    assert pixels(tmp_path / "icon.gif")[0, :2].tolist() == [[10, 20, 30], [255] * 3]

    grey = Image.new("LA", (2, 2), (0, 0))
    grey.save(tmp_path / "grey.png")
    assert (pixels(tmp_path / "grey.png") == 255).all()

    key = Image.new("RGB", (2, 2), (1, 2, 3))
    key.putpixel((1, 1), (9, 9, 9))
    key.save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert pixels(tmp_path / "key.png")[1].tolist() == [[255] * 3, [9] * 3]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan.{suffix}"
    Image.fromarray(np.array([[0, 255, 256], [257, 0x8000, 0xFFFF]], np.uint16)).save(path)
    assert pixels(path)[:, :, 0].tolist() == [[0, 0, 1], [1, 128, 255]]


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    first.save(path, save_all=True, append_images=[second])
    assert pixels(path)[0, 0].tolist() == [255, 0, 0]


def refusal(path: Path) -> str:
    """The one-line problem with a file; its hint must be there as well."""
    with pytest.raises(ImageError) as raised:
        load_image(path)
    assert str(path) in raised.value.problem
    assert "\n" not in raised.value.problem
    assert raised.value.hint
    return raised.value.problem.replace(str(path), "FILE")


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.png") == "FILE does not exist"
    assert refusal(tmp_path) == "FILE is a folder, expected an image file"
    (tmp_path / "empty.png").touch()
    assert refusal(tmp_path / "empty.png" / "inside") == "FILE does not exist"
    assert refusal(tmp_path / "empty.png").startswith("FILE is empty, expected one of BMP, GIF")


def test_a_file_that_is_no_image_is_named_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    assert refusal(tmp_path / "notes.png").startswith("FILE (13 bytes) is not an image")


def test_postscript_is_not_run(tmp_path: Path) -> None:
    COLOURS.save(tmp_path / "drawing.eps")
    assert "is not an image" in refusal(tmp_path / "drawing.eps")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "bmp", "ppm"])
def test_a_file_cut_in_half_is_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half.{suffix}"
    COLOURS.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert re.match(r"FILE (is damaged or incomplete|\(\d+ bytes\)|has a damaged)", refusal(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "bmp", "ppm"])
def test_damage_of_any_kind_is_an_image_error_or_still_a_picture(
    tmp_path: Path, suffix: str
) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / f"damaged.{suffix}"
    COLOURS.save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(0, min(400, len(whole)), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            assert load_image(path).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("limit", [1500, 1000])  # Pillow warns up to twice its limit, then raises
def test_a_decompression_bomb_is_refused_by_pillows_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    COLOURS.save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert refusal(tmp_path / "bomb.png") == f"FILE has 2400 pixels, expected at most {limit}"


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_a_side_of_one_pixel_is_too_small(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "dot.png")
    found = f"{size[0]}x{size[1]}"
    assert refusal(tmp_path / "dot.png") == f"FILE is {found} pixels, expected at least 2x2"


def test_two_by_two_pixels_are_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (7, 8, 9)).save(tmp_path / "small.png")
    assert pixels(tmp_path / "small.png").tolist() == [[[7, 8, 9]] * 2] * 2


def test_a_picture_longer_than_200_to_1_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (20000, 10)).save(tmp_path / "strip.png")
    expected = "FILE is 20000x10 pixels, expected sides of at most 200:1"
    assert refusal(tmp_path / "strip.png") == expected
    Image.new("RGB", (3, 601)).save(tmp_path / "tall.png")
    assert "3x601" in refusal(tmp_path / "tall.png")
    Image.new("RGB", (3, 600)).save(tmp_path / "longest.png")
    assert load_image(tmp_path / "longest.png").size == (3, 600)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_samples_without_a_fixed_range_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.full((4, 4), 70000, dtype)).save(tmp_path / "depth.tif")
    assert "which have no fixed range, expected 8 or 16 bits" in refusal(tmp_path / "depth.tif")

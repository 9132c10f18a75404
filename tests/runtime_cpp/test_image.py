"""Pictures in C++ against Pillow and d2export.models.tiling: the same numbers to the last bit."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

from d2export.errors import ImageError
from d2export.models.images import load_image
from d2export.models.presets import preset
from d2export.models.tiling import normalize, tile
from tests.runtime_cpp.pictures import Refusal, decode, prepare, read

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (97, 131, 3), dtype=np.uint8))
SMOOTH = Image.fromarray(RNG.integers(0, 256, (9, 13, 3), dtype=np.uint8)).resize((331, 247))

# Before, the pass along x came first for every picture.
of_pillow_13 = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13,
    reason="Pillow is older than 13: its thumbnails of tall pictures differ by 1 here and there",
)

VISIONS = {
    "internvl": preset("internvl2.5-1b").vision,
    "llava": preset("llava-1.5-7b").vision,
}


def same_as_python(path: Path) -> NDArray[np.uint8]:
    """The pixels of the file, which both sides read alike."""
    found, expected = read(path), np.asarray(load_image(path))
    assert found.shape == expected.shape
    assert (found == expected).all()
    return found


# What a vision graph takes


@of_pillow_13
@pytest.mark.parametrize("model", VISIONS)
@pytest.mark.parametrize(
    "sides",
    [(2, 2), (28, 28), (448, 448), (336, 336), (640, 480), (480, 640), (1280, 720), (97, 1500),
     (1500, 97), (3, 600), (600, 3), (896, 448), (337, 335)],
    ids=lambda sides: f"{sides[0]}x{sides[1]}",
)  # fmt: skip
def test_tiles_and_grid(model: str, sides: tuple[int, int]) -> None:
    vision = VISIONS[model]
    image = NOISE.resize(sides, Image.Resampling.NEAREST)
    expected = tile(image, vision)
    pixels, grid = prepare(np.asarray(image), vision)
    assert pixels.shape == expected.pixels.shape
    assert pixels.tobytes() == normalize(expected.pixels, vision.image).tobytes()
    assert grid.tobytes() == expected.grid.tobytes()


@of_pillow_13
def test_tiles_of_any_sides() -> None:
    """Small tiles, so that many pictures take a second."""
    base = VISIONS["internvl"]
    for _ in range(300):
        size, max_tiles = int(RNG.integers(1, 7)) * 4, int(RNG.integers(1, 13))
        spec = replace(base.image, size=size, max_tiles=max_tiles, pad_to_square=RNG.random() < 0.3)
        vision = replace(base, image=spec, patch=2, downsample=2)
        image = SMOOTH.resize(tuple(map(int, RNG.integers(2, 200, 2))))
        expected = tile(image, vision)
        pixels, grid = prepare(np.asarray(image), vision)
        assert pixels.tobytes() == normalize(expected.pixels, spec).tobytes(), image.size
        assert grid.tobytes() == expected.grid.tobytes(), image.size


# JPEG


@pytest.mark.parametrize("quality", [10, 75, 95, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_jpeg(tmp_path: Path, quality: int, subsampling: str, progressive: bool) -> None:
    """Equal, not nearly so: Pillow decodes with libjpeg-turbo too."""
    for image in (NOISE, SMOOTH, SMOOTH.crop((0, 0, 33, 17)), SMOOTH.crop((0, 0, 2, 3))):
        path = tmp_path / "picture.jpg"
        image.save(path, quality=quality, subsampling=subsampling, progressive=progressive)
        same_as_python(path)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_other_colours(tmp_path: Path, mode: str) -> None:
    NOISE.convert(mode).save(tmp_path / "picture.jpg")
    same_as_python(tmp_path / "picture.jpg")


# PNG


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P", "I;16"])
def test_png(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(RNG.integers(0, 1 << 16, (40, 60), dtype=np.uint16))
    elif mode in ("RGBA", "LA"):
        rgba = Image.fromarray(RNG.integers(0, 256, (40, 60, 4), dtype=np.uint8), "RGBA")
        image = rgba if mode == "RGBA" else rgba.convert("LA")
    else:
        image = NOISE.convert(mode)
    image.save(tmp_path / "picture.png")
    same_as_python(tmp_path / "picture.png")


GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
DEPTHS = {
    GREY: (1, 2, 4, 8, 16), COLOUR: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16),
    COLOUR_ALPHA: (8, 16),
}  # fmt: skip
KINDS = [(kind, bits) for kind, depths in DEPTHS.items() for bits in depths]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(kind: int, bits: int, rows: NDArray[np.uint8], width: int, extra: bytes = b"") -> bytes:
    """A file of its own making: Pillow writes but few of the kinds it reads."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    magic = b"\x89PNG\r\n\x1a\n"
    return magic + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "bits"), KINDS)
@pytest.mark.parametrize("transparent", [False, True])
def test_png_of_every_kind(tmp_path: Path, kind: int, bits: int, transparent: bool) -> None:
    """With the oddities of Pillow's transparent colours at 2, 4 and 16 bits."""
    width, height = 24, 9
    rows = RNG.integers(0, 256, (height, width * CHANNELS[kind] * bits // 8), dtype=np.uint8)
    extra = b""
    if kind == PALETTE:
        extra = chunk(b"PLTE", RNG.integers(0, 256, 3 << min(bits, 7), dtype=np.uint8).tobytes())
    if transparent:
        if kind == PALETTE:
            extra += chunk(b"tRNS", RNG.integers(0, 256, 1 << (bits - 1), dtype=np.uint8).tobytes())
        else:
            # Of the first pixel, as the file stores it: 2 bytes a channel.
            first = rows[0, : max(1, CHANNELS[kind] * bits // 8)].tobytes()
            low = first if bits == 16 else b"".join(bytes([0, value]) for value in first)
            extra += chunk(b"tRNS", low)
    path = tmp_path / "picture.png"
    path.write_bytes(png(kind, bits, rows, width, extra))
    if transparent and kind in (GREY_ALPHA, COLOUR_ALPHA):
        assert (read(path) == np.asarray(load_image(path))).all()  # it has none to add
    same_as_python(path)


@pytest.mark.parametrize("key", [0, 0x12, 0x34, 0x1234, 0xFF, 0x100, 0xFFFF])
def test_a_transparent_colour_of_sixteen_bits(tmp_path: Path, key: int) -> None:
    values = np.array([[0, 255, 256, 0x1234], [0x12, 0x34, 0xFFFF, 0x3412]], ">u2")
    path = tmp_path / "picture.png"
    path.write_bytes(
        png(GREY, 16, values.view(np.uint8), 4, chunk(b"tRNS", struct.pack(">H", key)))
    )
    same_as_python(path)


def test_interlaced_png(tmp_path: Path) -> None:
    """Adam7, of a picture that is one tile of the pattern: each pass is a few pixels."""
    pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1)]  # fmt: skip
    data = b"".join(
        b"\0" + row.tobytes() for y, x, down, right in passes for row in pixels[y::down, x::right]
    )
    header = struct.pack(">IIBBBBB", 8, 8, 8, COLOUR, 0, 0, 1)
    path = tmp_path / "picture.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )  # fmt: skip
    assert (same_as_python(path) == pixels).all()


# Which way up


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_orientation_in_exif(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    NOISE.save(tmp_path / f"camera.{suffix}", exif=exif)
    pixels = same_as_python(tmp_path / f"camera.{suffix}")
    assert pixels.shape[:2] == ((131, 97) if 5 <= orientation <= 8 else (97, 131))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 7, 8, 9, 13])
@pytest.mark.parametrize("count", [0, 1, 3, 1 << 30])
@pytest.mark.filterwarnings("ignore")
def test_types_of_the_tag(tmp_path: Path, order: str, kind: int, count: int) -> None:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    value = struct.pack(order + "HH", 6, 0) if kind in (3, 8) else struct.pack(order + "I", 6)
    width = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 8: 2, 9: 4, 13: 4}[kind]
    if count * width > 4:
        value = struct.pack(order + "I", 26)
    entry = struct.pack(order + "HHHI", 1, 274, kind, count) + value + bytes(4)
    several = struct.pack(order + ("3H" if width == 2 else "3I"), 8, 1, 1)
    NOISE.save(tmp_path / "camera.jpg", exif=b"Exif\0\0" + head + entry + several)
    same_as_python(tmp_path / "camera.jpg")


@pytest.mark.parametrize(
    "packet",
    ['<x tiff:Orientation="6"/>', "<tiff:Orientation>8</tiff:Orientation>", "tiff:Orientation=3",
     'tiff:Orientation="x" tiff:Orientation="5"', ""],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_orientation_in_xmp(tmp_path: Path, packet: str, suffix: str) -> None:
    buffer = io.BytesIO()
    NOISE.save(buffer, "PNG" if suffix == "png" else "JPEG")
    whole = buffer.getvalue()
    path = tmp_path / f"edited.{suffix}"
    if suffix == "png":
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet.encode())
        path.write_bytes(whole[:33] + text + whole[33:])
    else:
        block = b"http://ns.adobe.com/xap/1.0/\0" + packet.encode()
        marker = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
        path.write_bytes(whole[:2] + marker + whole[2:])
    same_as_python(path)


def test_exif_as_text_in_png(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    buffer = io.BytesIO()
    NOISE.save(buffer, "PNG")
    whole = buffer.getvalue()
    path = tmp_path / "magick.png"
    for name, data in (("tEXt", text), ("zTXt", b"\0" + zlib.compress(text))):
        block = chunk(name.encode(), b"Raw profile type exif\0" + data)
        path.write_bytes(whole[:33] + block + whole[33:])
        assert same_as_python(path).shape == (131, 97, 3)


# What is refused


def refusal(data: bytes) -> str:
    with pytest.raises(Refusal) as raised:
        decode(data)
    problem, hint = str(raised.value).split("\n")
    assert hint.endswith(".")
    return problem


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "none.png", "none.png does not exist"),
        (tmp_path, "is a folder, expected an image file"),
    ):
        with pytest.raises(Refusal, match=words):
            read(path)
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(Refusal, match=r"notes.png: the picture \(13 bytes\) is neither PNG nor"):
        read(tmp_path / "notes.png")
    assert refusal(b"") == "the picture is empty, expected PNG or JPEG"


@pytest.mark.parametrize("sides", [(1, 1), (1, 50), (50, 1), (3, 601), (2020, 10)])
def test_sides(tmp_path: Path, sides: tuple[int, int]) -> None:
    for suffix in ("png", "jpg"):
        path = tmp_path / f"picture.{suffix}"
        Image.new("RGB", sides).save(path)
        with pytest.raises(ImageError) as expected:
            load_image(path)
        found = refusal(path.read_bytes())
        assert found == "the picture" + expected.value.problem.removeprefix(str(path))


def test_thirty_thousand_pixels_a_side_are_refused_before_memory_is_taken() -> None:
    claim = png(COLOUR, 8, np.zeros((1, 3), np.uint8), 1)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, COLOUR, 0, 0, 0))
    expected = "the picture is 30000x30000 pixels, expected at most 89478485"
    assert refusal(claim[:8] + header + claim[33:]) == expected
    buffer = io.BytesIO()
    NOISE.save(buffer, "JPEG")
    whole = buffer.getvalue()
    at = whole.index(b"\xff\xc0") + 5
    assert refusal(whole[:at] + struct.pack(">HH", 30000, 30000) + whole[at + 4 :]) == expected


@pytest.mark.parametrize("suffix", ["PNG", "JPEG"])
def test_a_file_cut_anywhere_is_damaged(suffix: str) -> None:
    buffer = io.BytesIO()
    SMOOTH.save(buffer, suffix)
    whole = buffer.getvalue()
    tail = 16 if suffix == "PNG" else 4  # checksum and end marker, which nobody misses
    for length in [*range(1, 700, 7), len(whole) // 2, len(whole) - tail]:
        assert "the picture" in refusal(whole[:length])


@pytest.mark.parametrize("suffix", ["PNG", "JPEG"])
@pytest.mark.filterwarnings("ignore")
def test_damage_is_refused_or_read_as_python_reads_it(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    NOISE.save(buffer, suffix)
    whole = np.frombuffer(buffer.getvalue(), np.uint8)
    path, both, refused = tmp_path / "damaged", 0, 0
    for _ in range(200):
        damaged = whole.copy()
        damaged[RNG.integers(0, min(1200, len(whole)), 3)] = RNG.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            found = read(path)
        except Refusal:
            refused += 1
            continue
        try:
            expected = np.asarray(load_image(path))
        except ImageError:
            continue
        assert found.shape == expected.shape
        assert (found == expected).all()
        both += 1
    assert refused > 5
    assert both > 5 or suffix == "PNG"  # whose every part has a checksum


def test_an_image_that_lies_about_its_sides() -> None:
    with pytest.raises(Refusal, match="the image is 0x0 pixels and has 0 bytes, expected sides"):
        prepare(np.zeros((0, 0, 3), np.uint8), VISIONS["llava"])

"""`<d2export/image.h>` of the C++ runtime, called through plain C."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import Structure, byref, c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2export.models.presets import VisionSpec
from tests.runtime_cpp.drivers import build

REASON = 1000  # bytes of the driver's `why`
MAX_PIXELS = 1 << 22  # of the pictures in these tests
MAX_TILES = 13


class Refusal(Exception):
    """What the runtime threw: the problem, and the hint on the next line."""


class _VisionSpec(Structure):
    _fields_ = [
        ("size", c_int64),
        ("mean", c_double * 3),
        ("std", c_double * 3),
        ("max_tiles", c_int64),
        ("pad_to_square", c_bool),
        ("patch", c_int64),
        ("downsample", c_int64),
    ]


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build("image_driver")))
    for name in ("image_read", "image_decode", "image_prepare"):
        getattr(library, name).restype = c_bool
    return library


def read(path: Path) -> NDArray[np.uint8]:
    """`[H, W, 3]`, the picture in a file."""
    return _decoded(lambda *out: _library().image_read(str(path).encode(), *out))


def decode(data: bytes) -> NDArray[np.uint8]:
    """`[H, W, 3]`, the picture in the bytes of a file."""
    return _decoded(lambda *out: _library().image_decode(c_char_p(data), c_size_t(len(data)), *out))


def _decoded(call: Callable[..., bool]) -> NDArray[np.uint8]:
    pixels = np.empty(MAX_PIXELS * 3, np.uint8)
    sides, why = (c_int * 2)(), ctypes.create_string_buffer(REASON)
    if not call(c_void_p(pixels.ctypes.data), c_size_t(pixels.size), sides, why):
        raise Refusal(why.value.decode())
    width, height = sides
    assert width * height <= MAX_PIXELS
    return pixels[: width * height * 3].reshape(height, width, 3).copy()


def prepare(
    image: NDArray[np.uint8], vision: VisionSpec
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`[T, 3, S, S]` and `[N, 2]`: a picture `[H, W, 3]` as a vision graph takes it."""
    spec = vision.image
    settings = _VisionSpec(
        spec.size, spec.mean, spec.std, spec.max_tiles, spec.pad_to_square,
        vision.patch, vision.downsample,
    )  # fmt: skip
    pixels = np.empty((MAX_TILES, 3, spec.size, spec.size), np.float32)
    grid = np.empty((MAX_TILES * vision.tokens_per_tile, 2), np.float32)
    counts, why = (c_int64 * 2)(), ctypes.create_string_buffer(REASON)
    height, width = image.shape[:2]
    image = np.ascontiguousarray(image)
    succeeded = _library().image_prepare(
        c_void_p(image.ctypes.data), c_size_t(image.size), c_int(width), c_int(height),
        byref(settings),
        c_void_p(pixels.ctypes.data), c_size_t(pixels.size),
        c_void_p(grid.ctypes.data), c_size_t(grid.size),
        counts, why,
    )  # fmt: skip
    if not succeeded:
        raise Refusal(why.value.decode())
    return pixels[: counts[0]], grid[: counts[1] // 2]

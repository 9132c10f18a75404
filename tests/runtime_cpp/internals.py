"""Parts of the C++ runtime that programs do not see, called through plain C."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_double, c_float, c_int64, c_size_t, c_uint16, c_uint64
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.runtime_cpp.drivers import build

TEXT = 1 << 20  # bytes of an answer in words


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build("runtime_driver")))
    library.driver_float16.restype = c_float
    return library


def refusal(manifest: str) -> str | None:
    """Why the text of a manifest is refused; None if it is accepted."""
    return _asked("driver_manifest", manifest)[1] or None


def canonical(document: str) -> str | None:
    """The canonical text of a JSON document; None if it is refused."""
    accepted, text = _asked("driver_canonical", document)
    return text if accepted else None


def _asked(function: str, text: str) -> tuple[bool, str]:
    out = ctypes.create_string_buffer(TEXT)
    data = text.encode("utf-8", "surrogatepass")
    status = getattr(_library(), function)(c_char_p(data), c_size_t(len(data)), out, c_size_t(TEXT))
    assert status in (0, 2)
    return status == 0, out.value.decode()


def sha256(data: bytes) -> str:
    out = ctypes.create_string_buffer(65)
    _library().driver_sha256(c_char_p(data), c_size_t(len(data)), out)
    return out.value.decode()


def uniform(seed: int, count: int) -> NDArray[np.float64]:
    """Draws of the generator, from 0 and below 1."""
    drawn = np.empty(count)
    out = drawn.ctypes.data_as(ctypes.POINTER(c_double))
    _library().driver_uniform(c_uint64(seed), out, c_size_t(count))
    return drawn


def float16(bits: int) -> float:
    return float(_library().driver_float16(c_uint16(bits)))


def pick(
    logits: NDArray[np.float32],
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    draws: int = 1,
) -> list[int] | None:
    """Tokens drawn from the same logits again and again; None if they are refused."""
    found = np.empty(draws, np.int64)
    status = _library().driver_pick(
        logits.ctypes.data_as(ctypes.POINTER(c_float)), c_int64(len(logits)), c_double(temperature),
        c_int64(top_k), c_double(top_p), c_uint64(seed),
        found.ctypes.data_as(ctypes.POINTER(c_int64)), c_size_t(draws),
    )  # fmt: skip
    return [int(token) for token in found] if status == 0 else None

"""The tokenizer of the C++ runtime, called through plain C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import Structure, byref, c_char_p, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.runtime_cpp.drivers import build
from tests.runtime_cpp.pictures import REASON, Refusal

ROOM = 1 << 20


class _List(Structure):
    _fields_ = [("values", c_void_p), ("room", c_int64), ("length", c_int64)]


class _Numbers:
    """Room for a list that the driver fills."""

    def __init__(self, room: int) -> None:
        self.values = np.empty(room, np.int64)
        self.list = _List(self.values.ctypes.data, room, 0)

    def found(self) -> list[int]:
        assert self.list.length <= len(self.values)
        numbers: list[int] = self.values[: self.list.length].tolist()
        return numbers


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build("text_driver")))
    for name in ("tokenization_read", "tokenizer_open", "stream_open"):
        getattr(library, name).restype = c_void_p
    for name in ("tokenization_encode", "tokenizer_encode", "tokenizer_is_stop"):
        getattr(library, name).restype = ctypes.c_bool
    for name in ("tokenization_decode", "stream_put"):
        getattr(library, name).restype = c_size_t
    return library


def _opened(handle: int | None, why: ctypes.Array[ctypes.c_char]) -> c_void_p:
    if not handle:
        raise Refusal(why.value.decode())
    return c_void_p(handle)


class Tokenization:
    """A tokenizer.json by itself."""

    def __init__(self, document: bytes) -> None:
        why = ctypes.create_string_buffer(REASON)
        read = _library().tokenization_read(c_char_p(document), c_size_t(len(document)), why)
        self._handle = _opened(read, why)
        self._text = ctypes.create_string_buffer(ROOM)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            _library().tokenization_close(self._handle)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and the characters each came from."""
        data = text.encode()
        lists = [_Numbers(4 * len(data) + 16) for _ in range(3)]
        why = ctypes.create_string_buffer(REASON)
        if not _library().tokenization_encode(
            self._handle, c_char_p(data), c_size_t(len(data)),
            *(byref(numbers.list) for numbers in lists), why,
        ):  # fmt: skip
            raise Refusal(why.value.decode())
        ids, starts, ends = (numbers.found() for numbers in lists)
        return ids, list(zip(starts, ends, strict=True))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        array = np.array(ids, np.int64)
        size = _library().tokenization_decode(
            self._handle, c_void_p(array.ctypes.data), c_size_t(len(array)),
            self._text, c_size_t(ROOM),
        )  # fmt: skip
        assert size <= ROOM
        return ctypes.string_at(self._text, size).decode()


class Tokenizer:
    """`d2export::runtime::Tokenizer` of the folder `processor/` of a bundle."""

    def __init__(self, folder: Path, vocab: int) -> None:
        why = ctypes.create_string_buffer(REASON)
        opened = _library().tokenizer_open(str(folder).encode(), c_int64(vocab), why)
        self.handle = _opened(opened, why)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            _library().tokenizer_close(self.handle)

    def encode(
        self, prompt: str | bytes, image_lengths: Sequence[int], system: str | None = None
    ) -> tuple[list[int], list[int], list[int]]:
        """Input ids, visual positions and text positions."""
        lists = [_Numbers(ROOM) for _ in range(3)]
        lengths = np.array(image_lengths, np.int64)
        why = ctypes.create_string_buffer(REASON)
        if not _library().tokenizer_encode(
            self.handle, prompt if isinstance(prompt, bytes) else prompt.encode(),
            c_void_p(lengths.ctypes.data), c_size_t(len(lengths)),
            None if system is None else system.encode(),
            *(byref(numbers.list) for numbers in lists), why,
        ):  # fmt: skip
            raise Refusal(why.value.decode())
        ids, visual, text = (numbers.found() for numbers in lists)
        return ids, visual, text

    def is_stop(self, token: int) -> bool:
        """Whether it ends an answer."""
        return bool(_library().tokenizer_is_stop(self.handle, c_int64(token)))

    def streamed(self, ids: Sequence[int]) -> list[str]:
        """A piece for each id, and what is left in the end."""
        stream, text = c_void_p(_library().stream_open(self.handle)), (ctypes.c_char * ROOM)()
        pieces = []
        for token in [*ids, -1]:
            size = _library().stream_put(stream, c_int64(token), text, c_size_t(ROOM))
            pieces.append(ctypes.string_at(text, size).decode())
        _library().stream_close(stream)
        return pieces


def unicode_kinds() -> NDArray[np.uint8]:
    """For every code point: letter 1, number 2, space 4, part of a word 8."""
    kinds = np.empty(0x110000, np.uint8)
    _library().unicode_kinds(c_void_p(kinds.ctypes.data), ctypes.c_uint32(len(kinds)))
    return kinds

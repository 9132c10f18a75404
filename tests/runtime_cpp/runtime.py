"""The C++ runtime through its C interface, as another language would use it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.plugins.custom_op import CACHE, header_sets
from tests.runtime_cpp.drivers import build

FINISH = ("stop", "length", "cancelled")
_OnText = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(ctypes.c_char), c_size_t)
_OnWarning = ctypes.CFUNCTYPE(None, c_void_p, c_char_p)


class _Options(Structure):
    _fields_ = [
        ("onnx_runtime", c_char_p),
        ("custom_ops", c_char_p),
        ("threads", c_int32),
        ("manifest_only", c_int32),
        ("tensorrt", c_void_p),
    ]


class _Request(Structure):
    _fields_ = [
        ("max_new_tokens", c_int64),
        ("system", c_char_p),
        ("temperature", c_double),
        ("top_k", c_int64),
        ("top_p", c_double),
        ("seed", c_uint64),
        ("on_text", _OnText),
        ("on_warning", _OnWarning),
        ("user", c_void_p),
    ]


class _Timings(Structure):
    _fields_ = [(name, c_double) for name in ("preprocessing", "vision", "prefill", "decode")]


class Refusal(Exception):
    """What a call answered: its status, the problem and the hint."""

    def __init__(self, status: int, problem: str, hint: str) -> None:
        super().__init__(f"{problem}\n  {hint}")
        self.status, self.problem, self.hint = status, problem, hint


@dataclass(frozen=True)
class Answer:
    """All that the C interface tells of an answer."""

    text: str
    tokens: tuple[int, ...]
    finish: str
    kept: tuple[tuple[int, ...], ...]
    seconds: tuple[float, ...]  # of preprocessing, vision, prefill, decode


def onnxruntime_library() -> str:
    """ONNX Runtime's library, from its Python package; skips where there is none."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run graphs in C++")
    folder = Path(onnxruntime.__file__).parent / "capi"
    return str(next(folder.glob("libonnxruntime.so*")))


def need_backend() -> None:
    """Skips where the ONNX Runtime backend cannot be compiled."""
    if not header_sets():
        pytest.skip(
            f"no onnxruntime_c_api.h in {CACHE}/<version>/include: copy the folder include of a "
            "release archive of ONNX Runtime for C there, of 1.20 or newer"
        )


@cache
def library() -> ctypes.CDLL:
    """libd2export_runtime.so."""
    found = ctypes.CDLL(str(build("d2export_runtime").resolve()))
    for function in (found.d2export_problem, found.d2export_hint, found.d2export_answer_text):
        function.restype = c_char_p
    found.d2export_version.restype = c_char_p
    found.d2export_answer_tokens.restype = POINTER(c_int64)
    found.d2export_answer_kept.restype = POINTER(c_int32)
    found.d2export_answer_timings.restype = _Timings
    return found


def _check(status: int) -> None:
    if status:
        problem, hint = library().d2export_problem(), library().d2export_hint()
        raise Refusal(status, problem.decode(), hint.decode())


class Model:
    """A bundle, opened for ONNX Runtime on the CPU."""

    def __init__(
        self,
        bundle: Path,
        onnx_runtime: str | None = None,
        custom_ops: str | None = None,
        manifest_only: bool = False,
    ) -> None:
        self._library, self._model = library(), c_void_p()
        options = _Options(
            (onnx_runtime or onnxruntime_library()).encode(),
            custom_ops.encode() if custom_ops else None,
            1,
            manifest_only,
        )
        path = str(bundle).encode()
        _check(library().d2export_model_open(path, byref(options), byref(self._model)))

    def __del__(self) -> None:
        self._library.d2export_model_free(self._model)

    def ask(
        self,
        images: Sequence[Path],
        prompt: str,
        *,
        max_new_tokens: int = 0,
        system: str | None = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 0.0,
        seed: int = 0,
        on_text: Callable[[str], bool] | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> Answer:
        """An answer; `on_text` is called with each piece, and ends it with False."""

        def call(_: object, piece: object, size: int) -> int:
            assert on_text is not None
            return on_text(ctypes.string_at(piece, size).decode())  # type: ignore[arg-type]

        def warn(_: object, problem: bytes) -> None:
            assert on_warning is not None
            on_warning(problem.decode())

        request = _Request(
            max_new_tokens, system.encode() if system else None, temperature, top_k, top_p, seed,
            _OnText(call) if on_text else _OnText(),
            _OnWarning(warn) if on_warning else _OnWarning(),
        )  # fmt: skip
        pictures = (c_void_p * max(1, len(images)))()
        answer = c_void_p()
        try:
            for i, image in enumerate(images):
                one = c_void_p()
                _check(library().d2export_image_read(str(image).encode(), byref(one)))
                pictures[i] = one
            _check(
                library().d2export_ask(
                    self._model, pictures, c_size_t(len(images)), prompt.encode(), byref(request),
                    byref(answer),
                )
            )  # fmt: skip
            return _answer(answer, len(images))
        finally:
            library().d2export_answer_free(answer)
            for picture in pictures:
                library().d2export_image_free(c_void_p(picture))


def _answer(answer: c_void_p, images: int) -> Answer:
    count = c_size_t()
    tokens = library().d2export_answer_tokens(answer, byref(count))[: count.value or 0]
    kept = []
    for image in range(images):
        indices = library().d2export_answer_kept(answer, c_size_t(image), byref(count))
        kept.append(tuple(indices[: count.value]))
    text = library().d2export_answer_text(answer).decode()
    finish = FINISH[library().d2export_answer_finish(answer)]
    timings = library().d2export_answer_timings(answer)
    seconds = tuple(getattr(timings, name) for name, _ in _Timings._fields_)
    return Answer(text, tuple(tokens), finish, tuple(kept), seconds)

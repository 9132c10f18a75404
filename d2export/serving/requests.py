"""What a client sent: words, numbers and pictures out of a request to Triton's Python backend."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import triton_python_backend_utils as pb_utils

from d2export.errors import ImageError, UsageError

DATA_URI = re.compile(rb"data:[\w.+/-]*;base64,")


def given(request: Any, name: str) -> Any:
    """An input of a request as an array; None if it was not sent."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def number(request: Any, name: str) -> Any:
    """The one number of an input; None if it was not sent."""
    values = given(request, name)
    return None if values is None else values.reshape(-1)[0].item()


def text(request: Any, name: str) -> str | None:
    """The one text of an input; None if it was not sent.

    Raises:
        UsageError: it is not UTF-8.
    """
    values = given(request, name)
    if values is None:
        return None
    try:
        return bytes(values.reshape(-1)[0]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8: {error}", "Encode it as UTF-8.") from None


@contextmanager
def pictures(request: Any) -> Iterator[list[Path]]:
    """The pictures of a request as files, which are gone after the block.

    Raises:
        ImageError: one is a data URI that is not base64.
    """
    values = given(request, "image")
    with TemporaryDirectory(prefix="d2export-") as folder:
        files = []
        for index, value in enumerate(() if values is None else values.reshape(-1)):
            file = Path(folder, f"image{index}")
            file.write_bytes(_decoded(bytes(value), index))
            files.append(file)
        yield files


def _decoded(value: bytes, index: int) -> bytes:
    found = DATA_URI.match(value)
    if found is None:
        return value
    try:
        return base64.b64decode(value[found.end() :], validate=True)
    except binascii.Error as error:
        raise ImageError(
            f"image {index} is a data URI that is not base64: {error}",
            "Send data:image/png;base64,... or, by gRPC, the bytes of the file.",
        ) from None

"""Read and write safetensors files by byte offset.

The format: 8 bytes, little-endian, with the length of a JSON header; the header, which maps each
name to its dtype, shape and byte range; then the bytes, one range after the other without holes
(https://github.com/huggingface/safetensors#format). The library does not say where in the file a
tensor lies, which is what ONNX external data needs, so the header is parsed here. Every claim a
header makes is checked before a byte of payload is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.errors import CheckpointError, OutputError

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation

ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}

# What a file that is not safetensors usually is: its first bytes, what it is, the next step.
IMPOSTORS = (
    (
        b"version https://git-lfs",
        "a git-lfs pointer, not the weights",
        "Run `git lfs pull` in the folder it was cloned to.",
    ),
    (b"<!doctype html", "an HTML page, not the weights", "Download the file again."),
    (b"<html", "an HTML page, not the weights", "Download the file again."),
    (b"pk\x03\x04", "a zip archive, most likely a pickle", "Convert it to safetensors first."),
)


@dataclass(frozen=True)
class TensorRef:
    """Where a tensor lies: `nbytes` bytes from the absolute byte `offset` of the file `path`.

    `dtype` has safetensors' spelling ("F32", "BF16", ...); elements are little-endian, row-major.
    """

    path: Path
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> TensorRef:
        """Rows `start` to `stop` (exclusive) of the first axis; they are contiguous in the file."""
        if not self.shape or not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"no rows {start}:{stop} in a tensor of shape {self.shape}")
        row_bytes = self.nbytes // self.shape[0] if self.shape[0] else 0
        return replace(
            self,
            offset=self.offset + start * row_bytes,
            nbytes=(stop - start) * row_bytes,
            shape=(stop - start, *self.shape[1:]),
        )

    def view(self, shape: tuple[int, ...]) -> TensorRef:
        """The same bytes under another shape with as many elements."""
        if prod(shape) != prod(self.shape):
            raise ValueError(f"cannot view {self.shape} as {shape}")
        return replace(self, shape=shape)


@dataclass(frozen=True)
class TensorToWrite:
    """A tensor for `write`: `chunks()` yields its elements in order, already stored as `dtype`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterable[npt.NDArray[Any]]]


def read_header(path: Path) -> dict[str, TensorRef]:
    """Where each tensor of a file lies, in file order.

    Raises:
        CheckpointError: the file is unreadable, is something else, is truncated, or its header
            is malformed, overlaps, leaves holes, or names bytes that are not there.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
            length = int.from_bytes(start[:8], "little")
            _refuse_impostors(path, start)
            if size < 8:
                raise _damaged(path, f"it has {size} bytes, the smallest possible file has 10")
            if length > MAX_HEADER_BYTES:
                limit = MAX_HEADER_BYTES // 10**6
                raise _damaged(path, f"its header would be {length} bytes, over {limit} MB")
            if 8 + length > size:
                raise _truncated(path, size, f"at least {8 + length}")
            file.seek(8)
            raw = file.read(length)
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {error.strerror or error}") from None

    first, refs, end = 8 + length, {}, 0
    entries = _parse(path, raw)
    for name, dtype, shape, begin, stop in sorted(entries, key=lambda entry: entry[3:]):
        if dtype not in ITEM_BYTES:
            raise _damaged(path, f"tensor '{name}' has the unknown dtype '{dtype}'")
        expected = prod(shape) * ITEM_BYTES[dtype]
        if stop - begin != expected:
            raise _damaged(
                path,
                f"tensor '{name}' ({dtype} {list(shape)}) needs {expected} bytes, "
                f"its range {begin}..{stop} has {stop - begin}",
            )
        if begin != end:
            what = "overlaps the tensor before it" if begin < end else "leaves a hole before it"
            raise _damaged(path, f"tensor '{name}' at {begin}..{stop} {what} (expected {end})")
        refs[name], end = TensorRef(path, first + begin, expected, dtype, shape), stop
    if size < first + end:
        raise _truncated(path, size, str(first + end))
    if size > first + end:
        raise _damaged(path, f"it has {size} bytes, its header describes {first + end}")
    return refs


def load(ref: TensorRef) -> npt.NDArray[np.float32]:
    """A tensor's values as float32, exact for F32, F16 and BF16; only its bytes are read.

    Raises:
        CheckpointError: its dtype is none of these three.
    """
    stored = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}.get(ref.dtype)
    if stored is None:
        raise CheckpointError(
            f"a tensor in '{ref.path}' has dtype {ref.dtype}; expected F32, F16 or BF16",
            "Quantized checkpoints are not read; use the original one.",
        )
    if ref.nbytes == 0:
        return np.empty(ref.shape, np.float32)
    mapped = np.memmap(ref.path, dtype=stored, mode="r", offset=ref.offset, shape=ref.shape)
    if ref.dtype == "BF16":
        bits = mapped.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    return np.array(mapped, dtype=np.float32)


def float32_to_bfloat16(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of `x` as bfloat16, rounded to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    # Adding just under half of the dropped part, plus the last kept bit, carries exactly when
    # the value rounds up; an overflow ends in infinity, as IEEE 754 wants.
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    if nan.any():  # rounding could carry a NaN into infinity or zero: keep it, made quiet
        rounded[nan] = (bits[nan] >> 16) | 0x0040
    return rounded.astype(np.uint16)


def encode(x: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """`x` as it is stored in a file of `dtype` "F32", "F16" or "BF16"."""
    if dtype == "BF16":
        return float32_to_bfloat16(x)
    return x.astype({"F32": "<f4", "F16": "<f2"}[dtype], copy=False)


def write(path: Path, tensors: Iterable[TensorToWrite]) -> None:
    """Write a file, chunk by chunk: memory does not grow with the file.

    It appears at `path` complete or not at all.

    Raises:
        OutputError: the file cannot be written.
        ValueError: a tensor's chunks do not add up to its shape, or a name comes twice.
    """
    tensors = list(tensors)
    header: dict[str, object] = {}
    end = 0
    for tensor in tensors:
        if tensor.name in header:
            raise ValueError(f"tensor '{tensor.name}' comes twice")
        begin, end = end, end + prod(tensor.shape) * ITEM_BYTES[tensor.dtype]
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the payload starts at a multiple of 8
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in tensors:
                written = sum(file.write(chunk) for chunk in _contiguous(tensor.chunks()))
                expected = prod(tensor.shape) * ITEM_BYTES[tensor.dtype]
                if written != expected:
                    raise ValueError(f"'{tensor.name}': {written} bytes instead of {expected}")
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink()


def _contiguous(chunks: Iterable[npt.NDArray[Any]]) -> Iterator[memoryview]:
    for chunk in chunks:
        yield np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).data


def _parse(path: Path, raw: bytes) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    """Name, dtype, shape, first and last+1 byte of each entry of a header's JSON."""

    def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    try:
        header = json.loads(raw.decode(), object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    entries = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise _damaged(path, f"the entry '{name}' does not have dtype, shape, data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not (
            isinstance(dtype, str)
            and _is_count_list(shape)
            and _is_count_list(offsets)
            and len(offsets) == 2
            and offsets[0] <= offsets[1]
        ):
            raise _damaged(path, f"the entry '{name}' is malformed: {str(entry)[:200]}")
        entries.append((name, dtype, tuple(shape), offsets[0], offsets[1]))
    return entries


def _is_count_list(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _refuse_impostors(path: Path, start: bytes) -> None:
    for signature, what, hint in IMPOSTORS:
        if start.lstrip().lower().startswith(signature):
            raise CheckpointError(f"'{path}' is {what}", hint)


def _truncated(path: Path, found: int, expected: str) -> CheckpointError:
    return CheckpointError(
        f"'{path}' is truncated: {found} bytes found, {expected} expected",
        "Copy or download the file again.",
    )


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"'{path}' is not a valid safetensors file: {why}", "Copy or download the file again."
    )

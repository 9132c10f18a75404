"""Read a sentencepiece `tokenizer.model`: its pieces and how it treats spaces.

The file is one message in protobuf's wire format, `sentencepiece_model.proto` of
github.com/google/sentencepiece. The handful of fields that matter here are read without the
protobuf and sentencepiece packages. What the project cannot reproduce is refused, see `_check`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from d2export.errors import CheckpointError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BPE = 2
MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its place in the list is its id."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieces:
    """A byte-pair model with byte fallback.

    `dummy_prefix` says that a space is put before every text; `bos`, `eos` and `unknown` are ids,
    -1 where there is none.
    """

    pieces: tuple[Piece, ...]
    dummy_prefix: bool
    bos: int
    eos: int
    unknown: int


def read_sentencepiece(path: Path) -> SentencePieces:
    """The model in `path`.

    Raises:
        CheckpointError: not such a file, or a kind of model that is not supported.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise CheckpointError(f"'{path}' has more than {MAX_BYTES} bytes, too many for a tokenizer")
    try:
        pieces = tuple(_piece(message) for field, message in _fields(raw) if field == 1)
        trainer = dict(_fields(_last_message(raw, 2)))
        normalizer = dict(_fields(_last_message(raw, 3)))
    except (ValueError, TypeError, struct.error) as error:
        raise CheckpointError(
            f"'{path}' is no sentencepiece model: {error}", "Copy or download the file again."
        ) from None
    _check(path, pieces, trainer, normalizer)
    return SentencePieces(
        pieces,
        dummy_prefix=bool(normalizer.get(3, 1)),
        unknown=_signed(trainer.get(40, 0)),
        bos=_signed(trainer.get(41, 1)),
        eos=_signed(trainer.get(42, 2)),
    )


def _check(
    path: Path,
    pieces: tuple[Piece, ...],
    trainer: dict[int, int | float | bytes],
    normalizer: dict[int, int | float | bytes],
) -> None:
    """Refuse what `slow_tokenizers` would not reproduce id for id."""
    kind = trainer.get(3, 1)
    unsupported = {
        f"is of type '{MODEL_TYPES.get(int(kind), kind)}'": kind != BPE,
        "has no byte fallback": sum(piece.kind == BYTE for piece in pieces) != 256,
        "has unused pieces": any(piece.kind == UNUSED for piece in pieces),
        "replaces characters before it splits": bool(normalizer.get(2, b"")),
        "removes extra spaces": bool(normalizer.get(4, 1)),
        "keeps spaces as they are": not normalizer.get(5, 1),
        "puts the space behind a word": bool(trainer.get(24, 0)),
        "has user-defined symbols and a dummy prefix": bool(normalizer.get(3, 1))
        and any(piece.kind == USER_DEFINED for piece in pieces),
    }
    for what, present in unsupported.items():
        if present:
            raise CheckpointError(
                f"'{path}' {what}; supported are byte-pair models with byte fallback and the "
                "normalization 'identity', as LLaVA and InternVL have them",
                "Put a tokenizer.json beside it: AutoTokenizer.from_pretrained(FOLDER)"
                ".save_pretrained(FOLDER) of transformers writes one.",
            )


def _piece(message: int | float | bytes) -> Piece:
    fields = dict(_fields(message))
    text, score, kind = fields.get(1, b""), fields.get(2, 0.0), fields.get(3, NORMAL)
    if not isinstance(text, bytes) or not isinstance(score, float) or not isinstance(kind, int):
        raise ValueError("a piece has fields of other types")
    return Piece(text.decode("utf-8"), score, kind)


def _last_message(raw: bytes, number: int) -> int | float | bytes:
    return next((value for field, value in reversed(list(_fields(raw))) if field == number), b"")


def _fields(raw: int | float | bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Number and value of each field; a nested message or string is its bytes."""
    if not isinstance(raw, bytes):
        raise ValueError("a number stands where a message belongs")
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(raw, at)
            yield key >> 3, value
        elif kind == BYTES:
            size, at = _varint(raw, at)
            if size > len(raw) - at:
                raise ValueError("it ends in the middle of a field")
            yield key >> 3, raw[at : at + size]
            at += size
        elif kind == FIXED32:
            yield key >> 3, struct.unpack_from("<f", raw, at)[0]
            at += 4
        elif kind == FIXED64:
            yield key >> 3, struct.unpack_from("<d", raw, at)[0]
            at += 8
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            break
        value |= (raw[at] & 127) << shift
        at += 1
        if raw[at - 1] < 128:
            return value, at
    raise ValueError("it ends in the middle of a number")


def _signed(value: int | float | bytes) -> int:
    """A negative int32 is stored as its 64-bit two's complement."""
    number = int(value)
    return number - (1 << 64) if number >= 1 << 63 else number

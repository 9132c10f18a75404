"""From the tokenizer files of a checkpoint to one `tokenizer.json`.

Three forms are read. A `tokenizer.json` is taken as it is. `tokenizer.model` is sentencepiece's
file, as LLaVA and InternVL2.5-2B and -8B publish it; the conversion is what transformers'
LlamaConverter (legacy behaviour) and InternLM2's own converter do. `vocab.json` with `merges.txt`
is Qwen2's byte-level form; normalizer and splitting are those of transformers' Qwen2Tokenizer.
The last two name further tokens in `added_tokens.json` and `tokenizer_config.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from d2export.errors import CheckpointError
from d2export.models.added_tokens import added_tokens, token_entry
from d2export.models.sentencepiece_file import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    SentencePieces,
    read_sentencepiece,
)
from d2export.models.shards import read_json
from d2export.models.tokenizer_json import (
    REPAIR,
    TokenizerJson,
    read_tokenizer_json,
    tokenizer_json,
)

SPACE = "\u2581"  # sentencepiece writes a space as this block

QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def find_tokenizer(folder: Path) -> TokenizerJson | None:
    """The tokenizer of the checkpoint in `folder`, or None if it brings none.

    Raises:
        CheckpointError: its files are damaged, contradict each other, or are of another kind.
    """
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer_json(folder / "tokenizer.json")
    if (folder / "tokenizer.model").is_file():
        where = folder / "tokenizer.model"
        document = _from_sentencepiece(read_sentencepiece(where))
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        where = folder / "vocab.json"
        document = _from_byte_level(read_json(where), _read_merges(folder / "merges.txt"))
    else:
        return None
    for token in added_tokens(folder):
        _add(document, token, str(folder))
    return tokenizer_json(document, str(where))


def _from_sentencepiece(model: SentencePieces) -> dict[str, Any]:
    vocabulary = {piece.text: i for i, piece in enumerate(model.pieces)}
    spaces: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    ]
    if model.dummy_prefix:
        spaces.insert(0, {"type": "Prepend", "prepend": SPACE})
    added = [
        token_entry(i, piece.text, special=piece.kind != USER_DEFINED)
        for i, piece in enumerate(model.pieces)
        if piece.kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    first = model.pieces[model.bos].text if 0 <= model.bos < len(model.pieces) else None
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": spaces},
        "pre_tokenizer": None,
        "post_processor": None if first is None else _begin_with(first, model.bos),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": model.pieces[model.unknown].text,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": _merges(model, vocabulary),
        },
    }


def _merges(model: SentencePieces, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Pairs in the order sentencepiece joins them: by the score of what they make."""
    normal = {piece.text: piece.score for piece in model.pieces if piece.kind == NORMAL}
    pairs = [
        (-score, vocabulary[text[:cut]], vocabulary[text[cut:]], text[:cut], text[cut:])
        for text, score in normal.items()
        for cut in range(1, len(text))
        if text[:cut] in normal and text[cut:] in normal
    ]
    return [(left, right) for _, _, _, left, right in sorted(pairs)]


def _begin_with(token: str, token_id: int) -> dict[str, Any]:
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    text, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, second],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }


def _from_byte_level(vocabulary: dict[str, Any], merges: list[list[str]]) -> dict[str, Any]:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    words = {
        "type": "Split",
        "pattern": {"Regex": QWEN2_WORDS},
        "behavior": "Isolated",
        "invert": False,
    }
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": dict(vocabulary), "merges": merges},
    }


def _read_merges(path: Path) -> list[list[str]]:
    try:
        # Not splitlines: a token may hold a character that it takes for the end of a line.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read '{path}': {error}", REPAIR) from None
    pairs = [line.split() for line in lines if line.strip() and not line.startswith("#version")]
    for pair in pairs:
        if len(pair) != 2:
            raise CheckpointError(
                f"'{path}' has the line {' '.join(pair)!r}, expected two tokens", REPAIR
            )
    return pairs


def _add(document: dict[str, Any], token: dict[str, Any], where: str) -> None:
    """Add a token under its id; a reserved piece that has the id takes the token's name.

    The token enters the vocabulary as well: elsewhere ids have to follow on without a gap. No
    merge makes it, so that it is only ever found as an added token.
    """
    vocabulary, content, token_id = document["model"]["vocab"], token["content"], token["id"]
    if vocabulary.get(content, token_id) != token_id:
        raise CheckpointError(
            f"'{where}' gives token '{content}' the ids {vocabulary[content]} and {token_id}",
            REPAIR,
        )
    reserved = [name for name, number in vocabulary.items() if number == token_id]
    for name in reserved:
        del vocabulary[name]
    vocabulary[content] = token_id
    if reserved not in ([], [content]):
        model = document["model"]
        model["merges"] = [
            pair
            for pair in model["merges"]
            if pair[0] in vocabulary and pair[1] in vocabulary and pair[0] + pair[1] in vocabulary
        ]
    document["added_tokens"] = [
        other for other in document["added_tokens"] if other["id"] != token_id
    ] + [token]

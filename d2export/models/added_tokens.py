"""The tokens that a checkpoint names outside its tokenizer's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from d2export.errors import CheckpointError
from d2export.models.shards import read_json
from d2export.models.tokenizer_json import REPAIR

TOKEN_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def named_tokens(folder: Path) -> dict[str, str]:
    """`bos_token`, `eos_token`, `unk_token` and `pad_token`: those that the checkpoint names."""
    tokens: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        settings = _settings(folder / name)
        for key in NAMED_TOKENS:
            content = _content(settings.get(key))
            if content is not None:
                tokens[key] = content
    return tokens


def added_tokens(folder: Path) -> list[dict[str, Any]]:
    """Entries for `added_tokens` of a tokenizer.json, by ascending id.

    `added_tokens.json` has ids alone, `tokenizer_config.json` flags too; the latter wins.

    Raises:
        CheckpointError: one of them is damaged.
    """
    found: dict[int, dict[str, Any]] = {}
    contents = _settings(folder / "added_tokens.json")
    listed = _settings(folder / "special_tokens_map.json").get("additional_special_tokens")
    special = {_content(token) for token in (listed if isinstance(listed, list) else [])}
    special |= set(named_tokens(folder).values())
    for content, token_id in contents.items():
        if type(token_id) is not int:
            raise _damaged(folder / "added_tokens.json", content, token_id)
        found[token_id] = token_entry(token_id, content, special=content in special)
    settings = folder / "tokenizer_config.json"
    decoder = _settings(settings).get("added_tokens_decoder")
    for key, value in (decoder if isinstance(decoder, dict) else {}).items():
        if not key.isdecimal() or not isinstance(value, dict) or _content(value) is None:
            raise _damaged(settings, key, value)
        flags = {flag: bool(value.get(flag)) for flag in TOKEN_FLAGS}
        found[int(key)] = (
            token_entry(int(key), str(value["content"]), special=bool(value.get("special"))) | flags
        )
    return [found[token_id] for token_id in sorted(found)]


def token_entry(token_id: int, content: str, *, special: bool) -> dict[str, Any]:
    """A token that is found as it stands, whatever surrounds it."""
    return {"id": token_id, "content": content, **TOKEN_FLAGS, "special": special}


def _settings(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _content(value: object) -> str | None:
    """A token is written as a string, or as an object with its `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _damaged(path: Path, key: str, value: object) -> CheckpointError:
    return CheckpointError(f"'{path}' has the entry {key!r}: {value!r}, no added token", REPAIR)

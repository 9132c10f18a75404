"""The folder `processor/` of a bundle: `tokenizer.json` and `conversation.json`.

Both are plain data, made from whatever the checkpoint has, so that a device reads one tokenizer
format and no template language. `conversation.json` is `models.conversation.Conversation`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from d2export.bundle.strict_json import JsonError, decode, encode, parse
from d2export.errors import BundleError, CheckpointError
from d2export.models.added_tokens import named_tokens
from d2export.models.chat_template import conversation_from_template, find_template
from d2export.models.conversation import BRINGS_TEMPLATE, Conversation, published_conversation
from d2export.models.shards import read_json
from d2export.models.slow_tokenizers import find_tokenizer
from d2export.models.tokenizer_json import TokenizerJson

TOKENIZER, CONVERSATION = "tokenizer.json", "conversation.json"


@dataclass(frozen=True)
class _File:
    format: Literal["d2export-conversation"]
    version: Literal[1]
    conversation: Conversation


def write_processor(
    checkpoint: Path, config: Mapping[str, Any], vocab: int, target: Path
) -> Conversation | None:
    """Write `target/tokenizer.json` and `target/conversation.json`.

    Args:
        checkpoint: the folder with the checkpoint's tokenizer files.
        config: its config.json.
        vocab: rows of the model's embedding table.
        target: the folder to write to; it is made.

    Returns:
        The conversation, or None if the checkpoint has no tokenizer; then nothing is written.

    Raises:
        CheckpointError: the tokenizer does not fit the model, or its files are damaged.
    """
    tokenizer = find_tokenizer(checkpoint)
    if tokenizer is None:
        return None
    tokenizer.check_fits(vocab)
    conversation = conversation_of(checkpoint, config, tokenizer)
    check_conversation(conversation, tokenizer)
    target.mkdir(exist_ok=True)
    file = _File("d2export-conversation", 1, conversation)
    text = json.dumps(tokenizer.document, ensure_ascii=False)
    (target / TOKENIZER).write_text(text, encoding="utf-8")
    text = json.dumps(encode(file), indent=2, ensure_ascii=False)
    (target / CONVERSATION).write_text(text + "\n", encoding="utf-8")
    return conversation


def conversation_of(
    checkpoint: Path, config: Mapping[str, Any], tokenizer: TokenizerJson
) -> Conversation:
    """The published record, or the checkpoint's own chat template where transformers uses it.

    Raises:
        CheckpointError: no template is known, or the checkpoint's own is not supported.
    """
    tokens = named_tokens(checkpoint)
    found = replace(published_conversation(config), bos=_first_token(checkpoint, tokenizer, tokens))
    architecture = config["architectures"][0]
    template = find_template(checkpoint) if architecture in BRINGS_TEMPLATE else None
    if template is not None:
        found = conversation_from_template(template, found, tokens)
    markup = tuple(token for token in found.markup if token in tokenizer.ids)
    return replace(found, markup=markup, stop=_stop(checkpoint, found, tokenizer, tokens))


def read_conversation(folder: Path) -> Conversation:
    """The conversation that `write_processor` wrote to `folder`.

    Raises:
        BundleError: it is missing or damaged.
    """
    path = folder / CONVERSATION
    try:
        return decode(_File, parse(path.read_text(encoding="utf-8"))).conversation
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}", _AGAIN) from None
    except (JsonError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged: {error}", _AGAIN) from None


def check_conversation(conversation: Conversation, tokenizer: TokenizerJson) -> None:
    """Every token that the conversation puts into a prompt has to be in the tokenizer.

    Raises:
        CheckpointError: one is missing; it is named.
    """
    image = conversation.image
    needed = (conversation.bos, image.before, image.token, image.after, *conversation.stop)
    tokenizer.check_has(
        [token for token in needed if token], f"the conversation '{conversation.name}'"
    )


_AGAIN = "Build the bundle again."


def _first_token(
    checkpoint: Path, tokenizer: TokenizerJson, tokens: Mapping[str, str]
) -> str | None:
    """`add_bos_token` decides where it is set, and the tokenizer's own template elsewhere."""
    settings = checkpoint / "tokenizer_config.json"
    chosen = read_json(settings).get("add_bos_token") if settings.is_file() else None
    if isinstance(chosen, bool):
        return (tokens.get("bos_token") or tokenizer.first_token) if chosen else None
    return tokenizer.first_token


def _stop(
    checkpoint: Path,
    conversation: Conversation,
    tokenizer: TokenizerJson,
    tokens: Mapping[str, str],
) -> tuple[str, ...]:
    """The template's stop tokens, the tokenizer's `eos_token`, those of generation_config.json."""
    path = checkpoint / "generation_config.json"
    found = read_json(path).get("eos_token_id") if path.is_file() else None
    names = {token_id: token for token, token_id in tokenizer.ids.items()}
    stop = [*conversation.stop]
    if tokens.get("eos_token") in tokenizer.ids:
        stop.append(tokens["eos_token"])
    for token_id in found if isinstance(found, list) else [] if found is None else [found]:
        if token_id not in names:
            raise CheckpointError(
                f"'{path}' has the eos_token_id {token_id!r}, which is no id of the tokenizer",
                "Correct it, or remove the file.",
            )
        stop.append(names[token_id])
    return tuple(dict.fromkeys(stop))

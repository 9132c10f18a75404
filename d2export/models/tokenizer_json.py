"""A `tokenizer.json`, the format of the tokenizers package, as data.

Only byte-pair models are read: those of Llama, InternLM2 and Qwen2 are. Neither the tokenizers
package nor anything of a checkpoint runs here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from d2export.errors import CheckpointError
from d2export.models.shards import read_json

REPAIR = "Repair the checkpoint's tokenizer files, then build again."


@dataclass(frozen=True)
class TokenizerJson:
    """The document, validated as far as the properties below need it; `where` is for messages."""

    document: dict[str, Any]
    where: str

    @property
    def vocabulary(self) -> dict[str, int]:
        """The model's own tokens and their ids."""
        found: dict[str, int] = self.document["model"]["vocab"]
        return found

    @property
    def added(self) -> list[dict[str, Any]]:
        """Tokens that are found in a text before the model sees it."""
        found: list[dict[str, Any]] = self.document["added_tokens"]
        return found

    @cached_property
    def ids(self) -> dict[str, int]:
        """Every token and its id."""
        return self.vocabulary | {token["content"]: token["id"] for token in self.added}

    @cached_property
    def special(self) -> frozenset[str]:
        """Added tokens that belong to the format and not to the text."""
        return frozenset(token["content"] for token in self.added if token.get("special"))

    @property
    def first_token(self) -> str | None:
        """The token that the file's own template puts before every text, such as `<s>`."""
        for template in _templates(self.document.get("post_processor")):
            first = (template.get("single") or [{}])[0]
            if isinstance(first, dict) and isinstance(first.get("SpecialToken"), dict):
                return str(first["SpecialToken"].get("id"))
        return None

    def check_fits(self, vocab: int) -> None:
        """Every id needs a row in the embedding table, which has `vocab` rows.

        Raises:
            CheckpointError: a token lies beyond; it is named.
        """
        token, largest = max(self.ids.items(), key=lambda item: item[1])
        if largest >= vocab:
            raise CheckpointError(
                f"{self.where}: token '{token}' has id {largest}, the model's vocabulary has "
                f"{vocab} entries",
                "The tokenizer does not belong to this model. " + REPAIR,
            )

    def check_has(self, tokens: Iterable[str], why: str) -> None:
        """Refuse a tokenizer that lacks one of `tokens`; `why` says who needs it.

        Raises:
            CheckpointError: a token is missing; it is named.
        """
        for token in tokens:
            if token not in self.ids:
                raise CheckpointError(
                    f"{self.where} has no token '{token}', which {why} needs",
                    "The tokenizer does not belong to this model. " + REPAIR,
                )


def read_tokenizer_json(path: Path) -> TokenizerJson:
    """The tokenizer in `path`.

    Raises:
        CheckpointError: the file cannot be read, or is no byte-pair tokenizer.
    """
    return tokenizer_json(read_json(path), str(path))


def tokenizer_json(document: dict[str, Any], where: str) -> TokenizerJson:
    """`document` as a tokenizer.

    Raises:
        CheckpointError: it is no byte-pair tokenizer.
    """
    model = document.get("model")
    if not isinstance(model, dict):
        model = {}
    # Files of older versions leave the type out; merges tell a byte-pair model.
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE":
        raise CheckpointError(
            f"{where} holds a model of type {kind!r}; supported: 'BPE'",
            "LLaVA's and InternVL's tokenizers are of this type: is the file of another model?",
        )
    document = document | {"added_tokens": document.get("added_tokens") or []}
    vocabulary, merges, added = model.get("vocab"), model.get("merges"), document["added_tokens"]
    if not _is_vocabulary(vocabulary) or not isinstance(merges, list) or not _are_tokens(added):
        raise CheckpointError(
            f"{where} is damaged: expected 'model.vocab' from tokens to ids, a list 'model.merges' "
            "and 'added_tokens' with 'id' and 'content'",
            REPAIR,
        )
    return TokenizerJson(document, where)


def _templates(processor: object) -> Iterable[dict[str, Any]]:
    """The template in a post-processor, or those in a sequence of them."""
    if not isinstance(processor, dict):
        return []
    nested = processor.get("processors")
    if processor.get("type") == "Sequence" and isinstance(nested, list):
        return [template for item in nested for template in _templates(item)]
    return [processor] if processor.get("type") == "TemplateProcessing" else []


def _is_vocabulary(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(_is_id, value.values()))


def _are_tokens(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and _is_id(token.get("id"))
        for token in value
    )


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 31

"""Tokenizers in miniature, in the files that checkpoints publish them in."""

from __future__ import annotations

import io
import json
from pathlib import Path

TEXT = [
    "the quick brown fox jumps over the lazy dog",
    "what is on the table in this picture?",
    "a chat between a curious user and an assistant",
    "图片里有什么东西", "桌子上有一只猫", "  two  spaces and\nnew lines\n",
]  # fmt: skip
TRICKY = [
    "", " ", "   ", "a", " leading", "  two  spaces   three ", "line\nline\n\n", "\n", "\tTab",
    "what's the table?", "🙂 and 👩‍👩‍👧", "图片里有什么?", "é e\u0301 ÿ",
    "mixed 图片 text 123 4567",
    "aaaaaaaa", "the the the", "\u2581block", "<0x41>", "\u00a0hard",
]  # fmt: skip
INTERNVL_TOKENS = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<ref>")


def write_sentencepiece(
    folder: Path, *, dummy_prefix: bool, reserved: int = 0, **options: object
) -> Path:
    """A `tokenizer.model` with byte fallback; `reserved` user-defined `[UNUSED_TOKEN_n]` pieces."""
    import sentencepiece

    model = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "vocab_size": 400,
        "byte_fallback": True,
        "character_coverage": 0.98,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": dummy_prefix,
        "user_defined_symbols": [f"[UNUSED_TOKEN_{i}]" for i in range(reserved)],
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 4), model_writer=model, **(settings | options)
    )
    path = folder / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return path


def write_qwen2(folder: Path) -> None:
    """`vocab.json` and `merges.txt` of a byte-level model, with Qwen2's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.model.save(str(folder))
    merges = folder / "merges.txt"
    first, _, rest = merges.read_text("utf-8").partition("\n")
    merges.write_text(
        "#version: 0.2\n" + (rest if first.startswith("#") else f"{first}\n{rest}"), "utf-8"
    )
    size = tokenizer.get_vocab_size()
    names = ("<|endoftext|>", *INTERNVL_TOKENS)
    write_added_tokens(folder, {size + i: name for i, name in enumerate(names)})


def write_added_tokens(folder: Path, tokens: dict[int, str]) -> None:
    """`tokenizer_config.json` with special tokens under their ids."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {str(i): {"content": name, **flags, "special": True} for i, name in tokens.items()}
    settings = {"added_tokens_decoder": added}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")

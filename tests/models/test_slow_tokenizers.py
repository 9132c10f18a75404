"""Ids of converted tokenizers against sentencepiece itself, and against transformers for Qwen2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer

from d2export.errors import CheckpointError
from d2export.models.slow_tokenizers import find_tokenizer
from d2export.models.tokenizer_json import TokenizerJson
from tests.small_tokenizers import TRICKY, write_added_tokens, write_qwen2, write_sentencepiece


def found(folder: Path) -> TokenizerJson:
    tokenizer = find_tokenizer(folder)
    assert tokenizer is not None
    return tokenizer


def loaded(folder: Path) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(found(folder).document))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("dummy_prefix", [True, False], ids=["llama", "internlm2"])
@pytest.mark.parametrize("text", TRICKY, ids=repr)
def test_sentencepiece_ids(tmp_path: Path, dummy_prefix: bool, text: str) -> None:
    model = str(write_sentencepiece(tmp_path, dummy_prefix=dummy_prefix))
    reference = sentencepiece.SentencePieceProcessor(model_file=model)
    assert ids(loaded(tmp_path), text) == reference.encode(text)


def test_bytes_stand_for_what_has_no_piece(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path, dummy_prefix=False)
    tokenizer = loaded(tmp_path)
    tokens = [tokenizer.id_to_token(i) for i in ids(tokenizer, "🙂")]
    assert tokens == ["<0xF0>", "<0x9F>", "<0x99>", "<0x82>"]


def test_the_text_begins_with_bos(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path, dummy_prefix=True)
    assert found(tmp_path).first_token == "<s>"
    assert loaded(tmp_path).encode("the").ids[0] == 1


def test_user_defined_pieces(tmp_path: Path) -> None:
    model = str(write_sentencepiece(tmp_path, dummy_prefix=False, reserved=4))
    reference = sentencepiece.SentencePieceProcessor(model_file=model)
    text = "the [UNUSED_TOKEN_1]table"
    assert ids(loaded(tmp_path), text) == reference.encode(text)


def test_an_added_token_takes_the_name_of_a_reserved_piece(tmp_path: Path) -> None:
    model = str(write_sentencepiece(tmp_path, dummy_prefix=False, reserved=4))
    reference = sentencepiece.SentencePieceProcessor(model_file=model)
    reserved, last = reference.piece_to_id("[UNUSED_TOKEN_3]"), reference.vocab_size() + 6
    write_added_tokens(tmp_path, {reserved: "<|im_start|>", last: "<IMG_CONTEXT>"})
    tokenizer = loaded(tmp_path)
    assert ids(tokenizer, "<|im_start|>user<IMG_CONTEXT>") == [
        reserved, *reference.encode("user"), last
    ]  # fmt: skip
    assert tokenizer.token_to_id("[UNUSED_TOKEN_3]") is None


@pytest.mark.parametrize("text", [*TRICKY, "<|im_start|>user\n<img><IMG_CONTEXT></img>\nhi"])
def test_qwen2_ids(tmp_path: Path, text: str) -> None:
    from transformers import Qwen2Tokenizer

    write_qwen2(tmp_path)
    reference = Qwen2Tokenizer.from_pretrained(tmp_path)
    assert ids(loaded(tmp_path), text) == reference(text)["input_ids"]


def test_tokenizer_json_wins_and_stays_as_it_is(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path, dummy_prefix=True)
    document = found(tmp_path).document
    document["model"]["vocab"]["more"] = 9999
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    assert found(tmp_path).ids["more"] == 9999


def test_no_tokenizer(tmp_path: Path) -> None:
    assert find_tokenizer(tmp_path) is None


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"model_type": "unigram"}, "is of type 'unigram'"),
        ({"byte_fallback": False}, "has no byte fallback"),
        ({"normalization_rule_name": "nmt_nfkc"}, "replaces characters before it splits"),
        ({"remove_extra_whitespaces": True}, "removes extra spaces"),
        ({"treat_whitespace_as_suffix": True}, "puts the space behind a word"),
    ],
)
def test_other_sentencepiece_models(tmp_path: Path, options: dict[str, object], what: str) -> None:
    path = write_sentencepiece(tmp_path, dummy_prefix=True, **options)
    with pytest.raises(CheckpointError) as caught:
        find_tokenizer(tmp_path)
    assert caught.value.problem.startswith(f"'{path}' {what}")


@pytest.mark.parametrize("cut", [1, 100, 1001])
def test_a_truncated_file(tmp_path: Path, cut: int) -> None:
    path = write_sentencepiece(tmp_path, dummy_prefix=True)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CheckpointError, match=str(path)):
        find_tokenizer(tmp_path)


def test_a_token_beyond_the_vocabulary_is_named(tmp_path: Path) -> None:
    write_qwen2(tmp_path)
    tokenizer = found(tmp_path)
    tokenizer.check_fits(max(tokenizer.ids.values()) + 1)
    with pytest.raises(CheckpointError, match="token '<ref>' has id"):
        tokenizer.check_fits(max(tokenizer.ids.values()))


def test_a_missing_token_is_named(tmp_path: Path) -> None:
    write_qwen2(tmp_path)
    with pytest.raises(CheckpointError, match="no token '<image>', which a test needs"):
        found(tmp_path).check_has(["<img>", "<image>"], "a test")


def test_two_ids_for_one_token(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path, dummy_prefix=True)
    write_added_tokens(tmp_path, {500: "</s>"})
    with pytest.raises(CheckpointError, match="gives token '</s>' the ids 2 and 500"):
        find_tokenizer(tmp_path)

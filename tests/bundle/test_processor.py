"""From a checkpoint's tokenizer files to `processor/` of a bundle, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from d2export.bundle.processor import read_conversation, write_processor
from d2export.errors import BundleError, CheckpointError
from d2export.models.conversation import VICUNA_V1
from tests.small_tokenizers import write_qwen2, write_sentencepiece

INTERNVL = {"architectures": ["InternVLChatModel"], "template": "internvl2_5"}
LLAVA = {"architectures": ["LlavaLlamaForCausalLM"]}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    return folder


def test_what_is_written_is_read(checkpoint: Path, tmp_path: Path) -> None:
    write_qwen2(checkpoint)
    written = write_processor(checkpoint, INTERNVL, 1000, tmp_path / "processor")
    assert written is not None
    assert read_conversation(tmp_path / "processor") == written
    assert (written.bos, written.stop, written.markup) == (None, ("<|im_end|>",), ("<ref>",))
    assert {path.name for path in (tmp_path / "processor").iterdir()} == {
        "tokenizer.json", "conversation.json"
    }  # fmt: skip


def test_llava_begins_with_bos(checkpoint: Path, tmp_path: Path) -> None:
    write_sentencepiece(checkpoint, dummy_prefix=True)
    written = write_processor(checkpoint, LLAVA, 1000, tmp_path / "processor")
    assert written is not None
    assert (written.bos, written.stop, written.prompt) == ("<s>", ("</s>",), VICUNA_V1.prompt)


def test_add_bos_token_wins(checkpoint: Path, tmp_path: Path) -> None:
    write_sentencepiece(checkpoint, dummy_prefix=True)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False}))
    written = write_processor(checkpoint, LLAVA, 1000, tmp_path / "processor")
    assert written is not None
    assert written.bos is None


def test_stop_tokens_of_the_generation_config(checkpoint: Path, tmp_path: Path) -> None:
    write_sentencepiece(checkpoint, dummy_prefix=True)
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 1]}))
    written = write_processor(checkpoint, LLAVA, 1000, tmp_path / "processor")
    assert written is not None
    assert written.stop == ("</s>", "<s>")


def test_a_stop_token_that_is_no_token(checkpoint: Path, tmp_path: Path) -> None:
    write_sentencepiece(checkpoint, dummy_prefix=True)
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": 4000}))
    with pytest.raises(CheckpointError, match="eos_token_id 4000, which is no id"):
        write_processor(checkpoint, LLAVA, 1000, tmp_path / "processor")


def test_a_checkpoint_without_a_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    assert write_processor(checkpoint, LLAVA, 1000, tmp_path / "processor") is None
    assert not (tmp_path / "processor").exists()


def test_a_tokenizer_that_does_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    write_sentencepiece(checkpoint, dummy_prefix=False)
    with pytest.raises(CheckpointError, match="the model's vocabulary has 300 entries"):
        write_processor(checkpoint, LLAVA, 300, tmp_path / "processor")
    with pytest.raises(CheckpointError, match="has no token '<img>', which the conversation"):
        write_processor(checkpoint, INTERNVL, 1000, tmp_path / "processor")


def test_a_damaged_conversation(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read"):
        read_conversation(tmp_path)
    (tmp_path / "conversation.json").write_text('{"format": "d2export-conversation"}')
    with pytest.raises(BundleError, match="version is missing"):
        read_conversation(tmp_path)
